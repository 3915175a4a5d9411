"""The table of steps, in code and in SQL: every pair of statuses is tried on a real row."""

import itertools

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from hub.actions.states import OPEN, STATUSES, TRANSITIONS, before, may_become

FACTS = {
    "proposed": {},
    "approved": {"approved_at": "now()", "approved_digest": "'x'"},
    "executing": {
        "approved_at": "now()",
        "approved_digest": "'x'",
        "lease": "gen_random_uuid()",
        "lease_until": "now()",
    },
    "executed": {"approved_at": "now()", "approved_digest": "'x'", "completed_at": "now()"},
}


def facts(status):
    return {"status": f"'{status}'"} | FACTS.get(status, {"completed_at": "now()"})


def test_sql_and_code_know_the_same_steps(session, agent):
    differ = []
    for was, to in itertools.product(STATUSES, STATUSES):
        values = facts(was) | {"agent_id": f"'{agent.agent_id}'", "kind": "'test_paint'"}
        action_id = session.execute(
            text(f"INSERT INTO actions ({', '.join(values)}) VALUES ({', '.join(values.values())}) RETURNING action_id")
        ).scalar_one()
        columns = {"lease": "NULL", "lease_until": "NULL", "completed_at": "NULL"} | facts(to)
        changes = ", ".join(f"{name} = {value}" for name, value in columns.items())
        try:
            with session.begin_nested():
                session.execute(text(f"UPDATE actions SET {changes} WHERE action_id = :id"), {"id": action_id})
            is_allowed = True
        except IntegrityError as error:
            is_allowed = f"an action that is {was} does not become {to}" not in str(error)
        if is_allowed != (may_become(was, to) or was == to):
            differ.append((was, to))
    assert differ == []


@pytest.mark.parametrize("status", ["approved", "executing", "executed"])
def test_nothing_is_done_that_nobody_approved(session, agent, status):
    values = {k: v for k, v in facts(status).items() if not k.startswith("approved")}
    values |= {"agent_id": f"'{agent.agent_id}'", "kind": "'test_paint'"}
    with pytest.raises(IntegrityError, match="actions_approved_check"):
        session.execute(text(f"INSERT INTO actions ({', '.join(values)}) VALUES ({', '.join(values.values())})"))


def test_what_is_over_stays_over_but_for_a_late_word():
    assert {one for one in STATUSES if not TRANSITIONS[one]} == set(STATUSES) - OPEN - {"unknown"}
    assert before("executed") == {"executing", "unknown"}
