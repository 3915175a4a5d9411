"""How soon a change of access takes effect on sessions that are open, ours beside Mosquitto kept by our adapter.

    python bench/acl_live.py [--broker embedded|mosquitto] [--sessions 1000]

Timed from the beginning of the commit until the client is cut off, or until the sending of the first message that no
longer reaches its subscription: one is sent every 20 ms, on a busy machine less often, which the table says. Both
brokers run in one go unless one is named, each with a Postgres of its own. Sessions that no change concerns must stay.
"""

import argparse
import asyncio
import contextlib
import dataclasses
import math
import sys
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import report
from live_home import EACH, GROUPS, HUB_PASSWORD, Home, Page, cpu_s, furnish, in_group, running
from live_peers import Peer, Prober, connect
from scratch import scratch
from sqlmodel import Session

from hub import devices, members, sessions
from hub.access import roles
from hub.access.roles import GrantDraft, RoleDraft
from hub.settings import HUB_USERNAME

ROOT = "marvain/v1"
WITHIN_S = 10.0
ASK_EVERY_S = 0.1
# Devices revoked while a long edit is under way.
BESIDE = 5


@dataclass
class Times:
    """Seconds from commit to effect; None for what had no effect in time. `closed` counts sessions that were ended.

    `gap_s` is the longest time between two probes, where there were any: what a figure may be too high by. `cpu_s` is
    the processor time that the broker's processes took meanwhile, probes and all.
    """

    seconds: list[float | None] = field(default_factory=list)
    closed: int = 0
    gap_s: float | None = None
    cpu_s: float = 0.0

    def percentile(self, share: float) -> float:
        known = sorted(WITHIN_S if one is None else one for one in self.seconds)
        if not known:
            return math.nan
        return 1e3 * known[min(len(known) - 1, int(share * len(known)))]


async def measure(home: Home, port: int, pid: int) -> tuple[dict[str, Times], int]:
    """Times by kind of change, and how many sessions were cut off that none of them concerned."""
    x, ui = f"{ROOT}/x/{home.agent_id}", f"{ROOT}/ui/{home.agent_id}/devices"
    group_of = {name: group for group in range(GROUPS) for name in in_group(group)}
    accounts: list[tuple[str, str, list[str]]] = []
    for name, token in home.tokens.items():
        more = [f"{x}/group-{group_of[name]}"] if name in group_of else []
        more += [f"{ROOT}/d/{name}/own"] if name in in_group(GROUPS) else []
        more += [f"{ROOT}/d/{name}/each"]
        accounts.append((name, token, [f"{ROOT}/d/{name}/cmd/+/+", f"{x}/all", *more]))
    accounts += [(page.username, page.password, [f"{ROOT}/ui/{home.agent_id}/#"]) for page in home.pages]
    peers = await connect(port, accounts)
    publisher = (await connect(port, [(HUB_USERNAME, HUB_PASSWORD, [])]))[HUB_USERNAME]
    loud = Loud(home, peers, publisher, pid)
    names = list(home.tokens)
    found = {
        "device revoked": await loud.cut(
            [(name, lambda session, name=name: revoke(session, name)) for name in names[:EACH]]
        ),
        "token rotated": await loud.cut(
            [(name, lambda session, name=name: rotate(session, name)) for name in names[EACH : 2 * EACH]]
        ),
        "signed out": await loud.cut(
            [
                (page.username, lambda session, page=page: sessions.sign_out(session, page.session_id))
                for page in home.pages[:EACH]
            ]
        ),
        "member removed": await loud.deafen(
            [
                ([(page.username, ui)], lambda session, page=page: leave(session, home, page))
                for page in home.pages[EACH : 2 * EACH]
            ]
        ),
        "scopes edited": await loud.deafen(
            [
                ([(name, f"{ROOT}/d/{name}/cmd/ping/1")], lambda session, name=name: narrow(session, name))
                for name in names[2 * EACH : 3 * EACH]
            ]
        ),
        "role of 50 edited": await loud.deafen(
            [
                (
                    [(name, f"{x}/group-{group}") for name in in_group(group)],
                    lambda session, role_id=role_id: empty(session, home, role_id),
                )
                for group, role_id in enumerate(home.group_roles)
            ]
        ),
    }
    own = [(name, f"{ROOT}/d/{name}/own") for name in in_group(GROUPS)]
    committed = asyncio.Event()
    editing = asyncio.create_task(
        loud.deafen([(own, lambda session: empty(session, home, home.own))], every_s=0.1, committed=committed)
    )
    await committed.wait()
    found["device revoked meanwhile"] = await loud.cut(
        [(name, lambda session, name=name: revoke(session, name)) for name in names[-BESIDE:]]
    )
    found["role of 50 with {handle} edited"] = await editing
    bearers = [name for name in names if peers[name].ended_at is None][:EACH]
    found["right with {handle} given to 50"] = await loud.reach(
        [(name, f"{ROOT}/d/{name}/more") for name in bearers],
        lambda session: give(session, home, bearers),
    )
    left = [name for name in names if peers[name].ended_at is None]
    found["role of all others with {handle} edited"] = await loud.deafen(
        [([(name, f"{ROOT}/d/{name}/each") for name in left], lambda session: empty(session, home, home.each))],
        every_s=0.2,
    )
    # Mosquitto has sent them off.
    peers.update(await connect(port, [(name, home.tokens[name], [f"{x}/all"]) for name in left]))
    found["role of all others edited"] = await loud.deafen(
        [([(name, f"{x}/all") for name in left], lambda session: empty(session, home, home.everybody))], every_s=0.2
    )
    others = [peer for name, peer in peers.items() if name not in loud.concerned]
    return found, sum(peer.ended_at is not None for peer in others)


@dataclass
class Loud:
    """Makes changes beside open sessions and times what follows."""

    home: Home
    peers: dict[str, Peer]
    publisher: Peer
    pid: int
    concerned: set[str] = field(default_factory=set)

    async def cut(self, changes: list[tuple[str, Callable[[Session], object]]]) -> Times:
        """One after the other, each until its session has ended."""
        times = Times(cpu_s=-cpu_s(self.pid))
        for name, change in changes:
            self.concerned.add(name)
            began = await asyncio.to_thread(self.home.at_commit, change)
            peer = self.peers[name]
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(peer.ended), WITHIN_S)
            is_ours = peer.ended_at is not None and peer.ended_at >= began
            times.seconds.append(peer.ended_at - began if is_ours and peer.ended_at is not None else None)
            times.closed += peer.ended_at is not None
        times.cpu_s += cpu_s(self.pid)
        return times

    async def reach(self, wanted: list[tuple[str, str]], change: Callable[[Session], object]) -> Times:
        """One change; then until each (username, filter) may be subscribed to, asked again and again."""
        spent = cpu_s(self.pid)
        began = await asyncio.to_thread(self.home.at_commit, change)

        async def reached(name: str, filter_: str) -> float | None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(WITHIN_S):
                    while not await self.peers[name].subscribe(filter_):  # noqa: ASYNC110 - asks a broker
                        await asyncio.sleep(ASK_EVERY_S)
                    return time.perf_counter() - began
            return None

        times = Times(list(await asyncio.gather(*(reached(*one) for one in wanted))))
        times.cpu_s = cpu_s(self.pid) - spent
        times.closed = sum(self.peers[name].ended_at is not None for name, _ in wanted)
        return times

    async def deafen(
        self,
        changes: list[tuple[list[tuple[str, str]], Callable[[Session], object]]],
        every_s: float = 0.02,
        committed: asyncio.Event | None = None,
    ) -> Times:
        """One after the other while probes are sent; then until all their (username, topic) subscriptions are dead.

        `committed` is set once all changes are made.
        """
        times = Times(cpu_s=-cpu_s(self.pid))
        wanted = [[(self.peers[name], topic) for name, topic in of_one] for of_one, _ in changes]
        topics = sorted({topic for of_one in wanted for _, topic in of_one})
        prober = Prober(self.publisher, topics, every_s)
        everyone = [one for of_one in wanted for one in of_one]
        if not await prober.reached(everyone):
            # The broker has cut off whom it should have kept: nothing can be timed any more.
            if committed is not None:
                committed.set()
            await prober.stop()
            return Times([None] * len(everyone))
        began = []
        for _, change in changes:
            began.append(await asyncio.to_thread(self.home.at_commit, change))
            await asyncio.sleep(every_s)
        if committed is not None:
            committed.set()
        await prober.until_silent(everyone, WITHIN_S)
        for start, of_one in zip(began, wanted, strict=True):
            ends = [prober.dead_since(*one, start) for one in of_one]
            times.seconds += [None if end is None else end - start for end in ends]
            times.closed += sum(peer.ended_at is not None for peer, _ in of_one)
            self.concerned.update(peer.username for peer, _ in of_one)
        times.cpu_s += cpu_s(self.pid)
        times.gap_s = prober.longest_gap_s
        await prober.stop()
        return times


def revoke(session: Session, name: str) -> None:
    devices.revoke(session, devices.by_handle(session, name), by="bench")


def rotate(session: Session, name: str) -> None:
    devices.rotate(session, devices.by_handle(session, name), by="bench")


def narrow(session: Session, name: str) -> None:
    devices.set_scopes(session, devices.by_handle(session, name), ["presence:write"], by="bench")


def leave(session: Session, home: Home, page: Page) -> None:
    members.remove(session, home.agent_id, page.user_id, by_user_id=None, by="bench")


def give(session: Session, home: Home, names: list[str]) -> None:
    bearers = tuple(home.ids[name] for name in names)
    draft = RoleDraft("More", "", (GrantDraft("subscribe", "d/{handle}/more"),), bearers)
    roles.create(session, home.agent_id, draft, by="bench", open_topics=())


def empty(session: Session, home: Home, role_id: uuid.UUID | None) -> None:
    assert role_id is not None
    role = roles.find(session, home.agent_id, role_id)
    draft = dataclasses.replace(role.draft, grants=())
    roles.edit(session, home.agent_id, role_id, draft, revision=role.revision, by="bench", open_topics=())


def run(broker: str, count: int) -> tuple[dict[str, Times], int]:
    """Everything for one broker, from an empty database on."""
    with scratch() as (folder, url, database):
        home = furnish(database, count)
        with running(broker, url, folder) as (port, pid):
            return asyncio.run(measure(home, port, pid))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--broker", choices=["embedded", "mosquitto"])
    parser.add_argument("--sessions", type=int, default=1_000)
    options, _ = parser.parse_known_args()
    brokers = [options.broker] if options.broker else ["embedded", "mosquitto"]
    found = {broker: run(broker, options.sessions) for broker in brokers}
    rows: list[dict[str, Any]] = []
    for change in next(iter(found.values()))[0]:
        row: dict[str, Any] = {"change": change}
        for broker, (times, _) in found.items():
            of = times[change]
            row |= {
                f"{broker} p50 ms": of.percentile(0.5),
                f"{broker} p99 ms": of.percentile(0.99),
                f"{broker} in time": f"{sum(one is not None for one in of.seconds)} of {len(of.seconds)}",
                f"{broker} closed": of.closed,
                f"{broker} CPU ms": 1e3 * of.cpu_s,
                f"{broker} longest gap ms": "" if of.gap_s is None else 1e3 * of.gap_s,
            }
        if len(found) == 2:
            row["embedded / mosquitto, p99"] = row["embedded p99 ms"] / row["mosquitto p99 ms"]
        rows.append(row)
    nothing: dict[str, Any] = dict.fromkeys(rows[0], "")
    for broker, (_, disturbed) in found.items():
        nothing |= {"change": "others cut off", f"{broker} closed": disturbed}
    report.write("acl_live", f"Changes of access on {options.sessions:,} open sessions", [*rows, nothing])


if __name__ == "__main__":
    main()
