"""Webhooks by which an agent notifies people: named, so that whoever proposes names one and sees no address."""

import re
import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import msgspec
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session

from hub import agents, audit, outside
from hub.errors import Conflict, Invalid, NotFound
from hub.sealed import Sealed

CHANNELS_MAX: Final = 50
TOKEN_MAX: Final = 500
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


@dataclass(frozen=True, slots=True)
class ChannelView:
    """A channel as people see it: never its address, never its token."""

    channel_id: uuid.UUID
    name: str
    host: str
    added_by: str
    added_at: datetime


class Secret(msgspec.Struct, frozen=True):
    """What is sealed of a channel."""

    url: str
    token: str = ""


def listed(session: Session, agent_id: uuid.UUID) -> list[ChannelView]:
    """All channels of the agent, by name."""
    rows = session.execute(
        text(
            "SELECT channel_id, name, host, added_by, added_at FROM notify_channels WHERE agent_id = :agent "
            "ORDER BY name"
        ),
        {"agent": agent_id},
    )
    return [ChannelView(*row) for row in rows]


def add(
    session: Session,
    agent_id: uuid.UUID,
    name: str,
    secret: Secret,
    *,
    sealed: Sealed,
    private_hosts: str,
    by: str,
) -> ChannelView:
    """A new channel. Raises `Invalid` (name, url, token) or `Conflict` (name, too many, no key)."""
    name = name.strip()
    if not _NAME.fullmatch(name):
        raise Invalid("is 1 to 63 of a-z 0-9 -, not beginning with -", field="name")
    target = outside.parse(secret.url.strip(), private_hosts)
    token = secret.token.strip()
    if len(token) > TOKEN_MAX or not token.isascii() or (token and not token.isprintable()):
        raise Invalid(f"is at most {TOKEN_MAX} printable ASCII characters", field="token")
    agents.held(session, agent_id)
    if len(listed(session, agent_id)) >= CHANNELS_MAX:
        raise Conflict(f"there are {CHANNELS_MAX} channels already", field="name")
    try:
        with session.begin_nested():
            session.execute(
                text(
                    "INSERT INTO notify_channels (agent_id, name, host, sealed, added_by) "
                    "VALUES (:agent, :name, :host, :sealed, :by)"
                ),
                {
                    "agent": agent_id,
                    "name": name,
                    "host": target.host,
                    "sealed": sealed.seal(msgspec.json.encode(Secret(target.url, token))),
                    "by": str(by),
                },
            )
    except IntegrityError:
        raise Conflict(f"there is a channel {name} already", field="name") from None
    found = next(one for one in listed(session, agent_id) if one.name == name)
    audit.record(
        session,
        agent_id,
        by=by,
        action="notify_channel.added",
        subject=name,
        subject_id=found.channel_id,
        after={"host": target.host, "has_token": bool(token)},
    )
    return found


def remove(session: Session, agent_id: uuid.UUID, channel_id: uuid.UUID, *, by: str) -> str:
    """Remove it with its secret; returns its name. Raises `NotFound`, also for another agent's."""
    row = session.execute(
        text("DELETE FROM notify_channels WHERE channel_id = :id AND agent_id = :agent RETURNING name, host"),
        {"id": channel_id, "agent": agent_id},
    ).first()
    if row is None:
        raise NotFound("there is no such channel")
    audit.record(
        session,
        agent_id,
        by=by,
        action="notify_channel.removed",
        subject=row.name,
        subject_id=channel_id,
        before={"host": row.host},
    )
    return str(row.name)


def secret_of(session: Session, agent_id: uuid.UUID, name: str, sealed: Sealed, field: str) -> Secret:
    """The channel's address and token; raises `NotFound` naming those that there are."""
    row = session.execute(
        text("SELECT sealed FROM notify_channels WHERE agent_id = :agent AND name = :name"),
        {"agent": agent_id, "name": name},
    ).first()
    if row is None:
        known = ", ".join(one.name for one in listed(session, agent_id)) or "none yet"
        raise NotFound(f"the agent has no channel {name[:63]!r}; it has {known}", field=field)
    return msgspec.json.decode(sealed.open(row.sealed), type=Secret)
