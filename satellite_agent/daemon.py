"""Puts the parts together: the daemon of `run`, and the short-lived satellite of `send` when no daemon runs."""

import asyncio
import contextlib
import logging
import os
import signal
import sqlite3
from typing import Any

from hub_protocol.errors import ProtocolError
from hub_protocol.topics import Topics
from satellite_agent import control
from satellite_agent.agent import Agent
from satellite_agent.connection import Refused, connect
from satellite_agent.database import open_database
from satellite_agent.epoch import Epochs
from satellite_agent.outbox import OutboxError
from satellite_agent.receipts import DEFAULT_TIMEOUT_S, Sent
from satellite_agent.settings import Settings
from satellite_agent.state import StateDir, StateUnwritable
from satellite_agent.systemd import Systemd

log = logging.getLogger(__name__)


def run(settings: Settings) -> bool:
    """Run until SIGTERM or SIGINT (False), or until the hub asks for a new process (True).

    Raises `Refused` when the hub does not want it, `StateError` and `SettingsError` at the start.
    """
    os.umask(0o077)
    try:
        state = StateDir(settings.state_dir)
    except StateUnwritable as error:
        log.warning(
            "%s; epochs go by the time, unsent events do not survive a restart, send and status do not work", error
        )
        with contextlib.closing(open_database(None, settings.handle)) as db:
            return asyncio.run(_daemon(settings, db, None))
    with state, contextlib.closing(open_database(state.database, settings.handle)) as db:
        return asyncio.run(_daemon(settings, db, state))


def send(settings: Settings, event_type: str, payload: dict[str, Any], space: str | None, timeout_s: float) -> Sent:
    """Connect for one event and wait for its receipt. What does not get through stays in the outbox.

    Raises `ProtocolError`, `OutboxError`, `StateError`, or `Refused` with the event kept.
    """
    os.umask(0o077)
    with StateDir(settings.state_dir) as state:  # noqa: SIM117 - the file stands in the folder
        with contextlib.closing(open_database(state.database, settings.handle)) as db:
            return asyncio.run(_send(settings, db, state, event_type, payload, space, timeout_s))


async def _daemon(settings: Settings, db: sqlite3.Connection, state: StateDir | None) -> bool:
    agent = Agent(settings, db, Epochs(state.epoch if state else None))
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(note_loose_end)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, agent.stop)
    async with contextlib.AsyncExitStack() as stack:
        if state is not None:
            await stack.enter_async_context(control.serve(state.control, lambda request: _answer(agent, request)))
        # Whether the hub is there says nothing about the start of this service.
        await stack.enter_async_context(Systemd(os.environ).told(lambda: _in_a_line(agent)))
        try:
            await agent.run()
        except Refused as error:
            raise Refused(refusal_text(error, agent)) from None
    return agent.is_to_restart


def knock(settings: Settings) -> None:
    """Log in and out again without a word, when no daemon runs here; raises `Refused` or `Unreachable`."""

    async def once(epoch: int) -> None:
        async with connect(settings, Topics(settings.root), epoch):
            pass

    try:
        with StateDir(settings.state_dir) as state:
            asyncio.run(once(Epochs(state.epoch).next()))
    except StateUnwritable:
        asyncio.run(once(Epochs(None).next()))


def _in_a_line(agent: Agent) -> str:
    why = f": {agent.status.why}" if agent.status.why else ""
    return f"{agent.status.connection}, epoch {agent.status.epoch}, {agent.outbox.backlog} waiting{why}"[:200]


def note_loose_end(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """A callback of the MQTT client may find its socket closed already; that the connection broke is told elsewhere."""
    if isinstance(context.get("exception"), OSError):
        log.debug("after the connection broke: %s", context["exception"])
    else:
        loop.default_exception_handler(context)


async def _send(
    settings: Settings,
    db: sqlite3.Connection,
    state: StateDir,
    event_type: str,
    payload: dict[str, Any],
    space: str | None,
    timeout_s: float,
) -> Sent:
    agent = Agent(settings, db, Epochs(state.epoch), measures=False)
    event_id = agent.send(event_type, payload, space)
    running = asyncio.create_task(agent.run())
    receipt = asyncio.create_task(agent.answer(event_id, timeout_s))
    await asyncio.wait({running, receipt}, return_when=asyncio.FIRST_COMPLETED)
    agent.stop()
    try:
        await running
    except Refused as error:
        receipt.cancel()
        raise Refused(f"{refusal_text(error, agent)}; the event {event_id} is kept in the outbox") from None
    return await receipt


def refusal_text(error: Refused, agent: Agent) -> str:
    """Why the connection was refused, with what the hub said last."""
    denied = agent.status.last_denied
    return (
        f"{error} (the hub said: {denied.reason})" if denied is not None and denied.action == "connect" else str(error)
    )


def _measure(agent: Agent, stream: str, value: float) -> control.Answer:
    try:
        agent.measure(stream, value)
    except ProtocolError as error:
        return control.refusal(getattr(error, "field", "") or "value", getattr(error, "rule", str(error)))
    except OutboxError as error:
        return control.refusal("outbox", str(error))
    return {"ok": True}


async def _answer(agent: Agent, request: dict[str, Any]) -> control.Answer:
    match request:
        case {"do": "status"}:
            return {"ok": True, "status": agent.facts()}
        case {"do": "send", "type": str() as event_type, "payload": dict() as payload}:
            space, timeout_s = request.get("space"), request.get("timeout_s", DEFAULT_TIMEOUT_S)
            if not isinstance(space, str | None) or not isinstance(timeout_s, int | float):
                return control.refusal("request", "space must be a text and timeout_s a number")
            try:
                event_id = agent.send(event_type, payload, space)
            except ProtocolError as error:
                return control.refusal(getattr(error, "field", "") or "payload", getattr(error, "rule", str(error)))
            except OutboxError as error:
                return control.refusal("outbox", str(error))
            return {"ok": True, "sent": await agent.answer(event_id, min(timeout_s, 3600))}
        case {"do": "telemetry", "stream": str() as stream, "value": float() as value}:
            return _measure(agent, stream, value)
    return control.refusal(
        "request", "must be send with a type and a payload object, telemetry with a stream and a number, or status"
    )
