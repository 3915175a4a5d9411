"""Questions over MQTT: refused like over HTTP, answered like over HTTP, and one never holds up another."""

import json
from collections.abc import Callable

import pytest
from sqlalchemy import text

from hub import outbox
from hub.inbox import request
from hub.operations import events
from hub.operations.events import EventsQuestion
from hub.tables import Agent, Space
from hub_protocol.catalogue import BY_KIND

Ask = Callable[..., list[dict]]


@pytest.fixture
def ask(session, say) -> Ask:
    """Ask in one batch, as a device, (operation, body) pairs; the answers in that order."""

    def ask(device, *questions) -> list[dict]:
        said = [
            (f"{device.handle}/request/{op}/r{n}", {"epoch": 1, "body": body}) for n, (op, body) in enumerate(questions)
        ]
        say(*said)
        outbox.flush(session)
        rows = session.execute(text("DELETE FROM outbox WHERE topic LIKE '%/response/%' RETURNING topic, payload"))
        answers = {row.topic: json.loads(bytes(row.payload)) for row in rows}
        return [answers[f"d/{device.handle}/response/r{n}"] for n in range(len(questions))]

    return ask


@pytest.mark.parametrize(
    ("op", "body", "error"),
    [
        ("nothing", {}, {"code": "not_found", "message": "there is no operation nothing"}),
        ("events", {"limit": 0}, {"code": "invalid", "field": "limit"}),
        ("events", {"limit": "many"}, {"code": "invalid", "field": "limit"}),
        ("events", {"typ": "x"}, {"code": "invalid", "field": "typ"}),
        ("events", {"space": "nowhere"}, {"code": "not_found", "field": "space"}),
        ("actions", {"status": "done"}, {"code": "invalid", "field": "status"}),
        ("actions", {"before": "yesterday"}, {"code": "invalid", "field": "before"}),
        ("memories", {"before": "1-zz"}, {"code": "invalid", "field": "before"}),
    ],
)
def test_a_bad_question_is_answered_with_its_fault(ask, device, op, body, error) -> None:
    (answer,) = ask(device, (op, body))
    assert answer["ok"] is False
    for name, value in error.items():
        assert value in answer["error"][name]


def test_each_operation_asks_for_its_scope(ask, make_device) -> None:
    device = make_device("Bare", scopes=["presence:write"])
    for answer, scope in zip(
        ask(device, ("events", {}), ("actions", {}), ("memories", {})),
        ("events:read", "actions:read", "memories:read"),
        strict=True,
    ):
        assert answer == {"ok": False, "error": {"code": "forbidden", "message": f"this needs the scope {scope}"}}


def test_the_space_of_another_agent_is_not_found(session, ask, device) -> None:
    other = Agent(name="Elsewhere")
    session.add(other)
    session.flush()
    space = Space(agent_id=other.agent_id, name="Cellar")
    session.add(space)
    session.flush()
    for op in ("events", "actions", "memories"):
        (answer,) = ask(device, (op, {"space": str(space.space_id)}))
        assert answer["error"]["code"] == "not_found"


def test_the_answer_is_the_one_of_http(session, say, ask, device) -> None:
    say(*((f"{device.handle}/event/t{n}", {"id": f"e{n}", "epoch": 1, "payload": {"n": n}}) for n in range(3)))
    (answer,) = ask(device, ("events", {"limit": 2}))
    twin = events.answer(session, device.agent_id, EventsQuestion(limit=2))
    assert answer == {"ok": True, "body": twin.model_dump(mode="json")}
    assert [one["type"] for one in answer["body"]["items"]] == ["t2", "t1"]


def test_a_bad_one_does_not_hold_up_the_next(ask, device) -> None:
    bad, good = ask(device, ("events", {"before": "9" * 20}), ("events", {}))
    assert (bad["ok"], good["ok"]) == (False, True)


def test_an_answer_that_no_message_can_carry_says_so(say, ask, device) -> None:
    filler = "x" * 60_000
    for n in range(4):
        say((f"{device.handle}/event/big", {"id": f"b{n}", "epoch": 1, "payload": {"filler": filler}}))
    (answer,) = ask(device, ("events", {}))
    assert (answer["error"]["code"], answer["error"]["field"]) == ("too_large", "limit")
    (fewer,) = ask(device, ("events", {"limit": 2}))
    assert fewer["ok"]
    assert len(json.dumps(fewer)) < BY_KIND["response"].max_bytes


def test_a_flood_of_questions_is_answered_in_part(ask, device) -> None:
    answers = ask(device, *[("events", {})] * (request.AT_ONCE + 3))
    assert [one["ok"] for one in answers] == [True] * request.AT_ONCE + [False] * 3
    assert answers[-1]["error"]["code"] == "throttled"
