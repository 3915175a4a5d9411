"""Every tool does what it says, once it was approved; and refuses what its agent does not have."""

import secrets
import threading
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from sqlalchemy import text

from hub import args_schema, device_config, integrations, notify_channels, outside_hosts, schedules
from hub.actions import deciding, execution, proposing, records, sweep
from hub.actions.deciding import Decider
from hub.actions.proposing import Proposal, Proposer
from hub.audit.actors import Actor
from hub.errors import Conflict, HubError, Invalid, NotFound
from hub.sealed import Sealed
from hub.settings import Settings
from hub.tables import Space
from hub.tools import registry

ANN = Decider("user:ann", Actor("ann@example.org", "person"), "owner")
TOOLS = (
    "create_memory",
    "device_command",
    "http_request",
    "notify",
    "publish_mqtt",
    "schedule",
    "send_message",
    "set_config",
)


class Hook(BaseHTTPRequestHandler):
    seen: list[tuple[str, bytes]]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"] or 0))
        self.seen.append((self.headers.get("authorization", ""), body))
        self.send_response(500 if self.path == "/broken" else 200)
        self.end_headers()
        self.wfile.write(b'{"fine": true}')

    do_GET = do_POST  # noqa: N815  (as the library names it)

    def log_message(self, *_):
        pass


@pytest.fixture
def hook():
    Hook.seen = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hook)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield f"127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def settings(database, tmp_path, hook):
    key = tmp_path / "key"
    key.write_text(secrets.token_hex(32))
    return Settings(database_url=database.url, secrets_key_file=key, private_hosts=hook)


@pytest.fixture
def do(database, session, agent, settings):
    """Propose, approve, run; the action as it ended."""
    session.commit()

    def do(tool, args, space_id=None):
        now = datetime.now(UTC)
        with database.transaction() as work:
            proposer = Proposer("user:ann", ANN.label)
            proposal = Proposal(tool, args, space_id=space_id)
            action = proposing.propose(work, agent.agent_id, proposal, proposer=proposer, now=now).action
            deciding.approve(work, agent.agent_id, action.action_id, by=ANN, digest=action.digest, now=now)
        execution.run(database, settings, action.action_id)
        with database.transaction() as work:
            return records.find(work, agent.agent_id, action.action_id)

    return do


def refused(do, tool, args):
    with pytest.raises(HubError) as error:
        do(tool, args)
    return error.value.field


def rows(database, query):
    with database.transaction() as work:
        return [tuple(row) for row in work.execute(text(query))]


def test_each_tool_says_what_it_takes():
    known = registry.load()
    assert [name for name in known if not name.startswith("test_")] == list(TOOLS)
    for name in TOOLS:
        tool = known[name]
        assert tool.about.endswith(".")
        assert args_schema.form_fields(tool.schema), name
        assert tool.schema["additionalProperties"] is False
        assert tool.scopes


def test_a_message_is_kept_whoever_listens(database, session, agent, device, say, do):
    ha = integrations.add(session, agent.agent_id, "HA", by="ann").integration
    verbs = [{"name": "notify", "risk": "low", "args_schema": {}}]
    say(("porch/hello", {"epoch": 1, "protocol": 1, "verbs": verbs}))
    session.commit()
    done = do("send_message", {"text": "Dinner!", "devices": ["porch"], "integrations": [ha.handle]})
    assert done.status == "executed"
    assert done.result["told"] == {"porch": "by notify", "ha": "on out/ha/message"}
    [(payload,)] = rows(database, "SELECT payload FROM events WHERE type = 'message'")
    assert (payload["text"], payload["devices"]) == ("Dinner!", ["porch"])
    assert rows(database, "SELECT verb, args FROM commands") == [("notify", {"text": "Dinner!"})]
    assert ("out/ha/message",) in rows(database, "SELECT topic FROM outbox")
    with database.transaction() as work:
        work.execute(text("UPDATE device_presence SET hello = '{}'"))
    assert do("send_message", {"text": "x", "devices": ["porch"]}).result["told"] == {
        "porch": "it has no verb notify or say"
    }
    assert refused(do, "send_message", {"text": "x", "devices": ["attic"]}) == "args.devices"
    assert refused(do, "send_message", {"text": "x", "integrations": ["gone"]}) == "args.integrations"


def test_config_is_merged(database, session, device, do):
    device_config.set_desired(session, device, {"a": 1, "b": 2}, by="ann", expected_rev=0)
    session.commit()
    done = do("set_config", {"device": "porch", "values": {"b": None, "c": 3}})
    assert (done.status, done.result["rev"]) == ("executed", 2)
    assert rows(database, "SELECT desired FROM device_config") == [({"a": 1, "c": 3},)]
    assert refused(do, "set_config", {"device": "porch", "values": {"Bad Key": 1}}) == "args.values.Bad Key"


def test_a_memory_says_where_it_is_from_and_none_is_made_of_what_is_private(database, session, agent, do):
    space = Space(agent_id=agent.agent_id, name="Hall")
    session.add(space)
    session.commit()
    done = do("create_memory", {"content": "Ann likes tea", "tier": "preference"}, space.space_id)
    [(tier, content, provenance)] = rows(database, "SELECT tier, content, provenance FROM memories")
    assert (tier, content) == ("preference", "Ann likes tea")
    assert provenance == {"action_id": str(done.action_id), "by": "ann@example.org"}
    space.privacy_mode = True
    session.add(space)
    session.commit()
    failed = do("create_memory", {"content": "secret"}, space.space_id)
    assert (failed.status, len(rows(database, "SELECT 1 FROM memories"))) == ("failed", 1)


def test_mqtt_goes_below_ones_own_integrations_alone(database, session, agent, do):
    integrations.add(session, agent.agent_id, "HA", by="ann")
    session.commit()
    done = do("publish_mqtt", {"integration": "ha", "topic": "lights/hall", "payload": "on"})
    assert done.result == {"topic": "out/ha/lights/hall"}
    assert ("out/ha/lights/hall", b"on", False) in rows(database, "SELECT topic, payload, retain FROM outbox")
    for topic in ("../d/porch", "a//b", "#", "+", "a b", "/".join("x" * 9)):
        assert refused(do, "publish_mqtt", {"integration": "ha", "topic": topic}) == "args.topic"
    assert refused(do, "publish_mqtt", {"integration": "other", "topic": "x"}) == "args.integration"


def test_a_host_is_asked_when_an_admin_named_it(database, session, agent, do, hook):
    url = f"http://{hook}/lights"
    assert refused(do, "http_request", {"url": url}) == "args.url"
    outside_hosts.allow(session, agent.agent_id, hook, ["GET"], by="ann")
    session.commit()
    done = do("http_request", {"url": url, "headers": {"x-own": "1"}})
    assert (done.status, done.result["status"], done.result["body"]) == ("executed", 200, {"fine": True})
    assert refused(do, "http_request", {"url": url, "method": "POST"}) == "args.method"
    outside_hosts.allow(session, agent.agent_id, "localhost", ["GET"], by="ann")
    session.commit()
    assert "public internet" in do("http_request", {"url": "http://localhost/"}).error
    outside_hosts.forbid(session, agent.agent_id, hook, by="ann")
    session.commit()
    assert refused(do, "http_request", {"url": url}) == "args.url"
    for bad in ("exa mple", "", "http://x", "x/y"):
        with pytest.raises(Invalid):
            outside_hosts.allow(session, agent.agent_id, bad, ["GET"], by="ann")
    with pytest.raises(NotFound):
        outside_hosts.forbid(session, agent.agent_id, "nobody", by="ann")


def test_a_channel_notifies_and_nobody_sees_its_secret(database, session, agent, do, hook, settings):
    assert refused(do, "notify", {"channel": "phones", "message": "x"}) == "args.channel"
    sealed = Sealed(settings)
    for name, path in (("phones", "topic-4711"), ("broken", "broken")):
        secret = notify_channels.Secret(f"http://{hook}/{path}", "tk_secret")
        notify_channels.add(
            session, agent.agent_id, name, secret, sealed=sealed, private_hosts=settings.private_hosts, by="ann"
        )
    session.commit()
    assert do("notify", {"channel": "phones", "message": "Dinner!"}).result == {"channel": "phones", "status": 200}
    assert Hook.seen[0][0] == "Bearer tk_secret"
    assert b'"message":"Dinner!"' in Hook.seen[0][1]
    failed = do("notify", {"channel": "broken", "message": "x"})
    assert (failed.status, failed.error) == ("failed", "127.0.0.1 answered 500")
    for table in ("actions", "events", "audit_entries", "notify_channels"):
        dump = str(rows(database, f"SELECT row_to_json(t)::text FROM {table} AS t"))
        assert "tk_secret" not in dump
        assert "topic-4711" not in dump
    settings.secrets_key_file.write_text(secrets.token_hex(32))
    with pytest.raises(Conflict, match="another key"):
        notify_channels.secret_of(session, agent.agent_id, "phones", sealed, "channel")
    with pytest.raises(Conflict, match="MARVAIN_SECRETS_KEY_FILE"):
        Sealed(Settings(database_url=database.url)).seal(b"x")


def test_a_schedule_does_what_was_approved_with_it_until_it_is_stopped(database, session, agent, do, settings):
    inner = {"tool": "create_memory", "args": {"content": "tick"}}
    for bad, field in (
        (inner, "args.at"),
        (inner | {"at": "soon"}, "args.at"),
        (inner | {"cron": "* * * * * *"}, "args.cron"),
        (inner | {"cron": "0 0 31 2 *"}, "args.cron"),
        (inner | {"cron": "0 7 * * *", "zone": "Mars/Base"}, "args.zone"),
        ({"tool": "schedule", "args": {}, "cron": "0 7 * * *"}, "args.tool"),
        ({"tool": "create_memory", "args": {}, "cron": "0 7 * * *"}, "args.args.content"),
    ):
        assert refused(do, "schedule", bad) == field
    origin = do("schedule", inner | {"cron": "30 7 * * *", "zone": "Europe/Berlin", "times": 2})
    assert (origin.status, origin.scopes) == ("executed", ["actions:schedule", "memories:write"])
    with database.transaction() as work:
        [schedule] = schedules.listed(work, agent.agent_id)
    assert schedule.next_at.astimezone(schedules.zone_of("Europe/Berlin", "")).strftime("%H:%M") == "07:30"
    due = schedule.next_at
    for n in (1, 2):
        with database.transaction() as work:
            assert schedules.carry_out(work, due) == 1
            assert schedules.carry_out(work, due) == 0
        made = rows(database, "SELECT action_id FROM actions WHERE proposer LIKE 'schedule:%' AND status = 'approved'")
        execution.run(database, settings, made[0][0], lambda at=due: at)
        assert len(rows(database, "SELECT 1 FROM memories")) == n
        due += timedelta(days=1)
    with database.transaction() as work:
        [schedule] = schedules.listed(work, agent.agent_id)
        assert (schedule.next_at, schedule.left_over, schedule.stopped_by) == (None, 0, "it is over")
        with pytest.raises(Conflict):
            schedules.stop(work, agent.agent_id, schedule.schedule_id, by="ann", now=due)

    do("schedule", inner | {"at": "2026-01-01T00:00:00Z"})
    # Somebody wrote into the database: nothing of it is done.
    with database.transaction() as work:
        work.execute(
            text(
                "UPDATE actions SET payload = jsonb_set(payload, '{args,content}', '\"evil\"') WHERE kind = 'schedule'"
            )
        )
        sweep.sweep(work, datetime.now(UTC))
    assert rows(database, "SELECT 1 FROM actions WHERE payload ->> 'content' = 'evil'") == []

    do("schedule", inner | {"cron": "0 7 * * *"})
    with database.transaction() as work:
        running = next(one for one in schedules.listed(work, agent.agent_id) if one.next_at)
        schedules.stop(work, agent.agent_id, running.schedule_id, by="ann@example.org", now=due)
        assert schedules.carry_out(work, due + timedelta(days=9)) == 0
