"""An integration on the embedded broker: its own topics, its grants, and what it is told."""

import json

from hub import integrations

ROOT = "marvain/v1"


def add(house, name):
    with house.database.transaction() as session:
        new = integrations.add(session, house.agent.agent_id, name, by="tests")
        return f"ext_{new.integration.handle}", new.integration.handle, new.token, new.integration.integration_id


def test_it_says_what_it_asks_for_and_hears_what_is_meant_for_it(house):
    name, handle, token, _ = add(house, "Node-RED of the cellar")
    client, hub = house.again(name, token), house.hub()
    assert hub.peer.subscribe((f"{ROOT}/ext/+/#", 1)) == [1]
    assert client.peer.subscribe((f"{ROOT}/out/other/#", 1)) == [0x80]
    assert client.peer.subscribe((f"{ROOT}/out/{handle}/#", 1)) == [1]
    client.peer.publish(f"{ROOT}/ext/{handle}/porch/ping", b"please", 1)
    assert hub.peer.message().payload == b"please"
    hub.peer.publish(f"{ROOT}/out/{handle}/porch", b"done", 1)
    assert client.peer.message().payload == b"done"


def test_it_is_told_what_was_refused(house):
    name, handle, token, _ = add(house, "Curious")
    client = house.again(name, token)
    assert client.peer.subscribe((f"{ROOT}/out/{handle}/denied", 0)) == [0]
    client.peer.send(house.wire.publish(f"{ROOT}/d/porch/cmd/ping/1", b"{}"))
    told = client.peer.message()
    assert told.topic == f"{ROOT}/out/{handle}/denied"
    assert json.loads(told.payload)["action"] == "publish"
    assert house.denial(name, "may not publish")


def test_a_revoked_one_is_told_why_and_put_out(house):
    name, handle, token, integration_id = add(house, "Short-lived")
    client = house.again(name, token)
    client.peer.subscribe((f"{ROOT}/out/{handle}/denied", 0))
    with house.database.transaction() as session:
        integrations.revoke(session, house.agent.agent_id, integration_id, reason="no longer used", by="tests")
    assert b"no longer used" in client.peer.message().payload
    assert client.peer.closed()
    assert house.dial().connect(name, name, token).body[1] == 5
