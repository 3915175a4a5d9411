"""A role as somebody wants it: everything that is wrong with it, by field, before it is written."""

import uuid
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from sqlalchemy import text
from sqlmodel import Session

from hub.access import templates
from hub.errors import Invalid
from hub_protocol.topics import DEFAULT_ROOT

NAME_MAX: Final = 80
ABOUT_MAX: Final = 500
MOST_GRANTS: Final = 200


@dataclass(frozen=True, slots=True)
class GrantDraft:
    """One permission: `action` is publish or subscribe, `filter` a template below the root (`//…`: outside)."""

    action: str
    filter: str


@dataclass(frozen=True, slots=True)
class RoleDraft:
    """A role with what it grants and the ids of those who are to bear it."""

    name: str
    about: str = ""
    grants: tuple[GrantDraft, ...] = ()
    devices: tuple[uuid.UUID, ...] = ()
    integrations: tuple[uuid.UUID, ...] = ()
    all_devices: bool = False


def problems(
    session: Session,
    agent_id: uuid.UUID,
    draft: RoleDraft,
    *,
    open_topics: tuple[str, ...],
    role_id: uuid.UUID | None = None,
    root: str = DEFAULT_ROOT,
) -> list[tuple[str, str]]:
    """All that is wrong, as (field, message), where fields are like "name" and "grants.2.filter".

    `role_id` is the role that the draft is an edit of; without it the draft is a new role.
    """
    _, found = _examine(session, agent_id, draft, open_topics, root)
    name = _one_line(draft.name)
    if not any(field == "name" for field, _ in found) and is_taken(session, agent_id, name, but=role_id):
        found.insert(0, ("name", TAKEN))
    return found


def check_draft(
    session: Session,
    agent_id: uuid.UUID,
    draft: RoleDraft,
    *,
    open_topics: tuple[str, ...],
    root: str = DEFAULT_ROOT,
) -> RoleDraft:
    """The draft as it is written, with each grant and bearer once; raises `Invalid` for the first thing wrong.

    Whether the name is taken shows when it is written.
    """
    checked, found = _examine(session, agent_id, draft, open_topics, root)
    for field, message in found:
        raise Invalid(message, field=field)
    return checked


TAKEN: Final = "there is a role of this name already"


def is_taken(session: Session, agent_id: uuid.UUID, name: str, *, but: uuid.UUID | None = None) -> bool:
    """Whether a role of the agent, other than `but`, has this name in upper or lower case."""
    found = session.execute(
        text(
            "SELECT 1 FROM roles WHERE agent_id = :agent_id AND lower(name) = lower(:name)"
            " AND role_id IS DISTINCT FROM CAST(:but AS uuid)"
        ),
        {"agent_id": agent_id, "name": name, "but": but},
    ).first()
    return found is not None


def device_handles(session: Session, agent_id: uuid.UUID) -> set[str]:
    """The handles of all devices of the agent, revoked ones too."""
    rows = session.execute(text("SELECT handle FROM devices WHERE agent_id = :agent_id"), {"agent_id": agent_id})
    return set(rows.scalars())


def _examine(
    session: Session, agent_id: uuid.UUID, draft: RoleDraft, open_topics: tuple[str, ...], root: str
) -> tuple[RoleDraft, list[tuple[str, str]]]:
    found: list[tuple[str, str]] = []
    name, about = _one_line(draft.name), draft.about.strip()
    if not name:
        found.append(("name", "is required"))
    elif len(name) > NAME_MAX or not name.isprintable():
        found.append(("name", f"is at most {NAME_MAX} printable characters"))
    if len(about) > ABOUT_MAX or not all(one.isprintable() or one in "\r\n\t" for one in about):
        found.append(("about", f"is at most {ABOUT_MAX} printable characters"))
    grants: dict[GrantDraft, None] = {}
    if len(draft.grants) > MOST_GRANTS:
        found.append(("grants", f"a role has at most {MOST_GRANTS} grants; make a second one for the rest"))
    else:
        handles = device_handles(session, agent_id) if draft.grants else set()
        for index, grant in enumerate(draft.grants):
            try:
                filter_ = templates.check(
                    grant.action,
                    grant.filter,
                    agent_id=agent_id,
                    devices=handles,
                    open_topics=open_topics,
                    root=root,
                )
            except Invalid as error:
                found.append((f"grants.{index}.{error.field}", error.message))
            else:
                grants[GrantDraft(grant.action, filter_)] = None
    devices, integrations = tuple(dict.fromkeys(draft.devices)), tuple(dict.fromkeys(draft.integrations))
    for field, ids in (("devices", devices), ("integrations", integrations)):
        if _unknown(session, agent_id, field, ids):
            found.append((field, f"one of these is none of this agent's {field}"))
    return RoleDraft(name, about, tuple(grants), devices, integrations, draft.all_devices), found


def _unknown(session: Session, agent_id: uuid.UUID, table: str, ids: Collection[uuid.UUID]) -> bool:
    if not ids:
        return False
    key = table.removesuffix("s") + "_id"
    known = session.execute(
        text(f"SELECT count(*) FROM {table} WHERE agent_id = :agent_id AND {key} = ANY(:ids)"),
        {"agent_id": agent_id, "ids": list(ids)},
    ).scalar_one()
    return int(known) != len(ids)


def _one_line(name: str) -> str:
    return " ".join(name.split())
