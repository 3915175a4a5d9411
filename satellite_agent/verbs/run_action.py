"""`run_action`: one of the commands that the config names; what is not named there cannot be run."""

import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from satellite_agent import process
from satellite_agent.verbs.actions import Action, ArgumentError, fault_of_name
from satellite_agent.verbs.output import json_size, text_of
from satellite_agent.verbs.verb import Job, Verb, VerbError

# What the hub's form shows of all actions together; the hub takes a schema of 16 KiB.
_MOST_ABOUT: Final = 4_000
_MOST_ACTIONS: Final = 100


class Args(msgspec.Struct, forbid_unknown_fields=True):
    """Which action, with which arguments."""

    name: Annotated[str, Meta(max_length=63)]
    args: dict[str, Any] = {}


def verb(tables: Mapping[str, Any]) -> Verb:
    """The verb for these actions by name; raises `ValueError` naming the one that is wrong."""
    actions = _read(tables)

    def run(args: Args, job: Job) -> dict[str, Any]:
        action = actions.get(args.name)
        if action is None:
            raise VerbError("unknown_action", f"this satellite can do {', '.join(sorted(actions))}"[:500])
        try:
            command = action.fill(args.args)
        except ArgumentError as error:
            raise VerbError("invalid_args", str(error)) from None
        done = process.run(
            command,
            job,
            action.limits,
            stdin=action.stdin.encode(),
            environment=action.environment,
            directory=action.directory,
            heard=_listener(action.progress, job),
        )
        stdout, is_short = text_of(done.stdout)
        stderr, is_shorter = text_of(done.stderr)
        if done.exit_code != 0:
            raise VerbError(f"exit_{done.exit_code}", _last_words(done.exit_code, stderr or stdout))
        return {
            "exit_code": 0,
            "stdout": stdout,
            "stderr": stderr,
            "truncated": done.truncated or is_short or is_shorter,
            "took_s": done.took_s,
        }

    return Verb("run_action", "high", Args, run, schema=_schema(actions))


def _read(tables: Mapping[str, Any]) -> dict[str, Action]:
    if not tables:
        raise ValueError("names no action; each is a table [verbs.run_action.<name>]")
    if len(tables) > _MOST_ACTIONS:
        raise ValueError(f"names more than {_MOST_ACTIONS} actions")
    actions: dict[str, Action] = {}
    for name, table in tables.items():
        try:
            actions[name] = msgspec.convert(table, Action)
        except msgspec.ValidationError as error:
            raise ValueError(f"{name}: {error}") from None
        if fault := fault_of_name(name) or actions[name].fault():
            raise ValueError(f"{name}: {fault}")
    return actions


def _schema(actions: Mapping[str, Action]) -> dict[str, Any]:
    names = sorted(actions)
    about = "; ".join(f"{name}: {shown}" for name in names if (shown := actions[name].shown()))
    properties: dict[str, Any] = {"name": {"type": "string", "enum": names, "description": about[:_MOST_ABOUT]}}
    if any(action.args for action in actions.values()):
        properties["args"] = {"type": "object", "description": "What that action takes."}
    schema = {"type": "object", "properties": properties, "required": ["name"], "additionalProperties": False}
    if json_size(schema) > 2 * _MOST_ABOUT:
        properties["name"].pop("description")
    return schema


def _listener(pattern: str | None, job: Job) -> Callable[[bytes], None] | None:
    if pattern is None:
        return None
    expression = re.compile(pattern.encode())
    tail = bytearray()

    def heard(data: bytes) -> None:
        tail.extend(data)
        del tail[:-4096]  # enough for any line that tells a number of percent
        for found in list(expression.finditer(bytes(tail)))[-1:]:
            try:
                percent = float(found[1])
            except (TypeError, ValueError):
                continue
            job.progress(percent / 100, found[0].decode("utf-8", "replace")[:200])

    return heard


def _last_words(exit_code: int, text: str) -> str:
    how = f"it ended with exit code {exit_code}" if exit_code > 0 else f"signal {-exit_code} ended it"
    words = text.strip()
    return f"{how}: {words[-400:]}" if words else how
