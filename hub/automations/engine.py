"""Looks at what happened and proposes; each fact is taken away in the transaction that proposes, once and only once.

A fact that leads to nothing says why on its automation, and holds up no other.
"""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec
import structlog
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlmodel import Session

from hub import spaces
from hub.actions import proposing
from hub.actions.proposing import WHY_MAX, Proposal, Proposer
from hub.audit.actors import Actor
from hub.automations import conditions, records, template, thresholds, triggers
from hub.automations.records import AutomationView
from hub.automations.template import Missing
from hub.automations.triggers import Trigger
from hub.errors import HubError
from hub.tools import registry

log = structlog.get_logger(__name__)

AT_ONCE: Final = 100
# So often in a minute an automation proposes at most: what it caused may come back to it in a circle.
FIRES_PER_MINUTE: Final = 10
BRAKED: Final = f"it would have proposed more than {FIRES_PER_MINUTE} times in a minute"


@dataclass(frozen=True, slots=True)
class Happening:
    """Something that sets one automation going: the facts for its places, and what it stands for once."""

    facts: Mapping[str, Any]
    key: str
    at: datetime
    event_id: uuid.UUID | None = None
    space_id: uuid.UUID | None = None


def take(session: Session, now: datetime) -> int:
    """Look at what is queued, oldest first; returns how much it was."""
    rows = session.execute(
        text(
            "DELETE FROM automation_queue WHERE queue_no IN (SELECT queue_no FROM automation_queue ORDER BY queue_no "
            "LIMIT :limit FOR UPDATE SKIP LOCKED) RETURNING queue_no, automation_id, agent_id, device_id, event_id, "
            "facts, at"
        ),
        {"limit": AT_ONCE},
    ).all()
    known: dict[uuid.UUID, AutomationView | None] = {}
    for row in sorted(rows, key=lambda one: one.queue_no):
        if row.automation_id not in known:
            known[row.automation_id] = _enabled(session, row.agent_id, row.automation_id)
        automation = known[row.automation_id]
        if automation is not None:
            _look(session, automation, row, now)
    return len(rows)


def due(session: Session, now: datetime) -> int:
    """What has lasted for long enough, and what is to be done at this time; returns how much it was."""
    lasting = session.execute(
        text(
            "SELECT s.automation_id, s.agent_id, s.device_id, s.due_at, s.facts FROM automation_states AS s "
            "JOIN automations AS a USING (automation_id) WHERE s.due_at <= :now AND a.enabled "
            "ORDER BY s.due_at LIMIT :limit FOR UPDATE OF s SKIP LOCKED"
        ),
        {"now": now, "limit": AT_ONCE},
    ).all()
    for row in lasting:
        session.execute(
            text(
                "UPDATE automation_states SET due_at = NULL WHERE automation_id = :automation AND device_id = :device"
            ),
            {"automation": row.automation_id, "device": row.device_id},
        )
        automation = _enabled(session, row.agent_id, row.automation_id)
        if automation is not None:
            facts = _device_facts(session, row.device_id) | row.facts
            key = f"{row.device_id}:{row.due_at.isoformat()}"
            fire(session, automation, Happening(facts, key, row.due_at, None, _space_of(session, row.device_id)), now)
    timed = session.execute(
        text(
            "SELECT automation_id, agent_id, next_at FROM automations WHERE next_at <= :now "
            "ORDER BY next_at LIMIT :limit FOR UPDATE SKIP LOCKED"
        ),
        {"now": now, "limit": AT_ONCE},
    ).all()
    for row in timed:
        automation = records.find(session, row.agent_id, row.automation_id)
        trigger = triggers.read(automation.kind, automation.trigger)
        session.execute(
            text("UPDATE automations SET next_at = :next WHERE automation_id = :id"),
            {"id": row.automation_id, "next": trigger.next_at(now)},
        )
        facts = {"time": {"at": row.next_at.isoformat(timespec="seconds")}}
        fire(session, automation, Happening(facts, row.next_at.isoformat(), row.next_at, None, None), now)
    return len(lasting) + len(timed)


def fire(session: Session, automation: AutomationView, happening: Happening, now: datetime) -> bool:
    """Propose what it says for these facts; False, with the reason noted, when that cannot be."""
    facts = dict(happening.facts) | {"automation": {"name": automation.name}}
    if conditions.fault(automation.conditions, facts):
        return False
    if automation.cooldown_s and _is_resting(session, automation, now):
        return False
    try:
        with session.begin_nested():
            if _is_braked(session, automation, now):
                return _note(session, automation, BRAKED, now)
            proposal = Proposal(
                automation.tool,
                template.fill_args(automation.args, facts, registry.find(automation.tool).schema),
                str(template.fill(automation.why, facts))[:WHY_MAX] or f"the automation {automation.name}",
                happening.event_id,
                happening.space_id,
                f"{happening.key}"[:200],
            )
            proposer = Proposer(f"automation:{automation.automation_id}", Actor(automation.name, "policy"))
            made = proposing.propose(session, automation.agent_id, proposal, proposer=proposer, now=now)
    except (Missing, HubError) as error:
        field = f"{error.field}: " if isinstance(error, HubError) and error.field else ""
        return _note(session, automation, f"{field}{error}", now)
    except DBAPIError as error:
        if error.connection_invalidated:
            raise
        # Of this fact alone: the others are looked at all the same.
        return _note(session, automation, f"it could not be stored ({type(error.orig).__name__})", now)
    if made.is_new:
        session.execute(
            text(
                "UPDATE automations SET last_fired_at = :now, last_error = NULL, last_error_at = NULL "
                "WHERE automation_id = :id"
            ),
            {"id": automation.automation_id, "now": now},
        )
        log.info("automation.fired", automation=automation.name, action_id=str(made.action.action_id))
    return made.is_new


def _look(session: Session, automation: AutomationView, row: Any, now: datetime) -> None:
    trigger = triggers.read(automation.kind, automation.trigger)
    if trigger.kind == "event":
        happening = of_event(session, automation, row.event_id)
        if happening is not None:
            fire(session, automation, happening, now)
    elif trigger.kind == "presence":
        said = {"presence": {"verdict": row.facts["verdict"], "why": row.facts["why"], "at": row.at.isoformat()}}
        _last(session, automation, trigger, row, said, is_on=row.facts["verdict"] in trigger.to, at=row.at, now=now)
    elif trigger.kind == "telemetry" and trigger.threshold is not None:
        _cross(session, automation, trigger, row, now)


def of_event(session: Session, automation: AutomationView, event_id: uuid.UUID) -> Happening | None:
    """The facts of an event; None when it is gone, or is what came of an action of this very automation."""
    event = session.execute(
        text(
            "SELECT e.type, e.payload, e.space_id, e.device_id, e.created_at, e.happened_at, s.name AS space "
            "FROM events AS e LEFT JOIN spaces AS s USING (space_id) WHERE e.event_id = :id"
        ),
        {"id": event_id},
    ).one_or_none()
    if event is None or _is_own(session, automation, event.payload):
        return None
    facts: dict[str, Any] = {
        "event": {
            "id": str(event_id),
            "type": event.type,
            "payload": event.payload,
            "space": event.space,
            "at": (event.happened_at or event.created_at).isoformat(),
        }
    }
    if event.device_id is not None:
        facts |= _device_facts(session, event.device_id)
    return Happening(facts, f"event:{event_id}", event.created_at, event_id, event.space_id)


def _is_own(session: Session, automation: AutomationView, payload: Mapping[str, Any]) -> bool:
    action_id = payload.get("action_id")
    try:
        key = uuid.UUID(action_id) if isinstance(action_id, str) else None
    except ValueError:
        key = None
    if key is None:
        return False
    found = session.execute(
        text("SELECT 1 FROM actions WHERE action_id = :id AND agent_id = :agent AND proposer = :proposer"),
        {"id": key, "agent": automation.agent_id, "proposer": f"automation:{automation.automation_id}"},
    )
    return found.first() is not None


def _cross(session: Session, automation: AutomationView, trigger: Trigger, row: Any, now: datetime) -> None:
    """Go through a batch of samples of one stream of one device."""
    if trigger.threshold is None:
        return
    was_on = session.execute(
        text(
            "SELECT is_on FROM automation_states WHERE automation_id = :automation AND device_id = :device FOR UPDATE"
        ),
        {"automation": automation.automation_id, "device": row.device_id},
    ).scalar_one_or_none()
    samples = [(datetime.fromisoformat(at), value) for at, value in row.facts["samples"]]
    _, changes = thresholds.walk(trigger.threshold, sorted(samples), is_on=bool(was_on))
    for at, value, is_on in changes:
        said = {"telemetry": {"stream": trigger.stream, "value": value, "at": at.isoformat()}}
        _last(session, automation, trigger, row, said, is_on=is_on, at=at, now=now)


def _last(
    session: Session,
    automation: AutomationView,
    trigger: Trigger,
    row: Any,
    said: Mapping[str, Any],
    *,
    is_on: bool,
    at: datetime,
    now: datetime,
) -> None:
    """Something is so from now on, or is so no more: fired at once, or when it has lasted."""
    lasts = is_on and trigger.for_s > 0
    session.execute(
        text(
            "INSERT INTO automation_states (automation_id, agent_id, device_id, is_on, due_at, facts) "
            "VALUES (:automation, :agent, :device, :on, :due, CAST(:facts AS jsonb)) "
            "ON CONFLICT (automation_id, device_id) DO UPDATE SET is_on = excluded.is_on, due_at = excluded.due_at, "
            "facts = excluded.facts"
        ),
        {
            "automation": automation.automation_id,
            "agent": automation.agent_id,
            "device": row.device_id,
            "on": is_on,
            "due": at + timedelta(seconds=trigger.for_s) if lasts else None,
            "facts": msgspec.json.encode(said).decode(),
        },
    )
    if is_on and not lasts:
        facts = _device_facts(session, row.device_id) | dict(said)
        key = f"{row.device_id}:{at.isoformat()}"
        fire(session, automation, Happening(facts, key, at, None, _space_of(session, row.device_id)), now)


def _device_facts(session: Session, device_id: uuid.UUID) -> dict[str, Any]:
    row = session.execute(
        text("SELECT handle, name FROM devices WHERE device_id = :id"), {"id": device_id}
    ).one_or_none()
    return {} if row is None else {"device": {"handle": row.handle, "name": row.name}}


def _space_of(session: Session, device_id: uuid.UUID) -> uuid.UUID | None:
    space_id = session.execute(
        text("SELECT space_id FROM devices WHERE device_id = :id"), {"id": device_id}
    ).scalar_one_or_none()
    return None if spaces.private_among(session, [space_id]) else space_id


def _enabled(session: Session, agent_id: uuid.UUID, automation_id: uuid.UUID) -> AutomationView | None:
    found = records.find(session, agent_id, automation_id)
    return found if found.enabled else None


def _is_resting(session: Session, automation: AutomationView, now: datetime) -> bool:
    last = session.execute(
        text("SELECT last_fired_at FROM automations WHERE automation_id = :id"), {"id": automation.automation_id}
    ).scalar_one()
    return last is not None and now < last + timedelta(seconds=automation.cooldown_s)


def _is_braked(session: Session, automation: AutomationView, now: datetime) -> bool:
    fired = session.execute(
        text("SELECT count(*) FROM actions WHERE agent_id = :agent AND proposer = :proposer AND created_at > :since"),
        {
            "agent": automation.agent_id,
            "proposer": f"automation:{automation.automation_id}",
            "since": now - timedelta(minutes=1),
        },
    ).scalar_one()
    return int(fired) >= FIRES_PER_MINUTE


def _note(session: Session, automation: AutomationView, why: str, now: datetime) -> bool:
    session.execute(
        text("UPDATE automations SET last_error = :why, last_error_at = :now WHERE automation_id = :id"),
        {"id": automation.automation_id, "why": why[:500].replace("\0", ""), "now": now},
    )
    log.info("automation.could_not", automation=automation.name, why=why[:200])
    return False
