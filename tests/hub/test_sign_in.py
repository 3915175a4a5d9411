"""Signing in: guessing is slowed, links work once, sessions end when they should."""

import threading
import time
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text
from sqlmodel import Session, select

from hub import brakes, identity, passwords, sign_in
from hub.access import changes, credentials
from hub.database import Database
from hub.errors import Conflict, Invalid, NotFound, Throttled
from hub.sign_in import SignedIn, SignInRefused
from hub.tables import AgentMembership, Credential, OneTimeLink, SignInBrake, User, UserSession

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
EMAIL = "ann@example.org"
PASSWORD = "three quiet satellites"
ADDRESS = "192.0.2.7"


def make_user(session: Session, email: str = EMAIL) -> User:
    return identity.create_user(session, email, "Ann", PASSWORD)


def attempt(
    session: Session, password: str = "wrong password", now: datetime = NOW, email: str = EMAIL, address: str = ADDRESS
) -> SignedIn | SignInRefused:
    return sign_in.sign_in(session, email, password, address, "Firefox", now)


def enter(session: Session, now: datetime = NOW) -> str:
    answer = attempt(session, PASSWORD, now)
    assert isinstance(answer, SignedIn)
    return answer.token


class TestPasswords:
    def test_wrong_and_unknown_and_disabled_get_the_same_words(self, session: Session) -> None:
        make_user(session)
        gone = make_user(session, "bob@example.org")
        gone.disabled = True
        identity.create_user(session, "cleo@example.org")
        session.flush()
        answers = [
            attempt(session),
            attempt(session, email="nobody@example.org"),
            attempt(session, PASSWORD, email="bob@example.org"),
            attempt(session, "", email="cleo@example.org"),
            attempt(session, "x" * 5000),
        ]
        assert {answer.message for answer in answers if isinstance(answer, SignInRefused)} == {
            "The e-mail address or the password is wrong."
        }
        assert len(answers) == 5

    def test_an_unknown_account_costs_the_same_work(self, session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
        make_user(session)
        hashed: list[str] = []
        right = passwords._hasher.verify_and_update

        def spy(password: str, stored: str) -> tuple[bool, str | None]:
            hashed.append(stored)
            return right(password, stored)

        monkeypatch.setattr(passwords._hasher, "verify_and_update", spy)
        attempt(session)
        attempt(session, email="nobody@example.org")
        assert len(hashed) == 2
        assert hashed[0].rsplit("$", 2)[0] == hashed[1].rsplit("$", 2)[0]

    def test_the_right_one_opens_whatever_the_case_of_the_address(self, session: Session) -> None:
        user = make_user(session)
        answer = attempt(session, PASSWORD, email=" ANN@Example.org ")
        assert isinstance(answer, SignedIn)
        assert answer.user == user
        assert user.last_seen == NOW

    def test_hostile_addresses_are_just_wrong(self, session: Session) -> None:
        for email in ("", "\0", "x" * 10_000, "a\0b@example.org", "' OR 1=1 --", "\ud800"[:0] + "ü" * 300):
            assert isinstance(attempt(session, email=email), SignInRefused)


class TestBrake:
    def test_the_wait_doubles_up_to_a_quarter_of_an_hour(self) -> None:
        waits = [brakes.delay_s(failures, 5) for failures in range(1, 18)]
        assert waits == [0, 0, 0, 0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900, 900]

    def test_while_braked_even_the_right_password_waits(self, session: Session) -> None:
        make_user(session)
        for _ in range(5):
            attempt(session)
        held = attempt(session, PASSWORD)
        assert isinstance(held, SignInRefused)
        assert held.retry_after_s == pytest.approx(1)
        assert "Too many attempts" in held.message
        assert isinstance(attempt(session, PASSWORD, NOW + timedelta(seconds=1.1)), SignedIn)

    def test_success_forgets_the_account_and_not_the_address(self, session: Session) -> None:
        make_user(session)
        for _ in range(3):
            attempt(session)
        enter(session)
        kept = {brake.key: brake.failures for brake in session.exec(select(SignInBrake))}
        assert kept == {f"address:{ADDRESS}": 3}

    def test_one_address_trying_many_accounts_is_slowed(self, session: Session) -> None:
        for number in range(brakes.FREE_PER_ADDRESS):
            attempt(session, email=f"user{number}@example.org")
        held = attempt(session, email="fresh@example.org")
        assert isinstance(held, SignInRefused)
        assert held.retry_after_s > 0

    def test_a_day_later_the_count_starts_anew(self, session: Session) -> None:
        for _ in range(4):
            attempt(session)
        attempt(session, now=NOW + timedelta(days=1, seconds=1))
        assert session.get_one(SignInBrake, f"account:{EMAIL}").failures == 1

    def test_a_password_that_is_reset_while_it_is_checked_opens_nothing(
        self, database: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with database.transaction() as session:
            user_id = make_user(session).user_id
        right = passwords.verify

        def reset_meanwhile(password: str, stored: str | None) -> tuple[bool, str | None]:
            answer = right(password, stored)
            with database.transaction() as session:
                user = session.get_one(User, user_id)
                link = sign_in.invite_link(session, user, NOW)
                sign_in.redeem(session, link, email=EMAIL, display_name="", password="nine loud rockets", now=NOW)
            return answer

        monkeypatch.setattr(passwords, "verify", reset_meanwhile)
        with database.transaction() as session:
            assert isinstance(attempt(session, PASSWORD), SignInRefused)
        with database.transaction() as session:
            assert session.exec(select(UserSession)).all() == []

    def test_those_who_find_no_place_are_sent_away_at_once(self, session: Session) -> None:
        make_user(session)
        taken = 0
        while passwords._places.acquire(blocking=False):
            taken += 1
        try:
            with pytest.raises(Throttled):
                attempt(session, PASSWORD)
        finally:
            passwords._places.release(taken)
        assert isinstance(attempt(session, PASSWORD), SignedIn)

    def test_many_at_once_do_not_share_one_count(self, database: Database) -> None:
        with database.transaction() as session:
            make_user(session)
        answers: list[SignedIn | SignInRefused] = []
        gate = threading.Barrier(8)

        def guess() -> None:
            gate.wait()
            with database.transaction() as session:
                answers.append(attempt(session))

        threads = [threading.Thread(target=guess) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        with database.transaction() as session:
            counted = session.get_one(SignInBrake, f"account:{EMAIL}").failures
        looked_at = [a for a in answers if isinstance(a, SignInRefused) and a.message.startswith("The e-mail")]
        assert len(answers) == 8
        assert len(looked_at) == counted <= 5

    @pytest.mark.parametrize(
        ("address", "key"),
        [
            ("192.0.2.7", "address:192.0.2.7"),
            ("::ffff:192.0.2.7", "address:192.0.2.7"),
            ("2001:db8:1:2:3:4:5:6", "address:2001:db8:1:2::/64"),
            ("127.0.0.1", None),
            ("::1", None),
            ("testclient", None),
            ("", None),
        ],
    )
    def test_addresses_are_counted_by_who_can_change_them(self, address: str, key: str | None) -> None:
        assert brakes.address_key(address) == key


class TestSessions:
    def test_only_a_hash_is_stored(self, session: Session) -> None:
        make_user(session)
        token = enter(session)
        row = session.exec(select(UserSession)).one()
        assert len(token) == 43
        assert token not in repr(row)
        assert row.token_hash != token

    @pytest.mark.parametrize("token", ["", "nonsense", "x" * 10_000, "\0", "ü"])
    def test_what_is_no_token_is_nobody(self, session: Session, token: str) -> None:
        assert sign_in.resume(session, token, NOW) is None

    def test_thirty_idle_days_end_it_and_use_prolongs_it(self, session: Session) -> None:
        make_user(session)
        token = enter(session)
        later = NOW + timedelta(days=29)
        visitor = sign_in.resume(session, token, later)
        assert visitor is not None
        assert visitor.renewed
        assert visitor.expires_at == later + timedelta(days=30)
        assert sign_in.resume(session, token, later + timedelta(days=30)) is None

    def test_it_is_noted_at_most_once_a_minute(self, session: Session) -> None:
        make_user(session)
        token = enter(session)
        soon = sign_in.resume(session, token, NOW + timedelta(seconds=59))
        assert soon is not None
        assert not soon.renewed
        assert session.exec(select(UserSession.last_seen_at)).one() == NOW
        sign_in.resume(session, token, NOW + timedelta(seconds=60))
        assert session.exec(select(UserSession.last_seen_at)).one() == NOW + timedelta(seconds=60)
        assert session.exec(select(User.last_seen)).one() == NOW + timedelta(seconds=60)

    def test_a_disabled_user_is_out_at_once(self, session: Session) -> None:
        user = make_user(session)
        token = enter(session)
        user.disabled = True
        session.flush()
        assert sign_in.resume(session, token, NOW) is None

    def test_signing_out_ends_the_live_connections_too(self, database: Database) -> None:
        with database.transaction() as session:
            make_user(session)
            token = enter(session)
            visitor = sign_in.resume(session, token, NOW)
            assert visitor is not None
            username, _, _ = credentials.issue_for_session(session, visitor, NOW)
        with database.listen(changes.CHANNEL) as listener:
            with database.transaction() as session:
                sign_in.sign_out(session, visitor.session_id)
            told = [changes.read(notification.payload) for notification in listener.wait(5)]
        assert [(change.username, change.kind) for change in told if change] == [(username, "ended")]
        with database.transaction() as session:
            assert sign_in.resume(session, token, NOW) is None
            assert session.exec(select(Credential)).all() == []

    def test_a_page_that_goes_live_while_one_signs_out_is_told(self, database: Database) -> None:
        with database.transaction() as session:
            make_user(session)
            enter(session)
            user_session = session.exec(select(UserSession)).one()

        def leave() -> None:
            with database.transaction() as session:
                sign_in.sign_out(session, user_session.session_id)

        leaving = threading.Thread(target=leave)
        with database.listen(changes.CHANNEL) as listener:
            with database.transaction() as session:
                username, _, _ = credentials.issue_for_session(session, user_session, NOW)
                leaving.start()
                waiting = text("SELECT count(*) FROM pg_locks WHERE NOT granted")
                while not session.execute(waiting).scalar_one():
                    time.sleep(0.01)
            leaving.join()
            told = [changes.read(notification.payload) for notification in listener.wait(5)]
        assert [(change.username, change.kind) for change in told if change] == [(username, "ended")]

    def test_nobody_ends_anothers_session(self, session: Session) -> None:
        make_user(session)
        bob = make_user(session, "bob@example.org")
        enter(session)
        theirs = session.exec(select(UserSession)).one()
        with pytest.raises(NotFound):
            sign_in.end_session(session, bob.user_id, theirs.session_id)
        assert len(sign_in.sessions_of(session, theirs.user_id, NOW)) == 1

    def test_a_new_password_ends_all_other_sessions(self, session: Session) -> None:
        make_user(session)
        other, mine = enter(session), enter(session)
        visitor = sign_in.resume(session, mine, NOW)
        assert visitor is not None
        new = "another four quiet words"
        refused = sign_in.change_password(session, visitor, current="wrong", new=new, address=ADDRESS, now=NOW)
        assert isinstance(refused, SignInRefused)
        assert sign_in.resume(session, other, NOW) is not None
        done = sign_in.change_password(session, visitor, current=PASSWORD, new=new, address=ADDRESS, now=NOW)
        assert done is None
        assert sign_in.resume(session, other, NOW) is None
        assert sign_in.resume(session, mine, NOW) is not None
        assert isinstance(attempt(session, PASSWORD), SignInRefused)
        assert isinstance(attempt(session, new), SignedIn)


def set_up(session: Session, token: str, now: datetime = NOW, email: str = EMAIL, password: str = PASSWORD) -> User:
    return sign_in.redeem(session, token, email=email, display_name="Ann", password=password, now=now)


class TestLinks:
    def test_wrong_old_replaced_and_used_links_do_nothing(self, session: Session) -> None:
        first = sign_in.setup_link(session, NOW)
        second = sign_in.setup_link(session, NOW)
        assert first is not None
        assert second is not None
        for token, now in (("nonsense", NOW), ("", NOW), (first, NOW), (second, NOW + timedelta(hours=24))):
            assert sign_in.peek_link(session, token, now) is None
            with pytest.raises(NotFound):
                set_up(session, token, now)
        set_up(session, second)
        with pytest.raises(NotFound):
            set_up(session, second, email="eve@example.org")

    def test_looking_does_not_use_it_up(self, session: Session) -> None:
        token = sign_in.setup_link(session, NOW)
        assert token is not None
        for _ in range(3):
            view = sign_in.peek_link(session, token, NOW)
            assert view is not None
            assert view.purpose == "setup"
        assert token not in {link.token_hash for link in session.exec(select(OneTimeLink))}

    def test_set_up_makes_the_owner_of_the_first_agent(self, session: Session) -> None:
        token = sign_in.setup_link(session, NOW)
        assert token is not None
        user = set_up(session, token)
        [(agent, role)] = identity.memberships_of(session, user.user_id)
        assert (agent.name, role) == ("Home", "owner")
        assert sign_in.setup_link(session, NOW) is None

    def test_what_is_typed_wrong_leaves_the_link_good(self, database: Database) -> None:
        with database.transaction() as session:
            token = sign_in.setup_link(session, NOW)
        assert token is not None
        for email, password in (("nonsense", PASSWORD), (EMAIL, "short")):
            with pytest.raises(Invalid), database.transaction() as session:
                set_up(session, token, email=email, password=password)
        with database.transaction() as session:
            assert set_up(session, token).email == EMAIL

    def test_of_many_at_once_one_wins(self, database: Database) -> None:
        with database.transaction() as session:
            token = sign_in.setup_link(session, NOW)
        assert token is not None
        outcomes: list[str] = []
        gate = threading.Barrier(5)

        def race(number: int) -> None:
            gate.wait()
            try:
                with database.transaction() as session:
                    set_up(session, token, email=f"user{number}@example.org")
                outcomes.append("owner")
            except (NotFound, Conflict):
                outcomes.append("refused")

        threads = [threading.Thread(target=race, args=(number,)) for number in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(outcomes) == ["owner"] + ["refused"] * 4
        with database.transaction() as session:
            assert len(session.exec(select(User)).all()) == 1
            assert len(session.exec(select(AgentMembership)).all()) == 1

    def test_an_owner_of_an_earlier_system_makes_room_and_stays_admin(self, session: Session) -> None:
        agent = identity.ensure_first_agent(session)
        old = User(email="old@example.org", cognito_sub="sub-1")
        session.add(old)
        session.flush()
        session.add(AgentMembership(agent_id=agent.agent_id, user_id=old.user_id, role="owner"))
        session.flush()
        token = sign_in.setup_link(session, NOW)
        assert token is not None
        new = set_up(session, token)
        assert identity.role_in(session, new.user_id, agent.agent_id) == "owner"
        session.expire_all()
        assert identity.role_in(session, old.user_id, agent.agent_id) == "admin"

    def test_an_owner_of_an_earlier_system_may_be_the_one_who_sets_up(self, session: Session) -> None:
        agent = identity.ensure_first_agent(session)
        old = User(email="Ann@Example.org", cognito_sub="sub-1")
        session.add(old)
        session.flush()
        session.add(AgentMembership(agent_id=agent.agent_id, user_id=old.user_id, role="owner"))
        session.flush()
        token = sign_in.setup_link(session, NOW)
        assert token is not None
        assert set_up(session, token).user_id == old.user_id

    def test_an_invitation_gives_the_first_password_and_a_reset_a_new_one(self, session: Session) -> None:
        user = identity.create_user(session, EMAIL)
        token = sign_in.invite_link(session, user, NOW)
        view = sign_in.peek_link(session, token, NOW)
        assert view is not None
        assert (view.purpose, view.email) == ("invite", EMAIL)
        set_up(session, token, email="eve@example.org")
        assert user.email == EMAIL
        browser = enter(session)

        reset = sign_in.invite_link(session, user, NOW)
        view = sign_in.peek_link(session, reset, NOW)
        assert view is not None
        assert view.purpose == "reset"
        set_up(session, reset, password="another four quiet words")
        assert sign_in.resume(session, browser, NOW) is None

    def test_a_disabled_users_link_does_nothing(self, session: Session) -> None:
        user = identity.create_user(session, EMAIL)
        token = sign_in.invite_link(session, user, NOW)
        user.disabled = True
        session.flush()
        assert sign_in.peek_link(session, token, NOW) is None
