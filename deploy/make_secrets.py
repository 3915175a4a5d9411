"""Makes the secrets of the containers, once: random, a file each, readable by the one service that needs it.

Run as `python make_secrets.py DIR POSTGRES_GID MOSQUITTO_GID` by the owner of DIR, who is a member of both groups.
What is there already stays: a second run changes nothing.
"""

import os
import secrets
import sys
from pathlib import Path

from broker.mosquitto.document import render
from hub_protocol.topics import DEFAULT_ROOT

# What MARVAIN_BROKER_ADMIN_USERNAME is when nobody sets it.
ADMIN = "marvain_admin"


def main(folder: Path, postgres: int, mosquitto: int) -> None:
    """Make what is missing in `folder`; the numbers are the groups of the two other services."""
    # Others pass through to the file that is theirs, and see no list.
    folder.chmod(0o711)
    password = _keep(folder / "database-password", _random(), group=postgres)
    # What libpq reads by PGPASSFILE, and only when nobody else can.
    _keep(folder / "pgpass", f"*:*:*:*:{password}")
    _keep(folder / "hub-password", _random())
    _keep(folder / "secrets-key", secrets.token_hex(32))
    password = _keep(folder / "broker-admin-password", _random())
    # What Mosquitto's plugin begins with: nobody may do anything but the adapter, of whose password it has a hash.
    document = render([], DEFAULT_ROOT, {ADMIN: password})
    _keep(folder / "dynamic-security.json", document.decode(), group=mosquitto)


def _random() -> str:
    return secrets.token_urlsafe(32)


def _keep(file: Path, text: str, *, group: int | None = None) -> str:
    """What the file holds; written first when there is none yet. It is never there half."""
    if file.exists():
        return file.read_text(encoding="utf-8").strip()
    scratch = file.with_name(f".{file.name}.new")
    scratch.unlink(missing_ok=True)
    descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as opened:
        opened.write(text + "\n")
        opened.flush()
        if group is not None:
            os.fchown(opened.fileno(), -1, group)
            os.fchmod(opened.fileno(), 0o440)
        os.fsync(opened.fileno())
    scratch.rename(file)
    return text


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
