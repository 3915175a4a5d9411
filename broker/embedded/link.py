"""What the broker's other parts see of a connection, so that none of them depends on how one is made."""

from datetime import datetime
from typing import Literal, Protocol

from broker.embedded.flow import Flow, Way
from broker.embedded.packets import Will
from broker.embedded.session import Session

State = Literal["new", "admitting", "open", "closed"]
Action = Literal["connect", "publish", "subscribe"]


class Link(Protocol):
    """One connection with a client. `routes`: topics that it published to, and where they go."""

    kind: str
    peer: str
    address: str
    counted: bool
    keep_alive_s: int
    opened_at: datetime | None
    flow: Flow
    max_packet_bytes: int
    state: State
    session: Session | None
    out_bytes: int
    needed: int
    routes: dict[bytes, Way]

    def send(self, data: bytes) -> None:
        """Write at the end of this turn of the loop, or when the peer reads again."""
        ...

    def answer(self, data: bytes) -> None:
        """Send what the peer asked for; raises MalformedPacket when it asks and does not read."""
        ...

    def flush(self) -> None:
        """Hand to the transport what was gathered."""
        ...

    def seal(self) -> bytes:
        """Hand over what was gathered, which leaves by `written` only when it is true for good."""
        ...

    def written(self, data: bytes) -> None:
        """What was sealed may leave."""
        ...

    def unwritten(self) -> None:
        """What was sealed may never leave: end the connection without it."""
        ...

    def connect(self, body: bytes) -> None:
        """Take a CONNECT packet; raises MalformedPacket."""
        ...

    def opened(self, session: Session, will: Will | None, keep_alive_s: int, *, session_present: bool) -> None:
        """The CONNECT is accepted: answer it."""
        ...

    def resume(self) -> None:
        """Read on, beginning with what came behind the CONNECT."""
        ...

    def refuse(self, code: int, reason: str) -> None:
        """Answer a CONNECT with a return code other than 0 and close."""
        ...

    def close(self, reason: str, *, publish_will: bool) -> None:
        """End the connection for a reason that is not the peer's fault."""
        ...

    def crowded_out(self) -> None:
        """Make room for others at once."""
        ...

    def turn_away(self, reason: str) -> None:
        """Close at once and without an answer."""
        ...

    def forget_routes(self) -> None:
        """Find the way of each topic anew; what was counted on the old ones is handed over."""
        ...

    def tell_denied(self, action: Action, topic: str, reason: str) -> None:
        """Tell the device on its `denied` topic, at a bounded rate."""
        ...
