"""The commands against an instance that is not up: PostgreSQL is started for each and stopped after it."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from marvain.embedded_postgres import EmbeddedPostgres

pytestmark = pytest.mark.timeout(240)


def answer(done: object) -> object:
    assert done.returncode == 0, done.stderr  # type: ignore[attr-defined]
    return json.loads(done.stdout)  # type: ignore[attr-defined]


def refusal(done: object) -> tuple[int, dict[str, str]]:
    assert done.stdout == ""  # type: ignore[attr-defined]
    assert "Traceback" not in done.stderr  # type: ignore[attr-defined]
    return done.returncode, json.loads(done.stderr)["error"]  # type: ignore[attr-defined]


def test_no_instance_is_said_and_none_is_made(run_cli: Callable, folder: Path) -> None:
    code, error = refusal(run_cli("device", "list", "--data", str(folder), "--json"))
    assert (code, error["kind"]) == (3, "not_found")
    assert "marvain up" in error["message"]
    assert not folder.exists()


@pytest.mark.parametrize(
    "arguments",
    [["nonsense"], ["device"], ["device", "add"], ["device", "nonsense"], ["migrate", "--dry-run", "--adopt"]],
)
def test_usage_faults_exit_with_2_and_one_line(run_cli: Callable, folder: Path, arguments: list[str]) -> None:
    done = run_cli(*arguments)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_a_wrong_database_url_is_said_without_its_password(run_cli: Callable, folder: Path) -> None:
    environment = {"MARVAIN_DATABASE_URL": "mysql://ann:secret@127.0.0.1/x"}
    code, error = refusal(run_cli("agent", "list", "--data", str(folder), "--json", environment=environment))
    assert code == 2
    assert "postgresql://" in error["message"]
    assert "secret" not in json.dumps(error)


def test_a_database_that_is_away_is_unavailable(run_cli: Callable, folder: Path) -> None:
    environment = {"MARVAIN_DATABASE_URL": "postgresql://ann:secret@127.0.0.1:1/x"}
    done = run_cli("agent", "list", "--data", str(folder), "--json", environment=environment)
    code, error = refusal(done)
    assert (code, error["kind"]) == (69, "unavailable")
    assert "secret" not in done.stderr


def test_version_in_both_forms(run_cli: Callable) -> None:
    number = answer(run_cli("version", "--json"))["version"]  # type: ignore[index]
    assert run_cli("version").stdout == f"marvain {number}\n"


def test_the_life_of_an_instance_that_is_not_up(run_cli: Callable, folder: Path) -> None:
    def run(*arguments: str, **more: object) -> object:
        return run_cli(*arguments, "--data", str(folder), "--json", **more)

    # Before the schema is there, commands say what to do.
    plan = answer(run("migrate", "--dry-run"))
    assert plan["apply"][0].startswith("001")  # type: ignore[index]
    code, error = refusal(run("agent", "list"))
    assert (code, error["kind"]) == (78, "config")
    assert "marvain migrate" in error["message"]
    assert answer(run("migrate"))["applied"] == plan["apply"]  # type: ignore[index]
    assert answer(run("migrate"))["applied"] == []  # type: ignore[index]
    newest = plan["apply"][-1]  # type: ignore[index]
    before = plan["apply"][-2].split("_")[0]  # type: ignore[index]
    assert answer(run("migrate", "--rollback-to", before))["rolled_back"] == [newest]  # type: ignore[index]
    assert refusal(run("migrate", "--rollback-to", "999"))[0] == 2
    assert answer(run("migrate"))["applied"] == [newest]  # type: ignore[index]
    assert EmbeddedPostgres(folder).attach() is None

    # `up` makes the first agent; without it there is none to add to.
    code, error = refusal(run("device", "add", "Porch"))
    assert (code, error["field"]) == (2, "agent")
    assert answer(run("agent", "list")) == []
    assert answer(run("doctor"))["ok"] is True  # type: ignore[index]
    assert refusal(run("device", "revoke", "nobody"))[0] == 3
    assert refusal(run("device", "ping", "nobody"))[0] == 4
