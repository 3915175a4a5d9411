"""Verdicts over time on a real database: written once each, read for one device, forgotten in bounds."""

import uuid
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import event, text

from hub import device_views, feed, presence_history, presence_records
from hub.presence import Evidence, Heard, hear
from hub.presence_records import Known
from hub.sweeper import Sweeper, calm
from hub.uptime import uptime

NOW = datetime.now(UTC).replace(microsecond=0)


def after(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def history(session, device, since: float, until: float):
    return [
        ((span.since - NOW).total_seconds(), span.verdict)
        for span in presence_history.of_device(session, device.device_id, after(since), after(until))
    ]


def rows(session, device) -> list[tuple[str, int]]:
    found = session.execute(
        text("SELECT verdict, epoch FROM presence_history WHERE device_id = :id ORDER BY change_no"),
        {"id": device.device_id},
    )
    return [tuple(row) for row in found]


def watched(session, since: float, until: float) -> None:
    session.execute(
        text("INSERT INTO presence_watches (since, until) VALUES (:since, :until)"),
        {"since": after(since), "until": after(until)},
    )


def test_a_device_that_was_never_heard_has_no_history(session, device):
    assert rows(session, device) == []


def test_each_verdict_is_written_once_and_signs_of_life_are_not(session, device, say):
    watched(session, -10, 100)
    say(("porch/state", {"state": "online", "epoch": 1}), at=NOW)
    for second in (15, 30):
        say(("porch/heartbeat", {"epoch": 1, "n": second}), at=after(second))
    say(("porch/state", {"state": "lost", "epoch": 1}), at=after(40))
    say(("porch/state", {"state": "lost", "epoch": 1}), at=after(41))
    say(("porch/state", {"state": "online", "epoch": 2}), at=after(50))
    assert rows(session, device) == [("online", 1), ("offline", 1), ("online", 2)]
    assert history(session, device, -5, 60) == [(-5, "unknown"), (0, "online"), (40, "offline"), (50, "online")]


def test_a_connection_that_replaces_another_is_written_down(session, device, say):
    say(("porch/state", {"state": "online", "epoch": 1}), at=NOW)
    say(("porch/state", {"state": "online", "epoch": 2}), at=after(5))
    assert rows(session, device) == [("online", 1), ("online", 2)]


def test_the_cost_does_not_grow_with_the_devices_of_a_batch(session, make_device):
    """Three statements at most for any number of changed verdicts, apart from what is told of each."""
    known = []
    for name in ("Porch", "Gate", "Hall", "Shed"):
        made = make_device(name)
        known.append(Known(made.device_id, made.agent_id, made.handle, Evidence()))
    counts = []
    for some in (known[:1], known[1:]):
        said: list[str] = []
        listen = lambda _conn, _cursor, statement, *_, said=said: said.append(statement)  # noqa: E731
        event.listen(session.get_bind(), "before_cursor_execute", listen)
        changes = {one.device_id: (one, hear(one.evidence, Heard("state", 1, NOW))) for one in some}
        presence_records.save(session, changes)
        event.remove(session.get_bind(), "before_cursor_execute", listen)
        counts.append(sum("device_presence" in one or "presence_history" in one for one in said))
    assert counts == [2, 2]


def test_another_agents_device_cannot_stand_in_the_history(session, device):
    with pytest.raises(Exception, match="presence_history_device_fkey"):
        presence_history.record(
            session, [presence_history.Change(device.device_id, uuid.uuid4(), NOW, Evidence(verdict="online"))]
        )


def test_a_hub_that_was_away_leaves_a_gap_and_a_short_restart_none(session, device, say):
    say(("porch/state", {"state": "online", "epoch": 1}), at=after(-1000))
    for second in (-900, -895, -890, -870, -300, -295):
        presence_history.watch(session, after(second))
    assert history(session, device, -880, -290) == [(-880, "online"), (-870, "unknown"), (-300, "online")]
    assert session.execute(text("SELECT count(*) FROM presence_watches")).scalar() == 2
    found = uptime(presence_history.of_device(session, device.device_id, after(-880), after(-290)))
    assert (found.ratio, found.unknown_s) == (1.0, 570)


def test_a_clock_that_goes_back_makes_no_watch_shorter(session):
    presence_history.watch(session, NOW)
    presence_history.watch(session, after(-20))
    assert session.execute(text("SELECT until FROM presence_watches")).scalars().all() == [NOW]


def test_only_a_hub_that_can_hear_watches(database, session):
    Sweeper(database, lambda: None)._sweep(NOW)
    assert session.execute(text("SELECT count(*) FROM presence_watches")).scalar() == 0
    session.rollback()
    Sweeper(database, lambda: after(-60))._sweep(NOW)
    assert session.execute(text("SELECT count(*) FROM presence_watches")).scalar() == 1


def test_what_is_old_is_forgotten_and_what_still_stands_is_not(session, device, say):
    watched(session, -100 * 86_400, 0)
    for day in (50, 45, 40):
        say(("porch/state", {"state": "online", "epoch": 100 - day}), at=after(-day * 86_400))
        say(("porch/state", {"state": "lost", "epoch": 100 - day}), at=after(-day * 86_400 + 60))
    presence_history.forget(session, after(-30 * 86_400))
    assert rows(session, device) == [("offline", 60)], "the verdict that stood thirty days ago"
    assert history(session, device, -86_400, 0) == [(-86_400, "offline")]


def test_a_device_that_flaps_for_days_keeps_a_bounded_history(session, device, monkeypatch):
    monkeypatch.setattr(presence_history, "CHANGES_MAX", 50)
    session.execute(text("UPDATE device_presence SET flapping = true WHERE device_id = :id"), {"id": device.device_id})
    session.execute(
        text(
            "INSERT INTO presence_history (device_id, agent_id, at, verdict, why, epoch) SELECT :id, :agent, "
            "CAST(:now AS timestamptz) + n * interval '1 s', 'online', '', n FROM generate_series(1, 200) AS n"
        ),
        {"id": device.device_id, "agent": device.agent_id, "now": after(-300)},
    )
    presence_history.forget(session, after(-30 * 86_400))
    assert [epoch for _, epoch in rows(session, device)] == list(range(151, 201))


def test_flapping_is_told_and_taken_back(session, device, say):
    for epoch in range(1, 6):
        say(("porch/state", {"state": "online", "epoch": epoch}), at=after(epoch * 10))
        say(("porch/state", {"state": "lost", "epoch": epoch}), at=after(epoch * 10 + 5))
    assert device_views.view(session, device.agent_id, device.device_id).flapping
    calm(session, after(120))
    assert device_views.view(session, device.agent_id, device.device_id).flapping
    calm(session, after(7200))
    assert not device_views.view(session, device.agent_id, device.device_id).flapping
    feed.flush(session)
    told = [
        one["items"][-1]["flapping"]
        for one in feed.since(session, device.agent_id, 0).messages
        if one["type"] == "presence.updated"
    ]
    assert told[-1] is False
