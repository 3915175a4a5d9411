"""The log: one line for each event, whatever it holds; a file that rotates, and a full disk that does no harm."""

import contextlib
import logging
import stat

import pytest

from satellite_agent.logs import log_to_file
from satellite_agent.settings import SettingsError


@pytest.fixture(autouse=True)
def root():
    before = list(logging.getLogger().handlers)
    yield
    for handler in logging.getLogger().handlers[:]:
        if handler not in before:
            logging.getLogger().removeHandler(handler)
            with contextlib.suppress(OSError):  # as logging itself does at the end
                handler.close()


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"log_file": "/dev/null/x"}, "log_file"),
        ({"log_max_kb": "1"}, "log_max_kb"),
        ({"log_max_kb": "many"}, "log_max_kb"),
        ({"log_keep": "0"}, "log_keep"),
        ({"log_keep": "-1"}, "log_keep"),
    ],
)
def test_a_bad_setting_is_named(given, field):
    with pytest.raises(SettingsError) as error:
        log_to_file(given)
    assert error.value.field == field


def test_the_file_rotates_is_private_and_its_lines_stay_lines(tmp_path):
    path = tmp_path / "logs/satellite.log"
    log_to_file({"log_file": str(path), "log_max_kb": "16", "log_keep": "2"})
    for number in range(1_000):
        logging.getLogger("satellite_agent.test").error("event %d\nforged \x1b[2J %s", number, "x" * 60)
    files = sorted(file.name for file in path.parent.iterdir())
    assert files == ["satellite.log", "satellite.log.1", "satellite.log.2"]
    assert all(file.stat().st_size <= 16 * 1024 for file in path.parent.iterdir())
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    last = path.read_text().splitlines()[-1]
    assert last.endswith("event 999\\nforged \\x1b[2J " + "x" * 60)


def test_a_disk_that_takes_nothing_is_no_error(capsys):
    log_to_file({"log_file": "/dev/full"})
    logging.getLogger("satellite_agent.test").error("lost")
    assert capsys.readouterr().err == ""


def test_a_real_satellite_logs_into_it(start, hub, tmp_path):
    path = tmp_path / "satellite.log"
    start(f"log_file = '{path}'\nlog_level = 'debug'\n").wait_log("hub answered")
    assert "hub answered" in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
