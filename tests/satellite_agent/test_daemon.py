"""The daemon beside its sessions: what the event loop has left over, and whose the files are."""

import asyncio
import contextlib
import logging
import os
from datetime import UTC, datetime

import pytest

from satellite_agent.daemon import note_loose_end
from satellite_agent.database import open_database
from satellite_agent.epoch import Epochs
from satellite_agent.outbox import Outbox
from satellite_agent.reserve import Reserve
from satellite_agent.state import StateDir


@pytest.mark.parametrize(("error", "told"), [(OSError(9, "Bad file descriptor"), []), (ValueError("odd"), ["ERROR"])])
async def test_only_a_closed_socket_is_passed_over(caplog, error, told):
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(note_loose_end)

    def callback() -> None:
        raise error

    with caplog.at_level(logging.INFO):
        loop.call_soon(callback)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert [record.levelname for record in caplog.records] == told


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make files for others")
def test_what_root_makes_in_a_services_folder_is_the_services(tmp_path):
    """Else `sudo marvain-satellite doctor` beside a stopped service would leave files that the service cannot open."""
    os.chown(tmp_path, 12345, 12345)
    with StateDir(tmp_path) as state, contextlib.closing(open_database(state.database, "porch")) as db:
        Epochs(state.epoch).next()
        Reserve(db).keep()
        Outbox(db).add_event("x", {}, at=datetime.now(UTC))
        made = {path.name: path.stat().st_uid for path in tmp_path.iterdir()}
    assert set(made) == {"lock", "epoch", "reserve", "satellite.db", "satellite.db-wal", "satellite.db-shm"}
    assert set(made.values()) == {12345}
