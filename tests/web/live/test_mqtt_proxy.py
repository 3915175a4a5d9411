"""MQTT over the page's origin: who may use the way, that it is only a way, and that it ends on both sides."""

import asyncio
import contextlib
import json
import os
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

import httpx
import paho.mqtt.client as paho
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from hub import identity
from hub.database import Database
from hub.settings import HUB_USERNAME, Settings
from web.mqtt_proxy import MAX_FRAME
from web.security import SESSION_COOKIE

Service = Any  # tests/web/live/conftest.py
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def peer(settings: Settings, serve: Serve) -> AsyncIterator[None]:
    """Something on the broker's port that shows what the way does, and knows no MQTT."""
    async with await asyncio.start_server(serve, "127.0.0.1", settings.mqtt_port):
        yield


def page(served: str, token: str, **changes: Any) -> connect:
    """A page's WebSocket to /mqtt."""
    options: dict[str, Any] = {"origin": served, "subprotocols": ["mqtt"], "max_size": None} | changes
    cookie = {"Cookie": f"{SESSION_COOKIE}={token}"} if token else {}
    return connect(f"ws://{urlsplit(served).netloc}/mqtt", additional_headers=cookie, proxy=None, **options)


async def closed(websocket: ClientConnection) -> int:
    """The code with which the other side closes."""
    try:
        async with asyncio.timeout(10):
            async for _ in websocket:
                pass
    except ConnectionClosed:
        pass
    assert websocket.close_code is not None
    return websocket.close_code


@pytest.mark.parametrize(
    "changes",
    [
        {"origin": "http://evil.test"},
        {"origin": "null"},
        {"origin": None},
        {"subprotocols": None},
        {"subprotocols": ["mqttv3.1"]},
    ],
)
async def test_only_pages_of_this_site_that_speak_mqtt(served: str, owner_token: str, changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidStatus) as refused:
        await page(served, owner_token, **changes)
    assert refused.value.response.status_code == 403


@pytest.mark.parametrize("token", ["", "nonsense"])
async def test_only_with_a_session(served: str, owner_token: str, token: str) -> None:
    with pytest.raises(InvalidStatus) as refused:
        await page(served, token)
    assert refused.value.response.status_code == 403


async def test_a_broker_that_is_away_is_tried_again_later(served: str, owner_token: str) -> None:
    async with page(served, owner_token) as websocket:
        assert await closed(websocket) == 1013


@pytest.mark.parametrize(("frame", "code"), [("text", 1003), (b"x" * (MAX_FRAME + 1), 1009)])
async def test_what_no_page_sends_ends_the_connection(
    served: str, owner_token: str, settings: Settings, frame: str | bytes, code: int
) -> None:
    ended = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert await reader.read() == b""
        writer.close()
        ended.set()

    async with peer(settings, serve), page(served, owner_token) as websocket:
        await websocket.send(frame)
        assert await closed(websocket) == code
        await asyncio.wait_for(ended.wait(), 10)


async def test_bytes_go_both_ways_unchanged_and_each_end_ends_the_other(
    served: str, owner_token: str, settings: Settings
) -> None:
    ended = asyncio.Event()

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(4096):
            if data == b"bye":
                break
            writer.write(data)
        writer.close()
        ended.set()

    async with peer(settings, echo):
        async with page(served, owner_token) as websocket:
            sent = os.urandom(MAX_FRAME)
            await websocket.send(sent)
            received = b""
            while len(received) < len(sent):
                received += bytes(await websocket.recv())  # type: ignore[arg-type]
            assert received == sent
        await asyncio.wait_for(ended.wait(), 10)  # the page left, so the broker's side was closed
        async with page(served, owner_token) as websocket:
            await websocket.send(b"bye")
            assert await closed(websocket) == 1001


async def test_who_does_not_read_slows_the_other_down(served: str, owner_token: str, settings: Settings) -> None:
    """64 MiB are offered in each direction; far less is taken while the other side does not read."""
    offered, taken, chunk = 64 * 1024 * 1024, {"from broker": 0}, os.urandom(65_536)
    done = asyncio.Event()

    async def flood(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(TimeoutError, OSError):
            while taken["from broker"] < offered:
                writer.write(chunk)
                await asyncio.wait_for(writer.drain(), 1)
                taken["from broker"] += 65_536
        await asyncio.wait_for(done.wait(), 30)
        writer.transport.abort()

    async with peer(settings, flood), page(served, owner_token, max_queue=1, compression=None) as websocket:
        taken_from_page = 0
        with contextlib.suppress(TimeoutError):
            while taken_from_page < offered:
                await asyncio.wait_for(websocket.send(chunk), 1)
                taken_from_page += 65_536
        done.set()
        assert taken_from_page < offered / 2
        assert taken["from broker"] < offered / 2
        assert await closed(websocket) in {1001, 1013}


def mqtt_page(served: str, token: str, credential: dict[str, Any]) -> paho.Client:
    """The page's MQTT client: paho over the same WebSocket."""
    client = paho.Client(
        paho.CallbackAPIVersion.VERSION2, credential["client_id"], transport="websockets", protocol=paho.MQTTv311
    )
    client.username_pw_set(credential["username"], credential["password"])
    client.ws_set_options("/mqtt", {"Origin": served, "Cookie": f"{SESSION_COOKIE}={token}"})
    return client


async def test_a_page_hears_its_feed_through_the_real_broker_until_it_signs_out(
    served: str,
    owner_token: str,
    owner: httpx.AsyncClient,
    database: Database,
    settings: Settings,
    broker: Service,
    hub_password: str,
) -> None:
    with database.transaction() as session:
        home = identity.find_agent(session).agent_id
    credential = (await owner.post("/live/credential", json={"agent_id": str(home)})).json()
    loop = asyncio.get_running_loop()
    events: asyncio.Queue[tuple[str, Any]] = asyncio.Queue()

    def tell(name: str, fact: Any) -> None:
        loop.call_soon_threadsafe(events.put_nowait, (name, fact))

    async def next_event() -> tuple[str, Any]:
        return await asyncio.wait_for(events.get(), 15)

    address = urlsplit(served)
    wrong = mqtt_page(served, owner_token, credential | {"password": "wrong"})
    wrong.on_connect = lambda *facts: tell("connected", facts[3].value)
    wrong.connect(address.hostname or "", address.port or 0)
    wrong.loop_start()
    name, code = await next_event()
    wrong.loop_stop()
    assert name == "connected"
    assert code != 0

    client = mqtt_page(served, owner_token, credential)
    client.on_connect = lambda *facts: tell("connected", facts[3].value)
    client.on_subscribe = lambda *facts: tell("granted", [code.value for code in facts[3]])
    client.on_message = lambda *facts: tell("message", json.loads(facts[2].payload))
    client.on_disconnect = lambda *_: tell("gone", None)
    client.connect(address.hostname or "", address.port or 0)
    client.loop_start()
    assert await next_event() == ("connected", 0)
    elsewhere = f"{credential['root']}/ui/{uuid.uuid4()}/+"
    client.subscribe([(topic, 1) for topic in [*credential["topics"], elsewhere, "#"]])
    assert await next_event() == ("granted", [1, 1, 128, 128])

    hub = paho.Client(paho.CallbackAPIVersion.VERSION2, HUB_USERNAME, protocol=paho.MQTTv311)
    hub.username_pw_set(HUB_USERNAME, hub_password)
    hub.connect("127.0.0.1", settings.mqtt_port)
    hub.loop_start()
    hub.publish(f"{credential['root']}/ui/{home}/events", json.dumps({"type": "events.new"}), 1)
    assert await next_event() == ("message", {"type": "events.new"})

    assert (await owner.post("/sign-out")).status_code == 303
    assert await next_event() == ("gone", None)
    for one in (hub, client):
        one.disconnect()
        one.loop_stop()
    assert broker.is_running
