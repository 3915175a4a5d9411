"""Desired and reported values: the second editor is told, who returns gets them, every key says how it stands."""

import threading
from datetime import UTC, datetime

import msgspec
import pytest
from sqlalchemy import text

from hub import device_config, devices, feed, outbox
from hub.device_config import ConfigView, StaleRevision, differences
from hub.errors import Conflict, Invalid

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def published(session, device) -> list[dict]:
    """What went out on the device's config topic since the last look."""
    feed.flush(session)
    found = [one for one in outbox.claim(session, 999) if one.topic == f"d/{device.handle}/config"]
    assert all(one.retain for one in found)
    return [msgspec.json.decode(one.payload) if one.payload else {} for one in found]


def want(session, device, values, rev=0):
    return device_config.set_desired(session, device, values, by="ann", expected_rev=rev)


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"A": 1}, "values.A"),
        ({"": 1}, "values."),
        ({"a b": 1}, "values.a b"),
        ({"x" * 64: 1}, "values." + "x" * 64),
        ({"a": "x" * 8_192}, "values"),
        ({"a": "\0"}, "values"),
    ],
)
def test_values_that_break_a_rule_are_refused_whole(session, device, values, field):
    with pytest.raises(Invalid) as refused:
        want(session, device, {"good": 1} | values)
    assert refused.value.field == field
    assert device_config.view(session, device.device_id) == ConfigView()
    assert published(session, device) == []


def test_the_second_editor_is_told_and_nothing_is_overwritten(session, device):
    assert want(session, device, {"a": 1}).desired_rev == 1
    with pytest.raises(StaleRevision) as stale:
        want(session, device, {"a": 2}, rev=0)
    assert stale.value.current.desired == {"a": 1}
    assert "ann" in stale.value.message
    assert published(session, device) == [{"rev": 1, "values": {"a": 1}}]


def test_a_revoked_device_is_not_set_and_its_config_is_purged(session, device):
    want(session, device, {"a": 1})
    devices.revoke(session, device, by="ann")
    assert published(session, device) == [{"rev": 1, "values": {"a": 1}}, {}]
    with pytest.raises(Conflict):
        want(session, device, {"a": 2}, rev=1)
    held = session.execute(text("SELECT count(*) FROM retained_topics WHERE topic LIKE '%config'")).scalar_one()
    assert held == 0


def test_what_the_device_says_stands_beside_what_is_wanted(session, device, say):
    want(session, device, {"heartbeat_s": 20, "log_level": "loud", "colour": "red"})
    outcome = say(
        (
            "porch/config_reply",
            {
                "epoch": 1,
                "rev": 1,
                "ok": False,
                "error": "log_level",
                "refused": {"log_level": "is debug or info"},
                "reported": {"heartbeat_s": 15, "log_level": "info"},
            },
        )
    )
    assert outcome.receipts == {"porch": ["config:1"]}
    config = device_config.view(session, device.device_id)
    assert config.state == "refused"
    assert [(row.key, row.state, row.why) for row in differences(config)] == [
        ("colour", "refused", "the config was refused whole"),
        ("heartbeat_s", "refused", "the config was refused whole"),
        ("log_level", "refused", "is debug or info"),
    ]
    want(session, device, {"heartbeat_s": 20, "colour": "red"}, rev=1)
    assert device_config.view(session, device.device_id).state == "waiting"
    reported = {"heartbeat_s": 20.0, "log_level": "info", "colour": True}
    say(("porch/config_reply", {"epoch": 1, "rev": 2, "ok": True, "reported": reported}))
    config = device_config.view(session, device.device_id)
    assert config.state == "different"
    assert [(row.key, row.state) for row in differences(config)] == [
        ("colour", "different"),
        ("heartbeat_s", "applied"),
        ("log_level", "own"),
    ]


def test_one_is_not_true(session, device, say):
    want(session, device, {"flag": True})
    say(("porch/config_reply", {"epoch": 1, "rev": 1, "ok": True, "reported": {"flag": 1}}))
    assert device_config.view(session, device.device_id).state == "different"


def test_of_many_answers_the_last_counts_and_all_are_confirmed(session, device, say):
    answers = [("porch/config_reply", {"epoch": 1, "rev": n, "ok": True, "reported": {"n": n}}) for n in (1, 2, 3)]
    assert say(*answers).receipts == {"porch": ["config:1", "config:2", "config:3"]}
    config = device_config.view(session, device.device_id)
    assert (config.state, config.reported_rev, config.reported) == ("unset", 3, {"n": 3})


def test_an_answer_of_an_earlier_connection_counts_for_nothing(session, device, say):
    say(("porch/state", {"state": "online", "epoch": 5}))
    outcome = say(("porch/config_reply", {"epoch": 4, "rev": 1, "ok": True}))
    assert outcome.receipts == {}
    assert device_config.view(session, device.device_id).reported_rev is None


@pytest.mark.parametrize(("said", "again"), [(0, True), (1, True), (2, False), (9, True)])
def test_a_device_that_returns_with_another_revision_gets_the_config_again(session, device, say, said, again):
    want(session, device, {"a": 1})
    want(session, device, {"a": 2}, rev=1)
    published(session, device)
    say(("porch/hello", {"epoch": 1, "config_rev": said}))
    feed.flush(session)
    out = outbox.claim(session, 99)
    [welcome] = [msgspec.json.decode(one.payload) for one in out if one.topic.endswith("/welcome")]
    assert welcome["config_rev"] == 2
    configs = [msgspec.json.decode(one.payload) for one in out if one.topic.endswith("/config")]
    assert configs == ([{"rev": 2, "values": {"a": 2}}] if again else [])


def test_earlier_values_are_kept_for_undo_and_not_for_ever(session, device):
    for n in range(device_config.REVISIONS_KEPT + 3):
        want(session, device, {"n": n}, rev=n)
    kept = device_config.history(session, device.device_id, 999)
    assert len(kept) == device_config.REVISIONS_KEPT
    assert kept[0].desired == {"n": device_config.REVISIONS_KEPT + 2}
    assert device_config.earlier(session, device.device_id, kept[-1].rev) == kept[-1]
    with pytest.raises(Conflict):
        device_config.earlier(session, device.device_id, 1)


def test_every_change_is_told_and_audited(session, device, say):
    want(session, device, {"a": 1})
    say(("porch/config_reply", {"epoch": 1, "rev": 1, "ok": True, "reported": {"a": 1}}))
    feed.flush(session)
    told = [one for one in feed.since(session, device.agent_id, 0).messages if one["type"] == "config.updated"]
    assert [item["state"] for one in told for item in one["items"]] == ["applied"]  # one transaction: the newest
    entry = session.execute(text("SELECT actor, before, after FROM audit_entries WHERE action = 'device.config_set'"))
    assert entry.one() == ("ann", {"rev": 0, "values": {}}, {"rev": 1, "values": {"a": 1}})


def test_two_at_once_cannot_both_win(database, session, device):
    session.commit()
    with database.transaction() as one:
        device_config.set_desired(one, device, {"a": 1}, by="ann", expected_rev=0)
        troubles: list[Exception] = []

        def other() -> None:
            try:
                with database.transaction() as two:
                    device_config.set_desired(two, device, {"a": 2}, by="bob", expected_rev=0)
            except Conflict as error:
                troubles.append(error)

        thread = threading.Thread(target=other)
        thread.start()
    thread.join(20)
    assert [type(error) for error in troubles] == [StaleRevision]
    with database.transaction() as work:
        assert device_config.view(work, device.device_id).desired == {"a": 1}
