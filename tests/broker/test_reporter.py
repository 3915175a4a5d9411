"""What the broker reports to Postgres: sessions, retained topics and traffic, at once and again after an outage."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql
from sqlalchemy import text

House = Any  # tests/broker/conftest.py


def row(house: House, query: str, **given: Any) -> Any:
    with house.database.transaction() as session:
        return session.execute(text(query), given).one_or_none()


def session_of(house: House, username: str) -> Any:
    return row(house, "SELECT * FROM broker_sessions WHERE username = :name", name=username)


def until(true: Callable[[], Any], timeout: float = 8.0) -> Any:
    deadline = time.monotonic() + timeout
    while not (result := true()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)
    return result


def messages(house: House, username: str, topic: str) -> int:
    found = row(
        house,
        "SELECT coalesce(sum(count), 0) AS n FROM traffic WHERE principal = :name AND topic = :topic",
        name=username,
        topic=topic,
    )
    return int(found.n)


def test_a_session_is_seen_from_its_beginning_to_its_end(house: House) -> None:
    device, token = house.add()
    began = time.monotonic()
    client = house.again(device.handle, token, clean=False, keep_alive=40)
    seen = until(lambda: session_of(house, device.handle))
    assert time.monotonic() - began < 4
    assert (seen.connected, seen.address, seen.transport) == (True, "127.0.0.1", "tcp")
    assert (seen.persistent, seen.keep_alive_s, seen.subscriptions) == (True, 40, [])
    client.peer.subscribe((client.topic("cmd", "#"), 1))
    until(lambda: session_of(house, device.handle).subscriptions == [[client.topic("cmd", "#"), 1]])
    for number in range(5):
        client.peer.publish(client.topic("event", "e"), b"x", 1, packet_id=number + 1)
    client.peer.publish(client.topic("nowhere"), b"x")
    until(lambda: session_of(house, device.handle).received == 6)
    assert session_of(house, device.handle).sent <= 1
    # What was refused is no traffic.
    until(lambda: messages(house, device.handle, client.topic("event", "e")) == 5)
    assert not messages(house, device.handle, client.topic("nowhere"))
    client.peer.disconnect()
    away = until(lambda: (now := session_of(house, device.handle)) and not now.connected and now)
    assert (away.address, away.connected_at, away.persistent) == ("", None, True)
    house.again(device.handle, token, clean=True).peer.disconnect()
    until(lambda: session_of(house, device.handle) is None)


def test_retained_topics_are_seen_and_forgotten(house: House) -> None:
    client = house.device()
    topic = client.topic("state")
    client.peer.publish(topic, b"12345", 1, retain=True)
    query = "SELECT username, bytes FROM broker_retained WHERE topic = :topic"
    assert tuple(until(lambda: row(house, query, topic=topic))) == (client.handle, 5)
    client.peer.publish(topic, b"123", 1, retain=True)
    until(lambda: row(house, query, topic=topic).bytes == 3)
    client.peer.publish(topic, b"", 1, retain=True)
    until(lambda: row(house, query, topic=topic) is None)


def test_the_broker_says_that_it_is_there(house: House) -> None:
    state = until(lambda: row(house, "SELECT kind, sealing_key, detail FROM broker_state WHERE detail <> '{}'"))
    assert (state.kind, state.sealing_key) == ("embedded", None)
    assert state.detail["tls"] is False
    figures = row(house, "SELECT count(*) AS n FROM broker_retained WHERE topic LIKE '$SYS%'")
    assert figures.n == 0


def test_after_an_outage_all_is_told_anew_and_a_new_broker_begins_with_nothing(
    own_house: House, postgres_url: str
) -> None:
    house = own_house
    client, gone = house.device(), house.device()
    until(lambda: session_of(house, gone.handle))
    name = house.broker.database_url.rpartition("/")[2]
    with psycopg.connect(postgres_url, autocommit=True) as admin:
        admin.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(sql.Identifier(name)))
        admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name LIKE 'marvain broker%%' AND datname = %s",
            [name],
        )
        client.peer.publish(client.topic("event", "e"), b"x", 1)
        client.peer.publish(client.topic("state"), b"kept", 1, retain=True)
        gone.peer.disconnect()
        until(lambda: "reporter.database_away" in house.broker.log())
        admin.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true").format(sql.Identifier(name)))
    until(lambda: session_of(house, gone.handle) is None)
    until(lambda: messages(house, client.handle, client.topic("event", "e")) == 1)
    until(lambda: row(house, "SELECT 1 FROM broker_retained WHERE topic = :t", t=client.topic("state")))
    house.broker.stop(9)
    assert session_of(house, client.handle).connected
    house.broker.start()
    until(lambda: session_of(house, client.handle) is None)
    until(lambda: row(house, "SELECT 1 FROM broker_retained WHERE topic = :t", t=client.topic("state")) is None)


def test_what_was_kept_is_reported_by_the_next_broker(house_with: Callable[..., House], tmp_path: Path) -> None:
    house = house_with({"MARVAIN_BROKER_STORE": str(tmp_path / "store")})
    client = house.device(clean=False)
    client.peer.subscribe((client.topic("cmd", "#"), 1))
    client.peer.publish(client.topic("state"), b"kept", 1, retain=True)
    house.broker.stop(9)
    with house.database.transaction() as session:
        session.execute(text("TRUNCATE broker_sessions, broker_retained"))
    house.broker.start()
    seen = until(lambda: session_of(house, client.handle))
    assert (seen.connected, seen.persistent) == (False, True)
    assert seen.subscriptions == [[client.topic("cmd", "#"), 1]]
    until(lambda: row(house, "SELECT 1 FROM broker_retained WHERE topic = :t", t=client.topic("state")))
    assert (tmp_path / "store").stat().st_mode & 0o077 == 0
