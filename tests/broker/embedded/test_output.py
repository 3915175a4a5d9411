"""What is gathered in one turn of the loop leaves for each connection, whatever became of the others."""

import asyncio
import contextlib

import uvloop

from broker.embedded.outbox import Outbox
from broker.embedded.output import Output


class Half(Outbox, asyncio.Protocol):
    """The writing half of a connection alone."""

    __slots__ = ()

    def connection_made(self, transport) -> None:
        self.transport = transport

    def has_left(self) -> None:
        pass

    def has_room(self) -> None:
        pass


def test_one_that_is_gone_keeps_nothing_from_the_others():
    async def check() -> bytes:
        loop = asyncio.get_running_loop()
        faults = []
        loop.set_exception_handler(lambda _loop, context: faults.append(context))
        output = Output(None, lambda _kept: None)
        halves = []

        def accept() -> Half:
            halves.append(Half(output))
            return halves[-1]

        server = await loop.create_server(accept, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        links = []
        for n in (1, 2):
            links.append(await asyncio.open_connection("127.0.0.1", port))
            while len(halves) < n or not hasattr(halves[-1], "transport"):  # noqa: ASYNC110 - the broker's own half
                await asyncio.sleep(0)
        gone, other = halves
        gone.transport.abort()
        await asyncio.sleep(0.05)  # uvloop closes the handle in a later turn
        gone.send(b"lost")
        other.send(b"kept")
        heard = b""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(2):
                heard = await links[1][0].read(4)
        server.close()
        for _, writer in links:
            writer.close()
        assert faults == []
        assert gone.out_bytes == 0
        return heard

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(check()) == b"kept"
