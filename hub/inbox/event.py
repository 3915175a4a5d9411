"""`event`: stored once by its id, and confirmed by a receipt after the commit."""

import uuid
from collections.abc import Sequence

from sqlalchemy import text
from sqlmodel import Session

from hub import events, spaces
from hub.inbox.envelope import Accepted, Outcome
from hub_protocol import messages


def handle(session: Session, accepted: Sequence[Accepted[messages.Event]], outcome: Outcome) -> None:
    """Store a batch of events; one that names a space which its agent does not have is refused alone.

    So is one of a private space, and one of a device that stands in such a space: it leaves no trace at all.
    """
    named_spaces = _spaces(session, accepted)
    private = spaces.private_among(session, {*named_spaces.values(), *(one.sender.space_id for one in accepted)})
    new: list[events.NewEvent] = []
    for one in accepted:
        known = one.sender.known
        space_id = one.sender.space_id
        if one.message.space is not None:
            named = named_spaces.get((known.agent_id, one.message.space))
            if named is None:
                outcome.refuse(
                    known.handle, one.incoming, "field `space`: the agent has no such space", message_id=one.message.id
                )
                continue
            space_id = named
        if space_id in private or one.sender.space_id in private:
            outcome.decline(known.handle, one.incoming, spaces.PRIVATE, message_id=one.message.id)
            continue
        new.append(
            events.NewEvent(
                device_id=known.device_id,
                agent_id=known.agent_id,
                handle=known.handle,
                space_id=space_id,
                message_id=one.message.id,
                type=one.levels[0],
                payload=one.message.payload,
                epoch=one.message.epoch,
                seq=one.message.seq,
                happened_at=one.message.at,
                received_at=one.incoming.received_at,
            )
        )
        outcome.receive(known.handle, one.message.id)  # told after the commit
    if new:
        events.append(session, new)


def _spaces(session: Session, accepted: Sequence[Accepted[messages.Event]]) -> dict[tuple[uuid.UUID, str], uuid.UUID]:
    """The spaces that these events name, by agent and by name or id."""
    agents = {one.sender.known.agent_id for one in accepted if one.message.space is not None}
    if not agents:
        return {}
    rows = session.execute(
        text("SELECT agent_id, space_id, name FROM spaces WHERE agent_id = ANY(:agents) ORDER BY created_at DESC"),
        {"agents": list(agents)},
    )
    found: dict[tuple[uuid.UUID, str], uuid.UUID] = {}
    for agent_id, space_id, name in rows:
        found[agent_id, name] = space_id
        found[agent_id, str(space_id)] = space_id
    return found
