"""Who changed what about access, and how it was before and after: written with the change, never altered."""

import re
import uuid
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from sqlalchemy import text
from sqlmodel import Session, col, select

from hub.tables import AuditEntry

_MAX_TEXT: Final = 500
# The escape itself, not a backslash followed by text: Postgres takes no U+0000 in jsonb.
_ESCAPED_NUL: Final = re.compile(r"((?<!\\)(?:\\\\)*)\\u0000")


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

    `action` is "noun.verb" as in "role.edited"; `subject` is the name that people know. `before` and `after` hold plain
    values (ids and times become text) and never a secret. Without an agent the entry concerns the whole hub.
    """
    entry_id = session.execute(
        text(
            "INSERT INTO audit_entries (agent_id, actor, action, subject, subject_id, before, after) VALUES (:agent_id,"
            " :actor, :action, :subject, :subject_id, CAST(:before AS jsonb), CAST(:after AS jsonb)) RETURNING entry_id"
        ),
        {
            "agent_id": agent_id,
            "actor": _clean(by),
            "action": action,
            "subject": _clean(subject),
            "subject_id": subject_id,
            "before": _encoded(before),
            "after": _encoded(after),
        },
    ).scalar_one()
    return int(entry_id)


def entries(
    session: Session,
    agent_id: uuid.UUID | None,
    *,
    before_id: int | None = None,
    subject_id: uuid.UUID | None = None,
    limit: int = 50,
) -> list[AuditEntry]:
    """The agent's newest entries first (without an agent: those of the whole hub), those before `before_id` only."""
    query = select(AuditEntry).where(
        col(AuditEntry.agent_id).is_(None) if agent_id is None else AuditEntry.agent_id == agent_id
    )
    if before_id is not None:
        query = query.where(col(AuditEntry.entry_id) < before_id)
    if subject_id is not None:
        query = query.where(AuditEntry.subject_id == subject_id)
    return list(session.exec(query.order_by(col(AuditEntry.entry_id).desc()).limit(limit)))


def _encoded(facts: Mapping[str, Any] | None) -> str | None:
    if facts is None:
        return None
    return _ESCAPED_NUL.sub(r"\1\\ufffd", msgspec.json.encode(dict(facts)).decode())


def _clean(given: str) -> str:
    return given[:_MAX_TEXT].replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()
