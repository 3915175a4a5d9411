"""How much one connection or session may take; the hub gets more, because everything flows to it."""

from dataclasses import dataclass
from typing import Final, Self

from hub.access.principals import Kind
from hub.settings import Settings

MAX_PACKET_BYTES: Final = 256 * 1024
# Topics are remembered for speed, so they must be short; those of the protocol have a few hundred bytes at most.
MAX_TOPIC_BYTES: Final = 1_024
# Of strangers little is kept: a CONNECT with its Will, and so many connections that have not sent one yet.
MAX_CONNECT_BYTES: Final = 64 * 1024
MAX_STRANGERS: Final = 500
CONNECT_TIMEOUT_S: Final = 10.0
# After being told to go, a peer that does not read has this long before its connection is cut.
CLOSE_TIMEOUT_S: Final = 2.0
MAX_LEVELS: Final = 128
# Admissions that wait for the database; more are told that the broker is unavailable.
MAX_ADMISSIONS: Final = 1_000


@dataclass(frozen=True, slots=True)
class Bounds:
    """What the settings bound; 0 is no bound.

    Per address: `connections_per_address` at a time, `connects_per_second`, `failures_per_minute` (wrong secrets). Per
    device or integration: `messages_per_second`, `bytes_per_second`. `max_packet_bytes` is of one packet's body.
    `connections` are those of all addresses together.
    """

    connections_per_address: int = 0
    connects_per_second: int = 0
    failures_per_minute: int = 0
    messages_per_second: int = 0
    bytes_per_second: int = 0
    max_packet_bytes: int = MAX_PACKET_BYTES
    connections: int = 0

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """What these settings ask for."""
        return cls(
            connections_per_address=settings.broker_connections_per_address,
            connects_per_second=settings.broker_connects_per_second,
            failures_per_minute=settings.broker_failures_per_minute,
            messages_per_second=settings.broker_messages_per_second,
            bytes_per_second=settings.broker_bytes_per_second,
            max_packet_bytes=settings.broker_max_packet_bytes,
        )


UNBOUNDED: Final = Bounds()


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one session.

    `window`: QoS 1 and 2 messages sent and not acknowledged. `queue_messages`, `queue_bytes`: what waits behind the
    window or for an absent client. `out_bytes`: what waits for a client that reads slowly. `retained`: topics with a
    retained message of this publisher, `retained_bytes`: what those take. `incoming`: QoS 2 messages taken from the
    client and not released by it. `routes`: topics it publishes to that are remembered.
    """

    window: int
    queue_messages: int
    queue_bytes: int
    out_bytes: int
    subscriptions: int
    retained: int
    retained_bytes: int
    incoming: int
    routes: int


LIMITS: Final[dict[Kind, Limits]] = {
    "device": Limits(
        window=32,
        queue_messages=1_000,
        queue_bytes=8 * 1024**2,
        out_bytes=1024**2,
        subscriptions=100,
        retained=100,
        retained_bytes=1024**2,
        incoming=500,
        routes=1_000,
    ),
    # It often hears what all devices say.
    "integration": Limits(
        window=256,
        queue_messages=20_000,
        queue_bytes=64 * 1024**2,
        out_bytes=8 * 1024**2,
        subscriptions=200,
        retained=1_000,
        retained_bytes=8 * 1024**2,
        incoming=5_000,
        routes=5_000,
    ),
    "browser": Limits(
        window=256,
        queue_messages=2_000,
        queue_bytes=8 * 1024**2,
        out_bytes=2 * 1024**2,
        subscriptions=200,
        retained=0,
        retained_bytes=0,
        incoming=100,
        routes=100,
    ),
    "hub": Limits(
        window=4_000,
        queue_messages=200_000,
        queue_bytes=512 * 1024**2,
        out_bytes=64 * 1024**2,
        subscriptions=1_000,
        retained=1_000_000,
        retained_bytes=512 * 1024**2,
        incoming=65_535,
        routes=20_000,
    ),
}
