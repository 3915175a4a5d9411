"""Roles on a real database: who may not be reached first, then editing, undoing, and what bearers come to have."""

import uuid
from concurrent.futures import ThreadPoolExecutor, wait

import pytest
from sqlalchemy import text
from sqlmodel import Session

from hub import audit, devices, integrations
from hub.access import changes, decide, principals, role_grants, roles
from hub.access.roles import GrantDraft, RoleDraft, Saved
from hub.database import Database
from hub.errors import Conflict, Invalid, NotFound
from hub.tables import Agent

ROOT = "marvain/v1"
SPACE = GrantDraft("publish", "x/{agent}/#")


class Home:
    """An agent with a device and an integration."""

    def __init__(self, session: Session, name: str, handles: tuple[str, str]) -> None:
        agent = Agent(name=name)
        session.add(agent)
        session.flush()
        self.session, self.agent_id = session, agent.agent_id
        device, integration = handles
        self.device = devices.add(session, self.agent_id, device, scopes=[], by="tests", handle=device).device
        self.integration = integrations.add(session, self.agent_id, integration, by="tests", handle=integration)

    def draft(self, *grants: GrantDraft, name: str = "Talkers", **facts) -> RoleDraft:
        bearers = {
            "devices": (self.device.device_id,),
            "integrations": (self.integration.integration.integration_id,),
        }
        return RoleDraft(name, "", grants, **(bearers | facts))

    def create(self, *grants: GrantDraft, **facts) -> Saved:
        return roles.create(self.session, self.agent_id, self.draft(*grants, **facts), by="ann", open_topics=())

    def edit(self, saved: Saved, draft: RoleDraft) -> Saved:
        return roles.edit(
            self.session,
            self.agent_id,
            saved.role.role_id,
            draft,
            revision=saved.role.revision,
            by="ann",
            open_topics=(),
        )

    def undo(self, entry_id: int) -> Saved | None:
        return roles.undo(self.session, self.agent_id, entry_id, by="ann", open_topics=())


@pytest.fixture
def home(session: Session) -> Home:
    return Home(session, "Home", ("porch", "ha"))


@pytest.fixture
def elsewhere(session: Session) -> Home:
    # Its integration has the handle of the other agent's device, and the other way round.
    return Home(session, "Elsewhere", ("ha", "porch"))


def of_roles(session: Session, username: str, root: str = ROOT) -> set[tuple[str, str]]:
    principal = principals.load(session, username, root)
    assert principal is not None
    return {(one.action, one.filter) for one in principal.grants if one.source.startswith("the role")}


def test_another_agents_things_are_not_there(session: Session, home: Home, elsewhere: Home) -> None:
    saved = home.create(SPACE)
    role_id = saved.role.role_id
    for refused in (
        lambda: roles.find(session, elsewhere.agent_id, role_id),
        lambda: elsewhere.edit(saved, elsewhere.draft()),
        lambda: roles.delete(session, elsewhere.agent_id, role_id, by="eve"),
        lambda: elsewhere.undo(saved.entry_id),
        lambda: roles.grant_exactly(
            session, elsewhere.agent_id, "porch", "publish", f"{ROOT}/x", by="eve", root=ROOT, open_topics=()
        ),
        lambda: roles.grant_exactly(
            session, home.agent_id, "hub_service", "publish", f"{ROOT}/x", by="eve", root=ROOT, open_topics=()
        ),
    ):
        with pytest.raises(NotFound):
            refused()
    assert roles.list_roles(session, elsewhere.agent_id) == []
    with pytest.raises(Invalid) as caught:
        elsewhere.create(devices=(home.device.device_id,))
    assert caught.value.field == "devices"
    with pytest.raises(Invalid) as caught:
        elsewhere.create(integrations=(home.integration.integration.integration_id,))
    assert caught.value.field == "integrations"
    with pytest.raises(Invalid) as caught:
        elsewhere.create(SPACE, GrantDraft("subscribe", "d/porch/#"))
    assert caught.value.field == "grants.1.filter"


def test_all_that_is_wrong_is_told_at_once(session: Session, home: Home) -> None:
    home.create(name="Known")
    bad = RoleDraft("  ", "x" * 600, (SPACE, GrantDraft("deny", "x"), GrantDraft("publish", "#")), (uuid.uuid4(),))
    found = roles.problems(session, home.agent_id, bad, open_topics=())
    assert [field for field, _ in found] == ["name", "about", "grants.1.action", "grants.2.filter", "devices"]
    assert roles.problems(session, home.agent_id, home.draft(name="known"), open_topics=())[0][0] == "name"
    many = home.draft(*(GrantDraft("publish", f"x/{{agent}}/{number}") for number in range(201)))
    assert [field for field, _ in roles.problems(session, home.agent_id, many, open_topics=())] == ["grants"]
    with pytest.raises(Conflict) as taken:
        home.create(name="KNOWN")
    assert taken.value.field == "name"
    assert len(roles.list_roles(session, home.agent_id)) == 1


def test_an_edit_of_what_has_changed_is_a_conflict_and_an_undo_too(session: Session, home: Home) -> None:
    made = home.create(SPACE, SPACE)
    assert made.role.grants == (SPACE,)
    edited = home.edit(made, home.draft(name="Renamed", integrations=()))
    with pytest.raises(Conflict):
        home.edit(made, home.draft(name="Late"))
    with pytest.raises(Conflict):
        home.undo(made.entry_id)
    restored = home.undo(edited.entry_id)
    assert restored is not None
    assert (restored.role.draft, restored.role.revision) == (made.role.draft, 3)
    gone = roles.delete(session, home.agent_id, made.role.role_id, by="ann")
    assert of_roles(session, "porch") == set()
    back = home.undo(gone)
    assert back is not None
    assert (back.role.role_id, back.role.draft) == (made.role.role_id, made.role.draft)
    assert back.role.revision > restored.role.revision
    fresh = home.create(name="Fresh")
    assert home.undo(fresh.entry_id) is None
    assert [role.name for role in roles.list_roles(session, home.agent_id)] == ["Talkers"]
    told = audit.entries(session, home.agent_id, subject_id=made.role.role_id)
    assert [entry.action for entry in reversed(told)] == [
        "role.created",
        "role.edited",
        "role.restored",
        "role.deleted",
        "role.restored",
    ]
    assert {entry.actor for entry in told} == {"ann"}


def test_bearers_have_what_the_role_says_and_not_each_others_names(
    session: Session, home: Home, elsewhere: Home
) -> None:
    grants = (
        SPACE,
        GrantDraft("publish", "d/{handle}/event/+"),
        GrantDraft("publish", "ext/{handle}/a"),
        GrantDraft("subscribe", "d/porch/#"),
        GrantDraft("subscribe", "//$SYS/broker/+"),
    )
    home.create(*grants)
    space = ("publish", f"{ROOT}/x/{home.agent_id}/#")
    both = {space, ("subscribe", f"{ROOT}/d/porch/#"), ("subscribe", "$SYS/broker/+")}
    assert of_roles(session, "porch") == both | {("publish", f"{ROOT}/d/porch/event/+")}
    assert of_roles(session, "ext_ha") == both | {("publish", f"{ROOT}/ext/ha/a")}
    assert of_roles(session, "ext_ha", "home") >= {("publish", f"home/x/{home.agent_id}/#")}
    assert of_roles(session, "ha") == of_roles(session, "ext_porch") == set()
    integration = principals.load(session, "ext_ha", ROOT)
    assert integration is not None
    assert (integration.kind, integration.handle) == ("integration", "ha")
    assert decide.publish(integration, f"{ROOT}/ext/ha/x").reason.startswith("allowed by every integration")
    assert "no role of this integration" in decide.publish(integration, f"{ROOT}/d/ha/event/x").reason
    assert decide.subscribe(integration, f"$share/g/{ROOT}/d/porch/cmd/#")

    # What should not stand there opens nothing.
    session.execute(
        text(
            "INSERT INTO role_grants (role_id, action, filter) SELECT role_id, 'publish', unnest(CAST(:bad AS text[]))"
            " FROM roles"
        ),
        {
            "bad": [
                "#",
                "d/+/cmd/#",
                "hub/status",
                "//$CONTROL/#",
                "//$SYS/x",
                "//marvain/v1/#",
                "d/ha/cmd/x/y",
                "{x}/#",
            ]
        },
    )
    assert of_roles(session, "porch") == both | {("publish", f"{ROOT}/d/porch/event/+")}
    # A device that is another agent's now is heard no more.
    session.execute(text("DELETE FROM role_assignments WHERE device_id IS NOT NULL"))
    session.execute(text("UPDATE devices SET agent_id = :other WHERE handle = 'porch'"), {"other": elsewhere.agent_id})
    assert ("subscribe", f"{ROOT}/d/porch/#") not in of_roles(session, "ext_ha")
    session.execute(text("UPDATE agents SET disabled = true WHERE agent_id = :id"), {"id": home.agent_id})
    assert principals.load(session, "ext_ha", ROOT) is None


def test_all_devices_bear_a_role_the_new_ones_too_and_everybody_is_read_alike(session: Session, home: Home) -> None:
    saved = home.create(SPACE, devices=(), integrations=(), all_devices=True)
    devices.add(session, home.agent_id, "Lamp", scopes=["*"], by="tests")
    space = {("publish", f"{ROOT}/x/{home.agent_id}/#")}
    assert of_roles(session, "lamp") == of_roles(session, "porch") == space
    assert of_roles(session, "ext_ha") == set()
    everybody = principals.load_many(session, None, ROOT)
    assert set(everybody) == {"porch", "lamp", "ext_ha"}
    assert everybody == {name: principals.load(session, name, ROOT) for name in everybody}
    assert principals.load_agent(session, home.agent_id, ROOT) == [everybody[name] for name in sorted(everybody)]
    assert principals.load_many(session, ["lamp", "nobody", "ext_", "a\0", "é", "ui_1", "hub_service"], ROOT) == {
        "lamp": everybody["lamp"]
    }
    # What all its bearers have alike is told by role; what depends on the handle is not.
    assert everybody["lamp"].common == {saved.role.role_id: frozenset(space)}
    own = home.create(GrantDraft("publish", "d/{handle}/state"), name="Own", integrations=())
    porch = principals.load(session, "porch", ROOT)
    assert porch is not None
    assert porch.common == {saved.role.role_id: frozenset(space), own.role.role_id: frozenset()}
    # What is too much gives nothing: the principal stays small.
    for part in range(4):
        grants = (GrantDraft("publish", f"x/{{agent}}/{part}/{number}") for number in range(200))
        home.create(*grants, name=f"Part {part}", devices=(), integrations=(), all_devices=True)
    assert len(of_roles(session, "lamp")) == role_grants.MOST_PER_PRINCIPAL
    lamp = principals.load(session, "lamp", ROOT)
    assert lamp is not None
    assert lamp.common == {}


def test_exactly_what_was_refused_can_be_granted(session: Session, home: Home, elsewhere: Home) -> None:
    def grant(username: str, action: str, topic: str) -> Saved:
        return roles.grant_exactly(
            session, home.agent_id, username, action, topic, by="ann", root=ROOT, open_topics=("zigbee2mqtt/#",)
        )

    # Braces that a device sent are no placeholders, which would open what it did not ask for.
    braces = [f"{ROOT}/x/{{agent}}/door", f"{ROOT}/d/{{handle}}/state", "$share//x"]
    for topic in (*braces, f"{ROOT}/d/ha/state", f"{ROOT}/hub/status", f"{ROOT}/d/+/event/#", "other/x", "$CONTROL/x"):
        with pytest.raises(Invalid) as refused:
            grant("porch", "publish", topic)
        assert refused.value.field == "topic"
    taken = home.create(name="only porch")
    first = grant("porch", "publish", f"{ROOT}/d/porch/event/door_open")
    assert (first.role.name, taken.role.revision) == ("Only porch (2)", 1)
    with pytest.raises(Conflict):
        grant("porch", "publish", f"{ROOT}/d/porch/event/door_open")
    grant("porch", "subscribe", f"$share/g/{ROOT}/d/porch/state")
    grant("ext_ha", "publish", "zigbee2mqtt/lamp/set")
    assert of_roles(session, "porch") == {
        ("publish", f"{ROOT}/d/porch/event/door_open"),
        ("subscribe", f"{ROOT}/d/porch/state"),
    }
    assert of_roles(session, "ext_ha") == {("publish", "zigbee2mqtt/lamp/set")}
    assert of_roles(session, "ext_porch") == set()
    with pytest.raises(Invalid, match="the role Only ext_ha holds another") as refused:
        roles.grant_exactly(
            session, home.agent_id, "ext_ha", "publish", f"{ROOT}/ext/ha/x", by="ann", root=ROOT, open_topics=()
        )
    assert refused.value.field == "topic"


def test_exactly_those_concerned_are_told(database: Database) -> None:
    with database.transaction() as session:
        home = Home(session, "Home", ("porch", "ha"))
        devices.add(session, home.agent_id, "Lamp", scopes=[], by="tests")
    with database.listen(changes.CHANNEL) as listener:

        def heard() -> set[str]:
            told = [change for one in listener.wait(5) for change in changes.read_all(one.payload)]
            assert {change.kind for change in told} == {"changed"}
            return {change.username for change in told}

        with database.transaction() as session:
            home.session = session
            saved = home.create(SPACE, integrations=())
        assert heard() == {"porch"}
        with database.transaction() as session:
            home.session = session
            home.edit(saved, home.draft(SPACE, devices=()))
        assert heard() == {"porch", "ext_ha"}
        with database.transaction() as session:
            home.session = session
            home.create(SPACE, name="All", devices=(), integrations=(), all_devices=True)
        assert heard() == {"porch", "lamp"}


def test_two_at_once_do_not_get_past_the_limit(database: Database) -> None:
    with database.transaction() as session:
        agent = Agent(name="Home")
        session.add(agent)
        session.flush()
        many = "INSERT INTO roles (agent_id, name) SELECT :agent, 'r' || n FROM generate_series(2, :most) n"
        session.execute(text(many), {"agent": agent.agent_id, "most": roles.MOST_ROLES})

    def create(name: str) -> None:
        with database.transaction() as session:
            roles.create(session, agent.agent_id, RoleDraft(name), by="bob", open_topics=())

    with ThreadPoolExecutor(1) as threads:
        with database.transaction() as session:
            roles.create(session, agent.agent_id, RoleDraft("One"), by="ann", open_topics=())
            second = threads.submit(create, "Two")
            assert not wait([second], timeout=0.2).done
        with pytest.raises(Conflict, match="at most"):
            second.result(10)
