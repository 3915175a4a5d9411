"""Telemetry sources: bad tables named; numbers of files, commands and the machine; a fault stops no other source."""

import asyncio
import logging
import os
import sys
import time

import pytest

from satellite_agent import sources
from satellite_agent.meters import METERS
from satellite_agent.settings import SettingsError
from satellite_agent.sources import Sources, Unmeasured, number_in

PYTHON = sys.executable


@pytest.mark.parametrize(
    ("stream", "table", "says"),
    [
        ("a b", {"file": "/x"}, "1 to 63"),
        ("t", {}, "wants one of"),
        ("t", {"file": "/x", "system": "load_1m"}, "wants one of"),
        ("t", {"system": "mood"}, "system: is one of cpu_percent"),
        ("t", {"file": "x"}, "absolute"),
        ("t", {"command": ["sensors"]}, "absolute"),
        ("t", {"command": ["/bin/cat", "{x}"]}, "no arguments"),
        ("t", {"file": "/x", "pattern": "("}, "pattern"),
        ("t", {"file": "/x", "every_s": 0.2}, "every_s"),
        ("t", {"file": "/x", "shell": True}, "shell"),
    ],
)
def test_a_bad_source_is_named(stream, table, says):
    with pytest.raises(SettingsError) as error:
        sources.read({stream: table})
    assert error.value.field == f"telemetry.{stream}"
    assert says in error.value.rule


def test_sources_are_few():
    with pytest.raises(SettingsError, match="at most 50"):
        sources.read({f"t{n}": {"system": "load_1m"} for n in range(51)})


@pytest.mark.parametrize(
    ("text", "pattern", "value"),
    [
        (b" 21.5\n", None, 21.5),
        (b"-3e2", None, -300),
        (b"87%", None, 87),
        (b"a: 1\ntemp: 42.5 C\n", r"temp: ([\d.]+)", 42.5),
        (b"x 7 y", r"\d+", 7),
    ],
)
def test_a_text_becomes_a_number(text, pattern, value):
    assert number_in(text, pattern) == value


@pytest.mark.parametrize(("text", "pattern"), [(b"", None), (b"warm", None), (b"1 2", None), (b"x", r"(\d+)")])
def test_what_is_no_number_is_said_so(text, pattern):
    with pytest.raises(Unmeasured):
        number_in(text, pattern)


@pytest.mark.parametrize("name", METERS)
def test_the_machine_can_be_measured(name):
    meter = METERS[name]("/")
    meter.read()
    time.sleep(0.02)
    value = meter.read()
    assert value is None or value >= 0
    if name.endswith("percent"):
        assert value is not None
        assert value <= 100


class Taken(list):
    def __init__(self):
        super().__init__()
        self.came = asyncio.Event()

    def __call__(self, stream, value):
        self.append((stream, value))
        self.came.set()

    async def wait(self, count, stream):
        async with asyncio.timeout(10):
            while len(values := [value for name, value in self if name == stream]) < count:
                self.came.clear()
                await self.came.wait()
        return values


async def measured(tables, taken, telemetry_s=lambda: 1.0):
    running = Sources(sources.read(tables), taken, telemetry_s)
    return running, asyncio.create_task(running.run())


async def test_a_source_that_fails_stops_no_other_and_is_told_once(tmp_path, caplog):
    file, taken = tmp_path / "value", Taken()
    os.mkfifo(tmp_path / "pipe")
    with caplog.at_level(logging.INFO):
        _, task = await measured(
            {
                "gone": {"file": str(file)},
                "pipe": {"file": str(tmp_path / "pipe")},
                "odd": {"command": [PYTHON, "-c", "print('hot')"]},
                "fails": {"command": ["/bin/false"]},
                "good": {"command": [PYTHON, "-c", "print(20)"], "scale": 0.1, "offset": 1},
            },
            taken,
        )
        assert await taken.wait(2, "good") == [3, 3]
        file.write_text("5\n")
        assert (await taken.wait(1, "gone"))[0] == 5
    task.cancel()
    said = [record.getMessage() for record in caplog.records]
    assert len([line for line in said if line.startswith("telemetry gone:")]) == 1
    assert "telemetry gone is measured again" in said
    assert any("ended with 1" in line for line in said)


async def test_the_time_of_a_source_is_its_own_or_the_configs_and_a_change_counts_at_once():
    taken, every = Taken(), [3600.0]
    running, task = await measured(
        {"own": {"system": "load_1m", "every_s": 1}, "common": {"system": "uptime_s"}}, taken, lambda: every[0]
    )
    await taken.wait(2, "own")
    assert len([one for one in taken if one[0] == "common"]) == 1
    every[0] = 1.0
    running.settings_changed()
    await taken.wait(2, "common")
    task.cancel()


async def test_what_hangs_is_ended_in_its_time(caplog):
    taken = Taken()
    with caplog.at_level(logging.WARNING):
        _, task = await measured(
            {
                "slow": {"command": [PYTHON, "-c", "import time; time.sleep(60)"], "timeout_s": 0.3},
                "other": {"system": "load_1m", "every_s": 1},
            },
            taken,
        )
        await taken.wait(3, "other")
    task.cancel()
    assert {stream for stream, _ in taken} == {"other"}
    assert "telemetry slow" in caplog.text


def test_a_real_satellite_sends_what_it_measures_and_takes_its_time_from_the_hub(start, hub, tmp_path):
    (tmp_path / "value").write_text("21500")
    start(
        f"telemetry_s = 3600\n[telemetry.room]\nfile = '{tmp_path}/value'\nscale = 0.001\n"
        "[telemetry.load]\nsystem = 'load_1m'\nevery_s = 1\n"
    ).wait_log("hub answered")
    samples = hub.wait_for("telemetry", count=3)
    assert 21.5 in [one.value for one in samples if not isinstance(one, list)]
    hub.configure(3, telemetry_s=1)
    assert hub.wait_config(3).reported["telemetry_s"] == 1
    hub.wait(lambda: [getattr(one, "value", 0) for one in hub.of("telemetry")].count(21.5) >= 2, "the room again")
