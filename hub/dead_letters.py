"""Messages that could not be stored, or that no broker took: kept with their error, tried again, discarded."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal

from sqlalchemy import text
from sqlmodel import Session

from hub import audit, identity
from hub.errors import Invalid, NotFound

Direction = Literal["in", "out"]

PAGE_MAX: Final = 200
DISCARD_MAX: Final = 100_000
_MAX_ERROR: Final = 2_000
# Of those of an agent, and of those of nobody for whoever the hub belongs to.
_MINE: Final = "(l.agent_id = :agent OR (:of_hub AND l.agent_id IS NULL))"
_MATCHING: Final = (
    " AND (CAST(:direction AS text) IS NULL OR l.direction = :direction)"
    " AND (:words = '' OR strpos(lower(l.topic), lower(:words)) > 0 OR strpos(lower(l.error), lower(:words)) > 0)"
)


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One of them. `topic` is the whole one where it came in, below the root where it was to go out."""

    dead_letter_id: int
    agent_id: uuid.UUID | None
    device_id: uuid.UUID | None
    device_name: str | None
    direction: Direction
    topic: str
    payload: bytes
    retain: bool
    error: str
    received_at: datetime
    parked_at: datetime
    tries: int
    tried_at: datetime | None


@dataclass(frozen=True, slots=True)
class View:
    """Whose dead letters somebody sees: an agent's, and with `of_hub` those that are nobody's as well."""

    agent_id: uuid.UUID
    of_hub: bool = False


@dataclass(frozen=True, slots=True)
class Filter:
    """All together: `words` is a part of the topic or of the error."""

    words: str = ""
    direction: Direction | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """Newest first; `next` is the `before` of the following page, `total` counts all that match."""

    items: list[DeadLetter]
    next: int | None
    total: int


def park(
    session: Session,
    topic: str,
    payload: bytes,
    error: str,
    received_at: datetime,
    *,
    direction: Direction,
    handle: str = "",
    retain: bool = False,
) -> None:
    """Keep a message apart with its error; it belongs to the agent of the device with this handle, if there is one."""
    session.execute(
        text(
            "INSERT INTO dead_letters (topic, payload, error, received_at, parked_at, direction, retain, agent_id,"
            " device_id) SELECT :topic, :payload, :error, :received_at, :now, :direction, :retain, d.agent_id,"
            " d.device_id FROM (SELECT 1) AS one LEFT JOIN devices AS d ON d.handle = :handle"
        ),
        {
            "topic": _clean(topic),
            "payload": payload,
            "error": _clean(error)[:_MAX_ERROR],
            "received_at": received_at,
            "now": datetime.now(UTC),
            "direction": direction,
            "retain": retain,
            "handle": handle,
        },
    )


def view_of(session: Session, agent_id: uuid.UUID, role: str) -> View:
    """What somebody with this role sees: those of nobody are for the owner of the hub's first agent."""
    first = next(iter(identity.list_agents(session)), None)
    return View(agent_id, role == "owner" and first is not None and first.agent_id == agent_id)


def page(
    session: Session, view: View, matching: Filter | None = None, *, before: int | None = None, limit: int = 50
) -> Page:
    """One page of them; raises `Invalid` for a limit that is too large."""
    if not 1 <= limit <= PAGE_MAX:
        raise Invalid(f"is 1 to {PAGE_MAX}", field="limit")
    values = _values(view, matching or Filter())
    rows = _select(
        session,
        _MINE + _MATCHING + " AND (CAST(:before AS bigint) IS NULL OR l.dead_letter_id < :before)",
        values | {"before": before, "limit": limit + 1},
    )
    total = session.execute(text(f"SELECT count(*) FROM dead_letters AS l WHERE {_MINE}{_MATCHING}"), values)
    items = rows[:limit]
    return Page(items, items[-1].dead_letter_id if len(rows) > limit else None, int(total.scalar_one()))


def get(session: Session, view: View, dead_letter_id: int) -> DeadLetter:
    """One of them, its row locked; `NotFound` also for another agent's."""
    rows = _select(
        session,
        f"{_MINE} AND l.dead_letter_id = :id",
        {"agent": view.agent_id, "of_hub": view.of_hub, "id": dead_letter_id, "limit": 1},
        lock=True,
    )
    if not rows:
        raise NotFound("there is no such dead letter")
    return rows[0]


def discard(session: Session, view: View, dead_letter_id: int, *, by: str) -> None:
    """Remove one for good; `NotFound` also for another agent's."""
    letter = get(session, view, dead_letter_id)
    remove(session, letter)
    _audit(session, letter.agent_id or view.agent_id, "discarded", letter.topic, by, {"error": letter.error[:300]})


def discard_matching(session: Session, view: View, matching: Filter, *, up_to: int, count: int, by: str) -> int:
    """Remove all that match and are not newer than `up_to`, if they are as many as `count`; returns how many.

    Raises `Invalid` (count) when there are others than whoever counted them thinks, or too many for one time.
    """
    values = _values(view, matching) | {"up_to": up_to}
    condition = f"{_MINE}{_MATCHING} AND l.dead_letter_id <= :up_to"
    found = int(session.execute(text(f"SELECT count(*) FROM dead_letters AS l WHERE {condition}"), values).scalar_one())
    if found != count:
        raise Invalid(f"there are {found:,} that match now; type {found} to discard them all", field="count")
    if found > DISCARD_MAX:
        raise Invalid(f"at most {DISCARD_MAX:,} go at once; narrow what matches", field="count")
    gone = session.execute(
        text(f"WITH gone AS (DELETE FROM dead_letters AS l WHERE {condition} RETURNING 1) SELECT count(*) FROM gone"),
        values,
    ).scalar_one()
    facts = {"count": int(gone), "words": matching.words, "direction": matching.direction}
    _audit(session, view.agent_id, "discarded", f"{gone} dead letters", by, facts)
    return int(gone)


def remove(session: Session, letter: DeadLetter) -> None:
    """It is dealt with."""
    session.execute(text("DELETE FROM dead_letters WHERE dead_letter_id = :id"), {"id": letter.dead_letter_id})


def note_retry(session: Session, letter: DeadLetter, error: str | None, now: datetime, *, view: View, by: str) -> None:
    """It was tried again: it goes when that went well, and else keeps the new error."""
    if error is None:
        remove(session, letter)
    else:
        session.execute(
            text(
                "UPDATE dead_letters SET error = :error, tries = tries + 1, tried_at = :now WHERE dead_letter_id = :id"
            ),
            {"error": _clean(error)[:_MAX_ERROR], "now": now, "id": letter.dead_letter_id},
        )
    facts = {"result": "stored" if letter.direction == "in" else "published"} if error is None else {"error": error}
    _audit(session, letter.agent_id or view.agent_id, "retried", letter.topic, by, facts)


def check_direction(given: str) -> Direction | None:
    """The direction, None for ""; raises `Invalid` (direction)."""
    directions: Sequence[Direction] = ("in", "out")
    if not given:
        return None
    for one in directions:
        if one == given:
            return one
    raise Invalid("is in or out", field="direction")


def _values(view: View, matching: Filter) -> dict[str, Any]:
    return {
        "agent": view.agent_id,
        "of_hub": view.of_hub,
        "words": _clean(matching.words.strip()),
        "direction": matching.direction,
    }


def _select(session: Session, condition: str, values: dict[str, Any], *, lock: bool = False) -> list[DeadLetter]:
    rows = session.execute(
        text(
            "SELECT l.dead_letter_id, l.agent_id, l.device_id, d.name, l.direction, l.topic, l.payload, l.retain,"
            " l.error, l.received_at, l.parked_at, l.tries, l.tried_at FROM dead_letters AS l"
            f" LEFT JOIN devices AS d USING (device_id) WHERE {condition} ORDER BY l.dead_letter_id DESC LIMIT :limit"
            + (" FOR UPDATE OF l" if lock else "")
        ),
        values,
    )
    return [DeadLetter(*row) for row in rows]


def _audit(session: Session, agent_id: uuid.UUID, verb: str, subject: str, by: str, facts: dict[str, Any]) -> None:
    audit.record(session, agent_id, by=by, action=f"dead_letter.{verb}", subject=subject[:200], after=facts)


def _clean(given: str) -> str:
    return given.replace("\0", "�").encode("utf-8", "replace").decode()
