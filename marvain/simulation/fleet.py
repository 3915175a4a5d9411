"""The fleet's devices in an agent of their own, made through the hub's functions; and the fleet at work."""

import asyncio
import random
import statistics
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import text
from sqlmodel import Session

from hub import agent_deletion, agents, devices, identity
from hub.database import Database
from hub.tables import Agent, Device, User
from marvain.simulation.satellite import Counts, Satellite

NAME: Final = "Simulated fleet"
PREFIX: Final = "sim"
# Devices of one transaction.
AT_ONCE: Final = 200
# Brokers bound how many come from one address; on this machine there are many.
PER_ADDRESS: Final = 1_000
STARTS_PER_S: Final = 400
_KEPT_WAITS: Final = 20_000


@dataclass(frozen=True, slots=True)
class Figures:
    """What the last seconds brought; waits from an event to its receipt in milliseconds, None without any."""

    seconds: float
    connected: int
    events_per_s: float
    receipts_per_s: float
    p50_ms: float | None
    p99_ms: float | None


def find(session: Session) -> Agent | None:
    """The agent of the fleet, if there is one."""
    return next((agent for agent in identity.list_agents(session) if agent.name == NAME), None)


def make(database: Database, count: int, tokens: dict[str, str], *, by: str) -> dict[str, str]:
    """At least `count` devices with their tokens, by handle; those of `tokens` are there already."""
    with database.transaction() as session:
        agent = find(session) or _make_agent(session, by)
        agent_id = agent.agent_id
    found: dict[str, str] = {}
    for start in range(0, count, AT_ONCE):
        with database.transaction() as session:
            for number in range(start, min(start + AT_ONCE, count)):
                handle = f"{PREFIX}-{agent_id.hex[:6]}-{number:05}"
                found[handle] = tokens.get(handle) or _token(session, agent_id, handle, by)
    return found


def remove(database: Database, *, by: str) -> int:
    """Delete the agent of the fleet with all that it has; returns how many devices that were."""
    with database.transaction() as session:
        agent = find(session)
        return agent_deletion.delete(session, agent.agent_id, NAME, by=by).devices if agent else 0


def _make_agent(session: Session, by: str) -> Agent:
    owner = session.execute(
        text(
            "SELECT m.user_id FROM agents AS a JOIN agent_memberships AS m USING (agent_id) WHERE m.role = 'owner'"
            " AND m.revoked_at IS NULL AND a.deleted_at IS NULL ORDER BY a.created_at LIMIT 1"
        )
    ).scalar()
    if owner is not None:
        # Whoever owns the hub's first agent sees the fleet too.
        return agents.create_for(session, session.get_one(User, owner), NAME, "Made by `marvain simulate`", by=by)
    identity.ensure_first_agent(session)  # the fleet's may not be the only one: it is to be removable
    agent = Agent(name=NAME, about="Made by `marvain simulate`")
    session.add(agent)
    session.flush()
    return agent


def _token(session: Session, agent_id: uuid.UUID, handle: str, by: str) -> str:
    found = session.execute(text("SELECT device_id FROM devices WHERE handle = :handle"), {"handle": handle}).scalar()
    if found is None:
        added = devices.add(
            session,
            agent_id,
            f"Satellite {handle.rpartition('-')[2]}",
            scopes=list(devices.DEFAULT_SCOPES),
            by=by,
            handle=handle,
        )
        return added.token
    return devices.rotate(session, session.get_one(Device, found), by=by)


async def drive(
    tokens: Mapping[str, str],
    host: str,
    port: int,
    root: str,
    *,
    rate: float,
    seconds: float | None,
    heartbeat_s: float,
    counts: Counts,
    told: Callable[[Figures], None],
    every_s: float = 5.0,
) -> None:
    """Run the fleet: `rate` events a second of all together, for `seconds` or until cancelled.

    `counts` is added to, and `told` gets figures every `every_s` seconds.
    """
    satellites = [
        Satellite(handle, token, host, port, root, counts, heartbeat_s=heartbeat_s, local=_local(host, number))
        for number, (handle, token) in enumerate(tokens.items())
    ]
    tasks = [asyncio.create_task(_start(satellite, n / STARTS_PER_S)) for n, satellite in enumerate(satellites)]
    tasks += [asyncio.create_task(_report(satellites, rate)), asyncio.create_task(_tell(counts, told, every_s))]
    try:
        await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_EXCEPTION)
        for task in tasks:
            if task.done():
                task.result()
    finally:
        for satellite in satellites:
            satellite.bye()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _start(satellite: Satellite, after_s: float) -> None:
    await asyncio.sleep(after_s)
    await satellite.run()


async def _report(satellites: Sequence[Satellite], rate: float) -> None:
    """Events at random satellites, evenly over time; what could not be sent in time is not made up for."""
    tick_s = 0.02
    owed = 0.0
    last = time.monotonic()
    while True:
        await asyncio.sleep(tick_s)
        now = time.monotonic()
        owed = min(owed + (now - last) * rate, rate * 0.5 + 1)
        last = now
        while owed >= 1:
            owed -= 1
            random.choice(satellites).report()  # noqa: S311 - spreads load


async def _tell(counts: Counts, told: Callable[[Figures], None], every_s: float) -> None:
    last, events, receipts = time.monotonic(), 0, 0
    while True:
        await asyncio.sleep(every_s)
        now = time.monotonic()
        told(_figures(counts, now - last, counts.events - events, counts.receipts - receipts))
        last, events, receipts = now, counts.events, counts.receipts
        del counts.waits[:-_KEPT_WAITS]


def _figures(counts: Counts, seconds: float, events: int, receipts: int) -> Figures:
    waits = counts.waits[-_KEPT_WAITS:]
    cuts = statistics.quantiles(waits, n=100) if len(waits) > 1 else None
    return Figures(
        seconds,
        counts.connected,
        events / seconds,
        receipts / seconds,
        1e3 * cuts[49] if cuts else None,
        1e3 * cuts[98] if cuts else None,
    )


def _local(host: str, number: int) -> str:
    """The address that a connection comes from; "" lets the system choose."""
    return f"127.0.1.{1 + number // PER_ADDRESS % 250}" if host == "127.0.0.1" else ""
