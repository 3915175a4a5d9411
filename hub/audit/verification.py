"""Whether a chain is whole: nothing altered, nothing missing, nothing cut off at its end, nothing slipped in."""

import hashlib
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from sqlalchemy import text
from sqlmodel import Session

from hub.audit.chain import HUB_CHAIN, LINE

_BATCH: Final = 5_000
# More would tell nothing new: one that is altered breaks every link behind it.
_MOST_FAULTS: Final = 20
_LINE: Final = LINE.format(seq="e.seq", prev="e.prev_hash")


@dataclass(frozen=True, slots=True)
class Anchor:
    """What somebody kept elsewhere: that the chain's entry `seq` had this hash."""

    chain: uuid.UUID
    seq: int
    hash: str


@dataclass(frozen=True, slots=True)
class Fault:
    """The first of its kind at `seq`; `entry_id` where there is an entry."""

    seq: int
    words: str
    entry_id: int | None = None


@dataclass(slots=True)
class Report:
    """What was found of one chain: how many entries were looked at, where it ends, and what is wrong."""

    chain: uuid.UUID
    name: str
    entries: int = 0
    seq: int = 0
    hash: str = ""
    faults: list[Fault] = field(default_factory=list)

    @property
    def is_whole(self) -> bool:
        """Whether nothing is wrong."""
        return not self.faults


def heads(session: Session, agent_id: uuid.UUID | None = None) -> list[tuple[Anchor, str]]:
    """Where each chain ends, with the name of what it is of; `agent_id` names one chain (`HUB_CHAIN`: the hub's)."""
    rows = session.execute(
        text(
            "SELECT c.chain, c.seq, c.hash, CASE WHEN c.chain = :hub THEN 'the hub'"
            " ELSE coalesce(a.name, 'an agent that is gone') END AS name"
            " FROM (SELECT chain, seq, hash FROM audit_chains UNION"
            " SELECT DISTINCT e.chain, 0::bigint, '' FROM audit_entries AS e"
            " WHERE NOT EXISTS (SELECT FROM audit_chains AS h WHERE h.chain = e.chain)) AS c"
            " LEFT JOIN agents AS a ON a.agent_id = c.chain"
            " WHERE CAST(:only AS uuid) IS NULL OR c.chain = :only ORDER BY c.chain"
        ),
        {"hub": HUB_CHAIN, "only": agent_id},
    )
    return [(Anchor(row.chain, row.seq, row.hash), row.name) for row in rows]


def verify(
    session: Session,
    agent_id: uuid.UUID | None = None,
    *,
    anchors: Sequence[Anchor] = (),
    progress: Callable[[int], None] | None = None,
) -> list[Report]:
    """Walk through every chain, or one; memory does not grow with it. `progress` hears how many entries were read.

    `anchors` were kept elsewhere: whoever can write to the database could make a whole new chain, and they show it.
    """
    reports = []
    known = heads(session, agent_id)
    for head, name in known:
        report = Report(head.chain, name, seq=head.seq, hash=head.hash)
        _walk(session, head, report, [one for one in anchors if one.chain == head.chain], progress)
        reports.append(report)
    for anchor in anchors:
        if agent_id in (None, anchor.chain) and all(head.chain != anchor.chain for head, _ in known):
            lost = Fault(anchor.seq, "the whole chain is gone: it was anchored and has no entry any more")
            reports.append(Report(anchor.chain, "a chain that is gone", faults=[lost]))
    return reports


def note(session: Session, reports: Sequence[Report], *, by: str, now: datetime) -> None:
    """Keep that these chains were looked at, for whoever wonders when that was done last."""
    for report in reports:
        session.execute(
            text(
                "UPDATE audit_chains SET verified_at = :now, verified_by = :by, verified_seq = :seq,"
                " verified_faults = :faults WHERE chain = :chain"
            ),
            {"now": now, "by": by, "seq": report.seq, "faults": len(report.faults), "chain": report.chain},
        )


def _walk(
    session: Session,
    head: Anchor,
    report: Report,
    anchors: Sequence[Anchor],
    progress: Callable[[int], None] | None,
) -> None:
    kept = {anchor.seq: anchor.hash for anchor in anchors}
    seen, previous = 0, ""
    for row in lines(session, head.chain):
        for fault in _look(row, seen, previous, kept):
            if len(report.faults) < _MOST_FAULTS:
                report.faults.append(fault)
        seen, previous = row.seq, row.hash
        report.entries += 1
        if progress is not None and report.entries % _BATCH == 0:
            progress(report.entries)
    if seen < head.seq:
        report.faults.append(
            Fault(seen + 1, f"the end is cut off: the chain has {head.seq} entries, and {seen} are there")
        )
    elif seen == head.seq and previous != head.hash:
        report.faults.append(Fault(seen, "the last entry is not the one that the chain ends with"))
    # It may have grown while it was read; a head that is still behind was set back.
    elif seen > (now := _head(session, head.chain)):
        report.faults.append(Fault(now + 1, f"the chain says that it ends at {now}, and goes on until {seen}"))
    report.faults += [
        Fault(seq, "an entry that was anchored is missing") for seq in kept if seq > max(seen, 0) and kept[seq]
    ]
    if loose := _loose(session, head.chain):
        report.faults.append(Fault(0, f"{loose} entries have no place in the chain"))


def _look(row: Any, seen: int, previous: str, kept: dict[int, str]) -> Iterator[Fault]:
    """What is wrong with one entry, given the one before it."""
    if row.seq != seen + 1:
        missing = f"entry {seen + 1} is" if row.seq == seen + 2 else f"entries {seen + 1} to {row.seq - 1} are"
        yield Fault(seen + 1, f"{missing} missing")
    elif row.prev_hash != previous:
        yield Fault(row.seq, "it does not follow the entry before it", row.entry_id)
    if hashlib.sha256(row.line.encode()).hexdigest() != row.hash:
        yield Fault(row.seq, "it was altered after it was written", row.entry_id)
    if row.seq in kept and kept[row.seq] != row.hash:
        yield Fault(row.seq, "it is not the entry that was anchored", row.entry_id)


def lines(session: Session, chain: uuid.UUID) -> Iterator[Any]:
    """A chain from its beginning: (entry_id, seq, prev_hash, hash, line), `line` being what is hashed."""
    after: int | None = 0
    while after is not None:
        rows, after = some_lines(session, chain, after)
        yield from rows


def some_lines(session: Session, chain: uuid.UUID, after: int) -> tuple[Sequence[Any], int | None]:
    """Some of those behind the place `after`, and the place behind which there are more; None at the end."""
    # By a range of places, not by a limit: the line is made for these rows alone, whatever the planner knows.
    rows = session.execute(
        text(
            f"SELECT e.entry_id, e.seq, e.prev_hash, e.hash, {_LINE} AS line FROM audit_entries AS e"
            " WHERE e.chain = :chain AND e.seq > :after AND e.seq <= :until ORDER BY e.seq"
        ),
        {"chain": chain, "after": after, "until": after + _BATCH},
    ).all()
    following = session.execute(
        text("SELECT min(seq) FROM audit_entries WHERE chain = :chain AND seq > :until"),
        {"chain": chain, "until": after + _BATCH},
    ).scalar()
    return rows, None if following is None else int(following) - 1


def _head(session: Session, chain: uuid.UUID) -> int:
    found = session.execute(text("SELECT seq FROM audit_chains WHERE chain = :chain"), {"chain": chain}).scalar()
    return int(found or 0)


def _loose(session: Session, chain: uuid.UUID) -> int:
    loose = session.execute(
        text("SELECT count(*) FROM audit_entries WHERE chain = :chain AND seq IS NULL"), {"chain": chain}
    )
    return int(loose.scalar_one())
