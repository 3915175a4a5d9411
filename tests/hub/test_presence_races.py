"""Ten thousand lives of a device against an oracle that knows what happened: no verdict is wrong beyond its bound.

A world of one device, a broker and a hub, with a clock: connections begin, break with or without a Will, are replaced,
say goodbye, fall asleep; Wills are late; heartbeats get lost; the hub and the broker restart, and hear again what was
retained and what was not acknowledged. Beside it stands the truth, and a verdict may differ from it for as long as
the hub says itself that it may be wrong (`bound_s`), and not a second longer.
"""

import random
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import pytest

from hub.presence import MISSED_HEARTBEATS, PROBE_WAIT_S, Evidence, Heard, hear, silence

NOW = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
HEARTBEAT_S = 15


def at(second: float) -> datetime:
    return NOW + timedelta(seconds=second)


@dataclass
class World:
    """One second is one step. `truth` is what the device does; the broker and the hub know only what reaches them."""

    chance: random.Random
    second: int = 0
    truth: str = "offline"
    epoch: int = 0
    changed_at: int = 0
    next_beat: float = 0.0
    hub_back_at: int | None = -1000
    hub_returns: int = 0
    reached_at: int = -1000
    queue: list[tuple[int, Heard]] = field(default_factory=list)
    late: list[tuple[int, Heard]] = field(default_factory=list)
    retained: Heard | None = None
    evidence: Evidence = field(default_factory=Evidence)

    def say(self, kind: str, state: str = "online", *, epoch: int | None = None, until: float | None = None) -> None:
        heard = Heard(
            kind,
            epoch or self.epoch,
            at(self.second),
            state=state,
            until=None if until is None else at(until),
            heartbeat_s=HEARTBEAT_S if kind == "hello" else None,
        )
        if kind == "state":
            self.retained = heard
        if kind == "heartbeat" and (self.hub_back_at is None or self.chance.random() < 0.05):
            return  # QoS 0: lost
        self.queue.append((self.second, heard))

    def connect(self) -> None:
        if self.truth == "online" and self.chance.random() < 0.5:  # the broker notices the older one only later
            will = Heard("state", self.epoch, NOW, state="lost")
            self.late.append((self.second + self.chance.randint(0, 40), will))
        self.epoch += 1
        self.become("online")
        self.say("state")
        self.say("hello")
        self.next_beat = self.second + HEARTBEAT_S

    def become(self, truth: str) -> None:
        self.truth, self.changed_at = truth, self.second

    def act(self) -> None:
        """What happens to the device in this second."""
        if self.truth != "online":
            if self.chance.random() < 0.02:
                self.connect()
            return
        if self.second >= self.next_beat:
            self.say("heartbeat")
            self.next_beat = self.second + HEARTBEAT_S * self.chance.uniform(0.9, 1.1)
        match self.chance.choices(["nothing", "event", "lost", "pulled", "bye", "replaced"], [150, 6, 1, 1, 1, 1])[0]:
            case "event":
                self.say("event")
            case "lost":
                self.become("offline")
                self.say("state", "lost")
            case "pulled":  # the cable: the broker notices when the keep-alive is over, the hub may notice before
                self.become("offline")
                if self.chance.random() < 0.5:  # else the broker restarted as well, and has forgotten the Will
                    will = Heard("state", self.epoch, NOW, state="lost")
                    self.late.append((self.second + self.chance.randint(20, 35), will))
            case "bye":
                self.become("offline")
                self.say("state", "bye")
            case "replaced":
                self.connect()

    def reach(self) -> None:
        """What reaches the hub in this second."""
        for due, will in [one for one in self.late if one[0] <= self.second]:
            self.late.remove((due, will))
            heard = replace(will, at=at(self.second))
            if will.epoch == self.epoch:  # as the newer connection's word is retained, an older Will replaces it there
                self.retained = heard
            self.queue.append((self.second, heard))
        if self.hub_back_at is None:
            if self.second >= self.hub_returns:
                self.come_back()
            return
        if self.chance.random() < 0.003:
            self.go_away()
            return
        for _, heard in self.queue:
            before = self.evidence
            self.evidence = hear(before, replace(heard, at=at(self.second)))
            is_back = self.evidence.verdict == "online" != before.verdict
            assert not (is_back and heard.retained), "what the broker remembers is no sign of life"
            if heard.epoch == self.epoch and not heard.retained:
                self.reached_at = self.second
        self.queue.clear()
        self.evidence, is_probe = silence(self.evidence, at(self.second), at(self.hub_back_at))
        if is_probe and self.truth == "online":
            self.say("reply")

    def go_away(self) -> None:
        """The hub is killed: it may have stored what it has not acknowledged, which then comes again."""
        stored = self.chance.randint(0, len(self.queue))
        for _, heard in self.queue[:stored]:
            self.evidence = hear(self.evidence, replace(heard, at=at(self.second)))
        self.hub_back_at = None
        self.hub_returns = self.second + self.chance.randint(2, 60)

    def come_back(self) -> None:
        self.hub_back_at = self.second
        if self.retained is not None:
            remembered = (self.second, replace(self.retained, at=at(self.second), retained=True))
            self.queue.insert(self.chance.randint(0, len(self.queue)), remembered)

    def check(self) -> None:
        """The hub may be behind for as long as it admits, counted from what it could last not have known."""
        if self.hub_back_at is None:
            return
        stable_s = self.second - max(self.changed_at, self.hub_back_at)
        allowed = {
            # Gone: two heartbeats with their jitter, two probes, and one heartbeat of patience after a return.
            "offline": HEARTBEAT_S * 1.1 * (MISSED_HEARTBEATS + 1) + 2 * PROBE_WAIT_S + 4,
            # There: its own words are on their way at once; all it said while the hub was away was kept, or follows.
            "online": 1,
        }[self.truth]
        if stable_s <= allowed:
            return
        right = {self.truth}
        quiet_s = self.second - self.reached_at
        is_quiet = quiet_s >= HEARTBEAT_S * MISSED_HEARTBEATS * 1.1
        if self.truth == "online" and is_quiet and self.second - self.hub_back_at >= HEARTBEAT_S * 1.1:
            right.add("suspect")  # as far as anybody could hear
        assert self.evidence.verdict in right, (self.second, self.truth, stable_s, self.evidence)
        assert self.evidence.epoch == self.epoch or self.evidence.verdict == "offline", self


@pytest.mark.parametrize("part", range(4))
def test_no_wrong_verdict_in_ten_thousand_lives(part):
    for life in range(part * 2_500, (part + 1) * 2_500):
        world = World(random.Random(life))
        for second in range(120):
            world.second = second
            world.act()
            world.reach()
            world.check()
