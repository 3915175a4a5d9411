"""What is said to the plugin: nothing when nothing differs, and never a word about others."""

import json
import uuid
from dataclasses import replace

import pytest

from broker.mosquitto.accounts import TAKEN, Account, Acl, acls_of, mark_of, shared_of
from broker.mosquitto.differences import keep_unsure, mend, mend_shared, of_account, read, read_shared
from broker.mosquitto.document import render
from broker.mosquitto.steps import Name, Steps
from hub.access.credentials import hash_secret
from hub.access.grants import Grant
from hub.access.principals import Principal, hub_principal

ROOT = "m/v1"
STORED = hash_secret("secret")


def account(name="lamp", *filters):
    grants = tuple(Grant("subscribe", one, "a test") for one in filters or (f"{ROOT}/d/{name}/cmd/#",))
    principal = Principal(name, "device", grants, ROOT)
    return Account(name, mark_of(STORED), acls_of(grants), STORED, uuid.uuid4(), principal)


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


# --- shared roles -----------------------------------------------------------------------------------------------------

NEWS = Grant("subscribe", f"{ROOT}/x/news", "the role Readers")
READERS = uuid.UUID(int=1)
ROLE = f"marvain.role.{READERS}"


def reader(name="lamp", common=(NEWS,), kept=()):
    """One who bears Readers."""
    one = account(name)
    alike = {READERS: frozenset((grant.action, grant.filter) for grant in common)}
    principal = replace(one.principal, grants=(*one.principal.grants, *kept, *common), common=alike)
    acls = acls_of(principal.grants)
    return replace(one, acls=acls, principal=principal, shared=shared_of(principal), kept=acls_of(kept))


def test_what_all_bearers_have_alike_is_in_a_role_of_theirs_alone():
    one = reader()
    assert of_account(one).roles == ("marvain.lamp", ROLE, TAKEN)
    assert of_account(one).acls | one.shared[ROLE] == one.acls
    assert not (of_account(one).acls & one.shared[ROLE])
    step = mend("lamp", one, None, "secret")
    assert names(step) == ["createRole", "createClient"]
    assert {"rolename": ROLE, "priority": 1} in step.commands[1]["roles"]
    assert {"rolename": TAKEN, "priority": 2} in step.commands[1]["roles"]
    document = json.loads(render([one, reader("porch")], ROOT, {}))
    assert read_shared(document["roles"]) == one.shared
    assert read(document["clients"], document["roles"])["lamp"] == of_account(one)


def test_what_it_has_from_elsewhere_too_stays_when_the_role_goes():
    one = reader(kept=(NEWS,))
    assert acls_of([NEWS]) <= of_account(one).acls


@pytest.mark.parametrize("wide", ["#", "+/x"])
def test_what_brings_refusals_along_is_not_shared(wide):
    one = reader(common=(NEWS, Grant("subscribe", wide, "the role Readers")))
    assert one.shared == reader().shared
    assert any(not acl.allow for acl in of_account(one).acls)


def test_what_it_is_not_granted_is_not_shared_whatever_the_role_says():
    one = reader().principal
    assert shared_of(replace(one, grants=one.grants[:-1])) == {TAKEN: frozenset()}


def test_nothing_can_be_refused_to_the_hub_by_what_others_lose():
    assert shared_of(hub_principal(ROOT)) == {}


def test_an_edit_is_one_command_for_all_bearers_and_none_for_each():
    one, edited = reader(), reader(common=(Grant("subscribe", f"{ROOT}/x/other", "the role Readers"),))
    assert [command["command"] for command in mend_shared(edited.shared, one.shared, ())] == ["modifyRole"]
    assert mend("lamp", edited, of_account(one), None, edited.shared).commands == []
    assert mend_shared(one.shared, one.shared, [ROLE]) == []
    assert [command["command"] for command in mend_shared(one.shared, {}, [ROLE])] == ["createRole"]


def test_who_comes_to_bear_a_role_is_not_disturbed_but_while_it_is_away():
    before, one = of_account(account()), reader()
    step = mend("lamp", one, before, None, one.shared)
    assert (names(step), step.kicks) == (["modifyRole"], False)
    assert step.after.acls == one.acls
    later = mend("lamp", one, step.after, None, one.shared, is_away=True)
    assert names(later) == ["addClientRole", "addClientRole", "modifyRole"]
    assert later.after == of_account(one)


def test_who_bears_a_role_no_longer_loses_it_and_an_empty_one_is_let_be():
    one, before = replace(account(), shared={TAKEN: frozenset()}), of_account(reader())
    step = mend("lamp", one, before, None, reader().shared)
    assert names(step) == ["removeClientRole"]
    assert step.after == of_account(one)
    assert mend("lamp", one, before, None, {ROLE: frozenset()}).commands == []


def test_a_role_with_another_priority_is_mended():
    found = read(
        [{"username": "lamp", "textname": "Marvain", "roles": [{"rolename": "marvain.lamp", "priority": 5}]}], []
    )
    step = mend("lamp", account(), replace(of_account(account()), roles=found["lamp"].roles), None)
    assert names(step) == ["modifyClient"]


def test_what_was_read_while_it_changed_is_not_taken_for_drift():
    left = {name: of_account(account(name)) for name in ("lamp", "porch", "door")}
    seen = {
        "lamp": replace(left["lamp"], mark="of the page before"),
        "door": replace(left["door"], groups=("by hand",)),
        "gone": of_account(account("gone")),
        "half": replace(of_account(account("half")), is_client=False),
    }
    keep_unsure(seen, left, {"lamp", "gone"})
    assert seen == left | {"door": replace(left["door"], groups=("by hand",))}


def test_who_waits_for_a_secret_comes_first_and_nobodys_commands_are_divided():
    steps = Steps({})
    for number in range(6):
        one = account(f"d{number}")
        secret = "secret" if number == 4 else None
        changed = replace(one, acls=acls_of([]))
        seen = None if secret else of_account(one)
        steps.add(Name(one.username, None, changed, seen, secret, None, lambda _: []))
    portions = [[step.username for step in portion] for portion in steps.portions(3)]
    assert portions == [["d4", "d0"], ["d1", "d2", "d3"], ["d5"]]


def test_from_whom_something_is_still_to_be_taken_comes_before_who_waits_and_who_is_away():
    steps = Steps({})
    wider = acls_of([Grant("publish", f"{ROOT}/x/a", "a test")])
    for name, acls, is_away in (("away", wider, True), ("same", None, False), ("gains", wider, False)):
        one = account(name)
        changed = one if acls is None else replace(one, acls=one.acls | acls)
        steps.add(Name(name, one, changed, of_account(one), None, None, lambda _: [], is_away))
    for name in ("refused", "loses"):
        one = replace(account(name), shared={TAKEN: frozenset()})
        steps.add(Name(name, one, replace(one, acls=acls_of([])), of_account(one), None, None, lambda _: []))
    for step in steps.all:
        step.is_refused = step.can_be_refused and step.username == "refused"
    steps.sort()
    assert [step.username for step in steps.all] == ["same", "loses", "gains", "refused", "away"]
    [loses] = [step for step in steps.all if step.username == "loses"]
    assert {acl.topic for acl in loses.lost} == {f"{ROOT}/d/loses/cmd/#", f"$share/+/{ROOT}/d/loses/cmd/#"}
