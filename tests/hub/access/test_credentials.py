"""Secrets against the real schema: what is refused, with which code and in which words."""

import base64
import hashlib
import re
import time
import uuid
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text
from sqlmodel import Session

from hub import audit
from hub.access import credentials, decide, principals
from hub.access.credentials import Authenticated, Refused
from hub.errors import NotFound
from hub.tables import Agent, Device, User, UserSession

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
ROOT = "marvain/v1"


@pytest.fixture
def agent(session: Session) -> Agent:
    agent = Agent(name="Home")
    session.add(agent)
    session.flush()
    return agent


@pytest.fixture
def device(session: Session, agent: Agent) -> Device:
    device = Device(agent_id=agent.agent_id, name="Lamp", handle="lamp", scopes=["events:write"], needs_enrolment=True)
    session.add(device)
    session.flush()
    return device


@pytest.fixture
def signed_in(session: Session, agent: Agent) -> UserSession:
    user = User(email="ann@example.org")
    session.add(user)
    session.flush()
    session.execute(
        text("INSERT INTO agent_memberships (agent_id, user_id, role) VALUES (:a, :u, 'member')"),
        {"a": agent.agent_id, "u": user.user_id},
    )
    signed_in = UserSession(user_id=user.user_id, token_hash="x", expires_at=NOW + timedelta(hours=1))
    session.add(signed_in)
    session.flush()
    return signed_in


@pytest.mark.parametrize(
    "stored", ["", "x", "$$$", "pbkdf2-sha512$101$!$!", "pbkdf2-sha512$0$AAAA$AAAA", "md5$101$AAAA$AAAA", "a$b$c$d$e"]
)
def test_a_broken_hash_verifies_nothing(stored: str) -> None:
    assert not credentials.verify_secret("secret", stored)


def test_a_hash_has_the_form_of_mosquittos_plugin() -> None:
    stored = credentials.hash_secret("secret")
    form, rounds, salt, digest = stored.split("$")
    assert (form, rounds, len(base64.b64decode(salt))) == ("pbkdf2-sha512", "101", 12)
    assert base64.b64decode(digest) == hashlib.pbkdf2_hmac("sha512", b"secret", base64.b64decode(salt), 101)
    assert credentials.verify_secret("secret", stored)
    assert not credentials.verify_secret("Secret", stored)
    assert not credentials.verify_secret("x" * 100_000, stored)
    assert stored != credentials.hash_secret("secret")


def test_a_token_names_its_device() -> None:
    token = credentials.new_token("lamp")
    assert re.fullmatch(r"mv1\.lamp\.[A-Za-z0-9_-]{43}", token)
    assert token != credentials.new_token("lamp")


@pytest.mark.parametrize("username", ["nobody", "", "a\0b", "x" * 70_000, "hub_service", "ui_1", "\u00e9"])
@pytest.mark.parametrize("password", ["", "wrong", "x" * 70_000])
def test_unknown_names_are_refused_with_code_4(session: Session, username: str, password: str) -> None:
    assert credentials.authenticate(session, username, password, NOW) == Refused("wrong username or password", 4)


def test_a_device_comes_in_with_its_token_alone(session: Session, device: Device) -> None:
    token = credentials.issue_for_device(session, device)
    assert not device.needs_enrolment
    came_in = credentials.authenticate(session, "lamp", token, NOW)
    assert isinstance(came_in, Authenticated)
    assert (came_in.kind, came_in.device_id) == ("device", device.device_id)
    for name, secret in (("lamp", token[:-1]), ("lamp", ""), ("Lamp", token), ("lamp ", token)):
        assert credentials.authenticate(session, name, secret, NOW) == Refused("wrong username or password", 4)
    assert token not in str(session.execute(text("SELECT hash FROM credentials")).scalar())


def test_a_replaced_token_says_when_it_was_replaced(session: Session, device: Device) -> None:
    tokens = [credentials.issue_for_device(session, device) for _ in range(3)]
    for token in tokens[:2]:
        refused = credentials.authenticate(session, "lamp", token, NOW)
        assert isinstance(refused, Refused)
        assert refused.code == 5
        assert re.match(r"this token was replaced on \d{4}-\d\d-\d\d \d\d:\d\d UTC", refused.reason)
    assert isinstance(credentials.authenticate(session, "lamp", tokens[2], NOW), Authenticated)


def test_a_revoked_device_is_told_by_whom_and_why(session: Session, device: Device) -> None:
    token = credentials.issue_for_device(session, device)
    came_in = credentials.authenticate(session, "lamp", token, NOW)
    assert isinstance(came_in, Authenticated)
    device.revoked_at, device.revoked_by, device.revoked_reason = NOW, "ann@example.org", "stolen"
    session.flush()
    expected = Refused("this device was revoked on 2026-11-22 12:00 UTC by ann@example.org: stolen", 5)
    assert credentials.authenticate(session, "lamp", token, NOW) == expected
    assert credentials.recheck(session, came_in.credential_id, NOW) == expected
    # Who does not know the secret learns nothing.
    assert credentials.authenticate(session, "lamp", "guess", NOW) == Refused("wrong username or password", 4)
    assert principals.load(session, "lamp", ROOT) is None


def test_a_disabled_agents_devices_stay_outside(session: Session, agent: Agent, device: Device) -> None:
    token = credentials.issue_for_device(session, device)
    came_in = credentials.authenticate(session, "lamp", token, NOW)
    assert isinstance(came_in, Authenticated)
    agent.disabled = True
    session.flush()
    # A session that is open is over; who connects is told to try again later.
    assert credentials.recheck(session, came_in.credential_id, NOW) == Refused("the agent Home is disabled", 5)
    assert credentials.authenticate(session, "lamp", token, NOW) == Refused("the agent Home is disabled", 3)
    assert principals.load(session, "lamp", ROOT) is None


def test_a_browsers_credential_lives_for_minutes_and_never_longer_than_its_session(
    session: Session, signed_in: UserSession
) -> None:
    username, password, expires_at = credentials.issue_for_session(session, signed_in, NOW)
    assert re.fullmatch(r"ui_[0-9a-f]{32}", username)
    assert expires_at == NOW + timedelta(minutes=10)
    assert isinstance(credentials.authenticate(session, username, password, NOW), Authenticated)
    later = NOW + timedelta(minutes=9)
    assert credentials.renew(session, username, signed_in.session_id, later) == NOW + timedelta(minutes=19)
    almost = NOW + timedelta(minutes=55)
    refused = credentials.authenticate(session, username, password, almost)
    assert isinstance(refused, Refused)
    assert (refused.code, "ran out" in refused.reason) == (5, True)
    with pytest.raises(NotFound):
        credentials.renew(session, username, signed_in.session_id, almost)
    username, password, last = credentials.issue_for_session(session, signed_in, almost)
    assert last == signed_in.expires_at
    over = credentials.authenticate(session, username, password, NOW + timedelta(hours=2))
    assert over == Refused("the session has ended; sign in again", 5)


def test_a_credential_is_renewed_by_its_own_session_alone(session: Session, signed_in: UserSession) -> None:
    username, _, _ = credentials.issue_for_session(session, signed_in, NOW)
    with pytest.raises(NotFound):
        credentials.renew(session, username, uuid.uuid4(), NOW)
    with pytest.raises(NotFound):
        credentials.renew(session, "ui_unknown", signed_in.session_id, NOW)


def test_a_browser_may_see_the_agents_of_its_user(session: Session, agent: Agent, signed_in: UserSession) -> None:
    username, _, expires_at = credentials.issue_for_session(session, signed_in, NOW)
    other = Agent(name="Other")
    session.add(other)
    session.flush()
    principal = principals.load(session, username, ROOT, NOW)
    assert principal is not None
    assert (principal.kind, principal.agent_ids, principal.expires_at) == ("browser", (agent.agent_id,), expires_at)
    assert {(grant.action, grant.filter) for grant in principal.grants} == {
        ("subscribe", f"{ROOT}/ui/{agent.agent_id}/#"),
        ("subscribe", f"{ROOT}/hub/status"),
    }


def test_a_guests_pages_hear_all_but_samples(session: Session, agent: Agent, signed_in: UserSession) -> None:
    session.execute(text("UPDATE agent_memberships SET role = 'guest'"))
    username, _, _ = credentials.issue_for_session(session, signed_in, NOW)
    principal = principals.load(session, username, ROOT, NOW)
    assert principal is not None
    feed = f"{ROOT}/ui/{agent.agent_id}"
    assert all(decide.subscribe(principal, f"{feed}/{one}") for one in ("presence", "devices", "events", "commands"))
    assert not any(decide.subscribe(principal, f"{feed}/{one}") for one in ("telemetry", "+", "#"))


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE agent_memberships SET role = 'blocked'",
        "UPDATE agent_memberships SET revoked_at = now()",
        "UPDATE agents SET disabled = true",
        "DELETE FROM agent_memberships",
    ],
)
def test_a_browser_without_a_membership_sees_no_feed(session: Session, signed_in: UserSession, change: str) -> None:
    username, _, _ = credentials.issue_for_session(session, signed_in, NOW)
    session.execute(text(change))
    principal = principals.load(session, username, ROOT, NOW)
    assert principal is not None
    assert [grant.filter for grant in principal.grants] == [f"{ROOT}/hub/status"]


@pytest.mark.parametrize("change", ["UPDATE users SET disabled = true", "DELETE FROM user_sessions"])
def test_a_browser_without_a_session_is_nobody(session: Session, signed_in: UserSession, change: str) -> None:
    username, password, _ = credentials.issue_for_session(session, signed_in, NOW)
    session.execute(text(change))
    assert principals.load(session, username, ROOT, NOW) is None
    assert isinstance(credentials.authenticate(session, username, password, NOW), Refused)


def test_the_hubs_password_is_set_once_and_changed_when_it_changes(session: Session) -> None:
    assert principals.load(session, "hub_service", ROOT) is None
    assert credentials.set_hub_password(session, "one")
    assert not credentials.set_hub_password(session, "one")
    assert isinstance(credentials.authenticate(session, "hub_service", "one", NOW), Authenticated)
    assert credentials.set_hub_password(session, "two")
    refused = credentials.authenticate(session, "hub_service", "one", NOW)
    assert isinstance(refused, Refused)
    assert refused.code == 5
    assert principals.load(session, "hub_service", ROOT) is not None
    told = [(one.action, one.subject, one.after) for one in audit.entries(session, None)]
    assert told == [("hub.rotated", "hub_service", None), ("hub.added", "hub_service", None)]


def test_a_credential_that_is_gone_is_refused_at_review(session: Session) -> None:
    refused = credentials.recheck(session, uuid.uuid4(), NOW)
    assert isinstance(refused, Refused)
    assert refused.code == 5


def test_an_unknown_name_costs_as_much_as_a_known_one(session: Session, device: Device) -> None:
    credentials.issue_for_device(session, device)

    def cost(username: str) -> float:
        best = float("inf")
        for _ in range(15):
            started = time.perf_counter()
            credentials.authenticate(session, username, "wrong", NOW)
            best = min(best, time.perf_counter() - started)
        return best

    known, unknown = cost("lamp"), cost("nobody")
    assert 0.5 < known / unknown < 2
