"""Builds the satellite for devices into a folder: its two wheels, and one file that Python starts by itself (a zipapp).

    python setup/satellite_archive.py [FOLDER]

What the file holds besides our own comes from this environment, which is as requirements.lock pins it. It is for the
same Python and processor as this environment, for one of its modules is compiled.
"""

import hashlib
import importlib.metadata
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
OURS = ("hub_protocol", "satellite_agent")
START = "marvain-satellite"
# The same bytes for the same content, whenever it is built.
LONG_AGO = (1980, 1, 1, 0, 0, 0)


def build(folder: Path) -> Path:
    """Write wheels and archive into `folder`; returns the archive."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        wheels = _wheels(Path(scratch))
        stage = Path(scratch) / "stage"
        for wheel in wheels:
            with zipfile.ZipFile(wheel) as content:
                content.extractall(stage)
            shutil.copy(wheel, folder)
        for name in _needs(START):
            _copy(name, stage)
        return _archive(stage, folder / f"{START}.pyz")


def _wheels(scratch: Path) -> list[Path]:
    for name in OURS:
        # Built from a copy, so that no build folder appears in the source tree.
        ignore = shutil.ignore_patterns("*.egg-info", "build", "__pycache__")
        copy = shutil.copytree(REPOSITORY / name, scratch / "source" / name, ignore=ignore)
        subprocess.run(  # noqa: S603 - our own build
            [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", scratch / "wheels", copy],
            check=True,
            capture_output=True,
        )
    return sorted((scratch / "wheels").glob("*.whl"))


def _needs(name: str) -> set[str]:
    """All that a distribution needs here, and what that needs, without our own."""
    found: set[str] = set()
    for line in importlib.metadata.requires(name) or ():
        need, _, marker = line.partition(";")
        other = re.match(r"[A-Za-z0-9._-]+", need)
        if other is None or "extra" in marker or "python_version <" in marker:
            continue
        if not other[0].startswith("marvain-"):
            found.add(other[0])
        found |= _needs(other[0])
    return found


def _copy(name: str, stage: Path) -> None:
    distribution = importlib.metadata.distribution(name)
    for file in distribution.files or ():
        if file.suffix != ".pyc" and ".." not in file.parts:
            target = stage / file
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(str(distribution.locate_file(file)), target)


def _archive(stage: Path, target: Path) -> Path:
    files = sorted(path for path in stage.rglob("*") if path.is_file())
    digest = hashlib.sha256()
    for path in files:
        digest.update(f"{path.relative_to(stage)}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    build_id = f"{digest.hexdigest()[:16]} {sys.implementation.cache_tag} {platform.machine()}\n"
    with target.open("wb") as opened:
        opened.write(b"#!/usr/bin/env python3\n")
        with zipfile.ZipFile(opened, "w", zipfile.ZIP_DEFLATED) as archive:
            for path in files:
                _put(archive, f"content/{path.relative_to(stage)}", path.read_bytes())
            _put(archive, "BUILD", build_id.encode())
            _put(archive, "__main__.py", (REPOSITORY / "setup/satellite_main.py").read_bytes())
    target.chmod(0o755)
    return target


def _put(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    entry = zipfile.ZipInfo(name, LONG_AGO)
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.external_attr = 0o644 << 16
    archive.writestr(entry, content)


if __name__ == "__main__":
    made = build(Path(sys.argv[1]) if len(sys.argv) > 1 else REPOSITORY / "dist")
    sys.stdout.write(f"{made} ({made.stat().st_size // 1024} KiB)\n")
