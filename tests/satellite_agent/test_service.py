"""`install` and `uninstall`: what systemd would refuse is not written, and what was written is what is removed."""

import os
import re
import shutil
import stat
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner

from satellite_agent import service, settings, sources
from satellite_agent.__main__ import main
from satellite_agent.service import CONFIG, TOKEN, UNIT_FILE, ServiceError
from satellite_agent.verbs import registry

TOKEN_TEXT = f"mv1.porch.{'k' * 43}"
GIVEN = {"hub": "mqtts://hub.example.org:8883", "token": TOKEN_TEXT}


def planned(program=("/opt/marvain-satellite/bin/marvain-satellite",), **more):
    return service.plan(settings.check(GIVEN | more, {}), program)


@pytest.fixture
def given(cli, tmp_path):
    """Install below a folder, with a token out of a file."""
    token = tmp_path / "given-token"
    token.write_text(TOKEN_TEXT + "\n")

    def call(*arguments, **more):
        return cli(
            *(
                "install",
                "--hub",
                "mqtt://hub.example.org",
                "--token-file",
                str(token),
                "--destdir",
                str(tmp_path / "r"),
            ),
            *arguments,
            **more,
        )

    return call


def below(root: Path) -> dict[str, int]:
    return {
        str(file.relative_to(root)): stat.S_IMODE(file.stat().st_mode) for file in root.rglob("*") if file.is_file()
    }


# --- what is refused --------------------------------------------------------------------------------------------------


def test_a_bad_setting_writes_nothing(cli, tmp_path):
    done = cli("install", "--hub", "http://hub", "--destdir", str(tmp_path / "r"))
    assert done.returncode == 78
    assert not (tmp_path / "r").exists()


def test_a_unit_of_somebody_else_is_not_overwritten(given, tmp_path):
    unit = tmp_path / "r" / UNIT_FILE.relative_to("/")
    unit.parent.mkdir(parents=True)
    unit.write_text("theirs")
    done = given()
    assert done.returncode == 1
    assert "not from here" in done.stderr
    assert below(tmp_path / "r") == {str(UNIT_FILE.relative_to("/")): 0o644}
    assert given("--force").returncode == 0
    assert "theirs" not in unit.read_text()


def test_a_program_that_the_service_could_not_start_is_refused(tmp_path):
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    (private / "satellite").touch(mode=0o755)
    with pytest.raises(ServiceError, match="may not read"):
        service.check_program([str(private / "satellite")])
    with pytest.raises(ServiceError, match="there is no"):
        service.check_program(["/nonexistent/satellite"])
    service.check_program(["/bin/sh", "-m", "satellite_agent"])


@pytest.mark.parametrize("words", [["uninstall"], ["install", "--hub", "mqtt://h"]])
def test_only_root_installs_here(monkeypatch, words):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("MARVAIN_SATELLITE_TOKEN", TOKEN_TEXT)
    done = CliRunner().invoke(main, words)
    assert (done.exit_code, "only root can do that" in done.stderr) == (1, True)
    assert not UNIT_FILE.exists()


# --- what is written --------------------------------------------------------------------------------------------------


def test_a_dry_run_prints_all_but_the_secret_and_writes_nothing(given, tmp_path):
    done = given("--dry-run")
    assert done.returncode == 0, done.stderr
    assert "DynamicUser=yes" in done.stdout
    assert "[verbs.run_action.radio]" in done.stdout
    assert "k" * 43 not in done.stdout
    assert not (tmp_path / "r").exists()


def test_it_is_written_readable_by_who_needs_it_and_removed_without_a_rest(given, cli, tmp_path):
    root = tmp_path / "r"
    (root / "etc").mkdir(parents=True)
    (root / "etc/other").write_text("theirs")
    assert given().returncode == 0
    assert below(root) == {
        "etc/other": 0o644,
        "etc/marvain-satellite/satellite.toml": 0o644,
        "etc/marvain-satellite/token": 0o600,
        "etc/marvain-satellite/installed.json": 0o644,
        "etc/systemd/system/marvain-satellite.service": 0o644,
    }
    assert (root / "etc/marvain-satellite/token").read_text() == TOKEN_TEXT + "\n"
    assert "k" * 43 not in (root / "etc/marvain-satellite/installed.json").read_text()
    done = cli("uninstall", "--destdir", str(root))
    assert done.returncode == 0, done.stderr
    assert below(root) == {"etc/other": 0o644}
    assert not (root / "etc/marvain-satellite").exists()
    assert cli("uninstall", "--destdir", str(root)).returncode == 1


def test_a_config_that_somebody_has_edited_stays(given, cli, tmp_path):
    root = tmp_path / "r"
    given()
    config = root / CONFIG.relative_to("/")
    config.write_text(config.read_text() + "\n[verbs.restart]\n")
    again = given()
    assert "kept as it is: /etc/marvain-satellite/satellite.toml" in again.stdout
    assert "[verbs.restart]" in config.read_text()
    done = cli("uninstall", "--destdir", str(root))
    assert f"kept, for it was changed since: {config}" in done.stdout
    assert list(below(root)) == [str(CONFIG.relative_to("/"))]


def test_purge_removes_all_of_it_and_the_state(given, cli, tmp_path):
    root = tmp_path / "r"
    given()
    (root / CONFIG.relative_to("/")).write_text("changed")
    state = root / "var/lib/private/marvain-satellite/porch"
    state.mkdir(parents=True)
    (state / "satellite.db").touch()
    (root / "var/lib/marvain-satellite").symlink_to("private/marvain-satellite")
    assert cli("uninstall", "--purge", "--destdir", str(root)).returncode == 0
    assert below(root) == {}
    assert not (root / "var/lib/marvain-satellite").is_symlink()


def test_a_certificate_is_copied_to_where_the_service_sees_it(tmp_path):
    ca = tmp_path / "ca.pem"
    ca.write_text("-----BEGIN CERTIFICATE-----\n")
    files = planned(ca_file=str(ca))
    assert files[service.CA].content == ca.read_text()
    assert tomllib.loads(files[CONFIG].content)["ca_file"] == "/etc/marvain-satellite/ca.pem"


def test_every_example_in_the_config_is_a_good_one():
    text = re.sub(r"(?m)^#(?=\S)", "", planned()[CONFIG].content)
    found = tomllib.loads(text)
    assert found["hub"] == "mqtts://hub.example.org:8883"
    verbs = registry.opened(found["verbs"], closed=(), restarting=lambda _: None)
    assert len(verbs) == 8
    assert list(sources.read(found["telemetry"])) == ["cpu", "disk"]
    assert set(found) - {"verbs", "telemetry"} <= set(settings.NAMES)


def test_the_service_finds_its_token_where_systemd_hands_it_over(tmp_path):
    (tmp_path / "token").write_text(TOKEN_TEXT)
    config = tmp_path / "satellite.toml"
    config.write_text(planned()[CONFIG].content)
    environ = {"CREDENTIALS_DIRECTORY": str(tmp_path), "STATE_DIRECTORY": "/var/lib/marvain-satellite"}
    checked = settings.check(settings.gather({}, environ, config), environ, config)
    assert (checked.handle, str(checked.state_dir)) == ("porch", "/var/lib/marvain-satellite/porch")
    assert TOKEN.name == "token"


@pytest.mark.parametrize(
    ("word", "written"),
    [
        ("/opt/a b", '"/opt/a b"'),
        ("/opt/50%", '"/opt/50%%"'),
        ("/opt/$x", '"/opt/$$x"'),
        ('/a"b', '"/a\\"b"'),
        ("/a", "/a"),
    ],
)
def test_a_path_is_written_as_systemd_reads_it(word, written):
    assert f"ExecStart={written} run --config" in planned((word,))[UNIT_FILE].content


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")
def test_systemd_takes_the_unit_and_finds_it_hardened(tmp_path):
    unit = tmp_path / "marvain-satellite.service"
    unit.write_text(planned((sys.executable, "-m", "satellite_agent"))[UNIT_FILE].content)
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", unit], capture_output=True, text=True, check=False)
    # Keys that this systemd is too old for are only told.
    told = [line for line in done.stderr.splitlines() if unit.name in line and "Unknown key" not in line]
    assert (done.returncode, told) == (0, [])
    judged = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=20", "--no-pager", unit],
        capture_output=True,
        text=True,
        check=False,
    )
    assert judged.returncode == 0, judged.stdout
