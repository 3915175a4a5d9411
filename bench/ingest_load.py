"""The load of `bench/ingest.py`, a process of its own: devices that publish events at QoS 1 as fast as they are stored.

    python bench/ingest_load.py DATABASE_URL PORT TABLE SECONDS   (tokens by handle as JSON on standard input)

At most `AHEAD` events are on their way, so that the broker's queue never overflows and no core is spent on what nobody
can take. Prints how many were stored in a second, measured after `SETTLE_S`.
"""

import asyncio
import contextlib
import json
import sys
import time
import uuid
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import psycopg

from marvain.simulation import wire

AHEAD = 8_000
BURST = 25
WINDOW = 100
SETTLE_S = 2.0
LOOK_S = 0.02


class Pace:
    """How many were sent, and how many may be."""

    def __init__(self) -> None:
        self.sent = 0
        self.may = AHEAD
        self.run = uuid.uuid4().hex[:12]


class Loader(asyncio.Protocol):
    """One device; what comes back are acknowledgements of four bytes each, and they are only counted."""

    def __init__(self, handle: str, token: str, epoch: int, pace: Pace) -> None:
        self._connect = wire.connect(handle, token, f"marvain/v1/d/{handle}/state".encode(), b"{}", 0)
        self._topic = f"marvain/v1/d/{handle}/event/tick".encode()
        self._head = f'{{"id":"{pace.run}-{handle[-5:]}-'.encode()
        self._tail = f'","epoch":{epoch},"payload":{{"zone":2,"strength":0.5}}}}'.encode()
        self._pace = pace
        self._number = 0
        self._flying = 0
        self._rest = 4  # CONNACK
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(self._connect)

    def data_received(self, data: bytes) -> None:
        if self._rest:
            assert data[3] == 0, f"refused with {data[3]}"
            data, self._rest = data[4:], 0
        self._flying -= len(data) // 4
        self.go()

    def go(self) -> None:
        while self._transport and self._flying + BURST <= WINDOW and self._pace.sent + BURST <= self._pace.may:
            packets = []
            for _ in range(BURST):
                self._number += 1
                payload = b"%b%d%b" % (self._head, self._number, self._tail)
                packets.append(wire.publish(self._topic, payload, 1, self._number % 65_535 + 1, retain=False))
            self._flying += BURST
            self._pace.sent += BURST
            self._transport.write(b"".join(packets))


async def main(url: str, port: int, table: str, seconds: float) -> None:
    pace, epoch = Pace(), int(time.time() * 1000)
    loop = asyncio.get_running_loop()
    loaders = []
    for number, (handle, token) in enumerate(json.load(sys.stdin).items()):
        loader = Loader(handle, token, epoch, pace)
        local = (f"127.0.1.{1 + number // 1_000}", 0)
        await loop.create_connection(lambda loader=loader: loader, "127.0.0.1", port, local_addr=local)
        loaders.append(loader)
    database = await psycopg.AsyncConnection.connect(url, autocommit=True)

    async def stored() -> int:
        rows = await database.execute(f"SELECT coalesce(max(event_no), 0) FROM {table}")
        found = await rows.fetchone()
        assert found is not None
        return int(found[0])

    first = await stored()
    began, marked = time.monotonic(), (0.0, 0)
    while (spent := time.monotonic() - began) < SETTLE_S + seconds:
        now = await stored() - first
        if not marked[1] and spent >= SETTLE_S:
            marked = (spent, now)
        pace.may = now + AHEAD
        for loader in loaders:
            loader.go()
        await asyncio.sleep(LOOK_S)
    print(json.dumps({"per_s": (await stored() - first - marked[1]) / (spent - marked[0]), "sent": pace.sent}))


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main(sys.argv[1], int(sys.argv[2]), sys.argv[3], float(sys.argv[4])))
