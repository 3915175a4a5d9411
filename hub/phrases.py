"""Three words that a device and a page both show, so that a person approves the device that is meant."""

import secrets
from typing import Final

_TEXT: Final = (
    "acorn alder amber anchor apple apron arrow autumn badge bamboo basket beacon bishop blanket bottle bramble "
    "bridge bronze bucket butter button cactus candle canoe carpet castle cedar cherry chimney cinder circle clover "
    "cobalt coffee copper coral cotton cradle crystal dagger daisy desert dolphin donkey dragon eagle ember engine "
    "falcon feather fiddle forest fossil galaxy garden garlic ginger glacier goblet granite hammer harbour hazel "
    "helmet hollow honey island ivory jacket jasmine jungle kettle kitten ladder lagoon lantern lemon lizard locket "
    "magnet maple marble meadow mirror mitten monsoon mustard needle nettle oasis olive onion orchid otter paddle "
    "pebble pepper pigeon pillow planet plum pocket pumpkin puzzle quartz rabbit raven ribbon river rocket saddle "
    "salmon satin shadow silver sparrow spruce summit teapot temple thimble tiger tulip tunnel velvet violin walnut "
    "willow amber tiger kettle"
)
# Short, plain, and unlike each other in sound and look; 128 of them, so three are 21 random bits.
WORDS: Final = tuple(_TEXT.split())
_COUNT: Final = 3


def new_phrase() -> str:
    """A phrase that nobody can foresee, such as "amber tiger kettle"; a word may come twice."""
    return " ".join(secrets.choice(WORDS) for _ in range(_COUNT))
