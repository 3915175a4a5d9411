"""What is changed in the database takes effect on open sessions within a second."""

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import text

from hub import devices
from hub.access import changes, credentials
from hub.tables import User, UserSession

House = Any
MANY = 500


def change(house: House, handle: str, how: str) -> str:
    with house.database.transaction() as session:
        device = devices.by_handle(session, handle)
        if how == "revoke":
            devices.revoke(session, device, by="ann@example.org", reason="stolen")
            return ""
        return devices.rotate(session, device, by="ann@example.org")


@pytest.mark.parametrize("how", ["revoke", "rotate"])
def test_a_device_put_out_is_told_why_and_gone_within_a_second(house: House, how: str) -> None:
    client, bystander = house.device(clean=False), house.device()
    client.peer.subscribe((client.topic("denied"), 0))
    started = time.monotonic()
    token = change(house, client.handle, how)
    told = client.peer.message(1.0)
    assert told.topic == client.topic("denied")
    assert b'"action":"connect"' in told.payload
    assert (b"stolen" if how == "revoke" else b"token") in told.payload
    assert client.peer.closed(1.0)
    assert time.monotonic() - started < 1.0
    bystander.peer.ping()
    peer = house.dial()
    assert peer.connect(client.handle, client.handle, client.token).body[1] == 5
    house.denial(client.handle, "was revoked on" if how == "revoke" else "this token was replaced on")
    if token:
        again = house.again(client.handle, token, clean=False)
        assert not again.session_present, "the old session is dropped"


def test_a_session_with_the_new_token_survives_the_news_of_the_rotation(house: House) -> None:
    device, _ = house.add()
    token = change(house, device.handle, "rotate")
    client = house.again(device.handle, token)
    with house.database.transaction() as session:
        changes.announce(session, device.handle, "rotated", "told late")
    assert client.peer.silent(0.5)
    client.peer.ping()


def test_with_an_overlap_the_session_of_the_old_token_stays_until_it_ends(house: House) -> None:
    client = house.device()
    with house.database.transaction() as session:
        device = devices.by_handle(session, client.handle)
        token = devices.rotate(session, device, by="ann@example.org", overlap_s=60)
    client.peer.ping()
    assert client.peer.silent(0.3)
    old = house.dial()
    assert old.connect(client.handle, client.handle, client.token).body[1] == 0, "the old token is still good"
    assert client.peer.closed(), "a second connection takes over"
    with house.database.transaction() as session:
        session.execute(text("UPDATE credentials SET valid_until = now() WHERE valid_until IS NOT NULL"))
        assert credentials.end_overlaps(session, datetime.now(UTC) + timedelta(seconds=1)) == 1
    assert old.closed(1.0)
    assert house.dial().connect(client.handle, client.handle, client.token).body[1] == 5
    house.again(client.handle, token).peer.ping()


@pytest.mark.parametrize("how", ["revoke", "rotate"])
@pytest.mark.parametrize("connected", [True, False])
def test_what_a_device_retained_with_its_old_token_is_purged(house: House, how: str, *, connected: bool) -> None:
    client = house.device()
    client.peer.publish(client.topic("state"), b"online", 1, retain=True)
    if not connected:
        client.peer.disconnect()
    change(house, client.handle, how)
    if connected:
        assert client.peer.closed()
    else:
        house.until_purged(client.topic("state"))
    hub = house.hub()
    hub.peer.subscribe((client.topic("#"), 1))
    assert hub.peer.silent()


def test_a_scope_taken_away_ends_its_subscriptions_and_its_topics(house: House) -> None:
    hub, client = house.hub(), house.device()
    client.peer.subscribe((client.topic("denied"), 0))
    client.peer.subscribe((client.topic("cmd", "#"), 1))
    client.peer.publish(client.topic("event", "e"), b"x", 1)
    with house.database.transaction() as session:
        devices.by_handle(session, client.handle).scopes = ["presence:write"]
        changes.announce(session, client.handle, "changed")
    told = client.peer.message(1.0)
    assert b"taken away" in told.payload
    assert b"commands:receive" in told.payload
    hub.peer.publish(client.topic("cmd", "ping", "1"), b"x", 1)
    client.peer.send(house.wire.publish(client.topic("event", "e"), b"x"))
    assert b"events:write" in client.peer.message().payload
    client.peer.publish(client.topic("state"), b"x", 1)
    assert client.peer.silent()


def test_a_scope_given_is_effective_at_once(house: House) -> None:
    client = house.device([])
    client.peer.subscribe((client.topic("denied"), 0))
    house.until_refused(client, client.topic("state"))
    with house.database.transaction() as session:
        devices.by_handle(session, client.handle).scopes = ["presence:write"]
        changes.announce(session, "*", "changed")
    hub = house.hub()
    hub.peer.subscribe((client.topic("state"), 1))
    deadline = time.monotonic() + 1.5
    while time.monotonic() < deadline:
        client.peer.send(house.wire.publish(client.topic("state"), b"now"))
        if not hub.peer.silent(0.1):
            return
    pytest.fail("the new scope is not effective")


def browser(house: House, minutes: float = 60) -> tuple[Any, str, str, Any]:
    """A signed-in member of the house's agent, and a page's credential."""
    now = datetime.now(UTC)
    with house.database.transaction() as session:
        user = User(email=f"{time.monotonic_ns()}@example.org")
        session.add(user)
        session.flush()
        session.execute(
            text("INSERT INTO agent_memberships (agent_id, user_id, role) VALUES (:a, :u, 'member')"),
            {"a": house.agent.agent_id, "u": user.user_id},
        )
        signed_in = UserSession(
            user_id=user.user_id, token_hash=f"{time.monotonic_ns()}", expires_at=now + timedelta(minutes=minutes)
        )
        session.add(signed_in)
        session.flush()
        username, password, _ = credentials.issue_for_session(session, signed_in, now)
    return signed_in, username, password, user


def test_a_browser_sees_its_agents_feeds_and_nothing_else(house: House) -> None:
    _, username, password, _ = browser(house)
    hub, client = house.hub(), house.again(username, password, clean=False)
    feed = f"marvain/v1/ui/{house.agent.agent_id}"
    assert client.peer.subscribe(
        (f"{feed}/#", 1), ("marvain/v1/hub/status", 1), ("marvain/v1/ui/#", 1), ("marvain/v1/d/#", 0)
    ) == [1, 1, 0x80, 0x80]
    hub.peer.publish(f"{feed}/presence", b"x", 1)
    assert client.peer.message().topic == f"{feed}/presence"
    client.peer.publish(f"{feed}/presence", b"forged", 1)
    assert client.peer.silent()
    house.denial(username, "a browser publishes nothing")
    client.peer.disconnect()
    assert not house.again(username, password, clean=False).session_present


def test_a_sign_out_ends_the_page(house: House) -> None:
    signed_in, username, password, _ = browser(house)
    client = house.again(username, password)
    with house.database.transaction() as session:
        session.execute(text("DELETE FROM user_sessions WHERE session_id = :s"), {"s": signed_in.session_id})
        changes.announce(session, username, "ended", "signed out")
    assert client.peer.closed(1.0)
    assert house.dial().connect(username, username, password).body[1] == 4


def test_a_membership_revoked_ends_the_feed(house: House) -> None:
    _, username, password, user = browser(house)
    hub, client = house.hub(), house.again(username, password)
    feed = f"marvain/v1/ui/{house.agent.agent_id}/presence"
    client.peer.subscribe((feed, 1), ("marvain/v1/hub/status", 1))
    client.peer.drain()
    with house.database.transaction() as session:
        session.execute(text("UPDATE agent_memberships SET role = 'blocked' WHERE user_id = :u"), {"u": user.user_id})
        changes.announce(session, "*", "changed")
    house.denial(username, "taken away")
    hub.peer.publish(feed, b"secret", 1)
    hub.peer.publish("marvain/v1/hub/status", b"status", 1)
    assert client.peer.message().payload == b"status"


def test_a_browsers_credential_runs_out_unless_it_is_renewed(house: House) -> None:
    pages = [browser(house) for _ in range(2)]
    soon = datetime.now(UTC) + timedelta(seconds=1.5)
    with house.database.transaction() as session:
        session.execute(
            text("UPDATE credentials SET expires_at = :soon WHERE username = ANY(:names)"),
            {"soon": soon, "names": [page[1] for page in pages]},
        )
    lapsing, renewed = (house.again(page[1], page[2]) for page in pages)
    with house.database.transaction() as session:
        credentials.renew(session, pages[1][1], pages[1][0].session_id, datetime.now(UTC))
    assert lapsing.peer.closed(3.0)
    assert datetime.now(UTC) >= soon
    renewed.peer.ping()
    assert house.dial().connect(pages[0][1], pages[0][1], pages[0][2]).body[1] == 5


def test_the_hubs_new_password_ends_its_session_and_keeps_its_messages(own_house: House) -> None:
    house = own_house
    hub, client = house.hub(clean=False), house.device()
    hub.peer.subscribe(("marvain/v1/#", 1))
    with house.database.transaction() as session:
        assert not credentials.set_hub_password(session, house.hub_password)
        assert credentials.set_hub_password(session, "another password")
    assert hub.peer.closed(1.0)
    client.peer.publish(client.topic("event", "e"), b"kept", 1)
    again = house.again("hub_service", "another password", clean=False)
    assert again.session_present
    assert again.peer.message().payload == b"kept"


def test_what_was_changed_while_the_database_could_not_tell_is_found_out(own_house: House) -> None:
    """The listener's connection is cut; what happens before it is back is found by looking at every session."""
    house = own_house
    revoked, kept = house.device(), house.device()
    revoked.peer.subscribe((revoked.topic("denied"), 0))
    with house.database.transaction() as session:
        session.execute(
            text("UPDATE devices SET revoked_at = now(), revoked_reason = 'in silence' WHERE handle = :h"),
            {"h": revoked.handle},
        )
        session.execute(
            text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name = 'marvain broker listener' AND datname = current_database()"
            )
        )
    assert b"in silence" in revoked.peer.message(5.0).payload
    assert revoked.peer.closed()
    kept.peer.ping()


def test_without_the_database_nobody_new_comes_in_and_nobody_is_put_out(own_house: House, postgres_url: str) -> None:
    house = own_house
    hub, client = house.hub(), house.device()
    hub.peer.subscribe((client.topic("#"), 1))
    device, token = house.add()
    name = house.broker.database_url.rpartition("/")[2]
    with psycopg.connect(postgres_url, autocommit=True) as admin:
        admin.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(sql.Identifier(name)))
        admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name LIKE 'marvain broker%%' AND datname = %s",
            [name],
        )
        assert house.dial().connect(device.handle, device.handle, token).body[1] == 3
        client.peer.publish(client.topic("event", "e"), b"goes on", 1)
        assert hub.peer.message().payload == b"goes on"
        admin.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true").format(sql.Identifier(name)))
    deadline = time.monotonic() + 10
    while house.dial().connect(device.handle, device.handle, token).body[1] != 0:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    client.peer.ping()


def test_who_is_kicked_is_told_why_and_may_come_back_to_its_session(house: House) -> None:
    hub, client = house.hub(), house.device(clean=False)
    client.peer.subscribe((client.topic("denied"), 0), (client.topic("cmd", "#"), 1))
    client.peer.publish(client.topic("state"), b"online", 1, retain=True)
    with house.database.transaction() as session:
        changes.announce(session, client.handle, "kicked", "ended by ann@example.org")
    assert b"ended by ann@example.org" in client.peer.message(1.0).payload
    assert client.peer.closed(1.0)
    hub.peer.publish(client.topic("cmd", "ping", "1"), b"kept", 1)
    again = house.again(client.handle, client.token, clean=False)
    assert again.session_present
    assert again.peer.message().payload == b"kept"
    hub.peer.subscribe((client.topic("state"), 1))
    assert hub.peer.message().payload == b"online", "what it retained is no concern of a kick"


def test_news_of_many_reaches_each_of_them_and_nobody_else(house: House) -> None:
    clients, bystander = [house.device() for _ in range(3)], house.device()
    names = [client.handle for client in clients]
    for client in (*clients, bystander):
        client.peer.subscribe((client.topic("denied"), 0))
    with house.database.transaction() as session:
        changes.announce_many(session, names, "kicked", "the room is closed")
    for client in clients:
        assert b"the room is closed" in client.peer.message(1.0).payload
        assert client.peer.closed(1.0)
    bystander.peer.ping()


def test_an_edit_that_concerns_hundreds_of_sessions_is_effective_within_a_second(own_house: House) -> None:
    house = own_house
    first, last = house.device(clean=False), house.device(clean=False)
    with house.database.transaction() as session:
        template = session.execute(
            text("SELECT hash FROM credentials WHERE username = :name"), {"name": first.handle}
        ).scalar_one()
        # Their tokens are all the same: only the number of sessions matters here.
        session.execute(
            text(
                "WITH made AS (INSERT INTO devices (agent_id, name, handle, scopes)"
                " SELECT :agent, 'lamp ' || n, 'many-' || n, CAST(:scopes AS jsonb) FROM generate_series(1, :many) AS n"
                " RETURNING device_id, handle) INSERT INTO credentials (username, kind, device_id, hash)"
                " SELECT handle, 'device', device_id, :hash FROM made"
            ),
            {"agent": house.agent.agent_id, "hash": template, "scopes": '["*"]', "many": MANY},
        )
    for start in range(1, MANY + 1, 50):
        # An absent client's session is reviewed like any other.
        peers = [(house.dial(), f"many-{number}") for number in range(start, start + 50)]
        for peer, name in peers:
            peer.send(house.wire.connect(name, name, first.token, clean=False))
        for peer, _ in peers:
            assert peer.receive().body == b"\0\0"
            peer.disconnect()
    for client in (first, last):
        client.peer.subscribe((client.topic("denied"), 0))
        client.peer.subscribe((client.topic("cmd", "#"), 1))
    with house.database.transaction() as session:
        session.execute(text("UPDATE devices SET scopes = CAST(:scopes AS jsonb)"), {"scopes": '["presence:write"]'})
        changes.announce(session, "*", "changed")
    began = time.monotonic()
    for client in (first, last):
        assert b"taken away" in client.peer.message(5.0).payload
    assert time.monotonic() - began < 1.0
