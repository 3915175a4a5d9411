"""Mosquitto's log as version 2.0 writes it, in pieces of any size."""

import pytest

from broker.mosquitto.journal import (
    Connected,
    DeniedConnect,
    DeniedPublish,
    DeniedSubscribe,
    Disconnected,
    Journal,
    Subscribed,
    WillSeen,
)
from broker.mosquitto.sessions import Sessions

DEBUG = b"""\
New connection from 127.0.0.1:51271 on port 1884.
New client connected from 127.0.0.1:51271 as lamp (p2, c1, k60, u'lamp').
Will message specified (4 bytes) (r1, q1).
\tm/v1/d/lamp/state
Sending CONNACK to lamp (0, 0)
Received SUBSCRIBE from lamp
\tm/v1/d/lamp/cmd/# (QoS 1)
lamp 1 m/v1/d/lamp/cmd/#
\t# (QoS 0)
\t$SYS/# (QoS 0)
Sending SUBACK to lamp
Received PUBLISH from lamp (d0, q1, r0, m1, 'm/v1/d/lamp/event/x', ... (4 bytes))
Sending PUBACK to lamp (m1, rc0)
Denied PUBLISH from lamp (d0, q1, r0, m1, 'it's, ... (9 bytes))', ... (1 bytes))
Received UNSUBSCRIBE from lamp
\tm/v1/d/lamp/cmd/#
lamp m/v1/d/lamp/cmd/#
Sending UNSUBACK to lamp
New connection from 127.0.0.1:46101 on port 1883.
Sending CONNACK to 127.0.0.1 (0, 5)
Client <unknown> disconnected, not authorised.
Client lamp closed its connection.
"""


@pytest.mark.parametrize("size", [1, 7, 4_096])
def test_the_debug_log_tells_who_came_and_what_was_refused(size):
    journal = Journal()
    events = [event for at in range(0, len(DEBUG), size) for event in journal.feed(DEBUG[at : at + size])]
    assert events == [
        Connected("lamp", "127.0.0.1", 1884, clean=True, keep_alive_s=60),
        WillSeen("lamp", "m/v1/d/lamp/state"),
        Subscribed("lamp", "m/v1/d/lamp/cmd/#", 1),
        DeniedSubscribe("lamp", "#"),
        DeniedSubscribe("lamp", "$SYS/#"),
        DeniedPublish("lamp", "it's, ... (9 bytes))"),
        Subscribed("lamp", "m/v1/d/lamp/cmd/#", None),
        DeniedConnect("127.0.0.1"),
        Disconnected("lamp"),
    ]


def test_without_the_debug_log_sessions_and_subscriptions_are_known():
    journal, sessions = Journal(), Sessions(ws_port=1884)
    usual = b"""\
mosquitto version 2.0.11 running
New connection from 10.0.0.7:51271 on port 1883.
New client connected from 10.0.0.7:51271 as lamp (p2, c0, k60, u'lamp').
lamp 1 m/v1/d/lamp/cmd/#
lamp 0 m/v1/d/lamp/denied
lamp m/v1/d/lamp/denied
Client lamp has exceeded timeout, disconnecting.
"""
    for event in journal.feed(usual):
        sessions.take(event)
    [session], gone = sessions.collect()
    assert gone == []
    assert (session.username, session.connected, session.address, session.transport) == (
        "lamp",
        False,
        "10.0.0.7",
        "tcp",
    )
    assert session.subscriptions == [("m/v1/d/lamp/cmd/#", 1)]


@pytest.mark.parametrize(
    "line",
    [
        b"Client lamp. closed its connection.\n",
        b"New client connected from 10.0.0.7:5 as lamp (p2, c1, k60, u'porch').\n",
        b"Denied PUBLISH from lamp\n",
        b"\xff\xfe\x00\n",
        b"\tlamp (QoS 1)\n",
        b"\n\n",
        b"x" * 200_000,
    ],
)
def test_lines_that_are_odd_tell_nothing_of_anybody(line):
    journal, sessions = Journal(), Sessions(ws_port=1884)
    for event in journal.feed(line):
        sessions.take(event)
    assert sessions.collect() == ([], [])


def test_complaints_are_kept_for_people():
    journal = Journal()
    assert list(journal.feed(b"Error: Address already in use\n")) == []
    assert journal.words == ["Error: Address already in use"]
