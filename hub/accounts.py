"""Accounts as the hub's operator sees them: who there is, where they belong, and whether they are let in at all."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import text
from sqlmodel import Session

from hub import audit
from hub.access import changes
from hub.sessions import end_all
from hub.tables import User


@dataclass(frozen=True, slots=True)
class AccountView:
    """A person's account; `agents` are (name, role) of each membership that is not over, blocked ones too."""

    user_id: UUID
    email: str
    display_name: str
    disabled: bool
    can_sign_in: bool
    last_seen: datetime | None
    sessions: int
    agents: list[tuple[str, str]]


def overview(session: Session, now: datetime) -> list[AccountView]:
    """All accounts by address."""
    rows = session.execute(
        text(
            "SELECT u.user_id, coalesce(u.email, '') AS email, coalesce(u.display_name, '') AS display_name,"
            " u.disabled, NOT u.disabled AND (u.password_hash IS NOT NULL"
            " OR EXISTS (SELECT FROM user_identities i WHERE i.user_id = u.user_id)) AS can_sign_in, u.last_seen,"
            " (SELECT count(*) FROM user_sessions s WHERE s.user_id = u.user_id AND s.expires_at > :now) AS sessions,"
            " coalesce((SELECT jsonb_agg(jsonb_build_array(a.name, m.role) ORDER BY a.created_at, a.agent_id)"
            " FROM agent_memberships AS m JOIN agents AS a USING (agent_id)"
            " WHERE m.user_id = u.user_id AND m.revoked_at IS NULL AND a.deleted_at IS NULL), '[]') AS agents"
            " FROM users AS u ORDER BY lower(u.email) NULLS LAST, u.user_id"
        ),
        {"now": now},
    )
    return [
        AccountView(**{**row._mapping, "agents": [(name, role) for name, role in row.agents]})  # noqa: SLF001
        for row in rows
    ]


def set_disabled(session: Session, user: User, *, disabled: bool, by: str) -> None:
    """Let nobody in by this account, or let them in again; sessions, pages and tokens of theirs end at once."""
    held = session.get_one(User, user.user_id, with_for_update=True, populate_existing=True)
    if held.disabled == disabled:
        return
    name = held.email or str(held.user_id)
    held.disabled = disabled
    session.add(held)
    session.flush()
    if disabled:
        end_all(session, held.user_id, f"the account {name} was disabled by {by}", by=by)
    changes.announce_user(session, held.user_id, "changed", f"the account was {'disabled' if disabled else 'enabled'}")
    audit.record(
        session,
        None,
        by=by,
        action="user.disabled" if disabled else "user.enabled",
        subject=name,
        subject_id=held.user_id,
    )
