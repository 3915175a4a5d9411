"""News about many names: few notifications, none lost, and never less than was meant."""

import json

import pytest

from hub.access import changes
from hub.access.changes import Change
from hub.database import Database


@pytest.mark.parametrize(
    "payload",
    ["", "[]", "{}", '{"usernames": "a", "kind": "changed"}', '{"usernames": ["a"]}', '{"x":' + "[" * 7_900],
)
def test_odd_notifications_name_nobody(payload: str) -> None:
    assert changes.read_all(payload) == []
    assert changes.read(payload) is None


def test_who_does_not_tell_names_apart_looks_at_everybody() -> None:
    payload = json.dumps({"usernames": ["a", "b"], "kind": "revoked", "reason": "stolen"})
    assert changes.read_all(payload) == [Change("a", "revoked", "stolen"), Change("b", "revoked", "stolen")]
    assert changes.read(payload) == Change(changes.EVERYBODY, "changed")
    one = json.dumps({"username": "a", "kind": "kicked"})
    assert changes.read_all(one) == [Change("a", "kicked")]
    assert changes.read(one) == Change("a", "kicked")


def test_many_are_told_in_few_notifications(database: Database) -> None:
    long = "x" * 50
    names = [f"device-{number}-{long}" for number in range(130)]
    with database.listen(changes.CHANNEL) as listener:
        with database.transaction() as session:
            changes.announce_many(session, [*names, names[0]], "changed", "é" * 5_000)
            changes.announce_many(session, [], "changed")
        heard = listener.wait(5)
        assert len(heard) == 3
        told = [change.username for one in heard for change in changes.read_all(one.payload)]
        assert sorted(told) == sorted(names)
        with database.transaction() as session:
            changes.announce_many(session, (str(number) for number in range(501)), "changed")
        (everybody,) = listener.wait(5)
    assert changes.read(everybody.payload) == Change(changes.EVERYBODY, "changed")
