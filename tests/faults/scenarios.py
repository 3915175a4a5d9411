"""What happens under load while parts are killed at any moment, and what must be true after it.

`MARVAIN_FAULTS_ROUNDS` kills each part so often (10), `MARVAIN_FAULTS_SEED` repeats a run.
"""

import os
import random
import time
from collections import Counter

from .conftest import SATELLITES, World, wait_until

ROUNDS = int(os.environ.get("MARVAIN_FAULTS_ROUNDS", "10"))
PER_SECOND = 20.0
# What a satellite may take to come back: it waits up to a minute where no connection lasts for ten seconds.
BACK_WITHIN_S = 75.0
# The Will of a killed satellite, with the same machine.
OFFLINE_WITHIN_S = 5.0
TAKE_OVER_S = 5.0


def kill_each_again_and_again(world: World) -> None:
    """Every part `ROUNDS` times, in any order; nothing accepted is lost, stored twice or done twice."""
    seed = os.environ.get("MARVAIN_FAULTS_SEED") or str(random.SystemRandom().randrange(10**9))
    print(f"MARVAIN_FAULTS_SEED={seed}")  # noqa: T201  (what repeats this run)
    chance = random.Random(seed)
    world.load(PER_SECOND)
    victims = [part for part in ("hub", "broker", "postgres", "satellite") for _ in range(ROUNDS)]
    chance.shuffle(victims)
    for victim in victims:
        time.sleep(chance.uniform(0.1, 1.0))
        if victim == "satellite":
            lose_a_satellite(world, chance)
        elif victim == "broker":
            world.parts["broker"].kill(chance.choice(world.broker_pids()))
        else:
            world.parts[victim].kill()
    world.end_load()
    wait_until(world.all_online, "all satellites are online again", BACK_WITHIN_S)
    assert_events(world)
    assert_commands(world)


def lose_a_satellite(world: World, chance: random.Random) -> None:
    """Killed while all is well with it, it is offline by its Will; started again, it comes back."""
    order = chance.sample(SATELLITES, len(SATELLITES))

    # A broker that was killed takes the Will with it: only a connection that the hub has answered has one.
    def well() -> str | None:
        return next((one for one in order if world.is_answered(one) and world.presence(one) == "online"), None)

    name = wait_until(well, "a satellite is online", BACK_WITHIN_S)
    world.parts[name].kill(stay_down=True)
    wait_until(lambda: world.presence(name) == "offline", f"{name} is offline", OFFLINE_WITHIN_S)
    world.parts[name].up()


def assert_events(world: World) -> None:
    """Each that a satellite accepted is stored, and none is stored twice."""

    def stored(name: str) -> Counter[int]:
        rows = world.ask(
            "SELECT CAST(e.payload->>'n' AS integer) FROM events AS e JOIN devices AS d USING (device_id)"
            " WHERE d.handle = :name ORDER BY e.event_no",
            name=name,
        )
        return Counter(row[0] for row in rows)

    for name in SATELLITES:
        accepted = world.accepted[name]
        assert accepted, f"{name} had something to send"
        wait_until(lambda: accepted <= set(stored(name)), f"all events of {name}", 60)  # noqa: B023
        twice = [n for n, count in stored(name).items() if count > 1]
        assert twice == []


def assert_commands(world: World) -> None:
    """Each command comes to an end; none was carried out twice, and those that succeeded were carried out."""
    assert len(world.asked) > ROUNDS
    ids = [command_id for command_id, _ in world.asked]
    wait_until(
        lambda: not world.ask("SELECT 1 FROM commands WHERE finished_at IS NULL AND command_id = ANY(:ids)", ids=ids),
        "all commands are over",
        60,
    )
    executed = Counter(n for name in SATELLITES for n in world.executed(name))
    assert [n for n, count in executed.items() if count > 1] == []
    rows = world.ask("SELECT command_id, status, args FROM commands WHERE command_id = ANY(:ids)", ids=ids)
    assert len(rows) == len(ids)  # none of those that were asked for is lost
    succeeded = {row.args["n"] for row in rows if row.status == "succeeded"}
    assert succeeded <= set(executed)
    assert len(succeeded) > len(ids) // 4
    steps = world.ask(
        "SELECT command_id FROM command_steps WHERE status = 'succeeded' GROUP BY command_id HAVING count(*) > 1"
    )
    assert steps == []


def kill_the_first_of_two_hubs(world: World) -> None:
    """The second has taken over, and stored something, within `TAKE_OVER_S`."""
    second = world.service("hub", "hub-2")
    wait_until(lambda: "hub.standing_by" in second.log.read_text(), "the second stands by", 20)
    world.load(5)
    time.sleep(0.5)
    began = time.monotonic()
    world.parts["hub"].kill(stay_down=True)
    wait_until(lambda: "hub.ready" in second.log.read_text(), "the second works", TAKE_OVER_S)
    before = world.ask("SELECT coalesce(max(event_no), 0) FROM events")[0][0]
    wait_until(lambda: world.ask("SELECT max(event_no) FROM events")[0][0] > before, "it stores events", TAKE_OVER_S)
    took = time.monotonic() - began
    print(f"took over in {took:.1f} s")  # noqa: T201
    assert took < TAKE_OVER_S
    world.end_load()
    assert_events(world)
    assert world.all_online()
