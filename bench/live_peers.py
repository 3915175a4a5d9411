"""Many MQTT clients in one asyncio process, that note when they were cut off and which probes still reached them."""

import asyncio
import contextlib
import itertools
import time
from collections.abc import Sequence
from typing import Final

from peers import packet, string

PROBE_EVERY_S: Final = 0.02
# A subscription that misses probes for so long is dead.
SILENT_S: Final = 1.0
FIRST_WITHIN_S: Final = 20.0


class Peer(asyncio.Protocol):
    """Connects, subscribes, listens. `heard` is the last probe's number by topic, `ended_at` when the line was cut."""

    def __init__(self, username: str, password: str, filters: Sequence[str] = ()) -> None:
        self.username = username
        self.filters = filters
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.ended_at: float | None = None
        self.heard: dict[str, int] = {}
        self._asked: asyncio.Future[bool] | None = None
        self._connect = packet(
            0x10, string("MQTT") + b"\4\xc2\0\0" + string(username) + string(username) + string(password)
        )
        self._rest = b""
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.write(self._connect)

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended_at = time.perf_counter()
        if not self.ready.done():
            self.ready.set_exception(ConnectionError(f"{self.username} was not let in: {exc}"))
        self.ended.set_result(None)

    def data_received(self, data: bytes) -> None:
        data = self._rest + data
        at = 0
        while (end := _end(data, at)) <= len(data) and end > at:
            self._take(data[at:end])
            at = end
        self._rest = data[at:]

    async def subscribe(self, filter_: str) -> bool:
        """Whether it may."""
        assert self.transport is not None
        self._asked = asyncio.get_running_loop().create_future()
        self.transport.write(packet(0x82, b"\0\2" + string(filter_) + b"\0"))
        return await self._asked

    def _take(self, whole: bytes) -> None:
        kind = whole[0] >> 4
        start = 2 if whole[1] < 128 else 3
        if kind == 2 and self.filters:
            assert self.transport is not None
            self.transport.write(packet(0x82, b"\0\1" + b"".join(string(one) + b"\0" for one in self.filters)))
        elif (kind == 2 and whole[3] == 0) or (kind == 9 and not self.ready.done() and 0x80 not in whole[start + 2 :]):
            self.ready.set_result(None)
        elif kind == 9 and self._asked is not None:
            self._asked.set_result(0x80 not in whole[start + 2 :])
        elif kind == 9:
            self.ready.set_exception(ConnectionError(f"{self.username} may not subscribe to {self.filters}"))
        elif kind == 3:
            end = start + 2 + int.from_bytes(whole[start : start + 2], "big")
            self.heard[whole[start + 2 : end].decode()] = int(whole[end:])


def _end(data: bytes, at: int) -> int:
    """Where the packet that begins at `at` ends; beyond the data when it is not there whole. Up to 16 KiB."""
    if len(data) < at + 3:
        return at + (2 if data[at + 1 : at + 2] == b"\0" else len(data) + 3)
    first, second = data[at + 1], data[at + 2]
    return at + 2 + first if first < 128 else at + 3 + (first & 127) + (second << 7)


async def connect(port: int, accounts: Sequence[tuple[str, str, Sequence[str]]]) -> dict[str, Peer]:
    """Clients that are connected and subscribed, by username; each account is (username, password, filters)."""
    loop = asyncio.get_running_loop()
    peers = {}
    for start in range(0, len(accounts), 50):
        some = [Peer(*account) for account in accounts[start : start + 50]]
        for peer in some:
            await loop.create_connection(lambda peer=peer: peer, "127.0.0.1", port)
        await asyncio.wait_for(asyncio.gather(*(peer.ready for peer in some)), FIRST_WITHIN_S)
        peers.update({peer.username: peer for peer in some})
    return peers


class Prober:
    """Publishes numbered messages to some topics, again and again, and says from which on a peer got no more."""

    def __init__(self, publisher: Peer, topics: Sequence[str], every_s: float = PROBE_EVERY_S) -> None:
        self._publisher = publisher
        self._topics = topics
        self._every_s = every_s
        self.sent_at: list[float] = []
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    @property
    def longest_gap_s(self) -> float:
        """The longest time without a probe: how exact the moments of death are."""
        return max(later - earlier for earlier, later in itertools.pairwise(self.sent_at))

    async def reached(self, wanted: Sequence[tuple[Peer, str]]) -> bool:
        """Wait until each peer heard a probe on its topic; False when that does not happen."""
        deadline = time.perf_counter() + FIRST_WITHIN_S
        while not all(topic in peer.heard for peer, topic in wanted):
            if self._publisher.ended_at is not None or time.perf_counter() > deadline:
                return False
            await asyncio.sleep(self._every_s)
        return True

    async def until_silent(self, wanted: Sequence[tuple[Peer, str]], within_s: float) -> None:
        """Until none of these hears probes any more, for a while at that; or the time is over."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while any(self.dead_at(*one) is None for one in wanted):  # noqa: ASYNC110  (silence is no event)
                    await asyncio.sleep(SILENT_S / 4)
        await asyncio.sleep(SILENT_S)

    def dead_at(self, peer: Peer, topic: str) -> float | None:
        """When its session ended, or the first probe that it missed was sent; None while it hears them."""
        following = peer.heard[topic] + 1
        missed = self.sent_at[following] if following < len(self.sent_at) else time.perf_counter()
        if peer.ended_at is not None:
            return min(missed, peer.ended_at)
        return missed if time.perf_counter() - missed > SILENT_S else None

    def dead_since(self, peer: Peer, topic: str, change: float) -> float | None:
        """The same, as an effect of a change; None also for what was dead already, and not by it.

        A probe that was sent shortly before the change may be read by a busy broker after it: then the first one counts
        that was sent after it.
        """
        at = self.dead_at(peer, topic)
        if at is None or at >= change:
            return at
        if at < change - SILENT_S or (peer.ended_at is not None and peer.ended_at < change):
            return None
        return next((sent for sent in self.sent_at if sent >= change), None)

    async def _run(self) -> None:
        transport = self._publisher.transport
        assert transport is not None
        while True:
            number = str(len(self.sent_at)).encode()
            self.sent_at.append(time.perf_counter())
            transport.write(b"".join(packet(0x30, string(topic) + number) for topic in self._topics))
            await asyncio.sleep(self._every_s)
