"""Secrets on their way to a broker: for the adapter alone, and gone once carried."""

import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from nacl.public import PrivateKey, SealedBox
from sqlalchemy import text
from sqlmodel import Session

from hub import devices, integrations
from hub.access import changes, credentials, projection
from hub.access.credentials import Authenticated, Refused
from hub.database import Database
from hub.tables import Agent, User, UserSession

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


@pytest.fixture
def agent(session: Session) -> Agent:
    agent = Agent(name="Home")
    session.add(agent)
    session.flush()
    return agent


def test_without_an_adapter_nothing_is_sealed(session: Session, agent: Agent) -> None:
    assert projection.state(session) is None
    devices.add(session, agent.agent_id, "Porch", scopes=[], by="tests")
    projection.publish_key(session, "embedded", None, NOW)
    integrations.add(session, agent.agent_id, "HA", by="tests")
    assert projection.pending(session) == []
    assert projection.is_carried(session, "porch")
    with pytest.raises(ValueError, match="32 bytes"):
        projection.publish_key(session, "mosquitto", b"short", NOW)


def test_every_secret_is_sealed_for_the_adapter_and_erased_once_carried(session: Session, agent: Agent) -> None:
    key = PrivateKey.generate()
    projection.publish_key(session, "mosquitto", bytes(key.public_key), NOW)
    tokens = {"porch": devices.add(session, agent.agent_id, "Porch", scopes=[], by="tests").token}
    tokens["ext_ha"] = integrations.add(session, agent.agent_id, "HA", by="tests").token
    user = User(email="ann@example.org")
    session.add(user)
    session.flush()
    signed_in = UserSession(user_id=user.user_id, token_hash="x", expires_at=NOW + timedelta(hours=1))
    session.add(signed_in)
    page, password, _ = credentials.issue_for_session(session, signed_in, NOW)
    tokens[page] = password
    credentials.set_hub_password(session, "the hub's own")
    tokens["hub_service"] = "the hub's own"

    waiting = projection.pending(session)
    assert {name: SealedBox(key).decrypt(sealed).decode() for _, name, _, sealed in waiting} == tokens
    assert {kind for _, _, kind, _ in waiting} == {"device", "integration", "browser", "hub"}
    assert not any(token.encode() in sealed for _, name, _, sealed in waiting for token in [tokens[name]])
    assert not projection.is_carried(session, "porch")
    # The same adapter, started again, still finds them; another one cannot open them and reads hashes.
    projection.publish_key(session, "mosquitto", bytes(key.public_key), NOW)
    assert len(projection.pending(session)) == 4
    devices.rotate(session, devices.by_handle(session, "porch"), by="tests")
    projection.carried(session, [one[0] for one in projection.pending(session) if one[1] != page])
    assert [name for _, name, _, _ in projection.pending(session)] == [page]
    assert projection.is_carried(session, "porch")
    assert session.execute(text("SELECT count(*) FROM credentials WHERE sealed IS NOT NULL")).scalar_one() == 1
    projection.publish_key(session, "mosquitto", bytes(PrivateKey.generate().public_key), NOW)
    assert projection.pending(session) == []
    projection.report(session, "mosquitto", {"drift": 0}, NOW + timedelta(seconds=9))
    state = projection.state(session)
    assert state is not None
    assert (state.kind, state.started_at, state.detail) == ("mosquitto", NOW, {"drift": 0})
    assert state.sealing_key is not None


def test_the_adapter_is_told_that_a_secret_waits(database: Database) -> None:
    with database.transaction() as session:
        agent = Agent(name="Home")
        session.add(agent)
        projection.publish_key(session, "mosquitto", bytes(PrivateKey.generate().public_key), NOW)
    with database.listen(changes.CHANNEL) as listener:
        with database.transaction() as session:
            devices.add(session, agent.agent_id, "Porch", scopes=[], by="tests")
        (notice,) = listener.wait(5)
    assert changes.read(notice.payload) == changes.Change("porch", "changed", "a new credential")


def test_an_adapter_that_starts_and_a_rotation_do_not_wait_for_each_other(database: Database) -> None:
    keys = [bytes(PrivateKey.generate().public_key) for _ in range(2)]
    with database.transaction() as session:
        agent = Agent(name="Home")
        session.add(agent)
        session.flush()
        # From long ago: nobody waits for what it has not carried.
        projection.publish_key(session, "mosquitto", keys[0], NOW - timedelta(days=900))
        devices.add(session, agent.agent_id, "Porch", scopes=[], by="tests")

    def start() -> None:
        with database.transaction() as session:
            projection.publish_key(session, "mosquitto", keys[1], NOW - timedelta(days=900))

    def is_waiting() -> bool:
        with database.engine.connect() as connection:
            found = connection.execute(
                text(
                    "SELECT count(*) FROM pg_locks l JOIN pg_stat_activity USING (pid)"
                    " WHERE NOT granted AND datname = current_database()"
                )
            )
            return bool(found.scalar_one())

    with ThreadPoolExecutor(1) as threads:
        with database.transaction() as session:
            held = text("UPDATE credentials SET replaced_at = now() WHERE username = 'porch'")
            session.execute(held)
            starting = threads.submit(start)
            deadline = time.monotonic() + 10
            while not is_waiting():
                assert time.monotonic() < deadline
            assert projection.sealing_key(session) == keys[0]
        starting.result(10)
    with database.transaction() as session:
        assert projection.sealing_key(session) == keys[1]
        assert session.execute(text("SELECT count(*) FROM credentials WHERE sealed IS NOT NULL")).scalar_one() == 0


def test_an_integrations_secret_counts_until_it_is_replaced_or_revoked(session: Session, agent: Agent) -> None:
    new = integrations.add(session, agent.agent_id, "HA", by="tests")
    assert credentials.authenticate(session, "ha", new.token, NOW) == Refused("wrong username or password", 4)
    came_in = credentials.authenticate(session, "ext_ha", new.token, NOW)
    assert isinstance(came_in, Authenticated)
    assert (came_in.kind, came_in.integration_id) == ("integration", new.integration.integration_id)
    assert new.token.startswith("mv1.ext_ha.")
    gone = uuid.uuid4()
    assert credentials.recheck_many(session, [came_in.credential_id, gone], NOW) == {
        came_in.credential_id: came_in,
        gone: credentials.recheck(session, gone, NOW),
    }
    integrations.revoke(session, agent.agent_id, new.integration.integration_id, by="ann", reason="sold")
    refused = credentials.recheck(session, came_in.credential_id, NOW)
    assert isinstance(refused, Refused)
    assert "this integration was revoked" in refused.reason
    assert refused.reason.endswith("by ann: sold")
    rounds, salt, digest = credentials.hash_parts(credentials.hash_secret("secret"))
    assert (rounds, len(salt), len(digest)) == (101, 16, 88)
    with pytest.raises(ValueError, match="form"):
        credentials.hash_parts("md5$1$a$b")
