"""What is said to the plugin: nothing when nothing differs, and never a word about others."""

import json
import uuid
from dataclasses import replace

import pytest

from broker.mosquitto.accounts import Account, Acl, acls_of, mark_of
from broker.mosquitto.differences import mend, of_account, read
from broker.mosquitto.document import render
from hub.access.credentials import hash_secret
from hub.access.grants import Grant
from hub.access.principals import Principal

ROOT = "m/v1"


def account(name="lamp", *filters):
    grants = tuple(Grant("subscribe", one, "a test") for one in filters or (f"{ROOT}/d/{name}/cmd/#",))
    stored = hash_secret("secret")
    principal = Principal(name, "device", grants, ROOT)
    return Account(name, mark_of(stored), acls_of(grants), stored, uuid.uuid4(), principal)


def names(step):
    return [command["command"] for command in step.commands]


def test_nothing_is_said_when_nothing_differs():
    one = account()
    assert mend("lamp", one, of_account(one), None).commands == []
    assert mend("lamp", None, None, None).commands == []


def test_a_client_of_somebody_elses_is_left_alone():
    one = account()
    for wanted in (one, None):
        step = mend("lamp", wanted, replace(of_account(one), is_ours=False, mark="x"), "secret")
        assert step.commands == []
        assert step.is_foreign


def test_a_new_one_gets_its_role_first():
    step = mend("lamp", account(), None, "secret")
    assert names(step) == ["createRole", "createClient"]
    assert not step.kicks


def test_without_its_secret_a_new_one_cannot_come_and_an_old_one_is_shut_out():
    one = account()
    step = mend("lamp", one, None, None)
    assert (names(step), step.lacks) == (["createRole"], True)
    step = mend("lamp", one, replace(of_account(one), mark="of the token before"), None)
    assert (names(step), step.lacks) == (["disableClient"], True)
    assert mend("lamp", one, step.after, None).commands == []


def test_other_grants_are_one_command_that_kicks_nobody():
    one = account()
    other = replace(one, acls=acls_of([Grant("publish", f"{ROOT}/d/lamp/state", "a test")]))
    step = mend("lamp", other, of_account(one), None)
    assert names(step) == ["modifyRole"]
    assert not step.kicks


@pytest.mark.parametrize(
    "drift",
    [
        {"roles": ("admin", "marvain.lamp")},
        {"groups": ("all",)},
        {"client_id": ""},
        {"is_disabled": True},
        {"acls": None},
        {"acls": frozenset({Acl("publishClientSend", "#")})},
    ],
)
def test_what_somebody_changed_is_mended(drift):
    one = account()
    step = mend("lamp", one, replace(of_account(one), **drift), None)
    assert step.commands
    assert step.after == of_account(one)


def test_what_was_rendered_and_read_again_is_what_was_wanted():
    both = [account(), account("porch", "+/a/+", "$SYS/#", f"{ROOT}/d/porch/denied")]
    document = json.loads(render(both, ROOT, {"boss": "secret"}))
    assert not any(document["defaultACLAccess"].values())
    seen = read(document["clients"], document["roles"])
    assert {name: seen[name] for name in ("lamp", "porch")} == {one.username: of_account(one) for one in both}
    assert not seen["boss"].is_ours
    assert "secret" not in json.dumps(document["clients"])
