"""A Mosquitto that runs already, for others too: driven over $CONTROL alone, and mended when somebody meddles."""

import json
import os
import signal
import socket
import subprocess
import sys
import uuid

import pytest

from broker.mosquitto.accounts import TAKEN
from broker.mosquitto.document import CONTROL, RESPONSE, render
from broker.mosquitto.server import find
from hub import devices
from hub.access import changes, projection, roles
from hub.access.roles import GrantDraft, RoleDraft

ROOT = "marvain/v1"


@pytest.fixture(scope="module")
def house(house_with, kit, tmp_path_factory):
    """Debian's Mosquitto with an admin and a client of somebody else's, and beside it the adapter."""
    folder, port = tmp_path_factory.mktemp("external"), kit.free_port()
    document = json.loads(render([], ROOT, {"boss": "admin-of-the-tests"}))
    admin = {"rolename": "admin", "acls": []}
    for kind in ("publishClientSend", "publishClientReceive", "subscribePattern"):
        admin["acls"].append({"acltype": kind, "topic": "$CONTROL/#", "priority": 0, "allow": True})
    document["roles"] = [admin]
    document["clients"][0]["roles"] = [{"rolename": "admin"}]
    foreign = json.loads(render([], ROOT, {"printer": "of-somebody-else"}))["clients"][0] | {"roles": []}
    document["clients"].append(foreign)
    (folder / "dynamic-security.json").write_text(json.dumps(document))
    (folder / "password").write_text("admin-of-the-tests\n")
    (folder / "mosquitto.conf").write_text(
        f"allow_anonymous false\nuser root\nplugin {find().plugin}\nlistener {port} 127.0.0.1\n"
        f"plugin_opt_config_file {folder}/dynamic-security.json\nlog_type none\n"
    )
    process = subprocess.Popen([find().program, "-c", folder / "mosquitto.conf"])
    try:
        house = house_with(
            {
                "MARVAIN_BROKER": "external",
                "MARVAIN_BROKER_ADMIN_USERNAME": "boss",
                "MARVAIN_BROKER_ADMIN_PASSWORD_FILE": str(folder / "password"),
                "MARVAIN_HUB_PASSWORD_FILE": str(hub_password(folder)),
                "MARVAIN_BROKER_STORE": str(folder / "store"),
                "MARVAIN_MQTT_PORT": str(port),
            }
        )
        house.broker.port = port
        yield house
        assert "Traceback" not in house.broker.log(), house.broker.log()
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(10)


def hub_password(folder):
    file = folder / "hub-password"
    file.write_text("hub-password-of-the-tests\n")
    return file


class Boss:
    """Somebody with the admin's password and a mind of his own."""

    def __init__(self, house):
        self.house = house
        self.peer = house.again("boss", "admin-of-the-tests").peer
        self.peer.subscribe((RESPONSE, 0))

    def do(self, *commands):
        """The answers; the plugin sends everybody's to all who listen."""
        mine = uuid.uuid4().hex
        marked = [command | {"correlationData": mine} for command in commands]
        self.peer.send(self.house.wire.publish(CONTROL, json.dumps({"commands": marked}).encode()))
        while True:
            answers = json.loads(self.peer.message().payload)["responses"]
            if answers and answers[0].get("correlationData") == mine:
                return answers

    def ask(self, command, **more):
        return self.do({"command": command, **more})[0].get("data")


@pytest.fixture
def boss(house):
    yield Boss(house)
    house.hang_up()


def detail(house):
    with house.database.transaction() as session:
        return projection.state(session).detail


def look(house):
    with house.database.transaction() as session:
        changes.announce(session, changes.EVERYBODY, "changed")


def test_a_device_that_is_added_can_come_at_once_and_one_that_is_revoked_cannot(house, boss):
    hub = house.hub().peer
    client = house.device()
    client.peer.subscribe((client.topic("denied"), 0))
    with house.database.transaction() as session:
        devices.revoke(session, devices.by_handle(session, client.handle), by="ann", reason="sold")
    assert b"revoked by ann: sold" in client.peer.message().payload
    assert client.peer.closed()
    assert house.dial().connect(client.handle, client.handle, client.token).body[1] == 5
    hub.ping()
    assert boss.ask("getClient", username=client.handle) is None


def test_what_somebody_changed_by_hand_is_mended_and_reported(house, boss, kit):
    client = house.device()
    role = f"marvain.{client.handle}"
    before = detail(house).get("drift_found", 0)
    boss.do(
        {"command": "addRoleACL", "rolename": role, "acltype": "publishClientSend", "topic": "#", "allow": True},
        {"command": "addClientRole", "username": client.handle, "rolename": "admin"},
        {"command": "setClientId", "username": client.handle, "clientid": "another"},
        {"command": "createRole", "rolename": "marvain.nobody"},
        {"command": "modifyRole", "rolename": TAKEN, "acls": [{"acltype": "publishClientSend", "topic": "#"}]},
    )
    look(house)

    def mended():
        found = boss.ask("getClient", username=client.handle)["client"]
        taken = {"rolename": TAKEN, "priority": 2}
        return (found["roles"], found["clientid"]) == ([taken, {"rolename": role}], client.handle)

    kit.wait_until(mended)
    acls = boss.ask("getRole", rolename=role)["role"]["acls"]
    assert not [acl for acl in acls if acl["acltype"] == "publishClientSend" and acl["topic"] == "#"]
    assert boss.ask("getRole", rolename="marvain.nobody") is None
    assert boss.ask("getRole", rolename=TAKEN)["role"]["acls"] == []
    house.again(client.handle, client.token).peer.ping()
    kit.wait_until(lambda: detail(house)["drift_found"] >= before + 2, 8)


def test_a_role_of_many_that_somebody_changed_by_hand_is_mended(house, boss, kit):
    grants = (GrantDraft("publish", "x/{agent}/#"),)
    with house.database.transaction() as session:
        draft = RoleDraft("Talkers", "", grants, all_devices=True)
        saved = roles.create(session, house.agent.agent_id, draft, by="ann", open_topics=())
    bearer, role = house.device(), f"marvain.role.{saved.role.role_id}"
    wanted = boss.ask("getRole", rolename=role)["role"]["acls"]
    assert [acl["topic"] for acl in wanted] == [f"{ROOT}/x/{house.agent.agent_id}/#"]
    assert role in {one["rolename"] for one in boss.ask("getClient", username=bearer.handle)["client"]["roles"]}
    boss.do(
        {"command": "addRoleACL", "rolename": role, "acltype": "publishClientSend", "topic": "#", "allow": True},
        {"command": "addClientRole", "username": "hub_service", "rolename": role, "priority": 1},
        {"command": "deleteGroup", "groupname": "marvain.sent_off"},
    )
    look(house)
    kit.wait_until(lambda: boss.ask("getRole", rolename=role)["role"]["acls"] == wanted, 8)
    kit.wait_until(lambda: len(boss.ask("getClient", username="hub_service")["client"]["roles"]) == 1, 8)
    # Somebody is sent off without the group, too.
    space = f"{ROOT}/x/{house.agent.agent_id}/a"
    with house.database.transaction() as session:
        draft = RoleDraft("Talkers", "", (GrantDraft("subscribe", "x/{agent}/a"),), all_devices=True)
        facts = {"revision": saved.role.revision, "by": "ann", "open_topics": ()}
        saved = roles.edit(session, house.agent.agent_id, saved.role.role_id, draft, **facts)
    reader = house.device()
    assert reader.peer.subscribe((space, 0)) == [0]
    with house.database.transaction() as session:
        roles.delete(session, house.agent.agent_id, saved.role.role_id, by="ann")
    assert reader.peer.closed()
    assert boss.ask("getGroup", groupname="marvain.sent_off")["group"]["clients"] == []


def test_what_is_not_ours_is_left_alone(house, boss, kit):
    with house.database.transaction() as session:
        devices.add(session, house.agent.agent_id, "Printer", scopes=["*"], by="ann", handle="printer")
    look(house)
    kit.wait_until(lambda: detail(house).get("foreign") == ["printer"], 8)
    assert boss.ask("getClient", username="printer")["client"]["roles"] == []
    assert house.again("printer", "of-somebody-else")


def test_defaults_that_allow_are_reported(house, boss, kit):
    allowed = {"acltype": "publishClientSend", "allow": True}
    boss.do({"command": "setDefaultACLAccess", "acls": [allowed]})
    look(house)
    kit.wait_until(lambda: detail(house).get("open_defaults") == ["publishClientSend"], 8)
    boss.do({"command": "setDefaultACLAccess", "acls": [allowed | {"allow": False}]})
    look(house)
    kit.wait_until(lambda: detail(house).get("open_defaults") == [], 8)


def test_a_secret_that_is_lost_shuts_out_and_is_reported(house, boss, kit):
    client = house.device()
    boss.do({"command": "deleteClient", "username": client.handle})
    look(house)
    kit.wait_until(lambda: client.handle in detail(house).get("needs_token", []), 8)
    with house.database.transaction() as session:
        token = devices.rotate(session, devices.by_handle(session, client.handle), by="ann")
    house.again(client.handle, token).peer.ping()
    look(house)
    kit.wait_until(lambda: client.handle not in detail(house).get("needs_token", []), 8)


def test_what_is_rendered_lets_in_who_may_come_with_the_tokens_that_are_out(house, kit, tmp_path):
    client, revoked = house.device(), house.device()
    with house.database.transaction() as session:
        devices.revoke(session, devices.by_handle(session, revoked.handle), by="ann")
    (tmp_path / "password").write_text("admin-of-the-file\n")
    rendered = tmp_path / "dynamic-security.json"
    run = subprocess.run(
        [
            *(sys.executable, "-m", "marvain", "broker", "render", "--output", rendered),
            *("--admin-password-file", tmp_path / "password", "--data", tmp_path / "data"),
        ],
        env=os.environ | {"MARVAIN_DATABASE_URL": house.database.url},
        capture_output=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert rendered.stat().st_mode & 0o777 == 0o600
    port = kit.free_port()
    (tmp_path / "mosquitto.conf").write_text(
        f"allow_anonymous false\nuser root\nplugin {find().plugin}\nlistener {port} 127.0.0.1\n"
        f"plugin_opt_config_file {rendered}\nlog_type none\n"
    )
    process = subprocess.Popen([find().program, "-c", tmp_path / "mosquitto.conf"])
    try:

        def listens():
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", port)) == 0

        def let_in(name, secret):
            return house.dial(port).connect(name, name, secret).body[1]

        kit.wait_until(listens)
        assert let_in(client.handle, "wrong") == 5
        assert let_in(client.handle, client.token) == 0
        assert let_in(revoked.handle, revoked.token) == 5
        assert let_in("hub_service", house.hub_password) == 0
        assert let_in("marvain_admin", "admin-of-the-file") == 0
    finally:
        process.terminate()
        process.wait(10)
