"""Runs a MicroPython program under CPython: `python board.py main.py`, in the board's own folder as its flash."""

import runpy
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
time.sleep_ms = lambda milliseconds: time.sleep(milliseconds / 1000)  # type: ignore[attr-defined]
runpy.run_path(sys.argv[1], run_name="__main__")
