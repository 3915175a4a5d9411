"""What devices say: each bad message is refused alone, with a reason, and changes nothing."""

import json
import threading
import uuid
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from hub import commands, device_views, devices, events, feed, outbox
from hub.database import Database
from hub.inbox.consumer import Consumer
from hub.inbox.envelope import Incoming
from hub.tables import Agent, Space

UNKNOWN = "00000000-0000-4000-8000-00000000dead"
HELLO = {"epoch": 5, "agent": "test 1", "verbs": [{"name": "blink"}]}


def event(epoch: int = 5, **facts) -> dict:
    return {"id": uuid.uuid4().hex, "epoch": epoch, "payload": {"angle": 12}} | facts


def stored(session) -> int:
    return session.execute(text("SELECT count(*) FROM events")).scalar_one()


@pytest.mark.parametrize(
    ("topic", "payload", "reason"),
    [
        ("event/door", b"\x00\xff\xfe", "not valid"),
        ("event/door", b"", "is empty"),
        ("event/door", b"{", "not valid JSON"),
        ("event/door", b"[]", "expected `object`"),
        ("event/door", {"epoch": 5, "payload": {}}, "field `id`: is required"),
        ("event/door", {"id": "a b", "epoch": 5, "payload": {}}, "field `id`"),
        ("event/door", {"id": "a", "payload": {}}, "field `epoch`: is required"),
        ("event/door", {"id": "a", "epoch": "5", "payload": {}}, "field `epoch`: expected `int`"),
        ("event/door", {"id": "a", "epoch": -1, "payload": {}}, "field `epoch`"),
        ("event/door", {"id": "a", "epoch": 2**60, "payload": {}}, "field `epoch`"),
        ("event/door", {"id": "a", "epoch": 5, "payload": "text"}, "field `payload`"),
        ("event/door", {"id": "a", "epoch": 5, "payload": {"x": "\0"}}, "U+0000"),
        ("event/door", {"id": "a", "epoch": 5, "payload": {"x": "y" * 70_000}}, "at most 65536 bytes"),
        ("event/door", {"id": "a", "epoch": 5, "payload": {}, "at": "yesterday"}, "field `at`"),
        ("event/door", {"id": "a", "epoch": 5, "payload": {}, "space": "Cellar"}, "field `space`"),
        ("hello", {"epoch": 5, "protocol": 2}, "field `protocol`"),
        ("hello", {"epoch": 5, "heartbeat_s": 0}, "field `heartbeat_s`"),
        ("heartbeat", {"epoch": 5, "metrics": {"x": "y" * 600}}, "at most 512 bytes"),
        ("state", {"state": "flying", "epoch": 5}, "field `state`"),
        ("reply/nonsense", {"status": "succeeded", "epoch": 5}, "no command with this id"),
        (f"reply/{UNKNOWN}", {"status": "succeeded", "epoch": 5}, "no command with this id"),
        (f"reply/{UNKNOWN}", {"status": "done", "epoch": 5}, "field `status`"),
    ],
)
def test_a_bad_message_is_refused_with_its_reason_and_the_next_is_stored(session, device, say, topic, payload, reason):
    outcome = say((f"porch/{topic}", payload), ("porch/event/door", event(id="good")))
    [denied] = outcome.denied.values()
    assert reason in denied.reason
    assert outcome.receipts == {"porch": ["good"]}
    assert stored(session) == 1
    [refused] = session.execute(text("SELECT principal, action, reason, device_id FROM denials"))
    assert (refused.principal, refused.action, refused.device_id) == ("porch", "message", device.device_id)


@pytest.mark.parametrize("topic", ["d/porch/gossip", "d/porch", "d/PORCH/state", "d/porch/event/a/b", "x", "d//state"])
def test_a_topic_that_is_not_in_the_catalogue_is_ignored(session, device, say, topic):
    outcome = say((topic.removeprefix("d/"), event()))
    assert outcome.receipts == {}
    assert stored(session) == 0


def test_an_unknown_or_revoked_device_stores_nothing(session, device, say):
    say(("nobody/event/door", event()))
    devices.revoke(session, device, by="ann")
    say(("porch/event/door", event()), ("porch/state", {"state": "online", "epoch": 99}))
    assert stored(session) == 0
    assert device_views.view(session, device.agent_id, device.device_id).presence == "offline"


def test_a_disabled_agents_devices_store_nothing(session, agent, device, say):
    agent.disabled = True
    session.add(agent)
    session.flush()
    assert say(("porch/event/door", event())).receipts == {}
    assert stored(session) == 0


def test_an_epoch_that_goes_back_is_refused_and_told_the_current_one(session, device, say):
    say(("porch/hello", HELLO))
    outcome = say(("porch/event/door", event(4, id="late")), ("porch/heartbeat", {"epoch": 4}))
    first, second = outcome.denied.values()
    assert (first.epoch, first.id) == (5, "late")
    assert "4 is older than 5" in second.reason
    assert stored(session) == 0


def test_a_late_will_says_nothing_about_the_new_connection(session, device, say):
    say(("porch/state", {"state": "online", "epoch": 6}))
    outcome = say(("porch/state", {"state": "lost", "epoch": 5}))
    assert outcome.denied == {}
    assert device_views.view(session, device.agent_id, device.device_id).presence == "online"
    say(("porch/state", {"state": "lost", "epoch": 6}))
    seen = device_views.view(session, device.agent_id, device.device_id)
    assert (seen.presence, seen.why) == ("offline", "by Will: the connection broke")


def test_of_many_events_in_a_row_the_last_is_evidence_and_each_is_stored(session, device, make_device, say):
    make_device("Gate")
    say(("porch/state", {"state": "online", "epoch": 5}), ("gate/state", {"state": "online", "epoch": 1}))
    at = datetime.now(UTC) + timedelta(seconds=5)
    outcome = say(
        *((f"{handle}/event/bell", event(epoch)) for _ in range(5) for handle, epoch in (("porch", 5), ("gate", 1))),
        ("porch/state", {"state": "online", "epoch": 6}),
        ("porch/event/bell", event(5, id="late")),
        ("porch/event/bell", event(6)),
        at=at,
    )
    assert [one.id for one in outcome.denied.values()] == ["late"]
    assert stored(session) == 11
    seen = device_views.view(session, device.agent_id, device.device_id)
    assert (seen.presence, seen.epoch, seen.last_heard_at) == ("online", 6, at)
    assert {one[1] for one in outcome.heard} >= {device.device_id}


def test_an_event_is_stored_once_and_confirmed_every_time(session, device, say):
    one = event(id="same")
    for _ in range(3):
        assert say(("porch/event/door", one), ("porch/event/door", one)).receipts == {"porch": ["same", "same"]}
    assert stored(session) == 1


def test_the_same_id_of_two_devices_is_two_events(session, device, make_device, say):
    make_device("Gate")
    say(("porch/event/door", event(id="same")), ("gate/event/door", event(id="same")))
    assert stored(session) == 2


def test_the_topic_says_who_sent_it_not_the_payload(session, device, make_device, say):
    make_device("Gate")
    say(("gate/event/door", event() | {"device_id": str(device.device_id), "handle": "porch"}))
    [seen] = events.page(session, device.agent_id).items
    assert seen.handle == "gate"


def test_an_event_of_another_agents_space_is_refused(session, device, say):
    other = Agent(name="Elsewhere")
    session.add(other)
    session.flush()
    attic = Space(agent_id=other.agent_id, name="Attic")
    session.add(attic)
    session.flush()
    for named in ("Attic", str(attic.space_id)):
        assert say(("porch/event/door", event(space=named))).receipts == {}
    assert stored(session) == 0


def test_an_event_goes_to_its_space_or_its_devices(session, make_device, space, say):
    make_device("Lamp", space_id=space.space_id)
    make_device("Gate")
    say(("lamp/event/door", event()), ("gate/event/door", event(space="Hall")), ("gate/event/door", event()))
    assert [one.space_name for one in events.page(session, space.agent_id).items] == [None, "Hall", "Hall"]


def test_hello_is_kept_welcomed_and_gets_the_open_commands(session, device, say):
    waiting = commands.request(session, device, "blink", {"times": 3}, by="ann")
    expired = commands.request(session, device, "ping", by="ann", now=datetime.now(UTC) - timedelta(minutes=5))
    feed.flush(session)
    assert [m for m in outbox.claim(session, 99) if m.command_id] == []  # it is not there: nothing is sent
    say(("porch/state", {"state": "online", "epoch": 5}), ("porch/hello", HELLO))
    feed.flush(session)
    sent = {one.topic: json.loads(one.payload) for one in outbox.claim(session, 99)}
    assert sent["d/porch/welcome"]["scopes"] == ["*"]
    assert sent[f"d/porch/cmd/blink/{waiting.command_id}"]["args"] == {"times": 3}
    assert f"d/porch/cmd/ping/{expired.command_id}" not in sent
    seen = device_views.view(session, device.agent_id, device.device_id)
    assert (seen.presence, seen.epoch, seen.hello["verbs"]) == ("online", 5, [{"name": "blink"}])


def test_a_retained_hello_of_the_past_is_not_a_sign_of_life(session, device, say):
    outcome = say(("porch/hello", HELLO, {"retained": True}))
    feed.flush(session)
    assert outcome.heard == []
    assert "d/porch/welcome" not in [one.topic for one in outbox.claim(session, 99)]
    assert device_views.view(session, device.agent_id, device.device_id).presence == "suspect"


def test_the_purge_of_a_state_says_nothing(session, device, say):
    outcome = say(("porch/state", b""))
    assert outcome.refusals == []


def test_a_reply_of_another_device_is_refused(session, device, make_device, say):
    make_device("Gate")
    command = commands.request(session, device, "ping", by="ann")
    outcome = say((f"gate/reply/{command.command_id}", {"status": "succeeded", "epoch": 1}))
    assert "gate" not in outcome.receipts
    assert commands.get(session, device.agent_id, command.command_id).status == "queued"


def test_capabilities_that_a_device_claims_grant_nothing(session, make_device, say):
    device = make_device("Lamp", scopes=["presence:write"])
    say(("lamp/hello", HELLO | {"capabilities": {"kind": "worker", "scopes": ["*"]}}))
    assert device_views.view(session, device.agent_id, device.device_id).scopes == ["presence:write"]


def test_a_poisoned_message_is_parked_and_the_others_are_stored(database, session, device):
    """A message that the database refuses, though the protocol let it pass, takes nothing with it."""
    session.commit()
    with database.transaction() as work:  # a rule of the database that the protocol does not know
        work.execute(text("ALTER TABLE events ADD CHECK (type <> 'poison')"))
    outcomes = []
    consumer = Consumer(database, "marvain/v1", outcomes.append)
    batch = [
        Incoming(
            f"marvain/v1/d/porch/event/{'poison' if n == 5 else 'fine'}",
            json.dumps(event(id=f"e{n}")).encode(),
            False,
            datetime.now(UTC),
            (0, n, 1),
        )
        for n in range(12)
    ]
    assert consumer._store(batch)
    assert stored(session) == 11
    confirmed = [one for outcome in outcomes for one in outcome.receipts.get("porch", [])]
    # Told to the device, so that it does not send the same for ever.
    assert [one.id for outcome in outcomes for one in outcome.denied.values()] == ["e5"]
    assert confirmed == [f"e{n}" for n in range(12) if n != 5]
    [parked] = session.execute(text("SELECT topic, payload, error FROM dead_letters"))
    assert parked.topic.endswith("/poison")
    assert "e5" in parked.payload.decode()
    assert "CheckViolation" in parked.error


def test_a_message_that_the_database_takes_too_long_for_is_parked_after_some_tries(database, session, device):
    """It looks like a database that is busy, but it is always the same message: the others must not wait for it."""
    session.commit()
    with database.transaction() as work:
        work.execute(
            text(
                "CREATE FUNCTION linger() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(30);"
                " RETURN NEW; END $$"
            )
        )
        work.execute(
            text(
                "CREATE TRIGGER linger BEFORE INSERT ON events FOR EACH ROW WHEN (NEW.type = 'slow')"
                " EXECUTE FUNCTION linger()"
            )
        )
    impatient = Database(database.url, statement_timeout_s=0.1)
    consumer = Consumer(impatient, "marvain/v1", [].append)
    batch = [
        Incoming(
            f"marvain/v1/d/porch/event/{kind}",
            json.dumps(event(id=f"e{n}")).encode(),
            False,
            datetime.now(UTC),
            (0, n, 1),
        )
        for n, kind in enumerate(("fine", "slow", "fine"))
    ]
    assert consumer._store(batch)
    impatient.close()
    assert stored(session) == 2
    assert session.execute(text("SELECT error FROM dead_letters")).scalar_one().startswith("QueryCanceled")


def test_what_cannot_be_told_afterwards_ends_nothing(database, session, device):
    session.commit()

    def fail(_outcome) -> None:
        raise ValueError("cannot say this")

    consumer = Consumer(database, "marvain/v1", fail)
    one = Incoming("marvain/v1/d/porch/event/door", json.dumps(event(id="e")).encode(), False, datetime.now(UTC))
    assert consumer._store([one])
    assert stored(session) == 1


def test_a_message_that_meets_a_revoke_does_not_bring_the_device_back(database, session, device, say):
    say(("porch/state", {"state": "online", "epoch": 1}))
    feed.flush(session)
    session.commit()
    outcomes = []
    consumer = Consumer(database, "marvain/v1", outcomes.append)
    beat = Incoming("marvain/v1/d/porch/heartbeat", b'{"epoch":1}', False, datetime.now(UTC), (0, 0, 0))
    with database.transaction() as work:
        devices.revoke(work, devices.by_handle(work, "porch"), by="ann")
        storing = threading.Thread(target=consumer._store, args=([beat],), daemon=True)
        storing.start()
        waiting = (
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        while not session.execute(text(waiting)).scalar_one():
            session.rollback()
    storing.join(20)
    session.rollback()
    assert device_views.view(session, device.agent_id, device.device_id).presence == "offline"
    assert [one.topic for one in outbox.retained(session)] == []
    assert "may speak" in str(outcomes[0].denied)


def test_who_is_heard_again_without_a_hello_gets_what_waited(session, device, say):
    """The hub took it for gone, but its connection never broke: it has no reason to say hello."""
    say(("porch/state", {"state": "online", "epoch": 5}))
    session.execute(text("UPDATE device_presence SET verdict = 'offline'"))
    waiting = commands.request(session, device, "blink", by="ann")
    feed.flush(session)
    assert [one for one in outbox.claim(session, 99) if one.command_id] == []
    say(("porch/heartbeat", {"epoch": 5}))
    feed.flush(session)
    assert [one.command_id for one in outbox.claim(session, 99) if one.command_id] == [waiting.command_id]


def test_a_database_that_only_reads_parks_nothing(database, session, device):
    session.commit()
    name = session.execute(text("SELECT current_database()")).scalar_one()
    session.execute(text(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on'))
    session.commit()
    database.engine.dispose()
    consumer = Consumer(database, "marvain/v1", [].append)
    one = Incoming("marvain/v1/d/porch/event/door", json.dumps(event(id="e")).encode(), False, datetime.now(UTC))
    storing = threading.Thread(target=consumer._store, args=([one],), daemon=True)
    storing.start()
    storing.join(0.7)
    assert storing.is_alive()
    session.execute(text("SET TRANSACTION READ WRITE"))
    session.execute(text(f'ALTER DATABASE "{name}" RESET default_transaction_read_only'))
    session.commit()
    database.engine.dispose()
    storing.join(20)
    session.rollback()
    assert stored(session) == 1
    assert session.execute(text("SELECT count(*) FROM dead_letters")).scalar_one() == 0
