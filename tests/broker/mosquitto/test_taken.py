"""What is refused to all while the roles of many are mended: all that they lose, and nothing that anybody keeps."""

import uuid

import pytest

from broker.mosquitto import taken
from broker.mosquitto.accounts import Account, Acl, acls_of, mark_of, rules, shared_of
from broker.mosquitto.taken import Taken
from hub.access.grants import Grant
from hub.access.principals import Principal

ROOT = "m/v1"


def account(name, *grants):
    principal = Principal(name, "device", tuple(Grant(*one, "a test") for one in grants), ROOT)
    stored = f"hash of {name}"
    acls = acls_of(principal.grants)
    return Account(name, mark_of(stored), acls, stored, uuid.uuid4(), principal, shared_of(principal))


def refused(action, filter_):
    return {acl._replace(allow=False) for acl in rules(action, filter_)}


def losing(losses, *others):
    """`losses` are (account as it will be, what it loses); the refusals, and the `Taken`."""
    all_taken = Taken()
    for one, *lost in losses:
        all_taken.add(one, acls_of(Grant(*filter_, "a test") for filter_ in lost))
    everybody = {one.username: one for one in (*others, *(loss[0] for loss in losses))}
    return all_taken.refusals(everybody), all_taken


def test_what_many_lose_of_their_own_is_one_rule_for_all():
    losses = [
        (account(f"d{n}"), ("subscribe", f"{ROOT}/d/d{n}/own"), ("publish", f"{ROOT}/d/d{n}/say")) for n in range(40)
    ]
    found, all_taken = losing(losses, account("other", ("publish", f"{ROOT}/d/other/state")))
    assert found == refused("subscribe", f"{ROOT}/d/+/own") | refused("publish", f"{ROOT}/d/+/say")
    assert all(all_taken.is_covered(f"d{n}", found) for n in range(40))
    assert {acl.kind for acl in found} == {"publishClientSend", "publishClientReceive", "subscribePattern"}


def test_what_somebody_keeps_is_refused_to_nobody():
    losses = [(account(f"d{n}"), ("subscribe", f"{ROOT}/d/d{n}/own")) for n in range(3)]
    observer = account("observer", ("subscribe", f"{ROOT}/d/d1/#"))
    found, all_taken = losing(losses, observer)
    assert found == refused("subscribe", f"{ROOT}/d/d0/own") | refused("subscribe", f"{ROOT}/d/d2/own")
    assert [all_taken.is_covered(f"d{n}", found) for n in range(3)] == [True, False, True]
    everything = account("everything", ("subscribe", "#"))
    assert losing(losses, everything)[0] == frozenset()


def test_what_it_keeps_by_another_grant_is_not_refused_to_itself():
    keeps = account("lamp", ("subscribe", f"{ROOT}/d/lamp/+"))
    found, all_taken = losing([(keeps, ("subscribe", f"{ROOT}/d/lamp/own"))])
    assert found == frozenset()
    assert not all_taken.is_covered("lamp", found)


def test_a_right_to_publish_keeps_no_right_to_subscribe():
    losses = [(account("lamp", ("publish", f"{ROOT}/d/lamp/own")), ("subscribe", f"{ROOT}/d/lamp/own"))]
    assert losing(losses)[0] == refused("subscribe", f"{ROOT}/d/+/own")


@pytest.mark.parametrize("wide", ["#", "+/a"])
def test_what_begins_with_a_wildcard_is_not_refused_so(wide):
    found, all_taken = losing([(account("lamp"), ("subscribe", wide))])
    assert found == frozenset()
    assert not all_taken.is_covered("lamp", found)


def test_refusals_fit_into_one_packet():
    losses = [(account(f"d{n}"), ("subscribe", f"{ROOT}/x/{n}/{'long' * 100}")) for n in range(200)]
    found, all_taken = losing(losses)
    assert 0 < sum(len(acl.topic) + 96 for acl in found) <= taken.MOST_BYTES
    covered = [all_taken.is_covered(one.username, found) for one, _ in losses]
    assert any(covered)
    assert not all(covered)


def test_whoever_is_mended_is_no_longer_among_them():
    _, all_taken = losing([(account(name), ("subscribe", f"{ROOT}/d/{name}/own")) for name in ("lamp", "door")])
    assert len(all_taken) == 2
    all_taken.settle(["lamp", "nobody"])
    assert all_taken
    all_taken.settle(["door"])
    assert not all_taken
    all_taken.add(account("lamp"), [Acl("subscribePattern", "#", -1, allow=False)])
    assert not all_taken
