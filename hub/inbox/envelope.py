"""A message on its way in, and what became of a batch of them."""

import uuid
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from typing import Generic, TypeVar

from hub.access.denials import Refusal
from hub.access.principals import INTEGRATION_PREFIX
from hub.presence_records import Known
from hub.telemetry.samples import NewSamples
from hub_protocol import messages

M = TypeVar("M")


@dataclass(frozen=True, slots=True)
class Incoming:
    """A message as it came from the broker; `delivery` is what its acknowledgement needs."""

    topic: str
    payload: bytes
    retained: bool
    received_at: datetime
    delivery: tuple[int, int, int] = (0, 0, 0)
    # A dead letter that is tried again: it says nothing about the device's connection of now.
    retried: bool = False


@dataclass(frozen=True, slots=True)
class Sender:
    """The device that a topic names, as this batch found it."""

    known: Known
    space_id: uuid.UUID | None
    scopes: list[str]
    revoked: bool


@dataclass(frozen=True, slots=True)
class Accepted(Generic[M]):
    """A message that may count: well-formed, from a device of ours, of its current connection or a newer one.

    Telemetry does not say of which connection it is.
    """

    incoming: Incoming
    sender: Sender
    levels: tuple[str, ...]
    message: M


@dataclass(slots=True)
class Outcome:
    """What is to be said after the commit, and what was refused."""

    receipts: dict[str, list[str]] = field(default_factory=dict)
    denied: dict[tuple[str, str, str], messages.Denied] = field(default_factory=dict)
    refusals: list[Refusal] = field(default_factory=list)
    heard: list[tuple[uuid.UUID, uuid.UUID, datetime]] = field(default_factory=list)
    samples: list[NewSamples] = field(default_factory=list)
    # Malformed, or not storable, by handle.
    garbage: Counter[str] = field(default_factory=Counter)

    def receive(self, handle: str, message_id: str) -> None:
        """Confirm to the device that this message is stored."""
        self.receipts.setdefault(handle, []).append(message_id)

    def refuse(
        self,
        handle: str,
        incoming: Incoming,
        reason: str,
        *,
        epoch: int | None = None,
        message_id: str | None = None,
    ) -> None:
        """Refuse a message: counted, shown to people, and told to the device once per batch, reason and id."""
        self.refusals.append(Refusal(handle, "message", incoming.topic, reason, incoming.received_at))
        self.decline(handle, incoming, reason, epoch=epoch, message_id=message_id)

    def refuse_integration(self, handle: str, incoming: Incoming, reason: str) -> None:
        """Refuse what an integration asked: counted, and shown to people on its page."""
        self.refusals.append(
            Refusal(f"{INTEGRATION_PREFIX}{handle}", "message", incoming.topic, reason, incoming.received_at)
        )

    def decline(
        self,
        handle: str,
        incoming: Incoming,
        reason: str,
        *,
        epoch: int | None = None,
        message_id: str | None = None,
    ) -> None:
        """Tell the device alone that its message is not taken: nobody else is to know that there was one."""
        denied = messages.Denied("message", incoming.topic, reason, epoch, message_id)
        self.denied.setdefault((handle, incoming.topic, message_id or reason), denied)
