"""MQTT for pages on the page's own origin: `/mqtt` carries WebSocket frames to the broker's TCP port and back.

It adds no rights: the MQTT credential inside is checked by the broker. A page of this very site with a session is asked
for only so that nobody else can use the way. Nothing is queued here: whoever does not read slows the other side down.
"""

import asyncio
import contextlib
import functools
import ssl
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import structlog
from fastapi import APIRouter
from starlette.concurrency import run_in_threadpool
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from hub import pinned
from hub.database import Database
from hub.settings import Settings
from hub.sign_in import resume
from web.security import host_of, session_cookie_name

log = structlog.get_logger(__name__)
router = APIRouter()

SUBPROTOCOL: Final = "mqtt"
# A page sends CONNECT, SUBSCRIBE, acknowledgements and pings: all of them tiny.
MAX_FRAME: Final = 256 * 1024
CHUNK: Final = 64 * 1024
CONNECT_TIMEOUT_S: Final = 5.0
CLOSE_TIMEOUT_S: Final = 5.0

# WebSocket close codes (RFC 6455, 7.4.1, and IANA's registry).
NORMAL: Final = 1000
GOING_AWAY: Final = 1001
UNSUPPORTED_DATA: Final = 1003
POLICY: Final = 1008
TOO_BIG: Final = 1009
TRY_AGAIN_LATER: Final = 1013


class _Ended(Exception):
    """One direction is over; the code tells the page why."""

    def __init__(self, code: int, reason: str = "") -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


@router.websocket("/mqtt")
async def mqtt(websocket: WebSocket) -> None:
    """Carry one page's MQTT session until either side is done."""
    settings: Settings = websocket.app.state.settings
    trouble = await _trouble(websocket, settings)
    if trouble:
        # Not accepted yet: the handshake itself is answered with 403.
        await websocket.close(POLICY, trouble)
        return
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            reader, writer = await asyncio.open_connection(
                settings.mqtt_host, settings.mqtt_port, limit=CHUNK, ssl=_trust(settings.tls_cert_file)
            )
    except (OSError, TimeoutError) as error:
        log.warning("web.broker_away", error=type(error).__name__, reason=str(error))
        await websocket.accept(SUBPROTOCOL)
        await websocket.close(TRY_AGAIN_LATER, "the broker is away")
        return
    try:
        await websocket.accept(SUBPROTOCOL)
        ended = await _carry(websocket, reader, writer)
        if websocket.application_state is WebSocketState.CONNECTED:
            # A page that does not read would not take the farewell either.
            with contextlib.suppress(RuntimeError, WebSocketDisconnect, TimeoutError):
                async with asyncio.timeout(CLOSE_TIMEOUT_S):
                    await websocket.close(ended.code, ended.reason)
    except WebSocketDisconnect:
        pass  # gone while it was being accepted
    finally:
        await _close(writer)


@functools.lru_cache(maxsize=1)
def _pinned(cert_file: Path) -> pinned.Pinned:
    return pinned.Pinned(cert_file)


def _trust(cert_file: Path | None) -> ssl.SSLContext | None:
    """What the way to the broker trusts; None where it speaks no TLS. Raises OSError."""
    return None if cert_file is None else _pinned(cert_file).context()


async def _trouble(websocket: WebSocket, settings: Settings) -> str:
    """Why this handshake is refused; "" when it is fine."""
    origin = host_of(websocket.headers.get("origin", ""))
    if not origin or origin != websocket.headers.get("host", "").lower():
        return "only pages of this site may connect"
    if SUBPROTOCOL not in websocket.scope.get("subprotocols", []):
        return "the subprotocol must be mqtt"
    token = websocket.cookies.get(session_cookie_name(websocket, settings), "")
    if not token or not await run_in_threadpool(_is_signed_in, websocket.app.state.database, token):
        return "sign in first"
    return ""


def _is_signed_in(database: Database, token: str) -> bool:
    with database.transaction() as session:
        return resume(session, token, datetime.now(UTC)) is not None


async def _carry(websocket: WebSocket, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> _Ended:
    """Both directions at once; returns what ended the first of them, when the other has stopped too."""
    directions = [
        asyncio.create_task(_to_broker(websocket, writer)),
        asyncio.create_task(_to_page(reader, websocket)),
    ]
    try:
        done, _ = await asyncio.wait(directions, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in directions:
            task.cancel()
        await asyncio.gather(*directions, return_exceptions=True)
    for task in done:
        error = task.exception()
        if isinstance(error, _Ended):
            return error
        if isinstance(error, WebSocketDisconnect):
            return _Ended(NORMAL)
        if isinstance(error, OSError):
            return _Ended(TRY_AGAIN_LATER, "the broker went away")
        if error is not None:
            raise error
    return _Ended(NORMAL)


async def _to_broker(websocket: WebSocket, writer: asyncio.StreamWriter) -> None:
    while True:
        message = await websocket.receive()
        if message["type"] == "websocket.disconnect":
            raise _Ended(NORMAL)
        data = message.get("bytes")
        if data is None:
            raise _Ended(UNSUPPORTED_DATA, "MQTT is binary")
        if len(data) > MAX_FRAME:
            raise _Ended(TOO_BIG, f"a frame is at most {MAX_FRAME} bytes")
        writer.write(data)
        await writer.drain()


async def _to_page(reader: asyncio.StreamReader, websocket: WebSocket) -> None:
    while data := await reader.read(CHUNK):
        await websocket.send_bytes(data)
    raise _Ended(GOING_AWAY, "the broker closed the connection")


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(1):
            await writer.wait_closed()
