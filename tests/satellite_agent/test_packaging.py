"""The two wheels alone make a satellite: nothing of hub, broker or web is needed or there."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# What pip would bring: the dependencies declared by the two distributions, and theirs.
DEPENDENCIES = ("aiomqtt", "paho", "click", "msgspec")


@pytest.fixture(scope="module")
def clean_python(tmp_path_factory):
    """The interpreter of a new environment that holds the two wheels and their dependencies alone, made offline."""
    folder = tmp_path_factory.mktemp("clean")
    for name in ("hub_protocol", "satellite_agent"):
        # Built from a copy, so that no build folder appears in the source tree.
        copy = shutil.copytree(
            ROOT / name, folder / "source" / name, ignore=shutil.ignore_patterns("*.egg-info", "build")
        )
        subprocess.run(
            [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder / "wheels", copy],
            check=True,
            capture_output=True,
        )
    venv.create(folder / "env", with_pip=True, symlinks=True)
    python = folder / "env/bin/python"
    wheels = sorted((folder / "wheels").glob("*.whl"))
    assert [wheel.name.split("-")[0] for wheel in wheels] == ["marvain_hub_protocol", "marvain_satellite"]
    subprocess.run(
        [python, "-m", "pip", "install", "--no-index", "--no-deps", *wheels], check=True, capture_output=True
    )
    here = Path(sysconfig.get_paths()["purelib"])
    there = Path(
        subprocess.check_output(
            [python, "-c", "import sysconfig; print(sysconfig.get_paths()['purelib'])"], text=True
        ).strip()
    )
    for name in DEPENDENCIES:
        (there / name).symlink_to(here / name)
    return python


def run(python, *arguments):
    env = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "MARVAIN_"))}
    return subprocess.run([python, *arguments], capture_output=True, text=True, env=env, check=False, cwd="/")


@pytest.mark.parametrize("module", ["hub", "broker", "web", "marvain", "fastapi", "sqlmodel", "psycopg", "amqtt"])
def test_nothing_of_the_hub_is_there(clean_python, module):
    done = run(clean_python, "-c", f"import {module}")
    assert "ModuleNotFoundError" in done.stderr


def test_the_command_works(clean_python, tmp_path):
    done = run(clean_python.parent / "marvain-satellite", "--help")
    assert done.returncode == 0, done.stderr
    assert "Connect this machine to its Marvain hub" in done.stdout
    assert run(clean_python, "-m", "satellite_agent", "run").returncode == 78
    token = str(tmp_path / "token")
    (tmp_path / "token").write_text(f"mv1.porch.{'k' * 43}")
    program = clean_python.parent / "marvain-satellite"
    planned = run(program, "install", "--hub", "mqtt://hub", "--token-file", token, "--dry-run")
    assert f"ExecStart={program} run --config" in planned.stdout


def test_it_runs_and_stays_small(clean_python, broker, hub, tmp_path):
    arguments = ["run", "--hub", broker.url, "--token", f"mv1.porch.{'k' * 43}", "--state-dir", tmp_path / "state"]
    process = subprocess.Popen([clean_python, "-m", "satellite_agent", *arguments], cwd="/", stderr=subprocess.DEVNULL)
    try:
        hub.wait_for("heartbeat")
        hub.command("ping", "c1")
        hub.wait_for("reply")
        status = Path(f"/proc/{process.pid}/status").read_text()
        rss_kib = int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])
        assert rss_kib <= 40 * 1024
    finally:
        process.kill()
        process.wait()


def test_the_versions_agree(clean_python):
    code = "import satellite_agent as s, importlib.metadata as m; print(s.__version__, m.version('marvain-satellite'))"
    told, packaged = run(clean_python, "-c", code).stdout.split()
    assert told == packaged
