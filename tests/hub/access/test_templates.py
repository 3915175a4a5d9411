"""What admins may grant: no template, however written, reaches another agent's topics or lets anyone play the hub."""

import random
import uuid
from itertools import product

import pytest

from hub.access import templates
from hub.access.grants import covers, overlap
from hub.access.role_grants import Bearer, fill_all
from hub.errors import Invalid

ROOT = "marvain/v1"
AGENT, OTHER = uuid.UUID(int=1), uuid.UUID(int=2)
DEVICES = {"porch", "lamp"}
OPEN = ("homeassistant/#", "zigbee2mqtt/+/set", "#", "marvain/+/d/#")
# Here and elsewhere: an integration may have the handle of a device, of its own agent or of another.
BEARERS = [
    Bearer("device", uuid.UUID(int=10), AGENT, "porch"),
    Bearer("integration", uuid.UUID(int=11), AGENT, "attic"),
    Bearer("integration", uuid.UUID(int=12), AGENT, "porch"),
    Bearer("device", uuid.UUID(int=13), AGENT, "nodered"),
]
_OTHERS = ["d/attic/#", "d/stranger/#", f"ui/{OTHER}/#", f"x/{OTHER}/#"]
# By username: topics that are another's, whatever an admin writes.
FORBIDDEN = {
    ("publish", "device"): [*_OTHERS, "d/lamp/#", "ext/#", "out/#"],
    ("publish", "integration"): [*_OTHERS, "d/#", "ext/nodered/#", "out/#"],
    ("subscribe", "device"): [*_OTHERS, "ext/#", "out/#"],
    ("subscribe", "integration"): [*_OTHERS, "out/nodered/#"],
}
WRITTEN_BY_THE_HUB = [f"d/+/{kind}" for kind in ("cmd/#", "welcome", "receipt", "denied", "presence")]
WRITTEN_BY_THE_HUB += ["ui/#", "hub/#", "out/#"]


def check(action: str, template: str, open_topics: tuple[str, ...] = ()) -> str:
    return templates.check(action, template, agent_id=AGENT, devices=DEVICES, open_topics=open_topics)


@pytest.mark.parametrize(
    ("action", "template", "word"),
    [
        ("publish", "", "required"),
        ("publish", "d/porch/event/+", "by itself"),
        ("publish", "d/{handle}/#", "cannot be granted"),
        ("publish", "d/{handle}/cmd/x/y", "cannot be granted"),
        ("publish", "d/{handle}/presence", "cannot be granted"),
        ("publish", "out/{handle}/x", "cannot be granted"),
        ("publish", "ui/{agent}/presence", "cannot be granted"),
        ("publish", "hub/status", "cannot be granted"),
        ("publish", "#", "cannot be granted"),
        ("publish", "//$SYS/x", "begins with $"),
        ("publish", "//$SYS/broker/uptime", "begins with $"),
        ("subscribe", "//$SYS/#", "begins with $"),
        ("subscribe", "//$SYS/broker/#", "begins with $"),
        ("subscribe", "//$SYS/broker/log/N", "begins with $"),
        ("subscribe", "//$SYS/brokers/+/clients/+/connected", "begins with $"),
        ("publish", "//$CONTROL/dynamic-security/v1", "begins with $"),
        ("subscribe", "//$CONTROL/#", "begins with $"),
        ("subscribe", "d/+/state", "other agents"),
        ("subscribe", "d/#", "other agents"),
        ("subscribe", "#", "other agents"),
        ("subscribe", f"ui/{OTHER}/#", "other agents"),
        ("subscribe", f"x/{OTHER}/#", "other agents"),
        ("subscribe", "d/attic/#", "no device 'attic'"),
        ("subscribe", "d/p{handle}/#", "each a whole level"),
        ("subscribe", "d/{device}/#", "each a whole level"),
        ("subscribe", "x/{agent}/a#", "not a topic filter"),
        ("subscribe", "x/{agent}/\u200b", "not a topic filter"),
        ("subscribe", "x/{agent}/" + "a" * 600, "at most"),
        ("subscribe", "//marvain/v1/d/attic/#", "below the hub's root"),
        ("subscribe", "//marvain/#", "below the hub's root"),
        ("subscribe", "//+/v1/d/attic/state", "below the hub's root"),
        ("publish", "//zigbee2mqtt/lamp/get", "MARVAIN_OPEN_TOPICS"),
    ],
)
def test_what_must_not_be_granted_says_why(action: str, template: str, word: str) -> None:
    with pytest.raises(Invalid, match=word.replace("$", r"\$")) as refused:
        check(action, template, OPEN[:2])
    assert refused.value.field == "filter"


def test_an_unknown_action_is_refused() -> None:
    with pytest.raises(Invalid) as refused:
        check("deny", "x/{agent}/#")
    assert refused.value.field == "action"


@pytest.mark.parametrize(
    ("action", "template", "stored"),
    [
        ("publish", " x/{agent}/# ", "x/{agent}/#"),
        ("publish", f"x/{AGENT}/a", "x/{agent}/a"),
        ("publish", "d/{handle}/event/door_open", "d/{handle}/event/door_open"),
        ("publish", "d/{handle}/telemetry/#", "d/{handle}/telemetry/#"),
        ("publish", "ext/{handle}/a/+", "ext/{handle}/a/+"),
        ("subscribe", "d/lamp/#", "d/lamp/#"),
        ("subscribe", "d/{handle}/#", "d/{handle}/#"),
        ("subscribe", "hub/status", "hub/status"),
        ("subscribe", "//$SYS/broker/+", "//$SYS/broker/+"),
        ("subscribe", "//$SYS/broker/load/#", "//$SYS/broker/load/#"),
        ("publish", "//homeassistant/light/+/set", "//homeassistant/light/+/set"),
    ],
)
def test_what_may_be_granted_is_stored_in_one_form(action: str, template: str, stored: str) -> None:
    assert check(action, template, OPEN[:2]) == stored
    assert templates.is_grantable(action, stored, DEVICES)


def test_settings_open_filters_but_never_the_brokers_own() -> None:
    assert templates.open_filters(" a/#, ,b/+,a/#, $SYS/#, $CONTROL/#, x#") == ("a/#", "b/+")
    assert templates.open_filters("") == ()


def test_a_filter_from_outside_never_reaches_below_the_root_when_it_is_filled() -> None:
    with pytest.raises(ValueError, match="below the root"):
        templates.fill("//home/+/x", "porch", AGENT, "home/v1")
    assert fill_all(BEARERS[0], [("subscribe", "//home/+/x", "R")], "home/v1") == ()


def _written(chance: random.Random) -> str:
    words = ["d", "x", "ui", "ext", "out", "hub", "{handle}", "{agent}", "+", "porch", "lamp", "attic", str(OTHER)]
    words += [str(AGENT), "cmd", "state", "event", "presence", "status", "reply", "", "$SYS", "marvain", "v1"]
    words += ["homeassistant", "nodered", "request", "telemetry", "{handle"]
    start = chance.choice([["d", "{handle}"], ["x", "{agent}"], ["d", "lamp"], ["ext"], ["", ""], [], []])
    rest = [chance.choice(words) for _ in range(chance.randint(0, 4))]
    return "/".join([*start, *rest, *(["#"] if chance.random() < 0.4 else [])])


def test_no_template_reaches_another_agent_or_plays_the_hub() -> None:
    chance = random.Random(3)
    written = {_written(chance) for _ in range(12_000)}
    granted = 0
    for action, template in product(("publish", "subscribe"), sorted(written)):
        try:
            stored = check(action, template, OPEN)
        except Invalid:
            continue
        granted += 1
        for bearer in BEARERS:
            for grant in fill_all(bearer, [(action, stored, "R")], ROOT):
                if stored.startswith("//"):
                    assert not overlap(grant.filter, f"{ROOT}/#"), stored
                    assert not grant.filter.startswith("$") or (action, covers("$SYS/#", grant.filter)) == (
                        "subscribe",
                        True,
                    )
                    continue
                closed = list(FORBIDDEN[action, bearer.kind])
                if bearer.handle == "nodered":
                    closed = [*_OTHERS, "ext/#", "out/#", *(["d/porch/#", "d/lamp/#"] if action == "publish" else [])]
                closed += WRITTEN_BY_THE_HUB if action == "publish" else []
                reached = [one for one in closed if overlap(grant.filter, f"{ROOT}/{one}")]
                assert reached == [], (action, stored, bearer)
    assert granted > 500
