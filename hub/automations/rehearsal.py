"""What an automation would have done: its draft held against what happened in the last days, before it is saved."""

import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import text
from sqlmodel import Session

from hub.automations import conditions, records, template, thresholds
from hub.automations.records import Checked, Draft
from hub.automations.template import Missing
from hub.errors import HubError, Invalid
from hub.tools import registry

DAYS_MAX: Final = 90
# The newest of what happened; and so many firings are shown.
FACTS_MAX: Final = 5_000
SHOWN_MAX: Final = 100
_WHOSE: Final = (
    " AND (CAST(:device AS uuid) IS NULL OR n.device_id = :device) AND (CAST(:tag AS text) IS NULL OR EXISTS "
    "(SELECT 1 FROM device_tags AS t WHERE t.device_id = n.device_id AND t.tag = :tag))"
)


@dataclass(frozen=True, slots=True)
class Firing:
    """When it would have proposed, and with which arguments; or what would have been wrong."""

    at: datetime
    subject: str
    args: dict[str, Any] | None
    error: str


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """`looked_at` facts of the last days, newest firings first; `is_cut`: there were more facts than are looked at."""

    days: int
    looked_at: int
    is_cut: bool
    fired: int
    wrong: int
    shown: list[Firing]
    coming: list[datetime]


def rehearse(session: Session, agent_id: uuid.UUID, draft: Draft, days: int, now: datetime) -> Rehearsal:
    """Raises as `records.check`, and `Invalid` (days)."""
    if not 1 <= days <= DAYS_MAX:
        raise Invalid(f"is 1 to {DAYS_MAX}", field="days")
    checked = records.check(session, agent_id, draft)
    coming = []
    if checked.trigger.kind == "time":
        at = now
        for _ in range(5):
            following = checked.trigger.next_at(at)
            if following is None:
                break
            coming.append(following)
            at = following
        return Rehearsal(days, 0, is_cut=False, fired=0, wrong=0, shown=[], coming=coming)
    facts, looked_at = _facts(session, agent_id, checked, now - timedelta(days=days))
    firings: list[Firing] = []
    last: datetime | None = None
    for at, subject, said in facts:
        if conditions.fault(checked.conditions, said):
            continue
        if last is not None and at < last + timedelta(seconds=draft.cooldown_s):
            continue
        firing = _fire(session, agent_id, draft, at, subject, said)
        firings.append(firing)
        if not firing.error:
            last = at
    wrong = sum(1 for one in firings if one.error)
    return Rehearsal(
        days,
        looked_at,
        is_cut=looked_at >= FACTS_MAX,
        fired=len(firings) - wrong,
        wrong=wrong,
        shown=firings[::-1][:SHOWN_MAX],
        coming=coming,
    )


def _fire(
    session: Session, agent_id: uuid.UUID, draft: Draft, at: datetime, subject: str, said: Mapping[str, Any]
) -> Firing:
    try:
        tool = registry.find(draft.tool)
        args = template.fill_args(draft.args, said, tool.schema)
        tool.check(session, agent_id, args)
    except (Missing, HubError) as error:
        field = f"{error.field}: " if isinstance(error, HubError) and error.field else ""
        return Firing(at, subject, None, f"{field}{error}")
    return Firing(at, subject, args, "")


Facts = tuple[datetime, str, dict[str, Any]]


def _facts(
    session: Session, agent_id: uuid.UUID, checked: Checked, since: datetime
) -> tuple[Iterator[Facts] | list[Facts], int]:
    values = {
        "agent": agent_id,
        "since": since,
        "device": checked.device_id,
        "tag": checked.trigger.tag,
        "limit": FACTS_MAX,
        "name": checked.draft.name,
    }
    if checked.trigger.kind == "event":
        rows = session.execute(
            text(
                "SELECT n.event_id, n.type, n.payload, n.created_at, n.happened_at, d.handle, d.name, s.name AS space "
                "FROM events AS n LEFT JOIN devices AS d USING (device_id) LEFT JOIN spaces AS s "
                "ON s.space_id = n.space_id WHERE n.agent_id = :agent AND n.type = :type AND n.created_at >= :since "
                f"AND (CAST(:space AS uuid) IS NULL OR n.space_id = :space){_WHOSE} "
                "ORDER BY n.event_no DESC LIMIT :limit"
            ),
            values | {"type": checked.trigger.event_type, "space": checked.space_id},
        ).all()
        return [(row.created_at, row.handle or "", _of_event(row, checked.draft.name)) for row in rows[::-1]], len(rows)
    if checked.trigger.kind == "presence":
        rows = session.execute(
            text(
                "SELECT n.at, n.verdict, n.why, n.device_id, d.handle, d.name, lead(n.at) OVER "
                "(PARTITION BY n.device_id ORDER BY n.change_no) AS until FROM presence_history AS n "
                f"JOIN devices AS d USING (device_id) WHERE n.agent_id = :agent AND n.at >= :since{_WHOSE} "
                "ORDER BY n.change_no DESC LIMIT :limit"
            ),
            values,
        ).all()
        return list(_of_presence(rows[::-1], checked)), len(rows)
    rows = session.execute(
        text(
            "SELECT m.at, m.value, n.device_id, d.handle, d.name FROM telemetry_streams AS n "
            "JOIN telemetry_samples AS m USING (stream_id) JOIN devices AS d ON d.device_id = n.device_id "
            f"WHERE d.agent_id = :agent AND n.name = :stream AND m.at >= :since{_WHOSE} "
            "ORDER BY m.at DESC LIMIT :limit"
        ),
        values | {"stream": checked.trigger.stream},
    ).all()
    return list(_of_samples(rows[::-1], checked)), len(rows)


def _of_event(row: Any, name: str) -> dict[str, Any]:
    event = {
        "id": str(row.event_id),
        "type": row.type,
        "payload": row.payload,
        "space": row.space,
        "at": (row.happened_at or row.created_at).isoformat(),
    }
    return {"event": event} | _common(row, name)


def _of_presence(rows: Sequence[Any], checked: Checked) -> Iterator[Facts]:
    lasts = timedelta(seconds=checked.trigger.for_s)
    for row in rows:
        if row.verdict in checked.trigger.to and (row.until is None or row.until - row.at >= lasts):
            said = {"presence": {"verdict": row.verdict, "why": row.why, "at": row.at.isoformat()}}
            yield row.at + lasts, row.handle, said | _common(row, checked.draft.name)


def _of_samples(rows: Sequence[Any], checked: Checked) -> Iterator[Facts]:
    threshold, lasts = checked.trigger.threshold, timedelta(seconds=checked.trigger.for_s)
    if threshold is None:
        return
    by_device: dict[uuid.UUID, list[Any]] = {}
    for row in rows:
        by_device.setdefault(row.device_id, []).append(row)
    found = []
    for some in by_device.values():
        _, changes = thresholds.walk(threshold, [(row.at, row.value) for row in some], is_on=False)
        ends = [*(at for at, _, _ in changes[1:]), None]
        for (at, value, is_on), end in zip(changes, ends, strict=True):
            if is_on and (end is None or end - at >= lasts):
                said = {"telemetry": {"stream": checked.trigger.stream, "value": value, "at": at.isoformat()}}
                found.append((at + lasts, some[0].handle, said | _common(some[0], checked.draft.name)))
    yield from sorted(found, key=lambda one: one[0])


def _common(row: Any, name: str) -> dict[str, Any]:
    facts: dict[str, Any] = {"automation": {"name": name}}
    return facts | ({"device": {"handle": row.handle, "name": row.name}} if row.handle else {})
