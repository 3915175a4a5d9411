"""Keeps a device's token where the satellite's container reads it: `… | python keep_token.py`.

Standard input is what `marvain device add` or `rotate` printed, as text or JSON, or the token alone.
"""

import os
import re
import sys
from pathlib import Path

from hub_protocol.topics import HANDLE_PATTERN


def main() -> int:
    """Write the one token of the input to MARVAIN_SATELLITE_TOKEN_FILE; 2 when there is none, or more than one."""
    found = set(re.findall(rf"(mv1\.(?:{HANDLE_PATTERN})\.[A-Za-z0-9_-]{{43}})(?![A-Za-z0-9_-])", sys.stdin.read()))
    if len(found) != 1:
        sys.stderr.write("keep_token: exactly one token (mv1.…) is wanted on standard input; nothing is changed\n")
        return 2
    file = Path(os.environ["MARVAIN_SATELLITE_TOKEN_FILE"])
    scratch = file.with_name(f".{file.name}.new")
    scratch.unlink(missing_ok=True)
    with os.fdopen(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as opened:
        opened.write(found.pop() + "\n")
    scratch.rename(file)
    return 0


if __name__ == "__main__":
    sys.exit(main())
