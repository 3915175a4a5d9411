"""Faults under load with the embedded broker; the scenarios say what."""

import pytest

from . import scenarios
from .conftest import World

BROKER = "embedded"


@pytest.mark.timeout(180 + 30 * scenarios.ROUNDS)
def test_nothing_is_lost_stored_twice_or_done_twice(world: World) -> None:
    scenarios.kill_each_again_and_again(world)


def test_a_second_hub_takes_over_when_the_first_is_killed(world: World) -> None:
    scenarios.kill_the_first_of_two_hubs(world)
