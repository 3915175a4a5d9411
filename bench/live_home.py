"""A home for the measurement of live changes: its people and devices in Postgres, and the broker process beside it."""

import contextlib
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from brokers import free_port
from sqlmodel import Session

from hub import devices, identity, sessions
from hub.access import credentials, roles
from hub.access.roles import GrantDraft, RoleDraft
from hub.database import Database
from hub.tables import Agent

REPOSITORY = Path(__file__).parents[1]
EACH = 50
GROUPS = 4
HUB_PASSWORD = "hub"
SCOPES = ["presence:write", "events:write", "commands:receive"]


@dataclass
class Page:
    """A member's open page."""

    username: str
    password: str
    user_id: uuid.UUID
    session_id: uuid.UUID


@dataclass
class Home:
    """What there is before the broker starts: devices with tokens, roles for some and for all, pages of members."""

    database: Database
    agent_id: uuid.UUID
    tokens: dict[str, str] = field(default_factory=dict)
    ids: dict[str, uuid.UUID] = field(default_factory=dict)
    group_roles: list[uuid.UUID] = field(default_factory=list)
    everybody: uuid.UUID | None = None
    own: uuid.UUID | None = None
    each: uuid.UUID | None = None
    pages: list[Page] = field(default_factory=list)

    def at_commit(self, change: Callable[[Session], object]) -> float:
        """Make a change; when its commit began."""
        with self.database.transaction() as session:
            change(session)
            return time.perf_counter()


def furnish(database: Database, count: int) -> Home:
    """`count` principals: three times `EACH` are pages, the rest devices."""
    now = datetime.now(UTC)
    with database.transaction() as session:
        credentials.set_hub_password(session, HUB_PASSWORD)
        agent = Agent(name="Home")
        session.add(agent)
        session.flush()
        home = Home(database, agent.agent_id)
        owner = identity.create_user(session, "owner@example.org")
        identity.join(session, agent.agent_id, owner, "owner")
    for number in range(count - 3 * EACH):
        with database.transaction() as session:
            new = devices.add(session, home.agent_id, f"d{number}", scopes=SCOPES, by="bench", handle=f"d{number}")
            home.tokens[new.device.handle], home.ids[new.device.handle] = new.token, new.device.device_id
    for number in range(3 * EACH):
        with database.transaction() as session:
            user = identity.create_user(session, f"user{number}@example.org")
            identity.join(session, home.agent_id, user, "member")
            sessions.start_session(session, user, "", "", now)
            [signed_in] = sessions.sessions_of(session, user.user_id, now)
            name, password, _ = credentials.issue_for_session(session, signed_in, now)
            home.pages.append(Page(name, password, user.user_id, signed_in.session_id))
    with database.transaction() as session:
        for group in range(GROUPS):
            bearers = tuple(home.ids[name] for name in in_group(group))
            draft = RoleDraft(f"Group {group}", "", (grant(f"group-{group}"),), bearers)
            saved = roles.create(session, home.agent_id, draft, by="bench", open_topics=())
            home.group_roles.append(saved.role.role_id)
        bearers = tuple(home.ids[name] for name in in_group(GROUPS))
        draft = RoleDraft("Own", "", (GrantDraft("subscribe", "d/{handle}/own"),), bearers)
        home.own = roles.create(session, home.agent_id, draft, by="bench", open_topics=()).role.role_id
        draft = RoleDraft("Each", "", (GrantDraft("subscribe", "d/{handle}/each"),), all_devices=True)
        home.each = roles.create(session, home.agent_id, draft, by="bench", open_topics=()).role.role_id
        draft = RoleDraft("Everybody", "", (grant("all"),), all_devices=True)
        home.everybody = roles.create(session, home.agent_id, draft, by="bench", open_topics=()).role.role_id
    return home


def grant(name: str) -> GrantDraft:
    return GrantDraft("subscribe", f"x/{{agent}}/{name}")


def in_group(group: int) -> list[str]:
    return [f"d{number}" for number in range(3 * EACH + group * EACH, 3 * EACH + (group + 1) * EACH)]


def cpu_s(pid: int) -> float:
    """Processor time of a process and its children so far."""
    spent = 0.0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            if pid in {int(stat.parent.name), int(fields[1])}:
                spent += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return spent


@contextlib.contextmanager
def running(broker: str, database_url: str, folder: Path) -> Iterator[tuple[int, int]]:
    """The broker as the product starts it; yields its port and the process id."""
    port, log = free_port(), folder / "broker.log"
    hub_password = folder / "hub_password"
    hub_password.write_text(HUB_PASSWORD)
    environment = {
        **os.environ,
        "MARVAIN_DATABASE_URL": database_url,
        "MARVAIN_BROKER": broker,
        "MARVAIN_MQTT_PORT": str(port),
        "MARVAIN_WS_PORT": str(free_port()),
        "MARVAIN_HUB_PASSWORD_FILE": str(hub_password),
        "MARVAIN_LOG_FORMAT": "json",
    }
    with log.open("wb") as out:
        process = subprocess.Popen([sys.executable, "-m", "broker"], cwd=REPOSITORY, env=environment, stderr=out)
    try:
        deadline = time.monotonic() + 60
        while b"broker.ready" not in log.read_bytes():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        yield port, process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)
        troubles = [line for line in log.read_text().splitlines() if '"level": "info"' not in line]
        sys.stderr.write("".join(f"{broker}: {line[:400]}\n" for line in troubles[-20:]))
