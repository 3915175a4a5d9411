"""`make satellite`: one file that a bare Python starts, which holds nothing of the hub and trusts no foreign cache."""

import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from .conftest import TOKEN

ROOT = Path(__file__).parents[2]
# A Python without the packages of this environment.
BARE = Path(sysconfig.get_config_var("BINDIR")) / Path(sys._base_executable).name


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dist")
    script = ROOT / "setup/satellite_archive.py"
    done = subprocess.run([sys.executable, script, folder], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    kinds = sorted(path.name.split("-")[0] for path in folder.iterdir())
    assert kinds == ["marvain", "marvain_hub_protocol", "marvain_satellite"]
    return folder / "marvain-satellite.pyz"


def start(archive, *arguments, cache, **more):
    environ = {"PATH": os.environ["PATH"], "XDG_CACHE_HOME": str(cache), **more}
    return subprocess.run([BARE, "-I", archive, *arguments], capture_output=True, text=True, check=False, env=environ)


def test_it_holds_what_it_needs_and_nothing_of_the_hub(archive):
    with zipfile.ZipFile(archive) as packed:
        top = {name.split("/")[1] for name in packed.namelist() if name.startswith("content/")}
    assert {"satellite_agent", "hub_protocol", "aiomqtt", "paho", "click", "msgspec"} <= top
    assert {name for name in top if not name.endswith(".dist-info")} <= {
        *("satellite_agent", "hub_protocol", "aiomqtt", "paho", "click", "msgspec"),
    }


def test_another_python_is_told_what_to_do(archive, tmp_path):
    other = tmp_path / "other.pyz"
    with zipfile.ZipFile(archive) as packed, zipfile.ZipFile(other, "w") as changed:
        changed.writestr("BUILD", "0123 cpython-399 vax")
        changed.writestr("__main__.py", packed.read("__main__.py"))
    done = start(other, "--help", cache=tmp_path)
    assert (done.returncode, "this file is for cpython-399 on vax" in done.stderr) == (1, True)


def test_a_cache_that_others_can_write_is_not_used(archive, tmp_path):
    (tmp_path / "marvain-satellite").mkdir()
    (tmp_path / "marvain-satellite").chmod(0o777)
    done = start(archive, "--help", cache=tmp_path)
    assert (done.returncode, "others can write" in done.stderr) == (1, True)
    done = start(archive, "--help", cache="/dev/null")
    assert (done.returncode, "cannot unpack" in done.stderr) == (1, True)


def test_a_bare_python_starts_it_and_it_connects(archive, tmp_path, broker, hub):
    first = start(archive, "--version", cache=tmp_path)
    assert (first.returncode, first.stderr) == (0, "")
    assert first.stdout.startswith("marvain-satellite, version")
    [place] = (tmp_path / "marvain-satellite").iterdir()
    assert place.parent.stat().st_mode & 0o077 == 0
    sent = start(
        *(archive, "send", "--hub", broker.url, "--state-dir", str(tmp_path / "state"), "door_open"),
        cache=tmp_path,
        MARVAIN_SATELLITE_TOKEN=TOKEN,
    )
    assert sent.returncode == 0, sent.stderr
    assert hub.of("event")
    planned = start(
        *(archive, "install", "--hub", broker.url, "--dry-run"), cache=tmp_path, MARVAIN_SATELLITE_TOKEN=TOKEN
    )
    assert f"ExecStart={BARE} {archive} run --config" in planned.stdout
    assert len(list((tmp_path / "marvain-satellite").iterdir())) == 1
