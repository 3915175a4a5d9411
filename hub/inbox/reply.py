"""`reply`: how commands fare, written into the ledger and confirmed by a receipt after the commit."""

import uuid
from collections.abc import Sequence
from typing import Final

from sqlmodel import Session

from hub import command_replies
from hub.inbox.envelope import Accepted, Outcome
from hub_protocol import messages

# The hub's own pings on suspicion: they ask for a sign of life and stand in no ledger.
PROBE_PREFIX: Final = "probe-"


def handle(session: Session, accepted: Sequence[Accepted[messages.Reply]], outcome: Outcome) -> None:
    """Write a batch of replies; one to a command that is not that device's is refused alone."""
    replies: list[tuple[Accepted[messages.Reply], command_replies.DeviceReply]] = []
    for one in accepted:
        handle_, command_id = one.sender.known.handle, one.levels[0]
        if command_id.startswith(PROBE_PREFIX):
            outcome.receive(handle_, f"{command_id}:{one.message.status}")
            continue
        try:
            parsed = uuid.UUID(command_id)
        except ValueError:
            outcome.refuse(handle_, one.incoming, "there is no command with this id")
            continue
        device_id = one.sender.known.device_id
        replies.append((one, command_replies.DeviceReply(parsed, device_id, one.message, one.incoming.received_at)))
    if not replies:
        return
    known = command_replies.answer(session, [reply for _, reply in replies])
    for one, reply in replies:
        if reply.command_id in known:
            outcome.receive(one.sender.known.handle, f"{one.levels[0]}:{one.message.status}")
        else:
            outcome.refuse(one.sender.known.handle, one.incoming, "there is no command with this id for this device")
