"""What the event loop has left over when a connection breaks is no news; everything else is."""

import asyncio
import logging

import pytest

from satellite_agent.daemon import note_loose_end


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
