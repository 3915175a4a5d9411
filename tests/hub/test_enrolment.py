"""Claim codes and what comes of them: closed doors first, races for one code, and a token that is fetched once."""

import base64
import hashlib
import threading
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text
from sqlmodel import Session, select

from hub import audit, brakes, claims, devices, enrolment, enrolment_decisions, enrolment_records, identity
from hub.access import credentials
from hub.claims import ClaimDraft
from hub.database import Database
from hub.enrolment import NO_CODE, NO_ENROLMENT, TOO_MANY, Refused, Standing, Statement
from hub.enrolment_decisions import Approval
from hub.errors import Conflict, HubError, Invalid, NotFound
from hub.tables import Agent, AgentMembership, Device, Space

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
ADDRESS = "192.0.2.9"
MAST = Statement("Weather mast", "ESP32-C3", "mast 1.4.0")


@pytest.fixture
def make_claim(session: Session, agent: Agent) -> Callable[..., claims.NewClaim]:
    def make(*, now: datetime = NOW, agent_id: uuid.UUID | None = None, user_id=None, **facts) -> claims.NewClaim:
        draft = ClaimDraft(**facts)
        return claims.create(session, agent_id or agent.agent_id, draft, by="ann", user_id=user_id, now=now)

    return make


@pytest.fixture
def ask(session: Session) -> Callable[..., Standing | Refused]:
    def ask(code: str, said: Statement = MAST, *, at: datetime = NOW, address: str = ADDRESS, **more):
        return enrolment.ask(session, code, said, address=address, now=at, **more)

    return ask


@pytest.fixture
def collect(session: Session) -> Callable[..., Standing | Refused]:
    def collect(standing: Standing, *, secret: str = "", at: datetime = NOW, address: str = ADDRESS):
        given = secret or standing.secret
        return enrolment.collect(session, standing.enrolment_id, given, address=address, now=at)

    return collect


@pytest.fixture
def approve(session: Session, agent: Agent) -> Callable[..., Device]:
    def approve(standing: Standing, *, at: datetime = NOW, **facts) -> Device:
        found = enrolment_decisions.approve(
            session, agent.agent_id, standing.enrolment_id, Approval(**facts), by="ann", now=at
        )
        session.flush()
        return found

    return approve


def elsewhere(session: Session) -> Agent:
    agent = Agent(name="Elsewhere")
    session.add(agent)
    session.flush()
    return agent


# --- closed doors -----------------------------------------------------------------------------------------------------


def test_a_code_that_does_not_work_is_refused_the_same_way_whatever_the_reason(session, agent, make_claim, ask):
    used, late, withdrawn = make_claim().code, make_claim(minutes=1).code, make_claim()
    claims.withdraw(session, agent.agent_id, withdrawn.claim.claim_id, by="ann", now=NOW)
    assert isinstance(ask(used), Standing)
    wrong = "0000-0000-0000-0000"
    for code, at in ((used, NOW), (withdrawn.code, NOW), (wrong, NOW), ("", NOW), (late, NOW + timedelta(minutes=1))):
        assert ask(code, at=at) == Refused(NO_CODE)
    assert len(enrolment_records.overview(session, agent.agent_id)) == 1


def test_a_code_dies_with_the_authority_of_its_maker(session, agent, make_claim, ask):
    user = identity.create_user(session, "ben@example.org", "", "three quiet satellites")
    membership = AgentMembership(agent_id=agent.agent_id, user_id=user.user_id, role="admin")
    session.add(membership)
    session.flush()
    codes = [make_claim(user_id=user.user_id).code for _ in range(2)]
    membership.role = "member"
    session.add(membership)
    session.flush()
    assert ask(codes[0]) == Refused(NO_CODE)
    membership.role = "admin"
    session.add(membership)
    session.flush()
    assert isinstance(ask(codes[0]), Standing)
    agent.disabled = True
    session.add(agent)
    session.flush()
    assert ask(codes[1]) == Refused(NO_CODE)


def test_the_secret_of_another_device_fetches_nothing(session, make_claim, ask, collect, approve):
    first, second = ask(make_claim().code), ask(make_claim().code)
    approve(first)
    for secret in (second.secret, "x", first.secret[:-1], "é" * 43):
        assert collect(first, secret=secret) == Refused(NO_ENROLMENT)
    nobody = Standing(uuid.uuid4(), "pending", "", NOW, secret=first.secret)
    assert collect(nobody) == Refused(NO_ENROLMENT)
    assert collect(first).token


def test_another_agents_codes_and_devices_are_not_there(session, agent, make_claim, ask, approve):
    other = elsewhere(session)
    space = Space(agent_id=other.agent_id, name="Cellar")
    session.add(space)
    session.flush()
    theirs = devices.add(session, other.agent_id, "Cellar", scopes=[], by="bob").device
    code = make_claim(agent_id=other.agent_id)
    asked = ask(code.code)
    for attempt in (
        lambda: claims.find(session, agent.agent_id, code.claim.claim_id),
        lambda: claims.withdraw(session, agent.agent_id, code.claim.claim_id, by="ann", now=NOW),
        lambda: approve(asked),
        lambda: enrolment_decisions.reject(session, agent.agent_id, asked.enrolment_id, by="ann", now=NOW),
        lambda: make_claim(space_id=space.space_id),
        lambda: make_claim(device_id=theirs.device_id),
    ):
        with pytest.raises(NotFound):
            attempt()
    mine = ask(make_claim().code)
    with pytest.raises(NotFound):
        approve(mine, space_id=space.space_id)
    assert enrolment_records.waiting(session, other.agent_id, NOW)[0].state == "pending"
    assert [one.enrolment_id for one in enrolment_records.waiting(session, agent.agent_id, NOW)] == [mine.enrolment_id]


@pytest.mark.parametrize(
    ("facts", "field"),
    [
        ({"minutes": 0}, "minutes"),
        ({"minutes": claims.MINUTES_MAX + 1}, "minutes"),
        ({"name": "x" * 81}, "name"),
        ({"name": "a\x07b"}, "name"),
        ({"handle": "Not One"}, "handle"),
        ({"scopes": ("everything",)}, "scopes"),
    ],
)
def test_a_code_that_breaks_a_rule_is_not_made(session, agent, make_claim, facts, field):
    with pytest.raises(Invalid) as error:
        make_claim(**facts)
    assert error.value.field == field
    assert claims.open_ones(session, agent.agent_id, NOW) == []


@pytest.mark.parametrize(
    ("said", "field"),
    [
        (Statement(name="x" * 81), "name"),
        (Statement(hardware="a\x1b[2J"), "hardware"),
        (Statement(firmware="x" * 121), "firmware"),
        (Statement(public_key="not a key"), "public_key"),
        (Statement(public_key="-----BEGIN PUBLIC KEY-----\n!!\n-----END PUBLIC KEY-----"), "public_key"),
    ],
)
def test_a_device_that_says_nonsense_does_not_use_its_code_up(make_claim, ask, said, field):
    code = make_claim().code
    with pytest.raises(Invalid) as error:
        ask(code, said)
    assert error.value.field == field
    assert isinstance(ask(code), Standing)


def test_open_codes_are_bounded(make_claim):
    for _ in range(claims.OPEN_MAX):
        make_claim()
    with pytest.raises(Conflict, match="50 open codes"):
        make_claim()
    make_claim(now=NOW + timedelta(minutes=claims.MINUTES))


def test_guessing_is_slowed_down_for_its_address_and_then_for_all(session, make_claim, ask):
    good = make_claim(minutes=60).code
    answers = [ask("0" * 16) for _ in range(brakes.FREE_CLAIMS_PER_ADDRESS + 1)]
    assert answers[-1].message == TOO_MANY
    assert ask(good).message == TOO_MANY
    # Another network is not held back by that one, and a declared loopback by none.
    assert ask("0" * 16, address="198.51.100.1").message == NO_CODE
    for n in range(brakes.CLAIMS_AT_ONCE):
        ask("0" * 16, address=f"203.0.{n // 200}.{n % 200}")
    refused = ask(good, address="198.51.100.2")
    assert refused.message == TOO_MANY
    assert 0 < refused.retry_after_s <= brakes.LONGEST_CLAIMS_S
    # However long it lasted, the door opens again at once.
    later = NOW + timedelta(seconds=brakes.LONGEST_CLAIMS_S)
    assert isinstance(ask(good, address="198.51.100.2", at=later), Standing)


def test_a_flood_is_forgotten_as_it_runs_off(session):
    for n in range(brakes.CLAIMS_AT_ONCE * 2):
        brakes.claim_failed(session, f"203.0.{n // 200}.{n % 200}", NOW)
    assert 0 < brakes.claims_wait_s(session, "", NOW) <= brakes.LONGEST_CLAIMS_S
    quiet = NOW + timedelta(minutes=2)
    assert brakes.claim_failed(session, "", quiet) == 0


# --- the way in -------------------------------------------------------------------------------------------------------


def test_from_the_code_to_the_token(session, agent, space, make_claim, ask, collect, approve):
    made = make_claim(name="Mast", space_id=space.space_id, scopes=("events:write",))
    assert len(made.code.replace("-", "")) * 5 >= 80
    asked = ask(made.code.lower().replace("-", " "))
    assert (asked.state, asked.token) == ("pending", "")
    assert collect(asked).state == "pending"
    waiting = enrolment_records.waiting(session, agent.agent_id, NOW)
    assert [(one.said_name, one.hardware, one.address, one.phrase, one.name) for one in waiting] == [
        ("Weather mast", "ESP32-C3", ADDRESS, asked.phrase, "Mast")
    ]
    device = approve(asked, space_id=space.space_id)
    assert (device.handle, device.scopes, device.needs_enrolment) == ("mast", ["events:write"], True)
    fetched = collect(asked)
    assert (fetched.state, fetched.handle) == ("approved", "mast")
    session.flush()
    assert isinstance(credentials.authenticate(session, "mast", fetched.token, NOW), credentials.Authenticated)
    assert not device.needs_enrolment
    with pytest.raises(Conflict, match="approved already by ann"):
        approve(asked)
    actions = [one.action for one in reversed(audit.entries(session, agent.agent_id))]
    assert actions == [
        "claim.made",
        "enrolment.asked",
        "device.added",
        "enrolment.approved",
        "device.enrolled",
        "enrolment.collected",
    ]


def test_nothing_that_could_be_read_is_kept(session, make_claim, ask, collect, approve):
    made = make_claim()
    asked = ask(made.code, retry_key="k" * 20)
    approve(asked)
    token = collect(asked).token
    session.flush()
    kept = ""
    for table in ("claim_codes", "enrolments", "credentials", "audit_entries", "feed_entries"):
        kept += "".join(session.execute(text(f"SELECT row_to_json(t)::text FROM {table} t")).scalars())
    for secret in (made.code, made.code.replace("-", ""), asked.secret, token, "k" * 20):
        assert secret not in kept


def test_a_token_whose_answer_was_lost_is_replaced_until_it_has_connected(session, make_claim, ask, collect, approve):
    asked = ask(make_claim().code)
    device = approve(asked)
    first = collect(asked)
    again = collect(asked, at=NOW + timedelta(minutes=9))
    session.flush()
    assert again.token not in ("", first.token)
    refused = credentials.authenticate(session, device.handle, first.token, NOW)
    assert isinstance(refused, credentials.Refused)
    session.execute(
        text("UPDATE device_presence SET last_heard_at = :at"), {"at": NOW + timedelta(minutes=9, seconds=1)}
    )
    third = collect(asked, at=NOW + timedelta(minutes=9, seconds=30))
    assert (third.state, third.token) == ("collected", "")
    session.flush()
    assert isinstance(credentials.authenticate(session, device.handle, again.token, NOW), credentials.Authenticated)


def test_it_is_replaced_for_ten_minutes_alone(make_claim, ask, collect, approve):
    asked = ask(make_claim().code)
    approve(asked)
    assert collect(asked).token
    assert collect(asked, at=NOW + timedelta(minutes=10, seconds=1)).state == "collected"


def test_a_session_that_the_broker_has_seen_counts_as_connected(session, make_claim, ask, collect, approve):
    asked = ask(make_claim().code)
    device = approve(asked)
    assert collect(asked).token
    session.execute(
        text(
            "INSERT INTO broker_sessions (username, connected, connected_at, reported_at)"
            " VALUES (:name, true, :at, :at)"
        ),
        {"name": device.handle, "at": NOW + timedelta(seconds=1)},
    )
    assert collect(asked, at=NOW + timedelta(seconds=2)).state == "collected"


def test_a_code_that_needs_nobodys_word_gives_the_token_at_once(session, agent, make_claim, ask, collect):
    made = make_claim(needs_approval=False)
    asked = ask(made.code)
    assert asked.state == "approved"
    assert asked.token.startswith("mv1.weather-mast.")
    view = enrolment_records.of_claim(session, agent.agent_id, made.claim.claim_id)
    assert (view.state, view.decided_by) == ("collected", "a claim code of ann")


def test_a_code_that_cannot_be_carried_out_stays_good(session, database_url, agent, make_claim, ask):
    made = make_claim(needs_approval=False, handle="mast")
    devices.add(session, agent.agent_id, "Mast", scopes=[], by="bob")
    with session.begin_nested() as before, pytest.raises(Conflict, match="mast is taken"):
        ask(made.code)
    assert not before.is_active or before.rollback() is None
    nameless = make_claim(needs_approval=False)
    with pytest.raises(Invalid) as error:
        ask(nameless.code, Statement())
    assert error.value.field == "name"


def test_asked_again_with_its_key_a_device_is_known_again(session, agent, make_claim, ask, collect, approve):
    made = make_claim()
    key = "0123456789abcdef"
    asked = ask(made.code, retry_key=key)
    again = ask(made.code, retry_key=key)
    assert (again.enrolment_id, again.phrase) == (asked.enrolment_id, asked.phrase)
    assert collect(asked) == Refused(NO_ENROLMENT)
    assert collect(again).state == "pending"
    assert ask(made.code, retry_key=key[::-1]) == Refused(NO_CODE)
    assert ask(made.code) == Refused(NO_CODE)
    with pytest.raises(Invalid):
        ask(make_claim().code, retry_key="short")
    at_once = make_claim(needs_approval=False)
    tokens = [ask(at_once.code, retry_key=key).token for _ in range(2)]
    assert len(set(tokens)) == 2
    session.flush()
    assert isinstance(credentials.authenticate(session, "weather-mast", tokens[1], NOW), credentials.Authenticated)
    late = NOW + enrolment.AGAIN_WITHIN + timedelta(seconds=1)
    assert ask(made.code, retry_key=key, at=late) == Refused(NO_CODE)


# --- decisions --------------------------------------------------------------------------------------------------------


def test_rejected_devices_are_told_why_and_stay_out(session, agent, make_claim, ask, collect, approve):
    asked = ask(make_claim().code)
    enrolment_decisions.reject(session, agent.agent_id, asked.enrolment_id, by="ann", now=NOW, reason="not ours")
    told = collect(asked)
    assert (told.state, told.reason, told.token) == ("rejected", "not ours", "")
    with pytest.raises(Conflict, match="rejected already by ann"):
        approve(asked)
    assert session.exec(select(Device)).all() == []


def test_what_nobody_decides_or_fetches_runs_out(session, agent, make_claim, ask, collect, approve):
    forgotten, unfetched = ask(make_claim().code), ask(make_claim().code)
    approve(unfetched)
    late = NOW + timedelta(days=1)
    assert collect(forgotten, at=late).state == collect(unfetched, at=late).state == "expired"
    with pytest.raises(Conflict, match="waited too long"):
        approve(forgotten, at=late)
    assert enrolment_decisions.expire(session, late - timedelta(seconds=1)) == 0
    assert enrolment_decisions.expire(session, late) == 2
    assert {one.state for one in enrolment_records.overview(session, agent.agent_id)} == {"expired"}
    assert enrolment_decisions.expire(session, late) == 0
    enrolment_decisions.forget(session, late)
    assert enrolment_records.overview(session, agent.agent_id) == []


def test_a_code_for_a_known_device_gives_it_a_new_token(session, make_device, make_claim, ask, collect, approve):
    porch = make_device("Porch")
    session.flush()
    session.execute(text("DELETE FROM credentials"))
    session.execute(text("UPDATE devices SET needs_enrolment = true"))
    session.refresh(porch)
    asked = ask(make_claim(device_id=porch.device_id).code)
    assert approve(asked, name="Hijacked", scopes=["*"]).name == "Porch"
    first = collect(asked).token
    assert first.startswith("mv1.porch.")
    # Later once more: the hardware was replaced.
    second = ask(make_claim(device_id=porch.device_id, needs_approval=False).code).token
    session.flush()
    assert isinstance(credentials.authenticate(session, "porch", first, NOW), credentials.Refused)
    assert isinstance(credentials.authenticate(session, "porch", second, NOW), credentials.Authenticated)


def test_a_revoked_device_gets_no_token_by_any_code(session, make_device, make_claim, ask, collect, approve):
    porch = make_device("Porch")
    early = ask(make_claim(device_id=porch.device_id).code)
    allowed = ask(make_claim().code)
    mast = approve(allowed)
    at_once = make_claim(device_id=porch.device_id, needs_approval=False)
    for device in (porch, mast):
        devices.revoke(session, device, by="ann")
    with pytest.raises(Conflict, match="revoked"):
        make_claim(device_id=porch.device_id)
    for attempt in (lambda: approve(early), lambda: collect(allowed), lambda: ask(at_once.code)):
        with pytest.raises(Conflict, match="revoked"):
            attempt()


def test_fingerprints_are_those_that_openssh_shows():
    raw = b"some key bytes"
    encoded = base64.b64encode(raw).decode()
    expected = "SHA256:" + base64.b64encode(hashlib.sha256(raw).digest()).decode().rstrip("=")
    pem = f"-----BEGIN PUBLIC KEY-----\n{encoded}\n-----END PUBLIC KEY-----\n"
    for given in (encoded, f"ssh-ed25519 {encoded} me@mast", pem):
        assert enrolment.fingerprint(given) == expected
    assert enrolment.fingerprint("  ") == ""


# --- races ------------------------------------------------------------------------------------------------------------


def _at_once(database: Database, works: list[Callable[[Session], object]]) -> list[object]:
    barrier = threading.Barrier(len(works))
    results: list[object] = [None] * len(works)

    def run(at: int) -> None:
        barrier.wait()
        try:
            with database.transaction() as session:
                results[at] = works[at](session)
        except HubError as error:
            results[at] = error

    threads = [threading.Thread(target=run, args=(at,)) for at in range(len(works))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    return results


def _committed_claim(database: Database) -> tuple[uuid.UUID, str]:
    with database.transaction() as session:
        agent = identity.ensure_first_agent(session)
        draft = ClaimDraft(minutes=60)
        now = datetime.now(UTC)
        return agent.agent_id, claims.create(session, agent.agent_id, draft, by="ann", user_id=None, now=now).code


def test_of_many_devices_that_race_for_one_code_exactly_one_gets_it(database):
    _, code = _committed_claim(database)
    now = datetime.now(UTC)

    def attempt(n: int) -> Callable[[Session], object]:
        return lambda session: enrolment.ask(session, code, MAST, address=f"192.0.2.{n}", now=now)

    results = _at_once(database, [attempt(n) for n in range(8)])
    assert sum(isinstance(one, Standing) for one in results) == 1
    assert [one for one in results if not isinstance(one, Standing)] == [Refused(NO_CODE)] * 7


def test_of_an_approval_and_a_rejection_at_once_one_counts(database):
    agent_id, code = _committed_claim(database)
    now = datetime.now(UTC)
    with database.transaction() as session:
        asked = enrolment.ask(session, code, MAST, address=ADDRESS, now=now)

    def approve(session: Session) -> str:
        enrolment_decisions.approve(session, agent_id, asked.enrolment_id, Approval(), by="ann", now=now)
        return "approved"

    def reject(session: Session) -> str:
        enrolment_decisions.reject(session, agent_id, asked.enrolment_id, by="ben", now=now)
        return "rejected"

    results = _at_once(database, [approve, reject])
    assert sum(isinstance(one, Conflict) for one in results) == 1
    with database.transaction() as session:
        view = enrolment_records.find(session, agent_id, asked.enrolment_id)
        assert [one for one in results if isinstance(one, str)] == [view.state]
        assert len(session.exec(select(Device)).all()) == (view.state == "approved")
