"""Decisions per second in one process: what a broker pays for a verdict that it has not remembered.

    python bench/acl.py [--seconds 0.5]

Every decision concerns another of the principals that are loaded, and a topic that was not asked about just before.
Seconds are those that the processor worked for this process, so that what else the machine does counts little.
"""

import argparse
import random
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import report

from hub.access import decide
from hub.access.grants import Grant
from hub.access.principals import Principal
from hub.access.scopes import device_grants

ROOT = "marvain/v1"
AGENT = uuid.UUID(int=7)
# Principals, and grants of each.
SIZES = ((10, 10), (10_000, 10), (10, 200), (10_000, 200))
QUESTIONS = 10_000
ACTIONS: dict[str, Callable[[Principal, str], decide.Decision]] = {
    "publish": decide.publish,
    "subscribe": decide.subscribe,
    "receive": decide.receive,
}


def principal(number: int, size: int) -> Principal:
    """A device with every scope, and roles for the rest: two literal topics for each wildcard."""
    handle = f"device-{number}"
    grants = list(device_grants(handle, ["*"], ROOT))[:size]
    for index in range(size - len(grants)):
        action = "publish" if index % 2 else "subscribe"
        last = "+" if index % 3 == 0 else "value"
        grants.append(Grant(action, f"{ROOT}/x/{AGENT}/room-{index}/{handle}/{last}", f"the role Room {index}"))
    return Principal(handle, "device", tuple(grants), ROOT, (AGENT,))


def question(one: Principal, action: str, *, allowed: bool, chance: random.Random) -> tuple[Principal, str]:
    """Something that the principal may do, by any of its grants; or something of a device that it is not."""
    if not allowed:
        return one, f"{ROOT}/d/another-{chance.randrange(10_000)}/state"
    wanted = "publish" if action == "publish" else "subscribe"
    filter_ = chance.choice([grant.filter for grant in one.grants if grant.action == wanted])
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=0.5)
    options = parser.parse_args()
    chance = random.Random(7)
    rows: list[dict[str, object]] = []
    for count, size in SIZES:
        loaded = [principal(number, size) for number in range(count)]
        for action in ACTIONS:
            for allowed in (True, False):
                asked = [
                    question(chance.choice(loaded), action, allowed=allowed, chance=chance) for _ in range(QUESTIONS)
                ]
                made = rate(action, asked, options.seconds, allowed=allowed)
                rows.append(
                    {
                        "principals": count,
                        "grants of each": size,
                        "action": action,
                        "verdict": "allow" if allowed else "deny",
                        "decisions/s": round(made),
                        "µs each": round(1e6 / made, 2),
                    }
                )
    report.write("acl", "Access decisions in one process", rows)


if __name__ == "__main__":
    main()
