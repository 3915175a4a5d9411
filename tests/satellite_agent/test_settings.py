"""Settings: every bad value named; flags before environment before file."""

from pathlib import Path

import pytest
from hypothesis import given as for_all
from hypothesis import strategies as st

from satellite_agent import settings
from satellite_agent.settings import SettingsError

TOKEN = f"mv1.porch.{'k' * 43}"
GOOD = {"hub": "mqtt://10.0.0.1:1883", "token": TOKEN}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("hub", "10.0.0.1:1883"),
        ("hub", "http://10.0.0.1"),
        ("hub", "mqtt://"),
        ("hub", "mqtt://host:99999"),
        ("hub", "mqtt://host:0"),
        ("hub", "mqtt://host/path"),
        ("hub", "mqtt://porch:secret@host"),
        ("hub", "mqtt://ho st"),
        ("hub", "ws://host/mqtt?a=1"),
        ("token", "secret"),
        ("token", f"mv1.Porch.{'k' * 43}"),
        ("token", f"mv1.porch.{'k' * 42}"),
        ("token", f"mv1.porch.{'k' * 43}\n"),
        ("root", "a//b"),
        ("root", "#"),
        ("heartbeat", "0.5"),
        ("heartbeat", "nan"),
        ("heartbeat", "soon"),
        ("ca_file", "/nonexistent.pem"),
    ],
)
def test_a_bad_value_is_named_and_a_token_never_repeated(name, value):
    with pytest.raises(SettingsError) as error:
        settings.check({**GOOD, name: value}, {})
    assert error.value.field == name
    assert "secret" not in str(error.value)
    assert "k" * 42 not in str(error.value)


@pytest.mark.parametrize("name", ["hub", "token"])
def test_what_is_required_is_named(name):
    with pytest.raises(SettingsError, match="required") as error:
        settings.check({key: value for key, value in GOOD.items() if key != name}, {})
    assert error.value.field == name


def test_a_token_and_a_token_file_at_once_are_refused(tmp_path):
    with pytest.raises(SettingsError, match="not both"):
        settings.gather({"token": TOKEN, "token_file": "x"}, {})


@pytest.mark.parametrize("text", ["hub = [", "colour = 'red'", "hub = ['a']", "heartbeat = true", "\ud800"])
def test_a_bad_file_is_refused(tmp_path, text):
    path = tmp_path / "satellite.toml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(SettingsError):
        settings.gather({}, {}, path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(SettingsError, match="config: cannot read"):
        settings.gather({}, {"MARVAIN_SATELLITE_CONFIG": str(tmp_path / "none.toml")})
    with pytest.raises(SettingsError, match="token_file: cannot read"):
        settings.read_token({"token_file": str(tmp_path / "none")})


def test_flags_before_environment_before_file(tmp_path):
    path = tmp_path / "satellite.toml"
    path.write_text(f"hub = 'mqtt://file'\nroot = 'file'\nheartbeat = 7\ntoken = '{TOKEN}'\n")
    environ = {"MARVAIN_SATELLITE_HUB": "mqtt://variable", "MARVAIN_SATELLITE_ROOT": "variable"}
    given = settings.gather({"hub": "mqtt://flag", "root": None}, environ, path)
    assert given == {"hub": "mqtt://flag", "root": "variable", "heartbeat": "7", "token": TOKEN}


def test_a_token_file_of_a_nearer_source_hides_a_token_of_a_farther_one(tmp_path):
    path = tmp_path / "token"
    path.write_text(f"mv1.garage.{'k' * 43}\n")
    given = settings.gather({"token_file": str(path)}, {"MARVAIN_SATELLITE_TOKEN": TOKEN})
    assert settings.check(given | {"hub": "mqtt://h"}, {}).handle == "garage"


def test_good_settings():
    checked = settings.check(GOOD, {"XDG_STATE_HOME": "/s"})
    assert (checked.handle, checked.root, checked.heartbeat_s) == ("porch", "marvain/v1", 15.0)
    assert checked.state_dir == Path("/s/marvain-satellite/porch")
    assert TOKEN not in repr(checked)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("mqtt://host", "mqtt://host:1883"),
        ("mqtts://host", "mqtts://host:8883"),
        ("ws://host", "ws://host:80/mqtt"),
        ("wss://host/broker", "wss://host:443/broker"),
        ("mqtt://[::1]:5", "mqtt://[::1]:5"),
    ],
)
def test_addresses(text, shown):
    assert str(settings.parse_hub(text)) == shown


@for_all(st.text(max_size=60))
def test_any_text_as_hub_is_an_address_or_a_settings_error(text):
    try:
        settings.parse_hub(text)
    except SettingsError as error:
        named = error.field
    else:
        named = "hub"
    assert named == "hub"


def test_the_folder_of_systemd_comes_first():
    environ = {"STATE_DIRECTORY": "/var/lib/x:/var/lib/y", "XDG_STATE_HOME": "/s"}
    assert settings.state_dir({}, environ, "porch") == Path("/var/lib/x/porch")
    assert settings.state_dir({"state_dir": "/z"}, environ, "porch") == Path("/z")


def test_without_a_token_the_only_folder_is_taken(tmp_path):
    environ = {"STATE_DIRECTORY": str(tmp_path)}
    with pytest.raises(SettingsError, match="no satellite has run here"):
        settings.locate({}, environ)
    for name in ("porch", "garage"):
        (tmp_path / name).mkdir()
    (tmp_path / "porch/satellite.db").touch()
    assert settings.locate({}, environ) == tmp_path / "porch"
    (tmp_path / "garage/satellite.db").touch()
    with pytest.raises(SettingsError, match="garage, porch"):
        settings.locate({}, environ)
    assert settings.locate({"token": TOKEN}, environ) == tmp_path / "porch"
