"""Whoever has left is freed at once: the collector, which looks seldom, has nothing of it to find."""

import asyncio
import contextlib
import gc
import socket
import ssl
import subprocess
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvloop
from amqtt.contexts import ListenerType
from ports import free_port
from websockets.asyncio.client import connect as open_websocket

from bench.fuzz_clients import connect, packet, publish, string
from bench.fuzz_play import ROOT, Table
from broker.embedded import heap
from broker.embedded.broker import Broker
from broker.embedded.listener import listen, listener
from broker.embedded.refusals import Refusals
from broker.embedded.store import Store
from broker.embedded.tls import certificate

SUBSCRIBE = packet(0x82, b"\0\1" + string("s/+") + b"\1")
Loop = Callable[[], asyncio.AbstractEventLoop]
Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@pytest.fixture(params=[uvloop.new_event_loop, asyncio.new_event_loop], ids=["uvloop", "asyncio"])
def loop(request: pytest.FixtureRequest) -> Loop:
    return request.param


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def of_the_broker() -> Counter[str]:
    """How many objects of our own kinds there are."""
    return Counter(
        type(one).__name__
        for one in gc.get_objects()
        if str(type(one).__module__).startswith(("broker.embedded", "hub.access"))
    )


async def come(port: int, *said: bytes) -> Stream:
    """A client that has said this and was answered."""
    stream = await asyncio.open_connection("127.0.0.1", port)
    for one in said:
        stream[1].write(one)
        await stream[0].read(1)
    return stream


async def leave(stream: Stream, *, last: bytes = b"", rudely: bool = False) -> None:
    reader, writer = stream
    writer.write(last)
    if rudely:
        off = b"\1\0\0\0\0\0\0\0"
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, off)
        writer.transport.abort()
        return
    with contextlib.suppress(ConnectionError):
        if last:
            await reader.read()
        writer.close()
        await writer.wait_closed()


async def everybody(port: int, _: int) -> None:
    """One of each kind of client, and each kind of end."""
    message = publish("s/a", b"x", 1, 7)
    await leave(await come(port))
    await leave(await come(port), last=b"\xff\xff\xff\xff\xff\xff")
    await leave(await come(port, connect("alpha", clean=False)), last=b"\xe0\0")
    await leave(await come(port, connect("alpha"), SUBSCRIBE, message), last=b"\xe0\0")
    await leave(await come(port, connect("alpha"), SUBSCRIBE, message), rudely=True)
    await leave(await come(port, connect("beta"), SUBSCRIBE, message), last=b"\x30\0")
    await leave(await come(port, connect("nobody")))
    # A second one takes the place of the first.
    first = await come(port, connect("gamma"), SUBSCRIBE)
    second = await come(port, connect("gamma"), SUBSCRIBE)
    await leave(first, last=b"")
    await leave(second)


async def behind_websocket(_: int, port: int) -> None:
    for rude in (False, True):
        websocket = await open_websocket(f"ws://127.0.0.1:{port}/mqtt", subprotocols=["mqtt"], compression=None)
        await websocket.send(connect("alpha"))
        assert await websocket.recv() == b"\x20\x02\0\0"
        await websocket.send(SUBSCRIBE)
        assert await websocket.recv()
        if rude:
            websocket.transport.abort()
        else:
            await websocket.close()
    await leave(await come(port), last=b"GET /else HTTP/1.1\r\n\r\n")


def left_over(
    loop: Loop,
    clients: Callable[[int, int], Coroutine[Any, Any, None]],
    folder: Path | None = None,
    tls: tuple[Path, Path] | None = None,
) -> Counter[str]:
    """What is there after four rounds of clients that was not there after one."""

    async def play() -> Counter[str]:
        store = Store.open(folder) if folder else None
        broker = Broker(Table(), Refusals(None, None), ROOT, store=store)  # type: ignore[arg-type]
        port, ws_port = free_port(), free_port()
        secured = certificate(*tls) if tls else None
        servers = [
            await listen(broker, listener(kind, "127.0.0.1", at), secured)
            for kind, at in ((ListenerType.TCP, port), (ListenerType.WS, ws_port))
        ]

        async def one_round() -> Counter[str]:
            await clients(port, ws_port)
            async with asyncio.timeout(5):
                while broker.connections:  # noqa: ASYNC110 - nobody says when the last one has gone
                    await asyncio.sleep(0.01)
            # What is under way in the loop itself comes to its end.
            await asyncio.sleep(0.1)
            return of_the_broker()

        try:
            before = await one_round()
            for _ in range(3):
                after = await one_round()
            return after - before
        finally:
            for server in servers:
                server.close()
            await broker.close()

    with asyncio.Runner(loop_factory=loop) as runner:
        return runner.run(play())


@pytest.mark.usefixtures("no_collector")
def test_a_connection_that_ended_is_freed_without_the_collector(loop: Loop) -> None:
    assert left_over(loop, everybody) == {}


@pytest.mark.usefixtures("no_collector")
def test_so_is_one_whose_session_is_stored(loop: Loop, tmp_path: Path) -> None:
    assert left_over(loop, everybody, tmp_path / "store") == {}


@pytest.mark.usefixtures("no_collector")
def test_so_is_one_over_websocket(loop: Loop) -> None:
    assert left_over(loop, behind_websocket) == {}


@pytest.mark.usefixtures("no_collector")
def test_so_is_one_behind_tls(tmp_path: Path) -> None:
    cert, key = tmp_path / "c", tmp_path / "k"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
            *("-keyout", key, "-out", cert, "-subj", "/CN=x", "-addext", "subjectAltName=IP:127.0.0.1"),
        ],
        check=True,
        capture_output=True,
    )
    trusting = ssl.create_default_context(cafile=cert)

    async def secured(port: int, _: int) -> None:
        for last in (b"\xe0\0", b"\x30\0"):
            stream = await asyncio.open_connection("127.0.0.1", port, ssl=trusting)
            stream[1].write(connect("alpha"))
            assert await stream[0].readexactly(4) == b"\x20\x02\0\0"
            await leave(stream, last=last)
        await leave(await come(port), last=b"no TLS at all")

    # The standard loop keeps one whose handshake failed until the collector comes.
    assert left_over(uvloop.new_event_loop, secured, tls=(cert, key)) == {}


def test_what_is_loaded_is_never_looked_at_again() -> None:
    before = gc.get_threshold()
    try:
        heap.settle()
        assert gc.get_freeze_count() > 10_000
        assert gc.get_threshold() > before
    finally:
        gc.unfreeze()
        gc.set_threshold(*before)
