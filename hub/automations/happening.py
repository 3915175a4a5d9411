"""Called where facts are stored: what concerns an automation is queued in the same transaction, so nothing is lost.

At rest this is one small question for each batch, however many messages it has.
"""

import uuid
from collections.abc import Collection, Sequence
from typing import Any, Final

import msgspec
from sqlalchemy import text
from sqlmodel import Session

_KEY: Final = "automations wanted"
_WHOSE: Final = (
    "(a.device_id IS NULL OR a.device_id = n.device_id) AND (a.tag IS NULL OR EXISTS (SELECT 1 FROM device_tags AS t "
    "WHERE t.device_id = n.device_id AND t.tag = a.tag))"
)


def wanted(session: Session, agents: Collection[uuid.UUID]) -> set[tuple[uuid.UUID, str, str]]:
    """What automations of these agents wait for, as (agent, kind, event type or stream); asked once per transaction."""
    known: dict[uuid.UUID, set[tuple[uuid.UUID, str, str]]] = session.info.setdefault(_KEY, {})
    missing = [one for one in agents if one not in known]
    if missing:
        known.update({one: set() for one in missing})
        rows = session.execute(
            text(
                "SELECT agent_id, kind, coalesce(event_type, stream, '') FROM automations "
                "WHERE enabled AND kind <> 'time' AND agent_id = ANY(:agents)"
            ),
            {"agents": missing},
        )
        for agent_id, kind, name in rows:
            known[agent_id].add((agent_id, kind, name))
    return set().union(*(known[one] for one in agents))


def forget(session: Session) -> None:
    """Automations have changed within this transaction: ask anew."""
    session.info.pop(_KEY, None)


def events(session: Session, new: Sequence[tuple[uuid.UUID, uuid.UUID, str]]) -> None:
    """These events (id, agent, type) have been stored."""
    waited = wanted(session, {agent_id for _, agent_id, _ in new})
    ids = [event_id for event_id, agent_id, kind in new if (agent_id, "event", kind) in waited]
    if not ids:
        return
    session.execute(
        text(
            "INSERT INTO automation_queue (automation_id, agent_id, device_id, event_id, facts, at) "
            "SELECT a.automation_id, n.agent_id, n.device_id, n.event_id, '{}'::jsonb, n.created_at FROM events AS n "
            "JOIN automations AS a ON a.agent_id = n.agent_id AND a.enabled AND a.kind = 'event' "
            f"AND a.event_type = n.type AND (a.space_id IS NULL OR a.space_id = n.space_id) AND {_WHOSE} "
            "WHERE n.event_id = ANY(:ids) ORDER BY n.event_no, a.automation_id"
        ),
        {"ids": ids},
    )


def presence(session: Session, changes: Sequence[tuple[uuid.UUID, uuid.UUID, Any, str, str]]) -> None:
    """These verdicts (device, agent, time, verdict, why) have been drawn."""
    waited = wanted(session, {agent_id for _, agent_id, *_ in changes})
    told = [
        {"device_id": str(device_id), "agent_id": str(agent_id), "at": at, "facts": {"verdict": verdict, "why": why}}
        for device_id, agent_id, at, verdict, why in changes
        if (agent_id, "presence", "") in waited
    ]
    _queue(session, told, "a.kind = 'presence'")


def telemetry(session: Session, new: Sequence[tuple[uuid.UUID, uuid.UUID, str, Sequence[tuple[Any, float]]]]) -> None:
    """These samples (device, agent, stream, pairs of time and value) have been stored."""
    waited = wanted(session, {agent_id for _, agent_id, *_ in new})
    told = [
        {
            "device_id": str(device_id),
            "agent_id": str(agent_id),
            "at": max(at for at, _ in samples),
            "stream": stream,
            "facts": {"samples": [[at, value] for at, value in samples]},
        }
        for device_id, agent_id, stream, samples in new
        if samples and (agent_id, "telemetry", stream) in waited
    ]
    _queue(session, told, "a.kind = 'telemetry' AND a.stream = n.stream")


def _queue(session: Session, told: list[dict[str, Any]], which: str) -> None:
    if not told:
        return
    session.execute(
        text(
            "INSERT INTO automation_queue (automation_id, agent_id, device_id, facts, at) "
            "SELECT a.automation_id, n.agent_id, n.device_id, n.facts, n.at FROM ROWS FROM "
            "(json_to_recordset(CAST(:told AS json)) AS (device_id uuid, agent_id uuid, at timestamptz, stream text, "
            "facts jsonb)) WITH ORDINALITY AS n (device_id, agent_id, at, stream, facts, number) "
            f"JOIN automations AS a ON a.agent_id = n.agent_id AND a.enabled AND {which} AND {_WHOSE} "
            "ORDER BY n.number, a.automation_id"
        ),
        {"told": msgspec.json.encode(told).decode()},
    )
