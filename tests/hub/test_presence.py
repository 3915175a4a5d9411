"""Presence as a pure function: the table of cases, and every interleaving of two connections."""

import itertools
import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.presence import Evidence, Heard, end, hear, silence

NOW = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
LONG_AGO = NOW - timedelta(days=1)


def after(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def online(epoch: int = 17, **facts) -> Evidence:
    return replace(hear(Evidence(), Heard("state", epoch, NOW)), **facts)


def test_a_device_never_heard_is_offline():
    assert Evidence().verdict == "offline"
    assert Evidence().why == "never connected"


@pytest.mark.parametrize(
    ("before", "heard", "verdict"),
    [
        pytest.param(Evidence(), Heard("state", 1, NOW), "online", id="connects"),
        pytest.param(Evidence(), Heard("heartbeat", 1, NOW), "online", id="heartbeat is evidence enough"),
        pytest.param(Evidence(), Heard("event", 1, NOW), "online", id="so is an event"),
        pytest.param(online(17), Heard("state", 17, after(1), state="lost"), "offline", id="its Will"),
        pytest.param(online(17), Heard("state", 16, after(1), state="lost"), "online", id="a late Will"),
        pytest.param(online(17), Heard("state", 16, after(1), state="bye"), "online", id="a late goodbye"),
        pytest.param(online(17), Heard("state", 18, after(1), state="lost"), "offline", id="Will of a newer one"),
        pytest.param(online(17), Heard("state", 17, after(1), state="bye"), "offline", id="goodbye"),
        pytest.param(online(17), Heard("state", 17, after(1), state="sleeping"), "sleeping", id="falls asleep"),
        pytest.param(Evidence(), Heard("state", 3, NOW, retained=True), "suspect", id="remembered only"),
        pytest.param(
            replace(online(3), verdict="offline"),
            Heard("state", 3, NOW, retained=True),
            "offline",
            id="remembered after it went silent",
        ),
        pytest.param(online(3), Heard("state", 3, NOW, state="lost", retained=True), "offline", id="remembered Will"),
        pytest.param(
            replace(online(3), verdict="suspect"), Heard("heartbeat", 3, after(50)), "online", id="heard again"
        ),
        pytest.param(
            replace(online(3), verdict="sleeping"), Heard("event", 3, after(1)), "sleeping", id="said before it slept"
        ),
        pytest.param(replace(online(3), verdict="sleeping"), Heard("hello", 4, after(1)), "online", id="wakes"),
    ],
)
def test_what_is_heard(before, heard, verdict):
    assert hear(before, heard).verdict == verdict


def test_the_witness_is_named():
    assert hear(online(), Heard("state", 17, NOW, state="lost")).why == "by Will: the connection broke"
    assert hear(online(), Heard("state", 17, NOW, state="bye")).why == "said goodbye"


def test_a_verdict_keeps_its_time_while_it_stands():
    again = hear(online(), Heard("heartbeat", 17, after(15)))
    assert again.since == NOW
    assert again.last_heard_at == after(15)


def test_an_older_connection_changes_nothing_at_all():
    before = online(17)
    for kind in ("state", "hello", "heartbeat", "event", "reply"):
        assert hear(before, Heard(kind, 16, after(5))) == before


@given(st.permutations(range(6)), st.integers(min_value=1, max_value=5))
@settings(max_examples=2000, deadline=None)
def test_a_reconnected_device_is_online_whatever_arrives_when(order, late):
    """The old connection's messages and its Will, mixed in any order with the new one's: the newest epoch wins."""
    old = [Heard("state", 7, after(i)) for i in range(2)] + [Heard("state", 7, after(2), state="lost")]
    new = [Heard("state", 8, after(3)), Heard("hello", 8, after(4)), Heard("heartbeat", 8, after(late))]
    evidence = Evidence()
    for index in order:
        evidence = hear(evidence, (old + new)[index])
    assert (evidence.verdict, evidence.epoch) == ("online", 8)


def test_every_order_of_will_and_reconnect():
    for order in itertools.permutations(
        [Heard("state", 1, NOW), Heard("state", 1, NOW, state="lost"), Heard("state", 2, NOW)]
    ):
        evidence = Evidence()
        for heard in order:
            evidence = hear(evidence, heard)
        assert evidence.verdict == "online"


def test_one_missed_heartbeat_is_nothing():
    assert silence(online(), after(16.6), LONG_AGO) == (online(), False)


def test_silence_leads_over_suspicion_and_two_probes_to_offline():
    evidence, is_probe = silence(online(), after(33.1), LONG_AGO)
    assert (evidence.verdict, is_probe) == ("suspect", True)
    evidence, is_probe = silence(evidence, after(35), LONG_AGO)
    assert (evidence.verdict, is_probe) == ("suspect", False)
    evidence, is_probe = silence(evidence, after(36.2), LONG_AGO)
    assert (evidence.verdict, is_probe) == ("suspect", True)
    evidence, is_probe = silence(evidence, after(39.3), LONG_AGO)
    assert (evidence.verdict, is_probe) == ("offline", False)
    assert "2 pings unanswered" in evidence.why
    assert (after(39.3) - NOW).total_seconds() <= online().bound_s


def test_the_bound_of_the_usual_heartbeat_is_what_people_are_told():
    assert online().bound_s <= 40
    assert Evidence().bound_s == 1.0


def test_an_answered_probe_ends_the_suspicion():
    suspect, _ = silence(online(), after(33.1), LONG_AGO)
    answered = hear(suspect, Heard("reply", 17, after(34)))
    assert (answered.verdict, answered.probes) == ("online", 0)


def test_who_was_away_itself_waits_one_heartbeat():
    assert silence(online(), after(3600), after(3590)) == (online(), False)
    assert silence(online(), after(3620), after(3590))[0].verdict == "suspect"


def test_a_sleeper_is_left_alone_until_it_should_have_woken():
    asleep = hear(online(), Heard("state", 17, NOW, state="sleeping", until=after(600)))
    assert silence(asleep, after(590), LONG_AGO) == (asleep, False)
    assert silence(asleep, after(640), LONG_AGO)[0].verdict == "offline"


def test_nobody_sleeps_for_ever():
    asleep = hear(online(), Heard("state", 17, NOW, state="sleeping", until=after(1e9)))
    assert asleep.asleep_until == after(86_400)


def test_offline_stays_offline_in_silence():
    gone = end(online(), "revoked by ann", NOW)
    assert silence(gone, after(1e6), LONG_AGO) == (gone, False)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["state", "hello", "heartbeat", "event", "reply"]),
            st.integers(min_value=1, max_value=4),
            st.sampled_from(["online", "sleeping", "bye", "lost"]),
            st.booleans(),
        ),
        max_size=30,
    )
)
@settings(max_examples=2000, deadline=None)
def test_the_epoch_never_goes_back(messages):
    evidence = Evidence()
    for n, (kind, epoch, state, retained) in enumerate(messages):
        heard = Heard(kind, epoch, after(n), state=state if kind == "state" else "online", retained=retained)
        later = hear(evidence, heard)
        assert later.epoch >= evidence.epoch
        if epoch < evidence.epoch:
            assert later == evidence
        evidence = later


class Broker:
    """What a broker holds for the hub: the queue of QoS 1, in order and until acknowledged, and the retained state."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.queue: list[Heard] = []
        self.acknowledged = 0
        self.retained: Heard | None = None
        self.evidence = Evidence()
        self.clock = 0

    def publish(self, kind: str, epoch: int, state: str = "online") -> None:
        self.clock += 1
        heard = Heard(kind, epoch, after(self.clock), state=state)
        if kind == "heartbeat":  # QoS 0: lost, or past all that waits
            if self.chance.random() < 0.7:
                self.evidence = hear(self.evidence, heard)
            return
        self.queue.append(heard)
        if kind == "state":
            self.retained = heard

    def deliver(self, most: int) -> None:
        """The hub stores some messages; it may die before it has acknowledged them, and then hears them again."""
        stored = self.queue[self.acknowledged : self.acknowledged + most]
        for heard in stored:
            self.evidence = hear(self.evidence, heard)
        if self.chance.random() < 0.3:
            self.acknowledged += self.chance.randint(0, len(stored))
            self.replay()
        else:
            self.acknowledged += len(stored)

    def replay(self) -> None:
        """The hub subscribes anew; the retained state comes at once, before or behind what waits."""
        if self.retained is None:
            return
        remembered = replace(self.retained, retained=True)
        if self.chance.random() < 0.5:
            self.evidence = hear(self.evidence, remembered)
        else:
            self.queue.append(remembered)


def live_once(broker: Broker, epoch: int, late_wills: list[int]) -> str:
    """One connection of the device, with whatever else happens meanwhile; returns how it ended."""
    chance = broker.chance
    broker.publish("state", epoch)
    for kind in chance.choices(["hello", "heartbeat", "event", "reply", "deliver", "late"], k=chance.randint(0, 8)):
        if kind == "deliver":
            broker.deliver(chance.randint(1, 5))
        elif kind != "late":
            broker.publish(kind, epoch)
        elif late_wills:
            broker.publish("state", late_wills.pop(chance.randrange(len(late_wills))), "lost")
    ended = chance.choice(["lost", "bye", "taken over"])
    if ended != "taken over":
        broker.publish("state", epoch, ended)
    return ended


@pytest.mark.parametrize("part", range(4))
def test_no_wrong_verdict_in_ten_thousand_reconnect_races(part):
    """Take-overs, late Wills, lost heartbeats, a hub that dies between commit and acknowledgement, retained replays."""
    for race in range(part * 2_500, (part + 1) * 2_500):
        broker = Broker(random.Random(race))
        late_wills: list[int] = []
        last = broker.chance.randint(1, 5)
        for epoch in range(1, last):
            if live_once(broker, epoch, late_wills) == "taken over":
                late_wills.append(epoch)
        # The last connection lives on when nobody takes it over.
        verdict = "online" if live_once(broker, last, late_wills) == "taken over" else "offline"
        for old in late_wills:
            broker.publish("state", old, "lost")
        while broker.acknowledged < len(broker.queue):
            broker.deliver(broker.chance.randint(1, 5))
        assert (broker.evidence.epoch, broker.evidence.verdict) == (last, verdict), race
