"""The way to Postgres: refusals, transactions, and listening through a restart."""

import threading
import time
import uuid
from datetime import UTC, datetime

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlmodel import select

from hub import feed
from hub.database import Database, Notification, libpq_url, normalise_url
from hub.errors import Invalid
from hub.tables import Agent, Device, Event, FeedEntry, Memory, OutboxMessage
from marvain.embedded_postgres import EmbeddedPostgres


class TestUrls:
    @pytest.mark.parametrize(
        "url",
        ["", "secret", "mysql://u:secret@h/d", "postgresql+psycopg2://u:secret@h/d", "postgresql://u:secret@h:port/d"],
    )
    def test_another_kind_is_refused_without_repeating_the_password(self, url):
        with pytest.raises(Invalid) as refused:
            normalise_url(url)
        assert refused.value.field == "url"
        assert "secret" not in refused.value.message

    @pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
    def test_all_usual_forms_are_one(self, scheme):
        url = f"{scheme}://u:p%40%2F@h:5433/d?sslmode=require"
        assert normalise_url(url) == "postgresql+psycopg://u:p%40%2F@h:5433/d?sslmode=require"
        assert libpq_url(url) == "postgresql://u:p%40%2F@h:5433/d?sslmode=require"

    def test_the_password_is_not_in_the_repr(self):
        assert "secret" not in repr(Database("postgresql://u:secret@h/d"))


class TestTransactions:
    def test_an_exception_leaves_nothing(self, database):
        def fail():
            with database.transaction() as session:
                agent = Agent(name="Home")
                session.add(agent)
                session.flush()
                feed.tell(session, agent.agent_id, "devices", "devices.updated", {"device_id": "x"})
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            fail()
        with database.transaction() as session:
            assert session.exec(select(Agent)).all() == []
            assert session.exec(select(FeedEntry)).all() == []

    def test_a_refused_commit_raises_and_leaves_nothing(self, database):
        rows = [Agent(name="Home"), Device(agent_id=uuid.uuid4(), name="x", handle="x")]
        with pytest.raises(DBAPIError), database.transaction() as session:
            session.add_all(rows)
        with database.transaction() as session:
            assert session.exec(select(Agent)).all() == []

    def test_what_was_told_is_written_last_and_rows_stay_readable(self, database):
        with database.transaction() as session:
            agent = Agent(name="Home")
            session.add(agent)
            feed.tell(session, agent.agent_id, "devices", "devices.updated", {"device_id": "x"})
        assert agent.name == "Home"
        assert agent.created_at.tzinfo is UTC
        with database.transaction() as session:
            [entry] = session.exec(select(FeedEntry)).all()
            assert entry.message["items"] == [{"device_id": "x"}]
            assert len(session.exec(select(OutboxMessage)).all()) == 1

    def test_a_slow_statement_is_stopped(self, database_url):
        database = Database(database_url, statement_timeout_s=0.1)
        with pytest.raises(OperationalError, match="statement timeout"), database.transaction() as session:
            session.execute(text("SELECT pg_sleep(20)"))
        database.close()

    def test_sessions_are_in_utc_and_say_whose_they_are(self, database_url):
        database = Database(database_url + "?options=-c%20statement_timeout%3D1234", application_name="a test")
        with database.transaction() as session:
            settings = {
                name: session.execute(text(f"SHOW {name}")).scalar_one()
                for name in ("timezone", "application_name", "statement_timeout", "lock_timeout")
            }
        database.close()
        assert settings == {
            "timezone": "UTC",
            "application_name": "a test",
            "statement_timeout": "1234ms",
            "lock_timeout": "10s",
        }

    def test_lost_connections_cost_no_error(self, database, database_url):
        with database.transaction() as session:
            session.execute(text("SELECT 1"))
        end_connections(database_url)
        with database.transaction() as session:
            assert session.execute(text("SELECT 2")).scalar_one() == 2


class TestRows:
    def test_every_kind_of_column_comes_back_as_it_was(self, database):
        with database.transaction() as session:
            agent = Agent(name="Ärger")
            session.add(agent)
            session.flush()
            device = Device(
                agent_id=agent.agent_id,
                name="Porch",
                handle="porch",
                scopes=["events:write"],
                metadata_={"ä": [1, None]},
            )
            session.add(device)
            session.flush()
            moment = datetime(2026, 1, 2, 3, 4, 5, 678_000, tzinfo=UTC)
            session.add(Event(agent_id=agent.agent_id, device_id=device.device_id, type="door", happened_at=moment))
            session.add(Memory(agent_id=agent.agent_id, tier="semantic", content="eggs", embedding=[0.5] * 1536))
            session.add(OutboxMessage(topic="a/b", payload=b"\x00\xff"))
        with database.transaction() as session:
            found = session.exec(select(Device)).one()
            assert (found.scopes, found.metadata_, found.revoked_at) == (["events:write"], {"ä": [1, None]}, None)
            event = session.exec(select(Event)).one()
            assert (event.event_no, event.happened_at, event.payload) == (1, moment, {})
            assert list(session.exec(select(Memory)).one().embedding) == [0.5] * 1536
            assert session.exec(select(OutboxMessage)).one().payload == b"\x00\xff"


def end_connections(url):
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )


def notify(url, channel, payload):
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SELECT pg_notify(%s, %s)", [channel, payload])


class TestListener:
    def test_a_database_that_is_away_is_told_at_once(self):
        with pytest.raises(psycopg.OperationalError):
            Database("postgresql://nobody@127.0.0.1:1/none").listen("a")

    def test_no_channel_is_refused(self, database):
        with pytest.raises(ValueError, match="at least one channel"):
            database.listen()

    def test_it_hears_its_channels_and_no_others(self, database, database_url):
        with database.listen("first", 'odd "name"; --') as listener:
            assert listener.wait(0) == []
            for channel in ("first", "other", 'odd "name"; --'):
                notify(database_url, channel, f"to {channel}")
            heard = []
            while len(heard) < 2:
                heard += listener.wait(10)
            assert heard == [
                Notification("first", "to first"),
                Notification('odd "name"; --', 'to odd "name"; --'),
            ]
            assert not listener.reconnected

    def test_a_notification_wakes_it_at_once(self, database, database_url):
        with database.listen("bell") as listener:
            ringing = threading.Timer(0.2, notify, (database_url, "bell", ""))
            started = time.monotonic()
            ringing.start()
            assert listener.wait(30) == [Notification("bell", "")]
            assert time.monotonic() - started < 5
            ringing.join()

    def test_a_rolled_back_notification_is_not_heard(self, database):
        with database.listen("bell") as listener:
            with pytest.raises(DBAPIError), database.transaction() as session:
                session.execute(text("SELECT pg_notify('bell', ''), 1 / 0"))
            assert listener.wait(0.2) == []

    def test_a_lost_connection_is_made_again_and_said(self, database, database_url):
        with database.listen("bell") as listener:
            end_connections(database_url)
            assert listener.wait(10) == []
            assert listener.reconnected
            notify(database_url, "bell", "again")
            assert listener.wait(10) == [Notification("bell", "again")]
            assert not listener.reconnected

    def test_close_ends_a_wait_in_another_thread(self, database):
        listener = database.listen("bell")
        heard = []
        thread = threading.Thread(target=lambda: heard.append(listener.wait(60)))
        thread.start()
        listener.close()
        thread.join(10)
        assert heard == [[]]
        assert not listener.connected
        listener.close()
        assert listener.wait(60) == []


def test_a_restart_of_postgres_is_survived(tmp_path):
    server = EmbeddedPostgres(tmp_path / "instance", durable=False)
    try:
        url = server.start()
        database = Database(url)
        listener = database.listen("bell")
        with database.transaction() as session:
            session.execute(text("SELECT 1"))
        server.stop()
        assert listener.wait(0.2) == []
        assert not listener.reconnected
        assert not listener.connected
        with pytest.raises(OperationalError), database.transaction() as session:
            session.execute(text("SELECT 1"))
        assert server.start() == url
        assert listener.wait(30) == []
        assert listener.reconnected
        with database.transaction() as session:
            session.execute(text("SELECT pg_notify('bell', 'back')"))
        assert listener.wait(10) == [Notification("bell", "back")]
        listener.close()
        database.close()
    finally:
        server.destroy()
