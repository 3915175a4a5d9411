"""Devices with everything that a row of a page shows of each."""

import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import text
from sqlmodel import Session

from hub.errors import NotFound
from hub.presence import Evidence


@dataclass(frozen=True, slots=True)
class DeviceView:
    """A device as a row of a page shows it."""

    device_id: uuid.UUID
    handle: str
    name: str
    agent_id: uuid.UUID
    space_id: uuid.UUID | None
    space_name: str | None
    scopes: list[str]
    metadata: dict[str, Any]
    created_at: datetime
    revision: int
    revoked_at: datetime | None
    revoked_by: str | None
    revoked_reason: str | None
    needs_enrolment: bool
    token_created_at: datetime | None
    presence: str
    why: str
    since: datetime | None
    last_heard_at: datetime | None
    last_hello_at: datetime | None
    last_heartbeat_at: datetime | None
    heartbeat_s: float
    bound_s: float
    epoch: int
    source: str
    flapping: bool
    proxy: dict[str, Any] | None
    hello: dict[str, Any]
    tags: list[str]
    last_command: dict[str, Any] | None
    last_denial: dict[str, Any] | None
    quarantine: dict[str, Any] | None


def overview(
    session: Session,
    agent_id: uuid.UUID,
    ids: list[uuid.UUID] | None = None,
    *,
    tag: str | None = None,
    remotes: bool = False,
) -> list[DeviceView]:
    """All devices of an agent, or those of `ids`, with `tag`, or remotes alone, by name; revoked ones come last."""
    rows = session.execute(
        text(
            "SELECT d.device_id, d.handle, d.name, d.agent_id, d.space_id, s.name AS space_name, d.scopes, d.metadata,"
            " d.created_at, d.revision, d.revoked_at, d.revoked_by, d.revoked_reason, d.needs_enrolment,"
            " c.created_at AS token_created_at, p.epoch, p.verdict, p.why, p.since, p.heartbeat_s, p.last_heard_at,"
            " p.last_hello_at, p.last_heartbeat_at, p.asleep_until, p.probes, p.probed_at, p.source, p.flapping,"
            " p.hello, (SELECT jsonb_build_object('device_id', x.device_id, 'handle', x.handle, 'name', x.name,"
            " 'kind', r.kind, 'address', r.address, 'every_s', r.every_s) FROM proxied_remotes AS r"
            " JOIN devices AS x ON x.device_id = r.proxy_id WHERE r.device_id = d.device_id) AS proxy,"
            " ARRAY(SELECT t.tag FROM device_tags AS t WHERE t.device_id = d.device_id ORDER BY t.tag) AS tags,"
            " command.facts AS last_command, denial.facts AS last_denial,"
            " CASE WHEN q.device_id IS NOT NULL THEN to_jsonb(q) - 'device_id' - 'agent_id' END AS quarantine"
            " FROM devices AS d JOIN device_presence AS p USING (device_id)"
            " LEFT JOIN spaces AS s USING (space_id)"
            " LEFT JOIN quarantines AS q ON q.device_id = d.device_id"
            " LEFT JOIN credentials AS c ON c.device_id = d.device_id AND c.replaced_at IS NULL"
            " LEFT JOIN LATERAL (SELECT jsonb_build_object('command_id', x.command_id, 'verb', x.verb,"
            " 'status', x.status, 'message', x.message, 'created_at', x.created_at, 'finished_at', x.finished_at,"
            " 'rtt_ms', round((extract(epoch FROM x.finished_at - x.sent_at) * 1000)::numeric, 1)) AS facts"
            " FROM commands AS x WHERE x.device_id = d.device_id ORDER BY x.created_at DESC LIMIT 1) AS command ON true"
            " LEFT JOIN LATERAL (SELECT jsonb_build_object('action', y.action, 'topic', y.topic, 'reason', y.reason,"
            " 'count', y.count, 'last_at', y.last_at) AS facts"
            " FROM denials AS y WHERE y.device_id = d.device_id AND y.last_at > now() - interval '1 day'"
            " ORDER BY y.last_at DESC LIMIT 1) AS denial ON true"
            " WHERE d.agent_id = :agent AND d.deleted_at IS NULL"
            " AND (CAST(:ids AS uuid[]) IS NULL OR d.device_id = ANY(:ids))"
            " AND (CAST(:tag AS text) IS NULL OR d.device_id IN"
            " (SELECT t.device_id FROM device_tags AS t WHERE t.agent_id = :agent AND t.tag = :tag))"
            " AND (NOT :remotes OR d.metadata @> '{\"is_remote\": true}')"
            " ORDER BY d.revoked_at IS NOT NULL, lower(d.name), d.handle"
        ),
        {"agent": agent_id, "ids": ids, "tag": tag, "remotes": remotes},
    )
    return [_view(row) for row in rows]


def view(session: Session, agent_id: uuid.UUID, device_id: uuid.UUID) -> DeviceView:
    """One device of an agent; `NotFound` also for another agent's."""
    for found in overview(session, agent_id, [device_id]):
        return found
    raise NotFound("there is no such device")


def _view(row: Any) -> DeviceView:
    facts = dict(row._mapping)  # noqa: SLF001  (SQLAlchemy's public name for it)
    names = ("epoch", "verdict", "why", "since", "heartbeat_s", "last_heard_at", "last_hello_at", "last_heartbeat_at")
    evidence = Evidence(*(facts[name] for name in names))
    for name in ("asleep_until", "probes", "probed_at"):
        del facts[name]
    return DeviceView(presence=facts.pop("verdict"), bound_s=evidence.bound_s, **facts)
