"""The vocabulary is closed, and each scope opens exactly what the protocol says."""

import pytest

from hub.access.scopes import VOCABULARY, check_scopes, device_grants, expand
from hub.errors import Invalid
from hub_protocol.errors import BadName


@pytest.mark.parametrize(
    "scope", ["", "events", "events:", "events:own", ":*", "*:*", "Events:write", "state:*", 7, None, "**"]
)
def test_unknown_scopes_are_refused_by_name(scope: object) -> None:
    with pytest.raises(Invalid) as caught:
        check_scopes(["events:write", scope])
    assert str(scope) in caught.value.message
    assert "commands:receive" in caught.value.message
    assert caught.value.field == "scopes"


def test_each_scope_stands_once_and_in_order() -> None:
    assert check_scopes(["events:write", "*", "events:write", "memories:*"]) == ["events:write", "*", "memories:*"]


def test_wildcards_widen() -> None:
    assert expand(["events:*"]) == {"events:read", "events:write"}
    assert expand(["*"]) == set(VOCABULARY)
    assert expand(["nonsense:*", "made:up"]) == set()


def test_a_handle_that_is_none_gets_no_grants() -> None:
    with pytest.raises(BadName):
        device_grants("+", ["*"], "marvain/v1")


def grants_of(scopes: list[str]) -> set[tuple[str, str]]:
    return {(grant.action, grant.filter) for grant in device_grants("lamp", scopes, "r")}


BASE = {("subscribe", f"r/d/lamp/{name}") for name in ("welcome", "denied", "receipt", "presence", "response/+")}


def test_without_scopes_a_device_only_listens() -> None:
    assert grants_of([]) == BASE


def test_what_each_scope_opens() -> None:
    assert grants_of(["presence:write"]) - BASE == {
        ("publish", f"r/d/lamp/{name}") for name in ("state", "hello", "heartbeat", "remotes")
    }
    assert grants_of(["events:write"]) - BASE == {("publish", "r/d/lamp/event/+")}
    for noun in ("events", "memories", "actions"):
        assert grants_of([f"{noun}:read"]) - BASE == {("publish", f"r/d/lamp/request/{noun}/+")}
    assert grants_of(["telemetry:write"]) - BASE == {("publish", "r/d/lamp/telemetry/+")}
    assert grants_of(["commands:receive"]) - BASE == {
        ("subscribe", "r/d/lamp/cmd/#"),
        ("publish", "r/d/lamp/reply/+"),
        ("subscribe", "r/d/lamp/config"),
        ("publish", "r/d/lamp/config_reply"),
    }
