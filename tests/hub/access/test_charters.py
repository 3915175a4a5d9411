"""Shared grants mean for each bearer exactly what they are when written out for it, and nothing of another's."""

import gc
import random
import uuid
from collections.abc import Iterator

import pytest
from sqlmodel import Session

from hub import devices
from hub.access import decide, principals, role_grants, roles, templates
from hub.access.charters import Charter, Charters, Granted
from hub.access.grants import HANDLE, Grant, covers, valid_filter
from hub.access.principals import Principal
from hub.access.role_drafts import GrantDraft, RoleDraft
from hub.access.role_grants import Bearer
from hub.tables import Agent

ROOT = "marvain/v1"
AGENT = uuid.UUID(int=7)
# Names that occur as levels as well, and one that is the root's first.
HANDLES = ("porch", "lamp", "event", "d", "marvain")


def bearing(handle: str, rows: tuple[role_grants.Row, ...], kind: str = "device", root: str = ROOT) -> Granted:
    """What a bearer of these has, as it is loaded."""
    bearer = Bearer(kind, AGENT, AGENT, handle)  # type: ignore[arg-type]
    given = role_grants.Given(rows, {}, role_grants._alike(bearer, rows, root))
    granted, _ = principals._granted(bearer, ("events:write", "commands:receive"), given, root, {})
    return granted


def written_out(handle: str, rows: tuple[role_grants.Row, ...], kind: str = "device", root: str = ROOT) -> list[Grant]:
    """The same by the plain definitions."""
    own = (
        principals.device_grants(handle, ("events:write", "commands:receive"), root)
        if kind == "device"
        else principals.integration_grants(handle, root)
    )
    bearer = Bearer(kind, AGENT, AGENT, handle)  # type: ignore[arg-type]
    return [*own, *role_grants.fill_all(bearer, rows, root)]


def some_rows(chance: random.Random) -> Iterator[role_grants.Row]:
    words = (HANDLE, HANDLE, "{agent}", "+", "event", "porch", "lamp", "d", "", "é")
    for number in range(chance.randrange(1, 9)):
        start = chance.choice((["d", HANDLE], ["x", "{agent}"], ["ext", HANDLE], ["d", "porch"], ["", "", HANDLE], []))
        rest = [chance.choice(words) for _ in range(chance.randrange(4))]
        template = "/".join([*start, *rest, *(["#"] if chance.random() < 0.3 else [])])
        if template and valid_filter(template.removeprefix("//")) and template != "//":
            yield chance.choice(("publish", "subscribe")), template, f"Role {number}"


def some_question(chance: random.Random, grants: list[Grant]) -> tuple[str, str]:
    """What one of the grants allows, or something close to it, and an action."""
    grant = chance.choice(grants)
    levels = grant.filter.split("/")
    for _ in range(chance.choice((0, 0, 1, 2))):
        levels[chance.randrange(len(levels))] = chance.choice((*HANDLES, HANDLE, "+", "", str(AGENT)))
    text = "/".join(
        chance.choice(("a", "porch", "+")) if level == "#" and chance.random() < 0.7 else level for level in levels
    )
    action = grant.action if chance.random() < 0.8 else "publish"
    return action, text if valid_filter(text) else "a"


def test_a_shared_grant_admits_exactly_what_the_written_one_does() -> None:
    chance = random.Random(20_261_125)
    allowed = shared = asked_about = 0
    for _ in range(1_500):
        rows = tuple(some_rows(chance))
        kind = chance.choice(("device", "integration"))
        everybody = [grant for handle in HANDLES for grant in written_out(handle, rows, kind)]
        for handle in HANDLES:
            granted, written = bearing(handle, rows, kind), written_out(handle, rows, kind)
            assert list(granted) == written
            filters = {one.filter for one in written}
            shared += granted._charter._fill is not None
            for _ in range(6):
                action, asked = some_question(chance, chance.choice((written, written, everybody)))
                expected = any(one.action == action and covers(one.filter, asked) for one in written)
                found = granted.find(action, asked)
                assert granted.may(action, asked) is expected, (handle, rows, asked)
                assert (found is not None) is expected
                # Of roles that grant the same, either may be named.
                assert found is None or (found.filter in filters and covers(found.filter, asked))
                allowed += expected
                asked_about += 1
    assert 0.2 < allowed / asked_about < 0.8
    assert shared > 3_000


@pytest.mark.parametrize("action", ["publish", "subscribe"])
def test_the_placeholder_itself_is_nobodys_topic(action: str) -> None:
    rows = ((action, f"d/{HANDLE}/#", "R"),)
    granted = bearing("porch", rows)
    assert granted.may(action, f"{ROOT}/d/porch/event/x")
    for topic in (f"{ROOT}/d/{HANDLE}/event/x", f"{ROOT}/d/lamp/event/x", f"{ROOT}/d/+/event/x", f"{ROOT}/d/#"):
        assert not granted.may(action, topic)
    # Grants that are somebody's own mean what they say.
    own = Principal("porch", "device", (Grant("publish", f"a/{HANDLE}", "x"),), ROOT)
    assert decide.publish(own, f"a/{HANDLE}")
    assert not decide.publish(own, "a/porch")


def test_a_verdict_on_a_shared_grant_names_the_bearers_own() -> None:
    porch = Principal("porch", "device", bearing("porch", ()), ROOT)
    verdict = decide.publish(porch, f"{ROOT}/d/porch/event/x")
    assert verdict.reason == f"allowed by the scope events:write (publish {ROOT}/d/porch/event/+)"
    assert "it lacks the scope presence:write" in decide.publish(porch, f"{ROOT}/d/porch/state").reason


def test_what_depends_on_the_handle_is_not_shared() -> None:
    # Below another root `//{handle}/x` would be the hub's own for one device, and is open for the others.
    rows = (("publish", f"//{HANDLE}/v1/x", "R"),)
    porch, marvain = bearing("porch", rows), bearing("marvain", rows)
    assert porch.may("publish", "porch/v1/x")
    assert not marvain.may("publish", "marvain/v1/x")
    # At the limit it depends on the handle which grants are the same.
    many = tuple(("publish", f"x/{{agent}}/{number}", "R") for number in range(role_grants.MOST_PER_PRINCIPAL + 5))
    assert [one.filter for one in bearing("porch", many)] == [one.filter for one in written_out("porch", many)]
    assert not bearing("porch", many).may("publish", f"{ROOT}/x/{AGENT}/{role_grants.MOST_PER_PRINCIPAL + 1}")


def test_grants_are_the_same_when_they_come_to_the_same() -> None:
    rows = (("publish", "x/{agent}/a", "R"),)
    assert bearing("porch", rows) == bearing("porch", rows)
    assert hash(bearing("porch", rows)) == hash(bearing("porch", rows))
    assert bearing("porch", rows) == Granted.of(written_out("porch", rows))
    assert bearing("porch", rows) != bearing("lamp", rows)
    assert bearing("porch", rows) != bearing("porch", ())
    assert bearing("porch", rows) != written_out("porch", rows)
    assert bearing("porch", rows)[0] == written_out("porch", rows)[0]
    assert len(bearing("porch", rows)[:-1]) == len(written_out("porch", rows)) - 1


def test_a_charter_lives_as_long_as_somebody_bears_it() -> None:
    charters = Charters()
    made = []

    def make() -> Charter:
        made.append(1)
        return Charter(())

    one = charters.one("a", make)
    assert charters.one("a", make) is one
    del one
    gc.collect()
    charters.one("a", make)
    assert len(made) == 2


def test_devices_that_are_alike_share_a_charter_and_others_do_not(session: Session, agent: Agent) -> None:
    for name, scopes in (("Porch", ["*"]), ("Lamp", ["*"]), ("Door", ["events:write"]), ("Attic", ["*"])):
        devices.add(session, agent.agent_id, name, scopes=scopes, by="tests")
    found = principals.load_many(session, None, ROOT)
    attic = found["attic"]
    assert attic.device_id is not None
    draft = RoleDraft("R", "", (GrantDraft("publish", f"d/{templates.HANDLE}/event/x"),), devices=(attic.device_id,))
    roles.create(session, agent.agent_id, draft, by="tests", root=ROOT, open_topics=())
    again = principals.load_many(session, None, ROOT)
    of = {name: one._granted._charter for name, one in again.items()}
    assert of["porch"] is of["lamp"] is found["porch"]._granted._charter
    assert len({id(charter) for charter in of.values()}) == 3
    assert again["porch"] == found["porch"]
    assert again["attic"].grants != attic.grants
