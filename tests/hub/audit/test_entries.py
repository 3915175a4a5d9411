"""The audit keeps what it is given, harmlessly, for those whose it is."""

import uuid
from datetime import UTC, datetime

import pytest
from sqlalchemy.exc import IntegrityError

from hub import audit
from hub.tables import Agent


def test_an_action_has_a_noun_and_a_verb(session, agent):
    with pytest.raises(IntegrityError):
        audit.record(session, agent.agent_id, by="ann", action="edited", subject="x")


def test_hostile_text_is_stored_harmlessly(session, agent):
    facts = {"name": "a\0b", "text": "\\u0000", "both": "\\\0\0", "id": uuid.UUID(int=1), "at": datetime.now(UTC)}
    audit.record(session, None, by="a\0\ud800" + "x" * 9_000, action="role.edited", subject="\0", after=facts)
    (entry,) = audit.entries(session, None)
    assert entry.actor.startswith("a\N{REPLACEMENT CHARACTER}?x")
    assert len(entry.actor) == 500
    assert entry.before is None
    kept = entry.after
    assert kept["name"] == "a\N{REPLACEMENT CHARACTER}b"
    assert kept["text"] == "\\u0000"
    assert kept["both"] == "\\\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}"
    assert kept["id"] == str(uuid.UUID(int=1))


def test_an_agent_sees_its_own_entries_newest_first_page_by_page(session, agent):
    other = Agent(name="Elsewhere")
    session.add(other)
    session.flush()
    subject = uuid.uuid4()
    made = [
        audit.record(
            session,
            agent.agent_id,
            by="ann",
            action="role.edited",
            subject=f"role {number}",
            subject_id=subject if number % 2 else None,
            before={"n": number},
        )
        for number in range(5)
    ]
    audit.record(session, other.agent_id, by="eve", action="role.edited", subject="theirs")
    first = audit.entries(session, agent.agent_id, limit=2)
    assert [one.entry_id for one in first] == [made[4], made[3]]
    rest = audit.entries(session, agent.agent_id, before_id=first[-1].entry_id)
    assert [one.before for one in rest] == [{"n": 2}, {"n": 1}, {"n": 0}]
    assert [one.entry_id for one in audit.entries(session, agent.agent_id, subject_id=subject)] == [made[3], made[1]]
    assert audit.entries(session, None) == []
