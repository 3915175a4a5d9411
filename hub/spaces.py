"""Spaces: the places of an agent, made, renamed, deleted; and their privacy, which one guard keeps."""

import uuid
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import text
from sqlmodel import Session, select

from hub import audit, feed
from hub.errors import Conflict, Invalid, NotFound
from hub.tables import Agent, RetiredSpace, Space

NAME_MAX: Final = 80
PER_AGENT: Final = 500
# What a device or a person is told of an event that a private space does not take.
PRIVATE: Final = "this space is in privacy mode: nothing that happens in it is stored"


@dataclass(frozen=True, slots=True)
class SpaceView:
    """A space as a page shows it; `events_today` counts the last 24 hours."""

    space_id: uuid.UUID
    name: str
    privacy_mode: bool
    revision: int
    created_at: datetime
    devices: int
    online: int
    events_today: int
    last_event_at: datetime | None


def private_among(session: Session, space_ids: Collection[uuid.UUID | None]) -> set[uuid.UUID]:
    """The guard: those of these spaces in which nothing may be stored, planned on, remembered or told.

    Held until the transaction ends, so that whoever switches privacy on afterwards can rely on it.
    """
    asked = [one for one in set(space_ids) if one is not None]
    if not asked:
        return set()
    rows = session.execute(
        text("SELECT space_id, privacy_mode FROM spaces WHERE space_id = ANY(:ids) ORDER BY space_id FOR SHARE"),
        {"ids": asked},
    )
    return {row.space_id for row in rows if row.privacy_mode}


def overview(session: Session, agent_id: uuid.UUID) -> list[SpaceView]:
    """The agent's spaces by name."""
    rows = session.execute(
        text(
            "SELECT s.space_id, s.name, s.privacy_mode, s.revision, s.created_at,"
            " coalesce(d.devices, 0) AS devices, coalesce(d.online, 0) AS online,"
            " coalesce(e.events_today, 0) AS events_today, e.last_event_at"
            " FROM spaces AS s"
            " LEFT JOIN (SELECT d.space_id, count(*) AS devices, count(*) FILTER (WHERE p.verdict = 'online') AS online"
            " FROM devices AS d JOIN device_presence AS p USING (device_id)"
            " WHERE d.agent_id = :agent AND d.revoked_at IS NULL GROUP BY d.space_id) AS d USING (space_id)"
            " LEFT JOIN LATERAL (SELECT count(*) AS events_today, max(created_at) AS last_event_at FROM events AS e"
            " WHERE e.space_id = s.space_id AND e.created_at > now() - interval '1 day') AS e ON true"
            " WHERE s.agent_id = :agent ORDER BY lower(s.name), s.space_id"
        ),
        {"agent": agent_id},
    )
    return [SpaceView(**row._mapping) for row in rows]  # noqa: SLF001  (SQLAlchemy's public name)


def view(session: Session, agent_id: uuid.UUID, space_id: uuid.UUID) -> SpaceView:
    """One space of the agent; `NotFound` also for another agent's."""
    for found in overview(session, agent_id):
        if found.space_id == space_id:
            return found
    raise NotFound("there is no such space", field="space")


def create(session: Session, agent_id: uuid.UUID, name: str, *, by: str) -> Space:
    """A new space. Raises `Invalid` (name) and `Conflict` (the name is taken, or there are too many)."""
    name = _checked(name)
    _one_at_a_time(session, agent_id)
    names = session.exec(select(Space.name).where(Space.agent_id == agent_id)).all()
    if name.casefold() in {one.casefold() for one in names}:
        raise Conflict(f"there is a space named {name} already", field="name")
    if len(names) >= PER_AGENT:
        raise Conflict(f"an agent has at most {PER_AGENT} spaces", field="name")
    space = Space(agent_id=agent_id, name=name)
    session.add(space)
    session.flush()
    _audit(session, space, "created", by, after={"name": name})
    return space


def change(
    session: Session,
    agent_id: uuid.UUID,
    space_id: uuid.UUID,
    *,
    name: str | None = None,
    privacy_mode: bool | None = None,
    revision: int | None = None,
    by: str,
) -> Space:
    """Rename it, or switch its privacy. With a `revision`, `Conflict` when it is no longer at it.

    Raises `NotFound`, `Invalid` (name), `Conflict` (the name is taken). What happened before a space became private
    stays where it is.
    """
    wanted = None if name is None else _checked(name)
    _one_at_a_time(session, agent_id)
    space = _locked(session, agent_id, space_id)
    if revision is not None and space.revision != revision:
        mode = "private" if space.privacy_mode else "not private"
        raise Conflict(f"somebody changed it meanwhile: it is named {space.name} and is {mode}", field="revision")
    before = {"name": space.name, "privacy_mode": space.privacy_mode}
    if wanted is not None and wanted != space.name:
        others = session.exec(select(Space.name).where(Space.agent_id == agent_id, Space.space_id != space_id)).all()
        if wanted.casefold() in {one.casefold() for one in others}:
            raise Conflict(f"there is a space named {wanted} already", field="name")
        space.name = wanted
    if privacy_mode is not None:
        space.privacy_mode = privacy_mode
    after = {"name": space.name, "privacy_mode": space.privacy_mode}
    if before == after:
        return space
    space.revision += 1
    session.add(space)
    session.flush()
    if before["privacy_mode"] != after["privacy_mode"]:
        _audit(session, space, "privacy_on" if space.privacy_mode else "privacy_off", by)
    if before["name"] != after["name"]:
        _audit(session, space, "renamed", by, before={"name": before["name"]}, after={"name": after["name"]})
    _tell(session, space)
    return space


def delete(session: Session, agent_id: uuid.UUID, space_id: uuid.UUID, typed: str = "", *, by: str) -> None:
    """Remove it: its devices are then in no space; its events stay, and are told under its name.

    Where there are events, `typed` must be its name: `Invalid` otherwise. Raises `NotFound`, and `Conflict` in privacy
    mode: what that hides would come to light, and be stored from then on.
    """
    _one_at_a_time(session, agent_id)
    # Devices first, as whoever moves one does.
    moved = session.execute(
        text("SELECT device_id, handle FROM devices WHERE space_id = :space ORDER BY device_id FOR NO KEY UPDATE"),
        {"space": space_id},
    ).all()
    space = _locked(session, agent_id, space_id)
    has_events = session.execute(
        text("SELECT EXISTS (SELECT FROM events WHERE space_id = :space)"), {"space": space_id}
    ).scalar_one()
    if has_events and typed.strip() != space.name:
        raise Invalid(f"type the space's name, {space.name}, to delete it", field="typed")
    if space.privacy_mode:
        raise Conflict(
            f"{space.name} is private. Without it, what happens there would be stored and its memories seen;"
            " switch its privacy off first, if that is meant"
        )
    _tell(session, space)
    _audit(session, space, "deleted", by, before={"name": space.name, "devices": [one.handle for one in moved]})
    session.add(RetiredSpace(space_id=space_id, agent_id=agent_id, name=space.name))
    session.delete(space)
    session.flush()


def _one_at_a_time(session: Session, agent_id: uuid.UUID) -> None:
    session.exec(select(Agent.agent_id).where(Agent.agent_id == agent_id).with_for_update(key_share=True)).one()


def _locked(session: Session, agent_id: uuid.UUID, space_id: uuid.UUID) -> Space:
    space = session.exec(
        select(Space).where(Space.space_id == space_id, Space.agent_id == agent_id).with_for_update(),
        execution_options={"populate_existing": True},
    ).one_or_none()
    if space is None:
        raise NotFound("there is no such space", field="space")
    return space


def _checked(name: str) -> str:
    name = " ".join(name.split())
    if not name or len(name) > NAME_MAX or not name.isprintable():
        raise Invalid(f"is 1 to {NAME_MAX} printable characters", field="name")
    return name


def _tell(session: Session, space: Space) -> None:
    """Pages of devices in it show its name."""
    rows = session.execute(
        text("SELECT device_id, handle FROM devices WHERE space_id = :space AND deleted_at IS NULL"),
        {"space": space.space_id},
    )
    for row in rows:
        item = {"device_id": str(row.device_id), "handle": row.handle, "change": "space", "by": ""}
        feed.tell(session, space.agent_id, "devices", "devices.updated", item)


def _audit(session: Session, space: Space, verb: str, by: str, **facts: Any) -> None:
    audit.record(
        session,
        space.agent_id,
        by=by,
        action=f"space.{verb}",
        subject=space.name,
        subject_id=space.space_id,
        **facts,
    )
