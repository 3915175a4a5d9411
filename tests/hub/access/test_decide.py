"""The decision and its words: refusals first."""

import time
import uuid

import pytest

from hub.access import decide
from hub.access.grants import Grant
from hub.access.principals import Principal, hub_principal
from hub.access.scopes import device_grants
from hub.errors import Forbidden

ROOT = "marvain/v1"
AGENT = uuid.UUID(int=7)


def device(*scopes: str, handle: str = "lamp") -> Principal:
    return Principal(handle, "device", device_grants(handle, scopes, ROOT), ROOT)


BROWSER = Principal(
    "ui_1",
    "browser",
    (Grant("subscribe", f"{ROOT}/ui/{AGENT}/#", "membership of Home"), Grant("subscribe", f"{ROOT}/hub/status", "all")),
    ROOT,
)


@pytest.mark.parametrize("client_id", ["", "lamp2", "Lamp", "lamp ", "hub_service"])
def test_a_client_id_other_than_the_username_is_refused_with_code_2(client_id: str) -> None:
    verdict = decide.connect(device("*"), client_id)
    assert not verdict
    assert verdict.code == decide.IDENTIFIER_REJECTED
    assert "client id must be the same as the username lamp" in verdict.reason


def test_a_will_elsewhere_is_refused_with_code_5() -> None:
    verdict = decide.connect(device("*"), "lamp", f"{ROOT}/d/door/state")
    assert verdict.code == decide.NOT_AUTHORIZED
    assert verdict.reason.startswith("its Will is not allowed: lamp may not publish to marvain/v1/d/door/state")


def test_a_will_with_a_wildcard_is_refused() -> None:
    assert not decide.connect(hub_principal(ROOT), "hub_service", f"{ROOT}/#")


def test_a_missing_scope_is_named() -> None:
    verdict = decide.publish(device("presence:write"), f"{ROOT}/d/lamp/event/door_open")
    assert verdict.reason == (
        "lamp may not publish to marvain/v1/d/lamp/event/door_open: it lacks the scope events:write"
    )
    assert "commands:receive" in decide.subscribe(device(), f"{ROOT}/d/lamp/cmd/+/+").reason


def test_what_no_scope_opens_says_so() -> None:
    assert "only its own topics, below marvain/v1/d/lamp/" in decide.publish(device("*"), f"{ROOT}/d/door/hello").reason
    assert "only its own topics" in decide.subscribe(device("*"), "#").reason
    assert "may only subscribe to it" in decide.publish(device("*"), f"{ROOT}/d/lamp/presence").reason
    assert "may only publish to it" in decide.subscribe(device("*"), f"{ROOT}/d/lamp/state").reason
    assert "no scope opens this topic" in decide.publish(device("*"), f"{ROOT}/d/lamp/elsewhere").reason


@pytest.mark.parametrize(
    "asked",
    [
        "#",
        "+/#",
        f"{ROOT}/#",
        f"{ROOT}/d/#",
        f"{ROOT}/d/lamp/#",
        f"{ROOT}/d/+/cmd/#",
        "$SYS/#",
        f"$share/g/{ROOT}/#",
        "a\0",
    ],
)
def test_a_device_with_every_scope_may_not_subscribe_widely(asked: str) -> None:
    assert not decide.subscribe(device("*"), asked)


def test_a_prefix_of_a_handle_is_another_device() -> None:
    assert not decide.publish(device("*"), f"{ROOT}/d/lamp-2/hello")
    assert not decide.publish(device("*"), f"{ROOT}/d/lam/hello")


def test_a_browser_publishes_nothing_and_sees_its_agents() -> None:
    assert "publishes nothing" in decide.publish(BROWSER, f"{ROOT}/ui/{AGENT}/presence").reason
    assert not decide.subscribe(BROWSER, f"{ROOT}/ui/#")
    assert not decide.subscribe(BROWSER, f"{ROOT}/ui/{uuid.UUID(int=8)}/presence")
    assert not decide.receive(BROWSER, f"{ROOT}/d/lamp/state")
    assert decide.subscribe(BROWSER, f"{ROOT}/ui/{AGENT}/#").reason == (
        f"allowed by membership of Home (subscribe {ROOT}/ui/{AGENT}/#)"
    )


def test_the_hub_stays_below_its_root() -> None:
    hub = hub_principal(ROOT)
    assert decide.subscribe(hub, f"{ROOT}/#")
    assert decide.publish(hub, f"{ROOT}/d/lamp/welcome")
    assert "outside marvain/v1/" in decide.publish(hub, "homeassistant/x").reason
    assert decide.subscribe(hub, "$SYS/#")
    assert not decide.subscribe(hub, "$CONTROL/#")


def test_an_allowed_connect_names_the_grant_of_the_will() -> None:
    verdict = decide.connect(device("presence:write"), "lamp", f"{ROOT}/d/lamp/state")
    assert verdict
    assert verdict.code == 0
    assert "the scope presence:write" in verdict.reason


def test_hostile_topics_make_readable_reasons() -> None:
    reason = decide.publish(device("*"), "x\n\x1b[31m" + "y" * 9_000).reason
    assert reason.isprintable()
    assert len(reason) < 400


def test_require_names_the_missing_scope() -> None:
    with pytest.raises(Forbidden, match="events:write"):
        decide.require(["events:read", "memories:*"], "events:write")
    with pytest.raises(ValueError, match="no such scope"):
        decide.require(["*"], "events:own")
    decide.require(["events:*"], "events:write")
    decide.require(["*"], "memories:read")


def test_a_verdict_costs_the_same_with_ten_grants_and_with_two_hundred() -> None:
    def cost(more: int) -> float:
        extra = (Grant("publish", f"{ROOT}/x/{AGENT}/{number}/+", "the role R") for number in range(more))
        principal = Principal("lamp", "device", (*device_grants("lamp", ["*"], ROOT), *extra), ROOT)
        best = float("inf")
        for _ in range(9):
            started = time.process_time()
            for _ in range(500):
                decide.publish(principal, f"{ROOT}/d/lamp/event/door_open")
                decide.subscribe(principal, f"{ROOT}/d/lamp/cmd/+/+")
                decide.receive(principal, f"{ROOT}/d/lamp/cmd/ping/1")
                decide.publish(principal, f"{ROOT}/d/door/state")
            best = min(best, time.process_time() - started)
        return best

    assert cost(200) < 3 * cost(0)
