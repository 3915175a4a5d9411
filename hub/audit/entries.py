"""Entries of the audit, written with the change that they tell of, and found again."""

import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import msgspec
from sqlalchemy import text
from sqlmodel import Session, col, select

from hub.audit import chain
from hub.audit.actors import Kind, kind_of
from hub.tables import AuditEntry

_MAX_TEXT: Final = 500
# The escape itself, not a backslash followed by text: Postgres takes no U+0000 in jsonb.
_ESCAPED_NUL: Final = re.compile(r"((?<!\\)(?:\\\\)*)\\u0000")


@dataclass(frozen=True, slots=True)
class Filter:
    """Which entries; all that is given must hold. `action` is "noun.verb", or "noun." for all of a noun.

    `actor` and `subject` are found anywhere in the name, whatever their case.
    """

    actor: str = ""
    kind: Kind | None = None
    action: str = ""
    subject: str = ""
    subject_id: uuid.UUID | None = None
    since: datetime | None = None
    until: datetime | None = None


def record(
    session: Session,
    agent_id: uuid.UUID | None,
    *,
    by: str,
    action: str,
    subject: str,
    subject_id: uuid.UUID | None = None,
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
) -> int:
    """Write one entry in this transaction; returns its id.

    `by` is a name, better an `Actor`; `action` is "noun.verb" as in "role.edited"; `subject` is the name that people
    know. `before` and `after` hold plain values (ids and times become text) and never a secret. Without an agent the
    entry concerns the whole hub.
    """
    entry_id = session.execute(
        text(
            "INSERT INTO audit_entries (agent_id, actor, actor_kind, action, subject, subject_id, before, after) VALUES"
            " (:agent_id, :actor, :kind, :action, :subject, :subject_id, CAST(:before AS jsonb), CAST(:after AS jsonb))"
            " RETURNING entry_id"
        ),
        {
            "agent_id": agent_id,
            "actor": _clean(by),
            "kind": kind_of(by),
            "action": action,
            "subject": _clean(subject),
            "subject_id": subject_id,
            "before": _encoded(before),
            "after": _encoded(after),
        },
    ).scalar_one()
    chain.note(session, int(entry_id), agent_id or chain.HUB_CHAIN)
    return int(entry_id)


def entries(
    session: Session,
    agent_id: uuid.UUID | None,
    *,
    before_id: int | None = None,
    subject_id: uuid.UUID | None = None,
    matching: Filter | None = None,
    limit: int = 50,
) -> list[AuditEntry]:
    """The agent's newest entries first (without an agent: those of the whole hub), those before `before_id` only."""
    query = select(AuditEntry).where(
        col(AuditEntry.agent_id).is_(None) if agent_id is None else AuditEntry.agent_id == agent_id
    )
    wanted = matching or Filter()
    if before_id is not None:
        query = query.where(col(AuditEntry.entry_id) < before_id)
    if subject_id is not None or wanted.subject_id is not None:
        query = query.where(AuditEntry.subject_id == (subject_id or wanted.subject_id))
    if wanted.actor:
        query = query.where(col(AuditEntry.actor).icontains(_clean(wanted.actor), autoescape=True))
    if wanted.kind is not None:
        query = query.where(AuditEntry.actor_kind == wanted.kind)
    if wanted.action.endswith("."):
        query = query.where(col(AuditEntry.action).startswith(_clean(wanted.action), autoescape=True))
    elif wanted.action:
        query = query.where(AuditEntry.action == _clean(wanted.action))
    if wanted.subject:
        query = query.where(col(AuditEntry.subject).icontains(_clean(wanted.subject), autoescape=True))
    if wanted.since is not None:
        query = query.where(col(AuditEntry.at) >= wanted.since)
    if wanted.until is not None:
        query = query.where(col(AuditEntry.at) < wanted.until)
    return list(session.exec(query.order_by(col(AuditEntry.entry_id).desc()).limit(limit)))


def actions(session: Session, agent_id: uuid.UUID | None) -> list[str]:
    """The kinds of change that there are among the chain's entries, for a filter to offer."""
    # One step of the index for each, however many entries there are.
    rows = session.execute(
        text(
            "WITH RECURSIVE known AS ("
            " (SELECT action FROM audit_entries WHERE chain = :chain ORDER BY action LIMIT 1) UNION ALL"
            " SELECT (SELECT e.action FROM audit_entries AS e WHERE e.chain = :chain AND e.action > known.action"
            " ORDER BY e.action LIMIT 1) FROM known WHERE known.action IS NOT NULL)"
            " SELECT action FROM known WHERE action IS NOT NULL"
        ),
        {"chain": agent_id or chain.HUB_CHAIN},
    ).scalars()
    return list(rows)


def _encoded(facts: Mapping[str, Any] | None) -> str | None:
    if facts is None:
        return None
    return _ESCAPED_NUL.sub(r"\1\\ufffd", msgspec.json.encode(dict(facts)).decode())


def _clean(given: str) -> str:
    return given[:_MAX_TEXT].replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()
