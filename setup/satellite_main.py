"""The first lines of the satellite's archive: unpack it into a cache, once for each build, and start what is there.

A compiled module cannot be used from within an archive. The cache is CACHE_DIRECTORY (systemd), else XDG_CACHE_HOME,
else /var/cache for root and ~/.cache for others.
"""

import os
import platform
import shutil
import sys
import tempfile
import zipfile
from pathlib import Path


def cache() -> Path:
    given = os.environ.get("CACHE_DIRECTORY", "").split(":")[0]
    if given:
        return Path(given)
    home = os.environ.get("XDG_CACHE_HOME")
    if home:
        return Path(home) / "marvain-satellite"
    return (Path("/var/cache") if os.geteuid() == 0 else Path.home() / ".cache") / "marvain-satellite"


def unpacked(archive: Path) -> Path:
    """The folder that holds this build; what others could have written there is not used."""
    with zipfile.ZipFile(archive) as packed:
        build_id, tag, machine = packed.read("BUILD").decode().split()
        if (tag, machine) != (sys.implementation.cache_tag, platform.machine()):
            sys.exit(
                f"marvain-satellite: this file is for {tag} on {machine}, not for {sys.implementation.cache_tag} on "
                f"{platform.machine()}; build it with such a Python (make satellite), or install the wheel"
            )
        base = cache()
        base.mkdir(mode=0o700, parents=True, exist_ok=True)
        facts = base.stat()
        if facts.st_uid != os.geteuid() or facts.st_mode & 0o022:
            sys.exit(f"marvain-satellite: others can write {base}; set XDG_CACHE_HOME to a folder of your own")
        place = base / build_id
        if not place.is_dir():
            scratch = Path(tempfile.mkdtemp(dir=base))
            packed.extractall(scratch)
            try:
                # Whole or not at all; somebody else may have been quicker.
                (scratch / "content").rename(place)
            except OSError:
                if not place.is_dir():
                    raise
            shutil.rmtree(scratch)
    return place


def start() -> None:
    try:
        sys.path[0] = str(unpacked(Path(sys.argv[0]).absolute()))
    except OSError as error:
        sys.exit(f"marvain-satellite: cannot unpack into {cache()}: {error.strerror}; set XDG_CACHE_HOME")
    from satellite_agent.__main__ import main  # noqa: PLC0415 - only now it is there

    main(prog_name="marvain-satellite")


if __name__ == "__main__":
    start()
