"""The chain: whatever is done to it behind its back is found, and many who write at once leave one chain."""

import contextlib
import hashlib
import threading
import uuid

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from hub import audit
from hub.audit import HUB_CHAIN, Anchor
from hub.audit.actors import Actor, kind_of
from hub.database import Database
from hub.tables import Agent


@pytest.fixture
def home(database: Database) -> uuid.UUID:
    with database.transaction() as session:
        agent = Agent(name="Home")
        session.add(agent)
        session.flush()
        return agent.agent_id


@pytest.fixture
def write(database: Database):
    def write(chain: uuid.UUID | None, count: int = 1, **facts) -> None:
        with database.transaction() as session:
            for n in range(count):
                after = {"n": n, "price": 1.10, "big": 10**20, "text": "ä\n\"'"}
                audit.record(
                    session, chain, by="ann@example.org", action="role.edited", subject="x", after=after, **facts
                )

    return write


@pytest.fixture
def tamper(database: Database):
    """Do what the trigger forbids, as somebody with all rights would."""

    def tamper(*statements: str, **values) -> None:
        with database.engine.begin() as connection:
            for table in ("audit_entries", "audit_chains"):
                connection.execute(text(f"ALTER TABLE {table} DISABLE TRIGGER USER"))
            for statement in statements:
                connection.execute(text(statement), values)
            for table in ("audit_entries", "audit_chains"):
                connection.execute(text(f"ALTER TABLE {table} ENABLE TRIGGER USER"))

    return tamper


def faults(database: Database, chain: uuid.UUID | None = None, anchors=()) -> list[str]:
    with database.transaction() as session:
        return [
            f"{fault.seq}: {fault.words}"
            for report in audit.verify(session, chain, anchors=anchors)
            for fault in report.faults
        ]


def test_an_entry_cannot_be_altered_or_removed(database, home, write) -> None:
    write(home, 2)
    for statement in (
        "UPDATE audit_entries SET actor = 'eve'",
        "UPDATE audit_entries SET seq = 9 WHERE seq = 1",
        "DELETE FROM audit_entries",
        "TRUNCATE audit_entries",
    ):
        with pytest.raises(DBAPIError, match="never altered or removed"), database.engine.begin() as connection:
            connection.execute(text(statement))
    assert faults(database) == []


def test_the_head_of_a_chain_never_goes_back(database, home, write) -> None:
    write(home, 2)
    for statement in (
        "UPDATE audit_chains SET seq = seq - 1",
        "UPDATE audit_chains SET hash = 'x'",
        "UPDATE audit_chains SET chain = gen_random_uuid()",
        "DELETE FROM audit_chains",
        "TRUNCATE audit_chains",
    ):
        with pytest.raises(DBAPIError, match="never goes back"), database.engine.begin() as connection:
            connection.execute(text(statement))
    assert faults(database) == []


def test_what_is_whole_is_whole(database, home, write) -> None:
    write(home, 3)
    write(None, 2)
    write(home, 1)
    with database.transaction() as session:
        reports = {report.chain: report for report in audit.verify(session)}
    assert {chain: (report.entries, report.seq) for chain, report in reports.items()} == {
        home: (4, 4),
        HUB_CHAIN: (2, 2),
    }
    assert all(report.is_whole for report in reports.values())
    assert reports[HUB_CHAIN].name == "the hub"


@pytest.mark.parametrize(
    ("statement", "found"),
    [
        ("UPDATE audit_entries SET actor = 'eve' WHERE seq = 2", "2: it was altered"),
        ("UPDATE audit_entries SET after = '{}' WHERE seq = 2", "2: it was altered"),
        ("UPDATE audit_entries SET at = at + interval '1 microsecond' WHERE seq = 2", "2: it was altered"),
        ("UPDATE audit_entries SET subject_id = gen_random_uuid() WHERE seq = 2", "2: it was altered"),
        ("UPDATE audit_entries SET actor_kind = 'policy' WHERE seq = 2", "2: it was altered"),
        ("DELETE FROM audit_entries WHERE seq = 3", "3: entry 3 is missing"),
        ("DELETE FROM audit_entries WHERE seq IN (2, 3)", "2: entries 2 to 3 are missing"),
        ("DELETE FROM audit_entries WHERE seq = 5", "5: the end is cut off"),
        ("DELETE FROM audit_entries", "1: the end is cut off"),
        ("UPDATE audit_entries SET prev_hash = hash WHERE seq = 4", "4: it does not follow"),
        ("UPDATE audit_chains SET seq = 4, hash = (SELECT hash FROM audit_entries WHERE seq = 4)", "5: the chain says"),
        ("UPDATE audit_chains SET hash = 'x'", "5: the last entry is not the one"),
        ("DELETE FROM audit_chains", "1: the chain says that it ends at 0"),
        (
            "INSERT INTO audit_entries (actor, action, subject) VALUES ('eve', 'a.b', 'x')",
            "0: 1 entries have no place",
        ),
    ],
)
def test_what_was_done_behind_its_back_is_found(database, home, write, tamper, statement, found) -> None:
    write(home, 5)
    tamper(statement)
    assert any(one.startswith(found) for one in faults(database)), faults(database)


def test_entries_that_change_places_between_chains_are_found(database, home, write, tamper) -> None:
    with database.transaction() as session:
        other = Agent(name="Elsewhere")
        session.add(other)
        session.flush()
    write(home, 2)
    write(other.agent_id, 2, subject_id=uuid.uuid4())
    tamper(
        "UPDATE audit_entries SET seq = seq + 10 WHERE agent_id = :a AND seq = 2",
        "UPDATE audit_entries SET agent_id = :a WHERE agent_id = :b AND seq = 2",
        "UPDATE audit_entries SET agent_id = :b, seq = 2 WHERE agent_id = :a AND seq = 12",
        a=home,
        b=other.agent_id,
    )
    found = faults(database)
    assert sum("was altered" in one for one in found) == 2
    assert sum("does not follow" in one for one in found) == 2


def test_a_tail_that_was_cut_with_its_head_is_found_by_what_was_kept_elsewhere(database, home, write, tamper) -> None:
    write(home, 5)
    with database.transaction() as session:
        ((kept, _),) = audit.heads(session)
    tamper(
        "DELETE FROM audit_entries WHERE seq > 3",
        "UPDATE audit_chains SET seq = 3, hash = (SELECT hash FROM audit_entries WHERE seq = 3)",
    )
    assert faults(database) == [], "by itself it looks whole"
    assert faults(database, anchors=[kept]) == ["5: an entry that was anchored is missing"]
    write(home, 2)
    assert faults(database, anchors=[kept]) == ["5: it is not the entry that was anchored"]
    tamper("DELETE FROM audit_entries", "DELETE FROM audit_chains")
    assert faults(database, anchors=[kept]) == ["5: the whole chain is gone: it was anchored and has no entry any more"]


def test_a_chain_goes_on_after_its_anchor(database, home, write) -> None:
    write(home, 2)
    with database.transaction() as session:
        ((kept, _),) = audit.heads(session)
    write(home, 3)
    assert faults(database, anchors=[kept]) == []
    assert faults(database, anchors=[Anchor(home, 2, "0" * 64)]) == ["2: it is not the entry that was anchored"]


def test_many_who_write_at_once_leave_one_chain(database, home) -> None:
    start = threading.Barrier(8)
    failed = []

    def work(number: int) -> None:
        start.wait()
        try:
            for n in range(10):
                with database.transaction() as session:
                    # Both chains, in either order: no circle of waiting comes of it.
                    chains = [home, None] if (number + n) % 2 else [None, home]
                    for chain in chains:
                        audit.record(
                            session, chain, by="ann@example.org", action="role.edited", subject=f"{number}.{n}"
                        )
        except Exception as error:  # noqa: BLE001  (shown below)
            failed.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failed
    with database.transaction() as session:
        reports = audit.verify(session)
    assert [(report.entries, report.seq, report.faults) for report in reports] == [(80, 80, [])] * 2


def test_what_is_rolled_back_leaves_no_gap(database, home, write) -> None:
    write(home)
    with contextlib.suppress(DBAPIError), database.transaction() as session:
        audit.record(session, home, by="ann@example.org", action="role.edited", subject="x")
        session.execute(text("SELECT 1 / 0"))
    with database.transaction() as session:
        with session.begin_nested() as trial:
            audit.record(session, home, by="ann@example.org", action="role.edited", subject="tried")
            trial.rollback()
        audit.record(session, home, by="ann@example.org", action="role.edited", subject="done")
    with database.transaction() as session:
        assert [(one.seq, one.subject) for one in audit.entries(session, home)] == [(2, "done"), (1, "x")]
        assert audit.verify(session)[0].is_whole


def test_the_chain_of_an_agent_survives_it(database, home, write) -> None:
    write(home, 2)
    with database.transaction() as session:
        session.execute(text("DELETE FROM agents"))
    with database.transaction() as session:
        (report,) = audit.verify(session)
    assert (report.entries, report.name, report.is_whole) == (2, "an agent that is gone", True)


def test_anybody_can_check_the_hash_of_a_row(database, home, write) -> None:
    write(home)
    with database.transaction() as session:
        line = session.execute(
            text(
                "SELECT jsonb_build_array(seq, prev_hash, chain, to_char(at AT TIME ZONE 'UTC',"
                ' \'YYYY-MM-DD"T"HH24:MI:SS.US"Z"\'), actor_kind, actor, action, subject, subject_id, before, after)'
                "::text FROM audit_entries"
            )
        ).scalar_one()
        (entry,) = audit.entries(session, home)
    assert hashlib.sha256(line.encode()).hexdigest() == entry.hash
    assert line.startswith(f'[1, "", "{home}", "')


def test_who_it_was_is_told_with_its_kind(database, home) -> None:
    assert (kind_of("ann@example.org"), kind_of("the hub"), kind_of(Actor("Ann", "person"))) == (
        "person",
        "system",
        "person",
    )
    with database.transaction() as session:
        audit.record(session, home, by=Actor("front-door", "device"), action="device.changed", subject="x")
    with database.transaction() as session:
        assert [one.actor_kind for one in audit.entries(session, home)] == ["device"]
