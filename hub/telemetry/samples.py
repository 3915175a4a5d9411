"""Samples on their way in: checked against the clock, stored once by stream and time, in whole batches."""

import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import text
from sqlmodel import Session

from hub.automations import happening
from hub.errors import Invalid
from hub.telemetry import partitions
from hub.telemetry.tiers import FURTHEST_AHEAD, OLDEST, RAW, hour_of
from hub_protocol import messages

STREAMS_MAX: Final = 100
TOO_MANY: Final = f"a device has at most {STREAMS_MAX} streams; forget one that it no longer sends"


@dataclass(frozen=True, slots=True)
class NewSamples:
    """What one message brought for one stream: pairs of time and value."""

    device_id: uuid.UUID
    agent_id: uuid.UUID
    stream: str
    samples: Sequence[tuple[datetime, float]]


def read(message: messages.Telemetry, received_at: datetime) -> list[tuple[datetime, float]]:
    """The samples of a message; raises `Invalid` naming the first whose time cannot be."""
    if isinstance(message, float):
        return [(received_at, message)]
    several = isinstance(message, list)
    found = message if isinstance(message, list) else [message]
    for number, sample in enumerate(found):
        field = f"[{number}].at" if several else "at"
        if sample.at > received_at + FURTHEST_AHEAD:
            raise Invalid(f"{sample.at.isoformat()} is more than a day ahead of the hub's clock", field=field)
        if sample.at < received_at - OLDEST:
            raise Invalid(f"{sample.at.isoformat()} is more than {OLDEST.days} days ago", field=field)
    return [(sample.at, sample.value) for sample in found]


def append(session: Session, new: Sequence[NewSamples]) -> set[tuple[uuid.UUID, str]]:
    """Store all samples that are not stored yet; returns the streams (device, name) that are beyond the limit.

    The caller holds the devices' presence rows, so that no stream is counted or made twice.
    """
    ids = _streams(session, new)
    rows: dict[tuple[int, datetime], float] = {}
    newest: dict[int, tuple[datetime, float]] = {}
    for one in new:
        stream_id = ids.get((one.device_id, one.stream))
        if stream_id is None:
            continue
        for at, value in one.samples:
            rows.setdefault((stream_id, at), value)  # of two values with one time the first stays
            if stream_id not in newest or at > newest[stream_id][0]:
                newest[stream_id] = (at, value)
    if rows:
        _insert(session, rows)
        _note_newest(session, newest)
        happening.telemetry(
            session,
            [
                (one.device_id, one.agent_id, one.stream, one.samples)
                for one in new
                if (one.device_id, one.stream) in ids
            ],
        )
    return {key for one in new if (key := (one.device_id, one.stream)) not in ids}


def _streams(session: Session, new: Sequence[NewSamples]) -> dict[tuple[uuid.UUID, str], int]:
    """The numbers of all streams that are meant; those that are new are made, up to the limit of each device."""
    agents = {(one.device_id, one.stream): one.agent_id for one in new}
    asked = {"devices": [device_id for device_id, _ in agents], "names": [name for _, name in agents]}
    known = session.execute(
        text(
            "SELECT device_id, name, stream_id FROM telemetry_streams JOIN unnest(CAST(:devices AS uuid[]),"
            " CAST(:names AS text[])) AS n (device_id, name) USING (device_id, name)"
        ),
        asked,
    )
    ids = {(row.device_id, row.name): int(row.stream_id) for row in known}
    missing = [key for key in agents if key not in ids]
    if not missing:
        return ids
    held = session.execute(
        text("SELECT device_id, count(*) FROM telemetry_streams WHERE device_id = ANY(:devices) GROUP BY device_id"),
        {"devices": list({device_id for device_id, _ in missing})},
    )
    counts = Counter({row[0]: int(row[1]) for row in held})
    made: dict[tuple[uuid.UUID, str], tuple[datetime, float]] = {}
    for one in new:
        key = (one.device_id, one.stream)
        if key in made or key in ids or counts[one.device_id] >= STREAMS_MAX:
            continue
        counts[one.device_id] += 1
        made[key] = one.samples[0]
    inserted = session.execute(
        text(
            "INSERT INTO telemetry_streams (agent_id, device_id, name, last_at, last_value) SELECT * FROM"
            " unnest(CAST(:agents AS uuid[]), CAST(:devices AS uuid[]), CAST(:names AS text[]),"
            " CAST(:ats AS timestamptz[]), CAST(:values AS double precision[])) RETURNING device_id, name, stream_id"
        ),
        {
            "agents": [agents[key] for key in made],
            "devices": [device_id for device_id, _ in made],
            "names": [name for _, name in made],
            "ats": [at for at, _ in made.values()],
            "values": [value for _, value in made.values()],
        },
    )
    return ids | {(row.device_id, row.name): int(row.stream_id) for row in inserted}


def _insert(session: Session, rows: dict[tuple[int, datetime], float]) -> None:
    partitions.ensure(session, RAW, {RAW.partition(at) for _, at in rows})
    session.execute(
        text(
            "INSERT INTO telemetry_samples (stream_id, at, value) SELECT * FROM unnest(CAST(:ids AS integer[]),"
            " CAST(:ats AS timestamptz[]), CAST(:values AS double precision[])) ON CONFLICT DO NOTHING"
        ),
        {"ids": [key[0] for key in rows], "ats": [key[1] for key in rows], "values": list(rows.values())},
    )
    # Always in one order, so that two that wait for each other never do so in a circle.
    stale = sorted({(stream_id, hour_of(at)) for stream_id, at in rows})
    session.execute(
        text(
            "INSERT INTO telemetry_stale AS s (stream_id, hour) SELECT * FROM unnest(CAST(:ids AS integer[]),"
            " CAST(:hours AS timestamptz[])) ON CONFLICT (stream_id, hour) DO UPDATE SET touches = s.touches + 1"
        ),
        {"ids": [stream_id for stream_id, _ in stale], "hours": [hour for _, hour in stale]},
    )


def _note_newest(session: Session, newest: dict[int, tuple[datetime, float]]) -> None:
    ordered = sorted(newest.items())
    session.execute(
        text(
            "UPDATE telemetry_streams AS s SET last_at = n.at, last_value = n.value FROM unnest("
            "CAST(:ids AS integer[]), CAST(:ats AS timestamptz[]), CAST(:values AS double precision[]))"
            " AS n (stream_id, at, value) WHERE s.stream_id = n.stream_id AND n.at > s.last_at"
        ),
        {
            "ids": [stream_id for stream_id, _ in ordered],
            "ats": [at for _, (at, _) in ordered],
            "values": [value for _, (_, value) in ordered],
        },
    )
