"""The log of a service that runs alone: what strangers send stays a word in a line."""

import subprocess
import sys

import pytest

SAY = """
import structlog
from hub import logs
from hub.settings import Settings
logs.configure(Settings(database_url="postgresql://nowhere/x", log_format="{form}"))
structlog.get_logger("x").info("refused", principal="a\\x1b[2Jb", topic="c\\u202ed", reason="e\\nf g\\x9b2J")
password = "not for " + "the log"
try:
    raise ValueError("two\\nlines")
except ValueError:
    structlog.get_logger("x").exception("fault")
"""


@pytest.mark.parametrize("form", ["console", "json"])
def test_escape_codes_of_strangers_do_not_reach_the_terminal(form: str) -> None:
    command = [sys.executable, "-c", SAY.replace("{form}", form)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    refused, _, rest = said.partition("\n")
    assert refused.isprintable()
    assert "f g" in refused
    assert "Traceback" in rest
    assert "not for the log" not in rest, "what a frame holds is not shown"
