"""The data folder: who holds it, what it keeps, and that readers never see half a file."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from marvain.instance import Instance, Ports, Running, write_whole
from marvain.refusal import InUse, NotOurs

HOLD = """
import pathlib, sys
from marvain.instance import Instance
with Instance(pathlib.Path(sys.argv[1])).held(sys.argv[2]):
    print("held", flush=True)
    sys.stdin.read()
"""


def hold(folder: Path, use: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder), use], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


@pytest.mark.parametrize(("use", "words"), [("up", "already running"), ("command", "another marvain command")])
def test_a_held_folder_is_refused_with_the_holder_named(tmp_path: Path, use: str, words: str) -> None:
    with hold(tmp_path / "data", use) as holder:
        instance = Instance(tmp_path / "data")
        assert instance.holder() == (holder.pid, use)
        with pytest.raises(InUse, match=f"{words}.*{holder.pid}"), instance.held("up", patience_s=0.2):
            pass
        holder.kill()
    # A killed one holds nothing.
    assert instance.holder() is None
    with instance.held("up"):
        pass


def test_what_a_killed_one_left_behind_does_not_count(tmp_path: Path) -> None:
    instance = Instance(tmp_path)
    instance.make()
    told = Running("http://127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3", 4)
    instance.announce(told)
    assert instance.running() is None
    with hold(tmp_path, "up") as holder:
        assert instance.running() == told
        holder.kill()


def test_damaged_files_are_as_if_absent(tmp_path: Path) -> None:
    instance = Instance(tmp_path)
    instance.make()
    for damage in (b"", b"{", b'{"web": "eight"}', b"\xff\x00"):
        instance.ports_file.write_bytes(damage)
        assert instance.last_ports() == Ports()


def test_secrets_are_private_and_stay(tmp_path: Path) -> None:
    instance = Instance(tmp_path)
    instance.make()
    password = instance.hub_password()
    assert len(password) >= 40
    assert instance.hub_password() == password
    assert stat.S_IMODE(instance.hub_password_file.stat().st_mode) == 0o600
    assert stat.S_IMODE(instance.secrets.stat().st_mode) == 0o700
    instance.hub_password_file.write_text("\n")
    assert len(instance.hub_password()) >= 40


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    file = tmp_path / "file"
    write_whole(file, b"old", mode=0o600)
    with pytest.raises(TypeError):
        write_whole(file, "text", mode=0o600)  # type: ignore[arg-type]
    assert file.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("which", [".", "secrets"])
def test_a_folder_that_others_may_write_to_is_refused(tmp_path: Path, which: str) -> None:
    (tmp_path / "secrets").mkdir()
    (tmp_path / which).chmod(0o777)
    with pytest.raises(NotOurs, match="anybody may write"), Instance(tmp_path).held("up"):
        pass
    assert not (tmp_path / "lock").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
@pytest.mark.parametrize("which", [".", "secrets"])
def test_a_folder_of_another_user_is_refused(tmp_path: Path, which: str) -> None:
    (tmp_path / "secrets").mkdir()
    os.chown(tmp_path / which, 65_534, 65_534)
    with pytest.raises(NotOurs, match="belongs to another user"), Instance(tmp_path).held("up"):
        pass


def test_a_lock_that_leads_elsewhere_is_not_followed(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("kept")
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "lock").symlink_to(precious)
    with pytest.raises(OSError, match="symbolic links"), Instance(folder).held("up"):
        pass
    assert precious.read_text() == "kept"
