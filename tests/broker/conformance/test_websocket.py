"""MQTT over WebSocket: the subprotocol, binary frames, and packets that do not care where frames end."""

from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

Venue = Any


def opened(venue: Venue) -> ClientConnection:
    return connect(f"ws://127.0.0.1:{venue.ws_port}/mqtt", subprotocols=["mqtt"], compression=None)


def received(websocket: ClientConnection, size: int) -> bytes:
    """So many bytes, whatever the frames."""
    data = b""
    while len(data) < size:
        part = websocket.recv(5)
        assert isinstance(part, bytes)
        data += part
    return data


@pytest.mark.statement("MQTT-6.0.0-4")
def test_the_subprotocol_is_mqtt(venue: Venue) -> None:
    with opened(venue) as websocket:
        assert websocket.subprotocol == "mqtt"


@pytest.mark.statement("MQTT-6.0.0-1")
@pytest.mark.parametrize("connected", [False, True])
def test_a_text_frame_ends_the_connection(venue: Venue, *, connected: bool) -> None:
    handle, secret = venue.user()
    with opened(venue) as websocket:
        if connected:
            websocket.send(venue.wire.connect(handle, handle, secret))
            assert received(websocket, 4) == b"\x20\2\0\0"
        # A packet that would be taken in a binary frame, and one that would be answered.
        websocket.send("\x30\x06\0\3a/bx" if connected else "\x10\x0c\0\4MQTT\4\2\0\0\0\0")
        with pytest.raises(ConnectionClosed):  # noqa: PT012 - it may be over before the ping or after
            websocket.send(b"\xc0\0")
            websocket.recv(5)


@pytest.mark.statement("MQTT-6.0.0-2")
def test_packets_and_frames_need_not_end_together(venue: Venue) -> None:
    handle, secret = venue.user()
    topic = venue.wire.string(f"marvain/v1/d/{handle}/cmd/x")
    stream = (
        venue.wire.connect(handle, handle, secret) + venue.wire.packet(0x82, b"\0\5" + topic + b"\1") + b"\xc0\0" * 2
    )
    answers = b"\x20\2\0\0\x90\3\0\5\1\xd0\0\xd0\0"
    # One frame for all; one frame for each byte; frames of seven; a message in fragments.
    for pieces in (
        [stream],
        [stream[at : at + 1] for at in range(len(stream))],
        [stream[at : at + 7] for at in range(0, len(stream), 7)],
    ):
        with opened(venue) as websocket:
            for piece in pieces:
                websocket.send(piece)
            assert received(websocket, len(answers)) == answers
    with opened(venue) as websocket:
        websocket.send(iter([stream[:5], stream[5:40], stream[40:]]))
        assert received(websocket, len(answers)) == answers
