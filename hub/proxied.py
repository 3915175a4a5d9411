"""Remotes for which another satellite reports: what it is to check, what it said, and its silence."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import text
from sqlmodel import Session

from hub import presence, presence_records
from hub.presence import PROXY_CHECK_S, Evidence, Report
from hub.presence_records import Known

# The key of a satellite's config under which the hub tells it what to check.
CONFIG_KEY: Final = "remotes"
_OF_REMOTE: Final = ", ".join(f"p.{field}" for field in presence_records.FIELDS.split(", "))
# So many missed reports, and nobody knows any more.
MISSED_REPORTS: Final = 3


@dataclass(frozen=True, slots=True)
class Assignment:
    """Who checks a remote, and what."""

    device_id: uuid.UUID
    handle: str
    name: str
    proxy_id: uuid.UUID
    kind: str
    address: str
    every_s: float
    presence: str
    reported_at: datetime | None


def of_proxy(session: Session, proxy_id: uuid.UUID) -> list[Assignment]:
    """What a satellite checks for others, by handle; revoked remotes are left out."""
    rows = session.execute(
        text(
            "SELECT d.device_id, d.handle, d.name, r.proxy_id, r.kind, r.address, r.every_s, p.verdict, r.reported_at "
            "FROM proxied_remotes AS r JOIN devices AS d USING (device_id) JOIN device_presence AS p USING (device_id) "
            "WHERE r.proxy_id = :proxy AND d.revoked_at IS NULL AND d.deleted_at IS NULL ORDER BY d.handle"
        ),
        {"proxy": proxy_id},
    )
    return [Assignment(*row) for row in rows]


def desired(session: Session, proxy_id: uuid.UUID) -> dict[str, Any]:
    """What its config must say: nothing, or the list of what to check."""
    checks = [
        {"remote": one.handle, "check": one.kind, "address": one.address, "every_s": one.every_s}
        for one in of_proxy(session, proxy_id)
    ]
    return {CONFIG_KEY: checks} if checks else {}


def report(session: Session, told: Mapping[tuple[uuid.UUID, str], Report]) -> dict[tuple[uuid.UUID, str], uuid.UUID]:
    """Take reports, by the satellite that sent each and the handle it is about.

    Returns the devices of those that the satellites were told to check; all others are no business of theirs. Of a
    report that cannot be written just now, because the remote itself is being written, the next one counts.
    """
    found = session.execute(
        text(
            "SELECT r.proxy_id, d.device_id, d.agent_id, d.handle, r.every_s FROM proxied_remotes AS r "
            "JOIN devices AS d USING (device_id) JOIN unnest(CAST(:proxies AS uuid[]), CAST(:handles AS text[])) "
            "AS said (proxy_id, handle) ON said.proxy_id = r.proxy_id AND said.handle = d.handle "
            "WHERE d.revoked_at IS NULL AND d.deleted_at IS NULL"
        ),
        {"proxies": [proxy for proxy, _ in told], "handles": [handle for _, handle in told]},
    ).all()
    # Not waited for: the satellites' own rows are held already, and a remote may be one of them elsewhere.
    evidence = presence_records.lock_free(session, [row.device_id for row in found])
    changes = {}
    for proxy_id, device_id, agent_id, handle, every_s in found:
        if device_id not in evidence:
            continue
        said = told[proxy_id, handle]
        known = Known(device_id, agent_id, handle, evidence[device_id])
        after = presence.report(known.evidence, Report(said.reachable, said.at, said.by, every_s, said.why))
        changes[device_id] = (known, after)
    presence_records.save(session, changes)
    if found:
        session.execute(
            text(
                "UPDATE proxied_remotes AS r SET reported_at = n.at "
                "FROM unnest(CAST(:ids AS uuid[]), CAST(:times AS timestamptz[])) AS n (device_id, at) "
                "WHERE r.device_id = n.device_id"
            ),
            {
                "ids": [row.device_id for row in found],
                "times": [told[row.proxy_id, row.handle].at for row in found],
            },
        )
    return {(row.proxy_id, row.handle): row.device_id for row in found}


def lose_sight(session: Session, now: datetime, heard_since: datetime) -> None:
    """Call unknown whose satellite is gone, or has reported nothing for three times the pause between two checks.

    `heard_since`: since when the hub has been able to hear; no silence is older.
    """
    rows = session.execute(
        text(
            f"SELECT p.device_id, d.agent_id, d.handle, {_OF_REMOTE}, "
            "x.handle, xp.verdict, xp.why, r.reported_at, r.assigned_at, r.every_s FROM proxied_remotes AS r "
            "JOIN device_presence AS p USING (device_id) JOIN devices AS d USING (device_id) "
            "JOIN devices AS x ON x.device_id = r.proxy_id JOIN device_presence AS xp ON xp.device_id = r.proxy_id "
            "WHERE p.source = 'proxy' AND p.verdict <> 'unknown' AND d.revoked_at IS NULL "
            "AND (xp.verdict NOT IN ('online', 'suspect') "
            "OR coalesce(r.reported_at, r.assigned_at) < :now - make_interval(secs => r.every_s * :missed)) "
            "ORDER BY p.device_id FOR UPDATE OF p SKIP LOCKED"
        ),
        {"now": now, "missed": MISSED_REPORTS},
    )
    changes = {}
    for row in rows:
        device_id, agent_id, handle, *fields = row[:-6]
        proxy, verdict, why, reported_at, assigned_at, every_s = row[-6:]
        known = Known(device_id, agent_id, handle, Evidence(*fields))
        silent_s = (now - max(reported_at or assigned_at, heard_since)).total_seconds()
        if verdict not in ("online", "suspect"):
            because = f"{proxy}, which checks it, is {verdict}: {why}"
        elif silent_s > every_s * MISSED_REPORTS + PROXY_CHECK_S:
            because = f"{proxy}, which checks it, has reported nothing for {timedelta(seconds=round(silent_s))}"
        else:
            continue
        changes[device_id] = (known, presence.lose_sight(known.evidence, because, now))
    presence_records.save(session, changes)
