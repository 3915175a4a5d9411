"""Mosquitto as our child: rendered in full, told differences, and nobody disturbed who is not concerned."""

import os
import signal
import time
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from sqlalchemy import text

from broker.mosquitto import taken
from hub import agents, devices, integrations
from hub.access import changes, credentials, live_sessions, projection, roles
from hub.access.roles import GrantDraft, RoleDraft
from hub.tables import Agent, User, UserSession
from hub_protocol.messages import Denied

ROOT = "marvain/v1"


@pytest.fixture(scope="module")
def house(house_with, tmp_path_factory):
    """Mosquitto with a database of its own."""
    store = tmp_path_factory.mktemp("store")
    more = {"MARVAIN_BROKER_STORE": str(store / "broker"), "MARVAIN_LOG_LEVEL": "INFO"}
    house = house_with({"MARVAIN_BROKER": "mosquitto", **more})
    yield house
    assert "Traceback" not in house.broker.log(), house.broker.log()


@pytest.fixture
def hub(house):
    """The hub's connection, which nothing here may end."""
    hub = house.hub()
    yield hub.peer
    hub.peer.drain()
    hub.peer.ping()
    hub.peer.close()


@pytest.fixture
def bystander(house, hub):
    """A device at work, which nothing here may disturb."""
    client = house.device()
    assert client.peer.subscribe((client.topic("cmd", "#"), 1)) == [1]
    yield client
    client.peer.drain()
    client.peer.ping()


def by_handle(session, client):
    return devices.by_handle(session, client.handle)


def change(house, client, what):
    """Commit `what(session, device)`; returns the time."""
    with house.database.transaction() as session:
        what(session, by_handle(session, client))
    return time.monotonic()


def set_scopes(house, client, *scopes):
    with house.database.transaction() as session:
        by_handle(session, client).scopes = list(scopes)
        changes.announce(session, client.handle, "changed", "edited by a test")


def save_role(house, saved, *grants, devices=(), all_devices=False, name="Readers"):
    """Make a role, or edit one."""
    draft = RoleDraft(name, "", tuple(GrantDraft(*one) for one in grants), devices, (), all_devices=all_devices)
    agent_id, given = house.agent.agent_id, {"by": "ann", "open_topics": ()}
    with house.database.transaction() as session:
        if saved is None:
            return roles.create(session, agent_id, draft, **given).role
        return roles.edit(session, agent_id, saved.role_id, draft, revision=saved.revision, **given).role


def may_subscribe(client, filter_):
    """Within a second."""
    end = time.monotonic() + 1
    while client.peer.subscribe((filter_, 0)) != [0]:
        assert time.monotonic() < end
    return True


def test_nobody_gets_in_without_the_right_secret_and_client_id(house):
    device, token = house.add()
    for name, client_id, secret in (
        (device.handle, device.handle, "wrong"),
        (device.handle, "another", token),
        ("nobody", "nobody", token),
        ("marvain_adapter", "marvain_adapter", "guess"),
        (None, device.handle, None),
    ):
        assert house.dial().connect(client_id, name, secret).body[1] == 5
    assert house.again(device.handle, token)
    assert house.denial("(at 127.0.0.1)", "Mosquitto does not tell which").action == "connect"


def test_a_device_is_held_to_its_grants_and_told(house, hub):
    client, other = house.device(), house.device()
    assert hub.subscribe((f"{ROOT}/d/+/event/+", 1)) == [1]
    assert client.peer.subscribe((client.topic("denied"), 0)) == [0]
    client.peer.publish(other.topic("event", "door"), b"forged", 1)
    assert b"only its own topics" in client.peer.message().payload
    client.peer.publish(client.topic("event", "door"), b"own", 1)
    assert hub.message().payload == b"own"
    asked = [
        (client.topic("cmd", "#"), 1),
        (other.topic("cmd", "#"), 1),
        ("#", 0),
        ("$SYS/#", 0),
        (f"$share/all/{other.topic('cmd', '#')}", 0),
        (f"$share/own/{client.topic('cmd', '#')}", 0),
    ]
    client.peer.send(
        house.wire.packet(0x82, b"\x00\x09" + b"".join(house.wire.string(f) + bytes([q]) for f, q in asked))
    )
    while (answer := client.peer.receive()).kind != 9:
        pass
    assert list(answer.body[2:]) == [1, 128, 128, 128, 128, 0]
    assert house.denial(client.handle, "only its own topics").action == "publish"
    assert house.denial(client.handle, "may not subscribe to $SYS/#")


def test_a_will_that_is_not_granted_ends_the_session_and_is_never_published(house, hub, bystander):
    device, token = house.add()
    assert hub.subscribe((f"{ROOT}/d/+/state", 1)) == [1]
    will = (bystander.topic("state"), b"forged", 1, True)
    peer = house.dial()
    assert peer.connect(device.handle, device.handle, token, will=will).body[1] == 0
    assert peer.closed()
    assert house.denial(device.handle, "its Will is not allowed")
    bystander.peer.publish(bystander.topic("state"), b"own", 1)
    assert hub.message().payload == b"own"


def test_revoke_tells_then_closes_publishes_no_will_and_purges(house, hub, bystander):
    device, token = house.add()
    state = f"{ROOT}/d/{device.handle}/state"
    client = house.again(device.handle, token, will=(state, b"lost", 1, True))
    client.peer.subscribe((client.topic("denied"), 0))
    client.peer.publish(state, b"here", 1, retain=True)
    assert hub.subscribe((f"{ROOT}/d/{device.handle}/#", 1)) == [1]
    assert hub.message().payload == b"here"
    began = change(house, client, lambda s, d: devices.revoke(s, d, by="ann", reason="lost"))
    told = client.peer.message()
    assert told.topic.endswith("/denied")
    assert b"revoked by ann: lost" in told.payload
    assert client.peer.closed()
    assert time.monotonic() - began < 1
    assert house.dial().connect(device.handle, device.handle, token).body[1] == 5
    heard = [hub.message() for _ in range(2)]
    assert [(one.topic, one.payload) for one in heard] == [(told.topic, told.payload), (state, b"")]
    assert hub.silent()


def test_rotate_closes_and_only_the_new_token_counts(house, hub, bystander):
    client = house.device()
    new = []
    change(house, client, lambda s, d: new.append(devices.rotate(s, d, by="ann")))
    # The commit waited for the broker: the new token counts at once, and the old one no longer.
    again = house.again(client.handle, new[0])
    assert client.peer.closed()
    assert house.dial().connect(client.handle, client.handle, client.token).body[1] == 5
    again.peer.ping()
    with house.database.transaction() as session:
        sealed = session.execute(text("SELECT count(*) FROM credentials WHERE sealed IS NOT NULL")).scalar_one()
    assert sealed == 0


def test_an_edit_that_gives_disturbs_nobody_and_one_that_takes_ends_what_is_no_longer_granted(house, hub, bystander):
    client = house.device(["presence:write"])
    set_scopes(house, client, "presence:write", "commands:receive", "events:write")
    end = time.monotonic() + 1
    while client.peer.subscribe((client.topic("cmd", "#"), 1)) != [1]:
        assert time.monotonic() < end
    client.peer.subscribe((client.topic("denied"), 0))
    # It has lost a right to publish: the session stays and the right is gone.
    set_scopes(house, client, "commands:receive")
    assert hub.subscribe((f"{ROOT}/d/{client.handle}/event/+", 0)) == [0]
    end = time.monotonic() + 1
    while True:
        client.peer.send(house.wire.publish(client.topic("event", "door"), b"{}"))
        try:
            if b"lacks the scope events:write" in client.peer.message(0.05).payload:
                break
        except TimeoutError:
            assert time.monotonic() < end
    # It has lost what it is subscribed to: it is told, and its session ends.
    set_scopes(house, client, "presence:write")
    words = b""
    while b"taken away" not in words:
        words = client.peer.message().payload
    assert client.peer.closed()
    assert house.again(client.handle, client.token).peer.subscribe((client.topic("cmd", "#"), 1)) == [128]


def test_fifty_edits_of_others_leave_an_open_session_alone(house, hub, bystander):
    others = [house.device() for _ in range(5)]
    for number in range(50):
        scopes = ["*"] if number % 2 else ["presence:write"]
        set_scopes(house, others[number % 5], *scopes)
    hub.send(house.wire.publish(bystander.topic("cmd", "ping", "1"), b"still there", 1, 9))
    assert bystander.peer.message().payload == b"still there"


def test_a_role_of_many_is_edited_for_all_who_bear_it_and_ends_only_who_is_subscribed(house, hub, bystander):
    space = f"{ROOT}/x/{house.agent.agent_id}"
    news, more = ("subscribe", "x/{agent}/news"), ("subscribe", "x/{agent}/more")
    role = save_role(house, None, news, ("subscribe", "d/{handle}/own"), all_devices=True)
    # One is there already and has it in its role, the others come with it.
    old, reader, quiet = bystander, house.device(), house.device()
    assert may_subscribe(old, f"{space}/news")
    assert [one.peer.subscribe((f"{space}/news", 0)) for one in (reader, quiet)] == [[0], [0]]
    role = save_role(house, role, news, more, all_devices=True)
    assert may_subscribe(reader, f"{space}/more")
    assert may_subscribe(old, f"{space}/more")
    hub.publish(f"{space}/more", b"1", 1)
    assert reader.peer.message().payload == old.peer.message().payload == b"1"
    role = save_role(house, role, news, all_devices=True)
    assert reader.peer.closed()
    assert old.peer.closed()
    quiet.peer.ping()
    with house.database.transaction() as session:
        roles.delete(session, house.agent.agent_id, role.role_id, by="ann")
    assert quiet.peer.closed()
    for client in (old, reader, quiet):
        client.peer = house.again(client.handle, client.token).peer
        assert client.peer.subscribe((f"{space}/news", 0), (f"{space}/more", 0)) == [128, 128]


def test_a_role_that_comes_to_life_again_gives_nothing_to_who_bore_it_before(house, hub, bystander):
    news = ("subscribe", "x/{agent}/news")
    topic = f"{ROOT}/x/{house.agent.agent_id}/news"
    first, second = house.device(), house.device()
    with house.database.transaction() as session:
        one, other = (by_handle(session, client).device_id for client in (first, second))
    role = save_role(house, None, news, devices=(one,))
    new = []
    # With its new token it is given the role itself, no longer a copy.
    change(house, first, lambda s, d: new.append(devices.rotate(s, d, by="ann")))
    client = house.again(first.handle, new[0])
    assert client.peer.subscribe((topic, 0)) == [0]
    role = save_role(house, role, news)
    assert client.peer.closed()
    client = house.again(first.handle, new[0])
    role = save_role(house, role, news, devices=(other,))
    assert may_subscribe(second, topic)
    assert house.again(first.handle, new[0]).peer.subscribe((topic, 0)) == [128]
    hub.publish(topic, b"for one", 1)
    assert second.peer.message().payload == b"for one"
    save_role(house, role)


def test_what_many_have_each_of_its_own_is_taken_from_all_at_once_and_can_be_given_again(house, hub, bystander, kit):
    own = ("subscribe", "d/{handle}/own")
    with house.database.transaction() as session:
        count = 4 * taken.FEW
        added = [
            devices.add(session, house.agent.agent_id, f"m{n}", scopes=["*"], by="ann", handle=f"many-{n}")
            for n in range(count)
        ]
    clients = [house.again(one.device.handle, one.token) for one in added]
    role = save_role(house, None, own, devices=tuple(one.device.device_id for one in added), name="Each")
    for client in clients:
        assert may_subscribe(client, client.topic("own"))
    # One who hears them all by another role keeps that, and so does one of them whom a wider grant is left.
    observer = house.device()
    with house.database.transaction() as session:
        ids = [by_handle(session, one).device_id for one in (observer, clients[0])]
    heard = [("subscribe", f"d/{one.device.handle}/own/#") for one in added]
    save_role(house, None, *heard, devices=(ids[0],), name="Observers")
    save_role(house, None, ("subscribe", "d/{handle}/+"), devices=(ids[1],), name="Wide")
    for _, filter_ in heard:
        assert may_subscribe(observer, f"{ROOT}/{filter_}")
    assert may_subscribe(clients[0], clients[0].topic("+"))
    role = save_role(house, role, devices=tuple(one.device.device_id for one in added), name="Each")
    began = time.monotonic()
    for client in clients[1:]:
        assert client.peer.closed(1)
    assert time.monotonic() - began < 1
    for client in clients:
        hub.publish(client.topic("own"), b"news", 1)
    assert {observer.peer.message().topic for _ in clients} == {client.topic("own") for client in clients}
    assert clients[0].peer.message().payload == b"news"
    again = [house.again(client.handle, client.token) for client in clients[1:]]
    assert [client.peer.subscribe((client.topic("own"), 0)) for client in again] == [[128]] * len(again)
    save_role(house, role, own, devices=tuple(one.device.device_id for one in added), name="Each")
    for client in again:
        kit.wait_until(lambda client=client: client.peer.subscribe((client.topic("own"), 0)) == [0])
        hub.publish(client.topic("own"), b"again", 1)
        assert client.peer.message().payload == b"again"


def test_an_agent_that_is_switched_off_and_on_keeps_its_devices(house, hub, bystander, kit):
    with house.database.transaction() as session:
        session.add(cabin := Agent(name="Cabin"))
        session.flush()
        added = devices.add(session, cabin.agent_id, "Stove", scopes=["*"], by="ann", handle="stove")
        node_red = integrations.add(session, cabin.agent_id, "Node-RED", by="ann", handle="cabin-red")
    client = house.again("stove", added.token)
    assert client.peer.subscribe((client.topic("denied"), 0), (client.topic("config"), 0)) == [0, 0]
    with house.database.transaction() as session:
        agents.set_disabled(session, cabin.agent_id, disabled=True, by="ann")
    told = msgspec.json.decode(client.peer.message().payload, type=Denied)
    assert told.retry_after_s, "a refusal by Mosquitto looks final, and this one is not"
    assert client.peer.closed(2)
    # What happens to it meanwhile lets nobody in.
    with house.database.transaction() as session:
        changes.announce(session, "stove", "kicked", "by a test")
        changes.announce(session, changes.EVERYBODY, "changed")
    newcomer = house.device()
    assert may_subscribe(newcomer, newcomer.topic("config"))
    with house.database.transaction() as session:
        late = devices.add(session, cabin.agent_id, "Lamp", scopes=["*"], by="the operator", handle="cabin-lamp")
    everybody = (("stove", added.token), ("ext_cabin-red", node_red.token), ("cabin-lamp", late.token))
    for name, token in everybody:
        assert house.dial().connect(name, name, token).body[1] == 5
    with house.database.transaction() as session:
        agents.set_disabled(session, cabin.agent_id, disabled=False, by="ann")
    for name, token in everybody:
        kit.wait_until(lambda name=name, token=token: house.dial().connect(name, name, token).body[1] == 0)
    again = house.again("stove", added.token)
    assert again.peer.subscribe((again.topic("config"), 0)) == [0]


def test_kicked_ends_the_session_and_lets_it_come_again(house, hub, bystander):
    client = house.device()
    with house.database.transaction() as session:
        live_sessions.disconnect(session, house.agent.agent_id, client.handle, by="ann")
    assert client.peer.closed(2)
    house.again(client.handle, client.token).peer.ping()


@pytest.fixture
def page(house):
    """A page of somebody signed in: (username, password, session_id)."""
    with house.database.transaction() as session:
        user = User(email=f"{time.monotonic_ns()}@example.org", display_name="Ann")
        session.add(user)
        session.flush()
        session.execute(
            text(
                "INSERT INTO agent_memberships (agent_id, user_id, role, created_at)"
                " VALUES (:agent, :user, 'member', now())"
            ),
            {"agent": house.agent.agent_id, "user": user.user_id},
        )
        now = datetime.now(UTC)
        signed_in = UserSession(
            user_id=user.user_id, token_hash=f"{time.monotonic_ns():064x}", expires_at=now + timedelta(hours=1)
        )
        session.add(signed_in)
        session.flush()
        username, password, _ = credentials.issue_for_session(session, signed_in, now)
    return username, password, signed_in.session_id


def test_a_page_hears_its_agent_renewed_or_not_until_it_signs_out(house, hub, bystander, page):
    username, password, session_id = page
    peer = house.dial()
    assert peer.connect(username, username, password).body[1] == 0
    feed = f"{ROOT}/ui/{house.agent.agent_id}/devices"
    assert peer.subscribe((f"{ROOT}/ui/{house.agent.agent_id}/+", 0), (f"{ROOT}/d/#", 0)) == [0, 128]
    with house.database.transaction() as session:
        credentials.renew(session, username, session_id, datetime.now(UTC))
    hub.send(house.wire.publish(feed, b"news"))
    assert peer.message().payload == b"news"
    with house.database.transaction() as session:
        session.execute(text("DELETE FROM user_sessions WHERE session_id = :id"), {"id": session_id})
        changes.announce(session, username, "ended", "signed out")
    assert peer.closed(1)
    assert house.dial().connect(username, username, password).body[1] == 5


def test_a_credential_that_runs_out_ends_its_session(house, page):
    username, password, _ = page
    peer = house.dial()
    assert peer.connect(username, username, password).body[1] == 0
    with house.database.transaction() as session:
        session.execute(
            text("UPDATE credentials SET expires_at = now() + interval '300 ms' WHERE username = :name"),
            {"name": username},
        )
        changes.announce(session, username, "changed", "renewed")
    assert peer.closed(2)


def test_the_sessions_are_reported(house, kit, bystander):
    def seen():
        with house.database.transaction() as session:
            found = {one.username: one for one in live_sessions.of_agent(session, house.agent.agent_id)}
        view = found.get(bystander.handle)
        return view if view is not None and view.subscriptions else None

    view = kit.wait_until(seen)
    assert view.connected
    assert (view.address, view.transport) == ("127.0.0.1", "tcp")
    assert view.subscriptions == [(bystander.topic("cmd", "#"), 1)]
    with house.database.transaction() as session:
        state = projection.state(session)
    assert state.kind == "mosquitto"
    assert state.detail["needs_token"] == []


def test_a_crashed_mosquitto_comes_back_with_what_the_database_says(house, kit):
    client, gone = house.device(), house.device()
    before = house.broker.log().count("broker.ready")
    found = [line for line in house.broker.log().splitlines() if "mosquitto_pid" in line][-1]
    os.kill(int(found.split('"mosquitto_pid": ')[1].split(",")[0].rstrip("}")), signal.SIGKILL)
    change(house, gone, lambda s, d: devices.revoke(s, d, by="ann"))
    kit.wait_until(lambda: house.broker.log().count("broker.ready") > before, 15)
    house.again(client.handle, client.token).peer.ping()
    assert house.dial().connect(gone.handle, gone.handle, gone.token).body[1] == 5


def test_a_restart_renders_anew_and_keeps_what_was_retained(house, kit):
    client, token = house.device(), None
    client.peer.publish(client.topic("state"), b"kept", 1, retain=True)
    assert house.broker.stop() == 0
    with house.database.transaction() as session:
        token = devices.rotate(session, by_handle(session, client), by="ann")
    house.broker.start()
    assert house.dial().connect(client.handle, client.handle, client.token).body[1] == 5
    house.again(client.handle, token)
    hub = house.hub().peer
    assert hub.subscribe((client.topic("state"), 1)) == [1]
    assert hub.message().payload == b"kept"

    def listed():
        with house.database.transaction() as session:
            rows = session.execute(text("SELECT topic, username, bytes FROM broker_retained")).all()
        return [row for row in rows if row.topic == client.topic("state")]

    [row] = kit.wait_until(listed)
    assert (row.username, row.bytes) == (client.handle, len(b"kept"))


def test_while_the_database_is_away_sessions_go_on_and_what_changed_meanwhile_counts_after(house, hub, bystander):
    client = house.device()
    client.peer.subscribe((client.topic("cmd", "#"), 1))
    with house.database.transaction() as session:
        devices.by_handle(session, client.handle).scopes = ["presence:write"]
        # The adapter's connections end in the transaction whose change it is therefore not told.
        session.execute(
            text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name LIKE 'marvain broker%' AND datname = current_database()"
            )
        )
    assert client.peer.closed()
    hub.send(house.wire.publish(bystander.topic("cmd", "ping", "1"), b"still there", 1, 9))
    assert bystander.peer.message().payload == b"still there"
