"""The commands that change something, against a database of the test's own."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import text

from hub import identity, sign_in
from hub.database import Database

pytestmark = pytest.mark.timeout(240)


@pytest.fixture
def run(run_forked: Callable, database_url: str, database: Database, tmp_path: Path) -> Callable:
    with database.transaction() as session:
        identity.ensure_first_agent(session)

    def one(*arguments: str, stdin: str = "") -> object:
        environment = {"MARVAIN_DATABASE_URL": database_url}
        return run_forked(*arguments, "--data", str(tmp_path / "data"), "--json", stdin=stdin, environment=environment)

    return one


def answer(done: object) -> object:
    assert done.returncode == 0, done.stderr  # type: ignore[attr-defined]
    return json.loads(done.stdout)  # type: ignore[attr-defined]


def refusal(done: object) -> tuple[int, str | None]:
    assert done.stdout == ""  # type: ignore[attr-defined]
    assert "Traceback" not in done.stderr  # type: ignore[attr-defined]
    return done.returncode, json.loads(done.stderr)["error"].get("field")  # type: ignore[attr-defined]


def test_devices_refused(run: Callable) -> None:
    assert refusal(run("device", "add", "Porch", "--scope", "everything:write")) == (2, "scopes")
    assert refusal(run("device", "add", "Porch", "--agent", "Elsewhere")) == (3, "agent")
    assert refusal(run("device", "add", "Porch", "--space", "Moon")) == (3, "space")
    assert refusal(run("device", "add", "Porch", "--handle", "no_underscore")) == (2, "handle")
    assert refusal(run("device", "add", "   ")) == (2, "name")
    assert answer(run("device", "list")) == []


def test_a_device_from_first_to_last(run: Callable) -> None:
    added = answer(run("device", "add", "Front Door", "--space", "home", "--scope", "events:write"))
    assert set(added) == {"handle", "device_id", "token"}
    assert added["token"].startswith(f"mv1.{added['handle']}.")
    assert refusal(run("device", "add", "Other", "--handle", added["handle"])) == (4, "handle")
    (row,) = answer(run("device", "list"))
    assert (row["handle"], row["device_id"]) == (added["handle"], added["device_id"])
    assert row["presence"] == "offline"
    assert row["last_heard_at"] is None
    assert row["scopes"] == ["events:write"]
    assert added["token"] not in json.dumps(row)
    rotated = answer(run("device", "rotate", added["handle"]))
    assert rotated["device_id"] == added["device_id"]
    assert rotated["token"] != added["token"]
    revoked = answer(run("device", "revoke", added["handle"], "--reason", "lost"))
    assert revoked["revoked_at"]
    assert refusal(run("device", "revoke", added["handle"]))[0] == 4
    assert refusal(run("device", "rotate", added["handle"]))[0] == 4


def test_an_integration_from_first_to_last(run: Callable) -> None:
    assert refusal(run("integration", "add", "HA", "--role", "Gardener")) == (3, "role")
    added = answer(run("integration", "add", "Home Assistant", "--handle", "ha"))
    assert (added["username"], added["token"][:11]) == ("ext_ha", "mv1.ext_ha.")
    (row,) = answer(run("integration", "list"))
    assert (row["username"], row["roles"], row["integration_id"]) == ("ext_ha", [], added["integration_id"])
    assert added["token"] not in json.dumps(row)
    assert answer(run("integration", "rotate", "ext_ha"))["token"] != added["token"]
    assert answer(run("integration", "revoke", "ha", "--reason", "sold"))["revoked_at"]


def test_people(run: Callable) -> None:
    assert refusal(run("user", "add", "no address")) == (2, "email")
    assert refusal(run("user", "add", "ann@example.org", "--password-stdin", stdin="short\n"))[0] == 2
    first = answer(
        run("user", "add", "Ann@example.org", "--password-stdin", stdin="violet teapot on the nineteenth stair\n")
    )
    assert (first["email"], first["role"], first["link"]) == ("ann@example.org", "owner", None)
    second = answer(run("user", "add", "ben@example.org"))
    assert second["role"] == "member"
    assert "/invite/" in second["link"]
    assert refusal(run("user", "add", "eve@example.org", "--role", "owner")) == (4, "role")
    assert refusal(run("user", "add", "ann@example.org"))[0] == 4
    assert refusal(run("user", "role", "ann@example.org", "guest")) == (4, "role")
    assert answer(run("user", "role", "ben@example.org", "blocked"))["role"] == "blocked"
    answer(run("user", "remove", "ben@example.org"))
    assert "/invite/" in answer(run("user", "reset", "ann@example.org"))["link"]
    assert refusal(run("user", "reset", "nobody@example.org")) == (3, "email")
    # Who never signed in may get another link; the earlier one no longer works then.
    assert answer(run("user", "add", "ben@example.org"))["link"] != second["link"]


def test_agents(run: Callable) -> None:
    (home,) = answer(run("agent", "list"))
    assert home["name"] == "Home"
    assert [space["name"] for space in home["spaces"]] == ["Home"]
    assert refusal(run("agent", "add", "Cabin", "--owner", "nobody@example.org")) == (3, "owner")
    answer(run("user", "add", "ann@example.org", "--password-stdin", stdin="violet teapot on the nineteenth stair\n"))
    made = answer(run("agent", "add", "Cabin", "--owner", "ann@example.org"))
    assert answer(run("agent", "rename", "cabin", "Hut"))["agent_id"] == made["agent_id"]
    assert refusal(run("agent", "rename", "hut", "")) == (2, "name")
    assert answer(run("agent", "disable", "hut"))["disabled"]
    assert [one["disabled"] for one in answer(run("agent", "list"))] == [False, True]
    assert not answer(run("agent", "enable", "hut"))["disabled"]
    (ann,) = answer(run("user", "list"))
    assert (ann["agents"], ann["can_sign_in"]) == ([["Home", "owner"], ["Hut", "owner"]], True)
    assert refusal(run("agent", "delete", "hut", "--typed", "Home")) == (2, "typed")
    assert answer(run("agent", "delete", "hut", "--typed", "Hut"))["lost"]["spaces"] == 1
    assert refusal(run("agent", "delete", "home", "--typed", "Home"))[0] == 4, "the last one stays"


def test_a_person_is_shut_out(run: Callable, database: Database) -> None:
    answer(run("user", "add", "ann@example.org", "--password-stdin", stdin="violet teapot on the nineteenth stair\n"))
    with database.transaction() as session:
        ann = identity.find_user(session, "ann@example.org")
        assert ann is not None
        sign_in.start_session(session, ann, "192.0.2.7", "a browser", datetime.now(UTC))
    (browser,) = answer(run("user", "sessions", "ann@example.org"))
    assert (browser["address"], browser["browser"]) == ("192.0.2.7", "a browser")
    answer(run("user", "disable", "ann@example.org"))
    (shown,) = answer(run("user", "list"))
    assert (shown["disabled"], shown["can_sign_in"], shown["sessions"]) == (True, False, 0)
    answer(run("user", "enable", "ann@example.org"))
    (shown,) = answer(run("user", "list"))
    assert (shown["disabled"], shown["can_sign_in"]) == (False, True)
    assert [one["action"] for one in answer(run("audit", "list", "--agent", "hub"))][:3] == [
        "user.enabled",
        "user.disabled",
        "user.signed_out",
    ]
    assert refusal(run("user", "disable", "nobody@example.org")) == (3, "email")


def test_doctor_on_a_database_of_ones_own(run: Callable) -> None:
    told = answer(run("doctor"))
    assert told["ok"]
    parts = {check["part"]: check for check in told["checks"]}
    assert parts["postgres"]["found"].startswith("PostgreSQL ")
    assert parts["pgvector"]["ok"]
    assert parts["schema"]["ok"]
    assert parts["instance"]["ok"] is None
    assert all(check["to_do"] for check in told["checks"] if check["ok"] is False)


def test_a_device_is_told_set_and_tagged(run: Callable) -> None:
    answer(run("device", "add", "Porch", "--handle", "porch"))
    assert refusal(run("device", "send", "porch", "ping", "{")) == (2, "args")
    assert refusal(run("device", "send", "porch", "a/b")) == (2, "verb")
    assert refusal(run("device", "config", "set", "porch", "Bad Key=1")) == (2, "values.Bad Key")
    assert refusal(run("device", "tag", "porch", "--add", "Ü")) == (2, "tags")
    sent = answer(run("device", "send", "porch", "blink", '{"times": 3}', "--within", "600"))
    assert (sent["verb"], sent["status"], sent["args"]) == ("blink", "queued", {"times": 3})
    answer(run("device", "config", "set", "porch", "heartbeat_s=20", "name=Porch lamp", "flag=true"))
    found = answer(run("device", "config", "set", "porch", '{"flag": null, "more": [1]}'))
    assert found["config"]["desired"] == {"heartbeat_s": 20, "name": "Porch lamp", "more": [1]}
    assert answer(run("device", "config", "get", "porch")) == found
    assert answer(run("device", "config", "set", "porch", "a=1", "--replace"))["config"]["desired"] == {"a": 1}
    assert answer(run("device", "tag", "porch", "--add", "lamps", "--add", "up", "--remove", "up"))["tags"] == ["lamps"]


def test_the_audit_is_listed_verified_and_held_to_what_was_kept(run: Callable, database: Database) -> None:
    answer(run("device", "add", "Porch"))
    (added,) = answer(run("audit", "list", "--action", "device.added"))
    assert (added["actor"], added["actor_kind"], added["subject"]) == ("command line", "system", "porch")
    kept = {one["chain"]: one for one in answer(run("audit", "head"))}
    (agent,) = [chain for chain in kept if chain != "hub"]
    line = f"{agent}:{kept[agent]['seq']}:{kept[agent]['hash']}"
    assert all(one["whole"] for one in answer(run("audit", "verify", "--expect", line)))
    assert refusal(run("audit", "verify", "--expect", "nonsense")) == (2, "expect")
    with database.engine.begin() as connection:
        for table in ("audit_entries", "audit_chains"):
            connection.execute(text(f"ALTER TABLE {table} DISABLE TRIGGER USER"))
        connection.execute(text("DELETE FROM audit_entries"))
        connection.execute(text("DELETE FROM audit_chains"))
    done = run("audit", "verify", "--expect", line)
    assert done.returncode == 1
    (gone,) = json.loads(done.stdout)
    assert (gone["whole"], gone["faults"][0]["seq"]) == (False, kept[agent]["seq"])


def test_actions_from_proposal_to_decision(run: Callable) -> None:
    assert answer(run("actions", "list")) == []
    assert refusal(run("actions", "propose", "teleport")) == (2, "tool")
    assert refusal(run("actions", "propose", "send_message", "{")) == (2, "args")
    assert refusal(run("actions", "propose", "send_message", "{}")) == (2, "args.text")
    made = answer(run("actions", "propose", "send_message", '{"text": "Dinner!"}', "--why", "six", "--key", "k"))
    again = answer(run("actions", "propose", "send_message", '{"text": "Dinner!"}', "--key", "k"))
    assert (made["status"], again["action_id"]) == ("proposed", made["action_id"])
    assert refusal(run("actions", "propose", "send_message", '{"text": "x"}', "--key", "k")) == (4, "key")
    assert refusal(run("actions", "approve", made["action_id"], "--digest", "0" * 64)) == (4, "digest")
    done = answer(run("actions", "approve", made["action_id"], "--reason", "good"))
    assert (done["status"], done["decided_by"], done["decision_reason"]) == ("approved", "command line", "good")
    assert refusal(run("actions", "reject", made["action_id"]))[0] == 4
    assert answer(run("actions", "cancel", made["action_id"]))["status"] == "cancelled"
    other = answer(run("actions", "propose", "send_message", '{"text": "Supper!"}'))
    assert answer(run("actions", "reject", other["action_id"]))["status"] == "rejected"
    assert [one["status"] for one in answer(run("actions", "list", "--status", "rejected"))] == ["rejected"]
    assert answer(run("actions", "show", other["action_id"]))["steps"][-1]["step"] == "rejected"
    assert refusal(run("actions", "show", "nothing")) == (2, "action")
    assert refusal(run("actions", "show", "00000000-0000-4000-8000-000000000000")) == (3, "action")
