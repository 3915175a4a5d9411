"""How a device's connection stood over time, from the verdicts that were drawn; no clock, no database.

What nobody could see is `unknown` and counts neither for nor against a device. A suspicion counts as what came of it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from hub.presence import Verdict

NOBODY_LOOKED: Final = "the hub was away"
NOT_YET: Final = "nothing was heard of it yet"
# What a mark of the bar shows of several verdicts: the worst, so that the shortest failure is seen.
_WORST_FIRST: Final[tuple[Verdict, ...]] = ("offline", "suspect", "unknown", "sleeping", "online")


@dataclass(frozen=True, slots=True)
class Drawn:
    """A verdict and when it was drawn; it stands until the next."""

    at: datetime
    verdict: Verdict
    why: str


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of time with one verdict. `counts_as`: what a suspicion turned out to be."""

    since: datetime
    until: datetime
    verdict: Verdict
    why: str
    counts_as: Verdict

    @property
    def seconds(self) -> float:
        return (self.until - self.since).total_seconds()


@dataclass(frozen=True, slots=True)
class Uptime:
    """Seconds that it was there (asleep as it said included), was not, and that nobody knows of."""

    up_s: float
    down_s: float
    unknown_s: float

    @property
    def ratio(self) -> float | None:
        """The part of the known time that it was there; None when nothing is known."""
        known = self.up_s + self.down_s
        return self.up_s / known if known > 0 else None


@dataclass(frozen=True, slots=True)
class Mark:
    """A piece of the bar, from `start` to `end` as parts of the whole (0 to 1)."""

    start: float
    end: float
    verdict: Verdict


def timeline(
    drawn: Sequence[Drawn], watches: Iterable[tuple[datetime, datetime]], since: datetime, until: datetime
) -> list[Span]:
    """The spans from `since` to `until`, without a gap, oldest first.

    `drawn`: as they were written, the last before `since` included. `watches`: when the hub looked.
    """
    spans: list[Span] = []
    at = since
    stands = Drawn(since, "unknown", NOT_YET)
    for index, one in enumerate(drawn):
        # What was written later begins no earlier, whatever its clock said.
        begins = min(max(one.at, at), until)
        _extend(spans, at, begins, stands, _outcome(drawn, index - 1))
        at, stands = begins, one
    _extend(spans, at, until, stands, _outcome(drawn, len(drawn) - 1))
    return _merge(_only_watched(spans, sorted(watches)))


def uptime(spans: Iterable[Span]) -> Uptime:
    """The seconds of each kind."""
    up = down = unknown = 0.0
    for span in spans:
        if span.counts_as in ("online", "sleeping"):
            up += span.seconds
        elif span.counts_as == "offline":
            down += span.seconds
        else:
            unknown += span.seconds
    return Uptime(up, down, unknown)


def marks(spans: Sequence[Span], count: int) -> list[Mark]:
    """The bar in `count` equal steps, each with the worst that it holds; neighbours that say the same are one."""
    if not spans:
        return []
    since, whole = spans[0].since, (spans[-1].until - spans[0].since).total_seconds()
    if whole <= 0:
        return []
    worst: list[Verdict] = ["online"] * count
    for span in spans:
        first = int((span.since - since).total_seconds() / whole * count)
        last = int((span.until - since).total_seconds() / whole * count - 1e-9)
        for step in range(max(first, 0), min(last, count - 1) + 1):
            worst[step] = min(worst[step], span.verdict, key=_WORST_FIRST.index)
    found: list[Mark] = []
    for step, verdict in enumerate(worst):
        if found and found[-1].verdict == verdict:
            found[-1] = replace(found[-1], end=(step + 1) / count)
        else:
            found.append(Mark(step / count, (step + 1) / count, verdict))
    return found


def _outcome(drawn: Sequence[Drawn], index: int) -> Verdict:
    """What the verdict at `index` counts as: a suspicion as the next verdict that is none."""
    if index < 0:
        return "unknown"
    for one in drawn[index:]:
        if one.verdict != "suspect":
            return one.verdict
    return "unknown"


def _extend(spans: list[Span], since: datetime, until: datetime, stands: Drawn, counts_as: Verdict) -> None:
    if until > since:
        spans.append(Span(since, until, stands.verdict, stands.why, counts_as))


def _only_watched(spans: Sequence[Span], watches: Sequence[tuple[datetime, datetime]]) -> list[Span]:
    """The same, with `unknown` where nobody looked."""
    found: list[Span] = []
    for span in spans:
        at = span.since
        for begins, ends in watches:
            if ends <= max(at, begins) or begins >= span.until:
                continue
            _unwatched(found, at, min(begins, span.until))
            seen = max(at, begins)
            at = min(ends, span.until)
            found.append(replace(span, since=seen, until=at))
        _unwatched(found, at, span.until)
    return found


def _unwatched(found: list[Span], since: datetime, until: datetime) -> None:
    if until > since:
        found.append(Span(since, until, "unknown", NOBODY_LOOKED, "unknown"))


def _merge(spans: Iterable[Span]) -> list[Span]:
    found: list[Span] = []
    for span in spans:
        last = found[-1] if found else None
        if last is not None and (last.verdict, last.counts_as) == (span.verdict, span.counts_as):
            found[-1] = replace(last, until=span.until)
        else:
            found.append(span)
    return found
