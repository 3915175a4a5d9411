"""Decisions per second in one process: what a broker pays for a verdict that it has not remembered.

    python bench/acl.py [--seconds 0.5]        (about a minute)

Every decision concerns another of the principals that are loaded, and a topic that was not asked about just before.
Principals are made as the database's rows make them: devices that are alike in scopes and roles share what they may
do, as in a fleet; or each has roles of its own, the worst there is. `first` is the first decision about a principal
after it was loaded, for which its grants may have to be arranged. Seconds are those that the processor worked for this
process, so that what else the machine does counts little.
"""

import argparse
import gc
import random
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import report

from hub.access import decide
from hub.access.grants import HANDLE, Grant
from hub.access.principals import Principal, of_bearers
from hub.access.role_grants import NOTHING, Bearer, Given, Row
from hub.access.scopes import device_grants

ROOT = "marvain/v1"
AGENT = uuid.UUID(int=7)
# Principals, grants of each, and whether they are alike.
SIZES = ((10, 10, True), (10_000, 10, True), (10, 200, True), (10_000, 200, True), (10_000, 50, False))
QUESTIONS = 10_000
ACTIONS: dict[str, Callable[[Principal, str], decide.Decision]] = {
    "publish": decide.publish,
    "subscribe": decide.subscribe,
    "receive": decide.receive,
}


def roles(count: int, name: str) -> Given:
    """Roles with so many grants: two literal topics for each wildcard."""
    rows: list[Row] = []
    for index in range(count):
        last = "+" if index % 3 == 0 else "value"
        template = f"x/{{agent}}/{name}-{index}/{HANDLE}/{last}"
        rows.append(("publish" if index % 2 else "subscribe", template, f"Room {index}"))
    return Given(tuple(rows), {}, alike=True)


def fleet(count: int, size: int, *, alike: bool) -> list[Principal]:
    """Devices with every scope, and roles for the rest of so many grants; cut where the scopes alone give more."""
    bearers = [Bearer("device", uuid.UUID(int=number), AGENT, f"device-{number}") for number in range(count)]
    more = size - len(device_grants(HANDLE, ["*"], ROOT))
    common = roles(more, "room") if more > 0 else NOTHING
    given = {one.bearer_id: common if alike else roles(more, f"of-{one.handle}") for one in bearers}
    return list(of_bearers([(one, ("*",)) for one in bearers], given, ROOT).values())


class Questions:
    """Things that a principal may do, by any of its grants; or something of a device that it is not."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._written: dict[str, tuple[Grant, ...]] = {}

    def about(self, one: Principal, action: str, *, allowed: bool) -> tuple[Principal, str]:
        chance = self._chance
        if not allowed:
            return one, f"{ROOT}/d/another-{chance.randrange(10_000)}/state"
        if one.username not in self._written:
            self._written[one.username] = tuple(one.grants)
        wanted = "publish" if action == "publish" else "subscribe"
        filter_ = chance.choice([grant.filter for grant in self._written[one.username] if grant.action == wanted])
        return one, filter_.replace("+", f"v{chance.randrange(100)}").replace("#", "ping/1")


def rate(action: str, questions: list[tuple[Principal, str]], seconds: float, *, allowed: bool) -> float:
    """Decisions per second of work, the best of five goes."""
    verdict = ACTIONS[action]
    assert all(bool(verdict(one, topic)) is allowed for one, topic in questions)
    best = 0.0
    for _ in range(5):
        made, started = 0, time.process_time()
        while (elapsed := time.process_time() - started) < seconds / 5:
            for one, topic in questions:
                verdict(one, topic)
            made += len(questions)
        best = max(best, made / elapsed)
    return best


def first(loaded: list[Principal], questions: Questions) -> float:
    """First decisions about each of the principals per second of work."""
    asked = [questions.about(one, "publish", allowed=True) for one in loaded[:1_000]]
    started = time.process_time()
    for one, topic in asked:
        decide.publish(one, topic)
    return len(asked) / (time.process_time() - started)


def figures(made: float) -> dict[str, object]:
    return {"decisions/s": round(made), "µs each": round(1e6 / made, 2)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=0.5)
    options = parser.parse_args()
    chance = random.Random(7)
    rows: list[dict[str, object]] = []
    for count, size, alike in SIZES:
        loaded, questions = fleet(count, size, alike=alike), Questions(chance)
        # As in the broker, Python's collector does not walk what is loaded.
        gc.freeze()
        facts = {"principals": count, "grants of each": size, "alike": "yes" if alike else "no"}
        rows.append(facts | {"action": "first", "verdict": "allow"} | figures(first(loaded, questions)))
        for action in ACTIONS:
            for allowed in (True, False):
                asked = [questions.about(chance.choice(loaded), action, allowed=allowed) for _ in range(QUESTIONS)]
                made = rate(action, asked, options.seconds, allowed=allowed)
                rows.append(facts | {"action": action, "verdict": "allow" if allowed else "deny"} | figures(made))
        del loaded, questions, asked
    slowest = min(row["decisions/s"] for row in rows if row["action"] != "first")
    print(f"the slowest of all: {slowest:,} decisions/s")
    report.write("acl", "Access decisions in one process", rows)


if __name__ == "__main__":
    main()
