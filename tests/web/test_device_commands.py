"""Commands, config, tags and batches in pages: who may, faults at their fields, and what a second person is told."""

import html
import re
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import httpx
import msgspec
import pytest
from sqlalchemy import text

from hub import batches, command_replies, commands, device_config, devices, identity, tags
from hub.batches import Wish
from hub.command_replies import DeviceReply
from hub.database import Database
from hub.tables import Agent, User
from hub_protocol import messages

NewClient = Callable[..., httpx.AsyncClient]
JSON = {"Accept": "application/json"}
XSS = '"><script>alert(1)</script>'
VERBS = [
    {
        "name": "blink",
        "args_schema": {
            "type": "object",
            "required": ["times"],
            "properties": {
                "times": {"type": "integer", "minimum": 1, "maximum": 9, "title": "How often"},
                "colour": {"enum": ["red", "green"]},
                "soft": {"type": "boolean"},
                "steps": {"type": "array"},
            },
            "additionalProperties": False,
        },
    },
    {"name": "wipe", "risk": "high"},
    {"name": "odd", "args_schema": {"type": "nope"}},
    {"name": "evil", "args_schema": {"description": XSS, "properties": {XSS: {"title": XSS, "enum": [XSS]}}}},
]


@pytest.fixture
def home(database: Database, owner_token: str) -> uuid.UUID:
    with database.transaction() as session:
        return identity.find_agent(session).agent_id


@pytest.fixture
def make(database: Database, home: uuid.UUID) -> Callable[..., uuid.UUID]:
    def make(name: str, verbs: list[Any] = VERBS, agent_id: uuid.UUID | None = None) -> uuid.UUID:
        with database.transaction() as session:
            new = devices.add(session, agent_id or home, name, scopes=list(devices.DEFAULT_SCOPES), by="a test").device
            session.execute(
                text(
                    "UPDATE device_presence SET hello = CAST(:hello AS jsonb), last_hello_at = now()"
                    " WHERE device_id = :id"
                ),
                {"hello": msgspec.json.encode({"verbs": verbs}).decode(), "id": new.device_id},
            )
            return new.device_id

    return make


@pytest.fixture
def porch(make: Callable[..., uuid.UUID]) -> uuid.UUID:
    return make("Porch")


@pytest.fixture
def foreign(make: Callable[..., uuid.UUID], database: Database) -> uuid.UUID:
    with database.transaction() as session:
        agent = Agent(name="Elsewhere")
        session.add(agent)
    return make("Secret cellar", agent_id=agent.agent_id)


@pytest.fixture
def as_role(new_client: NewClient, make_user: Callable[..., User], enter: Callable[[User], str]) -> Callable[..., Any]:
    return lambda role: new_client(token=enter(make_user(f"{role}@example.org", role)))


def ledger(database: Database, device_id: uuid.UUID) -> list[commands.CommandView]:
    with database.transaction() as session:
        return commands.for_device(session, device_id)


async def test_another_agents_device_is_not_there(
    owner: httpx.AsyncClient, foreign: uuid.UUID, database: Database
) -> None:
    with database.transaction() as session:
        device = session.get_one(devices.Device, foreign)
        tags.set_tags(session, device, ["secret"], by="a test")
        command = commands.request(session, device, "ping", by="a test")
        plan = batches.plan(session, device.agent_id, Wish("command", "secret", {}, "ping"))
        batch = batches.send(session, device.agent_id, plan, by="a test", now=datetime.now(UTC))
    assert (await owner.get(f"/devices/{foreign}/commands")).status_code == 404
    assert (await owner.get(f"/batches/{batch.batch_id}")).status_code == 404
    for path, fields in (
        (f"/devices/{foreign}/commands", {"verb": "ping", "ttl_s": "30"}),
        (f"/devices/{foreign}/commands/{command.command_id}/cancel", {}),
        (f"/devices/{foreign}/config", {"expected_rev": "0"}),
        (f"/devices/{foreign}/config/check", {}),
        (f"/devices/{foreign}/config/undo", {"rev": "1", "expected_rev": "0"}),
        (f"/devices/{foreign}/tags", {"tags": "x"}),
        ("/devices/tags", {"ids": str(foreign), "tags": "x"}),
        (f"/batches/{batch.batch_id}/cancel", {}),
    ):
        assert (await owner.post(path, data=fields, headers=JSON)).status_code == 404, path
    porch_only = await owner.get("/devices?tag=secret")
    assert "Secret cellar" not in porch_only.text
    assert [one.status for one in ledger(database, foreign)] == ["queued", "queued"]


@pytest.mark.parametrize("role", ["guest", "member"])
async def test_who_may_only_look_changes_nothing(
    as_role: Callable[..., Any], porch: uuid.UUID, database: Database, role: str
) -> None:
    client = as_role(role)
    page = await client.get(f"/devices/{porch}")
    assert "Send a command" not in page.text
    assert ('id="config"' in page.text) == (role == "member")
    for path in ("commands", "config", "config/check", "tags", f"commands/{uuid.uuid4()}/cancel"):
        assert (await client.post(f"/devices/{porch}/{path}", data={"verb": "ping"}, headers=JSON)).status_code == 403
    assert (await client.get("/batches/new?tag=x")).status_code == 403
    assert (await client.post("/batches", data={"tag": "x"}, headers=JSON)).status_code == 403
    assert ledger(database, porch) == []


async def test_the_form_is_made_of_what_the_device_says(owner: httpx.AsyncClient, porch: uuid.UUID) -> None:
    page = (await owner.get(f"/devices/{porch}")).text
    assert re.search(r'name="arg.times"[^>]*type="number"[^>]*min="1" max="9" required', page)
    assert "How often" in page
    assert '<option value="&#34;red&#34;"' in page
    assert "What it says of its arguments is not a JSON Schema" in page
    assert "<script>alert" not in page
    for verb in ("blink", "wipe", "ping", "config", "run_action"):
        assert f'data-verb="{verb}"' in page


@pytest.mark.parametrize(
    ("fields", "field", "told"),
    [
        ({"verb": "dance"}, "verb", "it has blink"),
        ({"verb": "blink"}, "args.times", "is required"),
        ({"verb": "blink", "arg.times": "12"}, "args.times", "greater than the maximum"),
        ({"verb": "blink", "arg.times": "two"}, "args.times", "is a whole number"),
        ({"verb": "blink", "arg.times": "1", "arg.colour": "blue"}, "args.colour", "is one of"),
        ({"verb": "blink", "arg.times": "1", "arg.steps": "[1,"}, "args.steps", "is not JSON"),
        ({"verb": "odd", "args": "[]"}, "args", "one JSON object"),
        ({"verb": "odd", "args": '{"a": NaN}'}, "args", "is not JSON"),
        ({"verb": "odd", "args": "[" * 10_000}, "args", "is not JSON"),
        ({"verb": "ping", "ttl_s": "31"}, "ttl_s", "is one of the deadlines"),
        ({"verb": "wipe"}, "confirmed", "tick that you mean it"),
    ],
)
async def test_a_form_with_a_fault_names_it_and_keeps_what_was_typed(
    owner: httpx.AsyncClient, porch: uuid.UUID, database: Database, fields: dict[str, str], field: str, told: str
) -> None:
    sent = {"ttl_s": "30"} | fields
    answer = await owner.post(f"/devices/{porch}/commands", data=sent, headers=JSON)
    assert (answer.status_code, answer.json()["field"]) == (422, field)
    assert told in answer.json()["detail"]
    page = await owner.post(f"/devices/{porch}/commands", data=sent)
    assert page.status_code == 422
    assert told in html.unescape(page.text)
    for name, value in fields.items():
        if name.startswith("arg.") and name != "arg.colour":
            assert value in page.text
    assert ledger(database, porch) == []


async def test_a_command_is_sent_seen_and_taken_back(
    owner: httpx.AsyncClient, porch: uuid.UUID, database: Database
) -> None:
    fields = {
        "verb": "blink",
        "ttl_s": "3600",
        "arg.times": "3",
        "arg.colour": '"red"',
        "arg.soft": "true",
        "arg.steps": "",
    }
    answer = (await owner.post(f"/devices/{porch}/commands", data=fields, headers=JSON)).json()
    assert "waits for it until" in answer["message"]
    [command] = ledger(database, porch)
    assert (command.args, command.requested_by) == ({"times": 3, "colour": "red", "soft": True}, "ann@example.org")
    assert (command.expires_at - command.created_at).total_seconds() == 3600
    page = (await owner.get(f"/devices/{porch}")).text
    assert "waits until" in page
    cancel = f"/devices/{porch}/commands/{command.command_id}/cancel"
    assert cancel in page
    assert (await owner.post(cancel)).status_code == 303
    assert "blink cancelled" in (await owner.get(f"/devices/{porch}")).text
    again = await owner.post(cancel, headers=JSON)
    assert (again.status_code, "is over: cancelled" in again.json()["detail"]) == (409, True)
    confirmed = {"verb": "wipe", "ttl_s": "30", "confirmed": "yes", "args": '{"all": true}'}
    assert (await owner.post(f"/devices/{porch}/commands", data=confirmed)).status_code == 303
    assert ledger(database, porch)[0].args == {"all": True}


@pytest.mark.parametrize("can_cancel", [True, False])
async def test_what_runs_is_cancelled_where_the_device_can(
    owner: httpx.AsyncClient, make: Callable[..., uuid.UUID], database: Database, *, can_cancel: bool
) -> None:
    device_id = make("Mast", [{"name": "climb"}, *([{"name": "cancel"}] if can_cancel else [])])
    with database.transaction() as session:
        device = session.get_one(devices.Device, device_id)
        command = commands.request(session, device, "climb", by="a test", ttl_s=600)
        commands.mark_sent(session, [(command.command_id, datetime.now(UTC))])
        reply = DeviceReply(command.command_id, device_id, messages.Reply("running", epoch=1), datetime.now(UTC))
        command_replies.answer(session, [reply])
    cancel = f"/devices/{device_id}/commands/{command.command_id}/cancel"
    assert (cancel in (await owner.get(f"/devices/{device_id}")).text) == can_cancel
    answer = await owner.post(cancel, headers=JSON)
    if not can_cancel:
        assert (answer.status_code, "cannot be taken back" in answer.json()["detail"]) == (409, True)
        return
    assert answer.json()["message"] == "Mast is told to end it."
    assert [one.verb for one in ledger(database, device_id)] == ["cancel", "climb"]
    assert ledger(database, device_id)[0].args == {"command_id": str(command.command_id)}


async def test_a_long_ledger_is_paged(owner: httpx.AsyncClient, porch: uuid.UUID, database: Database) -> None:
    with database.transaction() as session:
        device = session.get_one(devices.Device, porch)
        for _ in range(23):
            commands.request(session, device, "ping", by="a test")
    page = (await owner.get(f"/devices/{porch}")).text
    assert page.count("data-command=") == 20
    older = re.search(r'href="(/devices/[^"]+/commands\?before=[^"]+)"', page)
    assert older is not None
    rest = (await owner.get(html.unescape(older[1]))).text
    assert rest.count("data-command=") == 3
    assert "Newest" in rest


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"key": "Bad Key", "value": "1"}, "Bad Key: a key is"),
        ({"key": ["a", "a"], "value": ["1", "2"]}, "a: stands here twice"),
        ({"key": "a", "value": "x" * 8_190}, "at most 8192 bytes"),
        ({"mode": "json", "values": "{"}, "is not JSON"),
        ({"mode": "json", "values": "[1]"}, "one JSON object"),
    ],
)
async def test_values_with_a_fault_are_kept_and_not_set(
    owner: httpx.AsyncClient, porch: uuid.UUID, database: Database, fields: dict[str, Any], told: str
) -> None:
    page = await owner.post(f"/devices/{porch}/config", data={"expected_rev": "0"} | fields)
    assert page.status_code == 422
    assert told in html.unescape(page.text)
    checked = (await owner.post(f"/devices/{porch}/config/check", data=fields)).json()
    assert told.rpartition(": ")[2] in checked["problems"][0]["message"]
    with database.transaction() as session:
        assert device_config.view(session, porch).desired_rev == 0


async def test_values_are_set_row_by_row_or_as_json_and_the_second_editor_is_told(
    owner: httpx.AsyncClient, porch: uuid.UUID, database: Database
) -> None:
    rows = {"expected_rev": "0", "key": ["heartbeat_s", "name", "flag", ""], "value": ["20", "Porch lamp", "true", ""]}
    assert (await owner.post(f"/devices/{porch}/config", data=rows)).status_code == 303
    with database.transaction() as session:
        assert device_config.view(session, porch).desired == {"heartbeat_s": 20, "name": "Porch lamp", "flag": True}
    page = (await owner.get(f"/devices/{porch}")).text
    assert "waiting for the device" in page
    late = await owner.post(f"/devices/{porch}/config", data={"expected_rev": "0", "key": "mine", "value": "7"})
    assert late.status_code == 409
    assert "ann@example.org has set other values meanwhile" in late.text
    assert 'value="mine"' in late.text
    assert 'name="expected_rev" value="1"' in late.text
    saved = {"expected_rev": "1", "mode": "json", "values": '{"mine": 7}', "key": "ignored", "value": "1"}
    assert (await owner.post(f"/devices/{porch}/config", data=saved)).status_code == 303
    assert (await owner.post(f"/devices/{porch}/config/undo", data={"rev": 1, "expected_rev": 1})).status_code == 409
    assert (await owner.post(f"/devices/{porch}/config/undo", data={"rev": 1, "expected_rev": 2})).status_code == 303
    with database.transaction() as session:
        config = device_config.view(session, porch)
        assert (config.desired_rev, config.desired["name"]) == (3, "Porch lamp")


async def test_tags_of_one_and_of_many(owner: httpx.AsyncClient, make: Callable[..., uuid.UUID]) -> None:
    porch, attic = make("Porch"), make("Attic")
    bad = await owner.post(f"/devices/{porch}/tags", data={"tags": "ok, -no", "expected": ""})
    assert (bad.status_code, "ok, -no" in bad.text, "a tag is 1 to 32" in bad.text) == (422, True, True)
    assert (await owner.post(f"/devices/{porch}/tags", data={"tags": "Up dry", "expected": ""})).status_code == 303
    stale = await owner.post(f"/devices/{porch}/tags", data={"tags": "x", "expected": ""})
    assert (stale.status_code, "meanwhile: dry, up" in stale.text) == (409, True)
    many = {"ids": [str(porch), str(attic)], "tags": "lamps", "do": "add", "back": "up"}
    assert (await owner.post("/devices/tags", data=many)).headers["location"] == "/devices?tag=up"
    for fields in ({"tags": "x"}, {"ids": str(porch)}, {"ids": str(porch), "tags": "ü"}):
        assert (await owner.post("/devices/tags", data=fields, headers=JSON)).status_code == 422
    page = (await owner.get("/devices?tag=up")).text
    assert "Porch" in page
    assert "Attic" not in page
    rows = (await owner.get(f"/devices/rows?ids={porch},{attic}&tag=up")).text
    assert rows.count("<tr") == 1
    assert "No satellite has the tag" in (await owner.get("/devices?tag=none")).text


async def test_a_batch_is_shown_before_it_is_sent_and_taken_back(
    owner: httpx.AsyncClient, make: Callable[..., uuid.UUID], database: Database, home: uuid.UUID
) -> None:
    ids = [make("Attic"), make("Barn"), make("Cellar", [])]
    with database.transaction() as session:
        tags.change_many(session, home, ids, add=["lamps"], by="a test")
    assert 'value="blink"' in (await owner.get("/batches/new?tag=lamps")).text
    assert 'name="arg.times"' in (await owner.get("/batches/new?tag=lamps&verb=blink")).text
    fields = {"tag": "lamps", "kind": "command", "verb": "blink", "ttl_s": "300", "arg.times": "two"}
    assert "is a whole number" in (await owner.post("/batches", data=fields)).text
    shown = await owner.post("/batches", data=fields | {"arg.times": "2", "do": "send"})  # nothing was shown yet
    assert "2 satellites" in shown.text
    assert "cellar has no verb blink" in shown.text
    found = re.search(r'name="previewed" value="([0-9a-f]{32})"', shown.text)
    assert found is not None
    fields |= {"arg.times": "2", "do": "send", "previewed": found[1]}
    with database.transaction() as session:
        tags.change_many(session, home, ids[:1], remove=["lamps"], by="a test")
    changed = await owner.post("/batches", data=fields)
    assert "Whom it reaches has changed" in changed.text
    found = re.search(r'name="previewed" value="([0-9a-f]{32})"', changed.text)
    assert found is not None
    sent = await owner.post("/batches", data=fields | {"previewed": found[1]})
    assert sent.status_code == 303
    path = sent.headers["location"]
    page = (await owner.get(path)).text
    assert "1 queued" in page
    assert "cellar has no verb blink" in page
    assert (await owner.post(f"{path}/cancel")).status_code == 303
    assert "1 cancelled" in (await owner.get(path)).text
    assert path in (await owner.get("/batches")).text


async def test_values_for_all_with_a_tag(
    owner: httpx.AsyncClient, make: Callable[..., uuid.UUID], database: Database, home: uuid.UUID
) -> None:
    attic = make("Attic")
    with database.transaction() as session:
        tags.change_many(session, home, [attic], add=["lamps"], by="a test")
    fields = {"tag": "lamps", "kind": "merge", "mode": "json", "expected_rev": "0", "values": '{"A": 1}'}
    assert "A: a key is" in (await owner.post("/batches", data=fields)).text
    fields["values"] = '{"log_level": "debug"}'
    found = re.search(r'name="previewed" value="([0-9a-f]{32})"', (await owner.post("/batches", data=fields)).text)
    assert found is not None
    sent = await owner.post("/batches", data=fields | {"do": "send", "previewed": found[1]})
    assert "1 waiting" in (await owner.get(sent.headers["location"])).text
    with database.transaction() as session:
        assert device_config.view(session, attic).desired == {"log_level": "debug"}
