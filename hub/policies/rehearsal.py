"""What a policy would have approved of the last days, and what people had made of the same proposals."""

import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import text
from sqlmodel import Session

from hub.actions import records as actions
from hub.actions.records import ActionView
from hub.errors import Invalid
from hub.policies import match, records
from hub.policies.match import Asked
from hub.policies.records import Draft

DAYS_MAX: Final = 90
ACTIONS_MAX: Final = 5_000
SHOWN_MAX: Final = 50


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """Of `looked_at` proposals: those that it would have approved, of which people had rejected some.

    `held_back` are those that its rate would have stopped; `why_not` counts the reasons of the others.
    """

    days: int
    looked_at: int
    is_cut: bool
    approved: int
    rejected_by_people: list[ActionView]
    approved_by_people: int
    held_back: int
    shown: list[ActionView]
    why_not: dict[str, int]


def rehearse(session: Session, agent_id: uuid.UUID, draft: Draft, days: int, now: datetime) -> Rehearsal:
    """Raises as `records.check`, and `Invalid` (days)."""
    if not 1 <= days <= DAYS_MAX:
        raise Invalid(f"is 1 to {DAYS_MAX}", field="days")
    row = records.check(session, agent_id, draft)
    found = _since(session, agent_id, draft.tool, now - timedelta(days=days))
    tags = _tags(session, agent_id)
    covered: list[ActionView] = []
    held_back, why_not = 0, dict[str, int]()
    recent: list[datetime] = []
    for action in found:
        asked = Asked(
            action.tool,
            action.args,
            frozenset(action.scopes),
            action.risk,
            action.device_id,
            tags.get(action.device_id, frozenset()) if action.device_id else frozenset(),
            action.proposer_kind,
            action.created_at,
        )
        why = match.fault(row, asked)
        if not why and action.approvals_needed > 1:
            why = "it takes several people"
        if why:
            why_not[why] = why_not.get(why, 0) + 1
            continue
        if draft.rate_count is not None and draft.rate_s is not None:
            since = action.created_at - timedelta(seconds=draft.rate_s)
            recent = [at for at in recent if at > since]
            if len(recent) >= draft.rate_count:
                held_back += 1
                continue
            recent.append(action.created_at)
        covered.append(action)
    return Rehearsal(
        days,
        len(found),
        is_cut=len(found) >= ACTIONS_MAX,
        approved=len(covered),
        rejected_by_people=[one for one in covered if one.status == "rejected" and one.decided_kind == "person"][::-1],
        approved_by_people=sum(1 for one in covered if one.approved_at and one.decided_kind == "person"),
        held_back=held_back,
        shown=covered[::-1][:SHOWN_MAX],
        why_not=dict(sorted(why_not.items(), key=lambda one: -one[1])[:10]),
    )


def _since(session: Session, agent_id: uuid.UUID, tool: str, since: datetime) -> list[ActionView]:
    """The newest proposals of a tool, oldest first."""
    found: list[ActionView] = []
    before = None
    while len(found) < ACTIONS_MAX:
        page = actions.page(session, agent_id, actions.Filter(tool=tool), before=before, limit=actions.PAGE_MAX)
        found += [one for one in page.items if one.created_at >= since]
        before = page.next
        if before is None or page.items[-1].created_at < since:
            break
    return found[:ACTIONS_MAX][::-1]


def _tags(session: Session, agent_id: uuid.UUID) -> dict[uuid.UUID, frozenset[str]]:
    rows = session.execute(
        text("SELECT device_id, array_agg(tag) FROM device_tags WHERE agent_id = :agent GROUP BY device_id"),
        {"agent": agent_id},
    )
    return {device_id: frozenset(tags) for device_id, tags in rows}
