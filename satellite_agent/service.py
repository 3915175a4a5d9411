"""The files that make the satellite a service of systemd: written, remembered, and removed as they were written."""

import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Final

from hub_protocol.topics import DEFAULT_ROOT
from satellite_agent.settings import Settings

UNIT: Final = "marvain-satellite.service"
CONFIG_FOLDER: Final = Path("/etc/marvain-satellite")
CONFIG: Final = CONFIG_FOLDER / "satellite.toml"
TOKEN: Final = CONFIG_FOLDER / "token"
CA: Final = CONFIG_FOLDER / "ca.pem"
UNIT_FILE: Final = Path("/etc/systemd/system") / UNIT
# What was written, with its checksums.
MANIFEST: Final = CONFIG_FOLDER / "installed.json"
STATE: Final = (Path("/var/lib/marvain-satellite"), Path("/var/lib/private/marvain-satellite"))
CACHE: Final = (Path("/var/cache/marvain-satellite"), Path("/var/cache/private/marvain-satellite"))


class ServiceError(Exception):
    """It cannot be installed or removed so; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class File:
    """What is to be written; a secret is readable by root alone and never shown."""

    content: str
    is_secret: bool = False

    @property
    def mode(self) -> int:
        return 0o600 if self.is_secret else 0o644


def plan(settings: Settings, program: Sequence[str]) -> dict[Path, File]:
    """The files of a service that runs `program` with these settings."""
    lines = {"hub": str(settings.hub)}
    if settings.root != DEFAULT_ROOT:
        lines["root"] = settings.root
    if settings.mqtt_version != "3.1.1":
        lines["mqtt_version"] = settings.mqtt_version
    files: dict[Path, File] = {}
    if settings.ca_file is not None:
        lines["ca_file"] = str(CA)
        files[CA] = File(settings.ca_file.read_text(encoding="utf-8"))
    # A JSON text is a TOML text too, as long as nothing is escaped with surrogates.
    written = "\n".join(f"{name} = {json.dumps(value, ensure_ascii=False)}" for name, value in lines.items())
    files[TOKEN] = File(settings.token + "\n", is_secret=True)
    files[CONFIG] = File(_template("satellite.toml", SETTINGS=written, CONFIG=str(CONFIG)))
    command = " ".join(_quoted(word) for word in program)
    files[UNIT_FILE] = File(_template(UNIT, PROGRAM=command, CONFIG=str(CONFIG), TOKEN=str(TOKEN)))
    return files


def write(files: Mapping[Path, File], destdir: Path, *, force: bool) -> list[Path]:
    """Write them below `destdir` (/ for this machine); returns what was left alone: a config that is there stays.

    Raises `ServiceError` for a file that somebody else has written there, unless it is to be so (`force`).
    """
    known = _manifest(destdir)
    left: list[Path] = []
    for path in files:
        there = _below(destdir, path)
        if path == CONFIG and there.exists() and not force:
            left.append(path)
        elif there.exists() and str(path) not in known and not force:
            raise ServiceError(f"{there} is there already and not from here; remove it, or say --force")
    new = {path: file for path, file in files.items() if path not in left}
    # First what is going to be there: should this be cut off, `uninstall` finds all of it.
    remembered = known | {str(path): _checksum(file.content.encode()) for path, file in new.items()}
    _put(_below(destdir, MANIFEST), File(json.dumps(remembered, indent=1) + "\n"))
    for path, file in new.items():
        _put(_below(destdir, path), file)
    return left


def remove(destdir: Path, *, purge: bool) -> tuple[list[Path], list[Path]]:
    """Remove what was written; returns what was removed and what was kept because somebody has changed it since.

    With `purge` that goes too, and the state folder with all that the hub has not got yet.
    """
    known = _manifest(destdir)
    if not known and not purge:
        raise ServiceError(f"nothing is installed here: there is no {_below(destdir, MANIFEST)}")
    removed, kept = [], []
    for name, checksum in known.items():
        path = _below(destdir, Path(name))
        if not path.exists():
            continue
        if purge or _checksum(path.read_bytes()) == checksum:
            path.unlink()
            removed.append(path)
        else:
            kept.append(path)
    _below(destdir, MANIFEST).unlink(missing_ok=True)
    for folder in (*STATE, *CACHE) if purge else ():
        place = _below(destdir, folder)
        if place.is_symlink():  # what systemd makes for a dynamic user
            place.unlink()
            removed.append(place)
        elif place.exists():
            shutil.rmtree(place)
            removed.append(place)
    folder = _below(destdir, CONFIG_FOLDER)
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
    return removed, kept


def check_program(program: Sequence[str]) -> None:
    """Raises `ServiceError` for a program that a user of its own could not start."""
    for word in program:
        path = Path(word)
        if not path.is_absolute():
            continue
        for place in (path, *path.parents, path.resolve(), *path.resolve().parents):
            if not place.exists():
                raise ServiceError(f"there is no {place}")
            if not place.stat().st_mode & (0o001 if place.is_dir() else 0o004):
                raise ServiceError(
                    f"the service gets a user of its own, who may not read {place}: install the satellite where "
                    "everybody can read it, such as python3 -m venv /opt/marvain-satellite, and run install from there"
                )
        if path.resolve().parts[1:2] in (("home",), ("root",)):
            raise ServiceError(f"{path} lies below /{path.resolve().parts[1]}, which the service does not see")


def _template(name: str, **values: str) -> str:
    text = (resources.files("satellite_agent") / "templates" / name).read_text(encoding="utf-8")
    return re.sub(r"@([A-Z]+)@", lambda found: values[found[1]], text)


def _quoted(word: str) -> str:
    """A word of ExecStart= as systemd reads it back."""
    safe = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{safe}"' if safe != word or re.search(r"[\s']", word) else word


def _below(destdir: Path, path: Path) -> Path:
    return destdir / path.relative_to("/")


def _manifest(destdir: Path) -> dict[str, str]:
    try:
        found = json.loads(_below(destdir, MANIFEST).read_text(encoding="utf-8"))
        return {str(path): str(checksum) for path, checksum in found.items()}
    except FileNotFoundError:
        return {}
    except (ValueError, AttributeError) as error:
        raise ServiceError(f"{_below(destdir, MANIFEST)} cannot be read: {error}") from None


def _put(path: Path, file: File) -> None:
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, file.mode)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as opened:
            os.fchmod(opened.fileno(), file.mode)  # whatever the umask
            opened.write(file.content)
            opened.flush()
            os.fsync(opened.fileno())
        scratch.replace(path)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise


def _checksum(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
