"""Every case of the table on every broker: the policy itself, the embedded broker, Mosquitto, and the HTTP door."""

import contextlib
import importlib.util
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import databases
import httpx
import psycopg
import pytest
from psycopg import sql
from sqlalchemy import make_url
from sqlmodel import Session

from hub import devices, identity, integrations
from hub.access import credentials, decide, principals, roles
from hub.access.roles import GrantDraft, RoleDraft
from hub.database import Database
from hub.settings import HUB_USERNAME
from hub.tables import Agent, User, UserSession

_SPEC = importlib.util.spec_from_file_location("vectors", Path(__file__).with_name("vectors.py"))
vectors = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(vectors)
CASES = vectors.CASES
ROOT = "marvain/v1"
HUB_PASSWORD = "hub-password-of-the-tests"


@dataclass
class World:
    """The people of the table, as they are in one database: usernames and secrets."""

    database: Database
    url: str
    names: dict[str, str]
    secrets: dict[str, str]
    home: str
    other: str

    def fill(self, topic: str) -> str:
        return topic.replace("{root}", ROOT).replace("{home}", self.home).replace("{other}", self.other)

    def login(self, case) -> tuple[str, str | None, str | None]:
        """(client id, username, password) for a case of connecting."""
        username, secret = self.names[case.who], self.secrets[case.who]
        return {
            "": (username, username, secret),
            "another client id": (f"{username}-2", username, secret),
            "an empty client id": ("", username, secret),
            "a wrong password": (username, username, secret[:-1] + ("x" if secret[-1] != "x" else "y")),
            "no password": (username, username, None),
            "the token of mute": (username, username, self.secrets["mute"]),
            "no username": (username, None, None),
        }[case.topic if case.action == "connect" else ""]


def furnish(session: Session) -> tuple[dict[str, str], dict[str, str], Agent, Agent]:
    home, other = Agent(name="Home"), Agent(name="Elsewhere")
    session.add(home)
    session.add(other)
    session.flush()
    names, secrets = {"nobody": "nobody", "hub": HUB_USERNAME}, {"nobody": "mv1.nobody.x", "hub": HUB_PASSWORD}
    credentials.set_hub_password(session, HUB_PASSWORD)
    made = {}
    for name, agent, scopes in (
        ("porch", home, list(devices.DEFAULT_SCOPES)),
        ("mute", home, []),
        ("star", home, ["*"]),
        ("eye", home, []),
        ("attic", other, ["*"]),
        ("revoked", home, ["*"]),
    ):
        made[name] = devices.add(session, agent.agent_id, name, scopes=scopes, by="tests", handle=name)
        names[name], secrets[name] = name, made[name].token
    for name in ("ha", "gone"):
        new = integrations.add(session, home.agent_id, name, by="tests", handle=name)
        names[name], secrets[name] = f"ext_{name}", new.token
        made[name] = new
    draft = RoleDraft(
        name="Gardener",
        about="",
        grants=tuple(GrantDraft(action, filter_) for action, filter_ in vectors.GARDENER),
        devices=(made["porch"].device.device_id,),
        integrations=(made["ha"].integration.integration_id,),
        all_devices=False,
    )
    roles.create(session, home.agent_id, draft, by="tests", open_topics=())
    watcher = RoleDraft(
        name="Watcher",
        about="",
        grants=tuple(GrantDraft(action, filter_) for action, filter_ in vectors.WATCHER),
        devices=(made["eye"].device.device_id,),
        integrations=(),
        all_devices=False,
    )
    roles.create(session, home.agent_id, watcher, by="tests", open_topics=vectors.OPEN_TOPICS)
    devices.revoke(session, made["revoked"].device, reason="lost", by="tests")
    integrations.revoke(session, home.agent_id, made["gone"].integration.integration_id, reason="lost", by="tests")
    for name, role in (("page", "member"), ("guest", "guest")):
        user = User(email=f"{name}@example.org")
        session.add(user)
        session.flush()
        identity.join(session, home.agent_id, user, role)
        signed_in = UserSession(
            user_id=user.user_id, token_hash=uuid.uuid4().hex, expires_at=datetime.now(UTC).replace(year=2999)
        )
        session.add(signed_in)
        session.flush()
        names[name], secrets[name], _ = credentials.issue_for_session(session, signed_in, datetime.now(UTC))
    return names, secrets, home, other


@pytest.fixture(scope="module")
def world(postgres_url: str, migrated_template: str) -> Iterator[World]:
    name = f"test_{uuid.uuid4().hex}"
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(migrated_template))
        )
    url = make_url(postgres_url).set(database=name).render_as_string(hide_password=False)
    database = Database(url, application_name="marvain tests")
    with database.transaction() as session:
        names, secrets, home, other = furnish(session)
        ids = str(home.agent_id), str(other.agent_id)
    yield World(database, url, names, secrets, *ids)
    database.close()
    databases.drop(postgres_url, name)


def test_the_table_is_large_and_says_nothing_twice():
    assert len(CASES) >= 60
    assert len({(case.who, case.action, case.topic) for case in CASES}) == len(CASES)
    assert {case.action for case in CASES} == {"connect", "publish", "retain", "will", "subscribe", "receive"}


# --- the policy -----------------------------------------------------------------------------------------------------


def policy(world: World, case) -> bool:
    client_id, username, password = world.login(case)
    now = datetime.now(UTC)
    with world.database.transaction() as session:
        verdict = credentials.authenticate(session, username or "", password or "", now)
        if isinstance(verdict, credentials.Refused):
            return False
        principal = principals.load(session, verdict.username, ROOT, now)
    topic = world.fill(case.topic)
    if case.action in {"connect", "will"}:
        return decide.connect(principal, client_id, topic if case.action == "will" else None).allowed
    verb = {"publish": decide.publish, "retain": decide.publish, "subscribe": decide.subscribe}
    return verb.get(case.action, decide.receive)(principal, topic).allowed


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_policy(world: World, case):
    assert policy(world, case) is case.allowed


# --- brokers that speak MQTT ------------------------------------------------------------------------------------------


class Running:
    """A broker before the world's database, with two who see what gets through: the hub, and `eye` outside the root."""

    def __init__(self, world: World, dial, wire) -> None:
        self.world = world
        self.dial = dial
        self.wire = wire
        self.hub = self._in("hub")
        self.eye = self._in("eye")
        assert self.hub.subscribe((f"{ROOT}/#", 1)) == [1]
        asked = [f"{ROOT}/d/eye/welcome", *(topic[2:] for _, topic in vectors.WATCHER)]
        assert self.eye.subscribe(*((topic, 1) for topic in asked)) == [1] * len(asked)

    def verdict(self, case) -> bool:
        return getattr(self, f"_{case.action}")(case, self.world.fill(case.topic))

    def _in(self, who: str, **more):
        peer = self.dial()
        name = self.world.names[who]
        assert peer.connect(name, name, self.world.secrets[who], **more).body[1] == 0
        return peer

    @contextlib.contextmanager
    def _as(self, who: str, **more):
        """A connection of that one; the hub's is the one that watches, for a second would take it over."""
        if who == "hub":
            yield self.hub
            return
        peer = self._in(who, **more)
        try:
            yield peer
        finally:
            peer.close()

    def _heard(self, peer, mark_topic: str, payload: bytes) -> bool:
        """Whether `peer` was delivered `payload` before a mark that the hub sends now."""
        mark = uuid.uuid4().hex.encode()
        self.hub.send(self.wire.publish(mark_topic, mark, 1, 9))
        found = False
        while (message := peer.message()).payload != mark:
            found = found or message.payload == payload
        return found

    def _got_through(self, topic: str, payload: bytes) -> bool:
        if topic.startswith(f"{ROOT}/"):
            return self._heard(self.hub, f"{ROOT}/d/mark/welcome", payload)
        return self._heard(self.eye, f"{ROOT}/d/eye/welcome", payload)

    def _connect(self, case, _topic: str) -> bool:
        if case.who == "hub":
            # Proved by the session that watches.
            return True
        peer = self.dial()
        peer.send(self.wire.connect(*self.world.login(case)))
        answer = peer.receive()
        peer.close()
        return answer is not None and answer.body[1] == 0

    def _publish(self, case, topic: str) -> bool:
        payload = uuid.uuid4().hex.encode()
        with self._as(case.who) as peer:
            peer.send(self.wire.publish(topic, payload, 1, 5))
            if case.who != "hub":
                # Acknowledged, or the connection closed: in either case the broker has dealt with it.
                while (answer := peer.receive()) is not None and answer.kind != 4:
                    pass
            return self._got_through(topic, payload)

    def _retain(self, case, topic: str) -> bool:
        payload = uuid.uuid4().hex.encode()
        with self._as(case.who) as peer:
            peer.send(self.wire.publish(topic, payload, 1, 5, retain=True))
            if case.who != "hub":
                while (answer := peer.receive()) is not None and answer.kind != 4:
                    pass
            through = self._got_through(topic, payload)
        self.hub.send(self.wire.packet(0x82, b"\0\7" + self.wire.string(topic) + b"\1"))
        kept = self._heard(self.hub, f"{ROOT}/d/mark/welcome", payload)
        self.hub.send(self.wire.packet(0xA2, b"\0\7" + self.wire.string(topic)))
        self.hub.send(self.wire.publish(topic, b"", 1, 8, retain=True))
        self._heard(self.hub, f"{ROOT}/d/mark/welcome", b"")
        assert kept is through
        return kept

    def _will(self, case, topic: str) -> bool:
        payload = uuid.uuid4().hex.encode()
        peer = self.dial()
        name = self.world.names[case.who]
        peer.send(self.wire.connect(name, name, self.world.secrets[case.who], will=(topic, payload, 1, False)))
        answer = peer.receive()
        if answer is None or answer.body[1] != 0:
            peer.close()
            return False
        if not case.allowed:
            # Mosquitto lets it in, and sends it away once it has seen its Will: by its name, so wait for that.
            assert peer.closed()
        peer.close()
        # Once the next connection stands, the broker is done with the end of the first.
        self._in(case.who).close()
        return self._got_through(topic, payload)

    def _subscribe(self, case, topic_filter: str) -> bool:
        with self._as(case.who) as peer:
            peer.send(self.wire.packet(0x82, b"\0\7" + self.wire.string(topic_filter) + b"\1"))
            while (answer := peer.receive()) is not None and answer.kind != 9:
                if answer.kind == 3 and answer.qos == 1:
                    peer.send(self.wire.packet(0x40, answer.packet_id.to_bytes(2, "big")))
            if case.who == "hub" and topic_filter != f"{ROOT}/#":
                peer.send(self.wire.packet(0xA2, b"\0\7" + self.wire.string(topic_filter)))
            return answer is not None and answer.body[2] != 0x80

    def _receive(self, case, topic: str) -> bool:
        with self.world.database.transaction() as session:
            principal = principals.load(session, self.world.names[case.who], ROOT)
        everything = [grant.filter for grant in principal.grants if grant.action == "subscribe"]
        marks = {"page": f"ui/{self.world.home}/mark", "guest": f"ui/{self.world.home}/events", "ha": "out/ha/mark"}
        mark = marks.get(case.who, f"d/{case.who}/welcome")
        with self._as(case.who) as peer:
            assert peer.subscribe(*((topic_filter, 1) for topic_filter in everything)) == [1] * len(everything)
            payload = uuid.uuid4().hex.encode()
            self.hub.send(self.wire.publish(topic, payload, 1, 4))
            return self._heard(peer, f"{ROOT}/{mark}", payload)


@pytest.fixture(scope="module")
def running(world: World, kit, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest):
    folder = tmp_path_factory.mktemp(request.param)
    process = kit.BrokerProcess(
        world.url, folder / "log", {"MARVAIN_BROKER": request.param, "MARVAIN_BROKER_STORE": str(folder / "store")}
    )
    peers = []

    def dial():
        peers.append(kit.Peer(process.port))
        return peers[-1]

    try:
        process.start()
        yield Running(world, dial, kit.wire)
    finally:
        for peer in peers:
            peer.close()
        process.stop()


@pytest.mark.parametrize("running", ["embedded", "mosquitto"], indirect=True)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_brokers(running: Running, case):
    assert running.verdict(case) is case.allowed


# --- the HTTP door ----------------------------------------------------------------------------------------------------


class Asking:
    """EMQX and mosquitto-go-auth, as far as what they ask is concerned."""

    def __init__(self, world: World, client: httpx.Client) -> None:
        self.world = world
        self.client = client

    def emqx(self, path: str, **asked) -> dict:
        answer = self.client.post(f"/emqx/{path}", json=asked)
        assert answer.status_code == 200
        assert answer.json()["result"] in {"allow", "deny"}
        return answer.json()

    def go_auth(self, path: str, **asked) -> bool:
        answer = self.client.post(f"/go-auth/{path}", json=asked)
        assert (answer.status_code == 200) is answer.json()["ok"]
        return answer.json()["ok"]

    def by_emqx(self, case) -> bool:
        client_id, username, password = self.world.login(case)
        login = {"username": username or "", "password": password or "", "clientid": client_id}
        allowed = self.emqx("authentication", **login)["result"] == "allow"
        if case.action == "connect" or not allowed:
            return allowed
        action = "subscribe" if case.action == "subscribe" else "publish"
        asked = {"username": username, "clientid": client_id, "action": action, "topic": self.world.fill(case.topic)}
        return self.emqx("authorization", **asked)["result"] == "allow"

    def by_emqx_rules(self, case) -> bool:
        client_id, username, password = self.world.login(case)
        login = {"username": username or "", "password": password or "", "clientid": client_id}
        answer = self.emqx("authentication-with-acl", **login)
        if case.action == "connect" or answer["result"] == "deny":
            return answer["result"] == "allow"
        action = "subscribe" if case.action == "subscribe" else "publish"
        # EMQX takes the group off a shared subscription before it looks.
        asked = self.world.fill(case.topic)
        asked = asked.split("/", 2)[2] if asked.startswith("$share/") else asked
        for rule in answer["acl"]:
            if rule["action"] in {action, "all"} and emqx_matches(asked, rule["topic"]):
                return rule["permission"] == "allow"
        return False

    def by_go_auth(self, case) -> bool:
        client_id, username, password = self.world.login(case)
        known = {"username": username or "", "clientid": client_id}
        allowed = self.go_auth("user", password=password or "", **known)
        if case.action == "connect" or not allowed:
            return allowed
        acc = {"subscribe": 4, "receive": 1}.get(case.action, 2)
        return self.go_auth("acl", topic=self.world.fill(case.topic), acc=acc, **known)


def emqx_matches(asked: str, rule: str) -> bool:
    """How EMQX compares: level by level, where a wildcard in what is asked for is a level like any other."""
    if rule.startswith("eq "):
        return asked == rule[3:]
    have, want = rule.split("/"), asked.split("/")
    if have[0] in {"+", "#"} and want[0].startswith("$"):
        return False
    for index, level in enumerate(have):
        if level == "#":
            return True
        if index == len(want) or level not in {"+", want[index]}:
            return False
    return len(have) == len(want)


@pytest.fixture(scope="module")
def asking(world: World, kit, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asking]:
    folder = tmp_path_factory.mktemp("http")
    secret = folder / "secret"
    secret.write_text("a-secret-of-the-tests\n")
    port = kit.free_port()
    process = kit.BrokerProcess(
        world.url,
        folder / "log",
        {
            "MARVAIN_BROKER": "external",
            "MARVAIN_BROKER_ADAPTER": "http",
            "MARVAIN_HTTP_AUTH_PORT": str(port),
            "MARVAIN_HTTP_AUTH_SECRET_FILE": str(secret),
        },
    )
    try:
        process.start("http_auth.ready")
        headers = {"Authorization": "Bearer a-secret-of-the-tests"}
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=headers) as client:
            yield Asking(world, client)
    finally:
        process.stop()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_http_door(asking: Asking, case):
    assert asking.by_go_auth(case) is case.allowed
    if case.action == "receive":
        # EMQX asks nothing when it delivers.
        return
    assert asking.by_emqx(case) is case.allowed
    assert asking.by_emqx_rules(case) is (case.allowed and not case.emqx_rules_say_less)
