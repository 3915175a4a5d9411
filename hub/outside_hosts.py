"""The hosts outside that an agent's actions may ask: named by its admins, nobody's by default."""

import re
import uuid
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import text
from sqlmodel import Session

from hub import agents, audit
from hub.errors import Conflict, Invalid, NotFound
from hub.outside import METHODS, Target

HOSTS_MAX: Final = 100
_HOST: Final = re.compile(r"(?=.{1,253}(?::|$))[a-z0-9_](?:[a-z0-9_.-]*[a-z0-9_])?(?::[0-9]{1,5})?")


@dataclass(frozen=True, slots=True)
class HostView:
    """A host with the methods by which it may be asked."""

    host: str
    methods: list[str]
    added_by: str
    added_at: datetime


def listed(session: Session, agent_id: uuid.UUID) -> list[HostView]:
    """All hosts of the agent, by name."""
    rows = session.execute(
        text("SELECT host, methods, added_by, added_at FROM outside_hosts WHERE agent_id = :agent ORDER BY host"),
        {"agent": agent_id},
    )
    return [HostView(*row) for row in rows]


def allow(session: Session, agent_id: uuid.UUID, host: str, methods: Collection[str], *, by: str) -> HostView:
    """Let actions ask this host; again with other methods replaces them. Raises `Invalid`, `Conflict` (too many)."""
    host = host.strip().lower().rstrip(".")
    if not _HOST.fullmatch(host):
        raise Invalid("is a host as in api.example.org, with :port where it is not the usual one", field="host")
    wanted = [one for one in METHODS if one in set(methods)]
    if not wanted or set(methods) - set(METHODS):
        raise Invalid(f"are one or more of {', '.join(METHODS)}", field="methods")
    agents.held(session, agent_id)
    known = {one.host: one for one in listed(session, agent_id)}
    if host not in known and len(known) >= HOSTS_MAX:
        raise Conflict(f"there are {HOSTS_MAX} hosts already", field="host")
    session.execute(
        text(
            "INSERT INTO outside_hosts (agent_id, host, methods, added_by) VALUES (:agent, :host, :methods, :by) "
            "ON CONFLICT (agent_id, host) DO UPDATE SET methods = excluded.methods"
        ),
        {"agent": agent_id, "host": host, "methods": wanted, "by": str(by)},
    )
    before = {"methods": known[host].methods} if host in known else None
    audit.record(
        session, agent_id, by=by, action="outside_host.allowed", subject=host, before=before, after={"methods": wanted}
    )
    return next(one for one in listed(session, agent_id) if one.host == host)


def forbid(session: Session, agent_id: uuid.UUID, host: str, *, by: str) -> None:
    """Let it be asked no more; raises `NotFound`."""
    row = session.execute(
        text("DELETE FROM outside_hosts WHERE agent_id = :agent AND host = :host RETURNING methods"),
        {"agent": agent_id, "host": host},
    ).first()
    if row is None:
        raise NotFound("there is no such host", field="host")
    audit.record(
        session, agent_id, by=by, action="outside_host.forbidden", subject=host, before={"methods": row.methods}
    )


def check(session: Session, agent_id: uuid.UUID, target: Target, method: str, field: str) -> None:
    """Raises `Invalid` unless the agent may ask this host so."""
    usual = 443 if target.scheme == "https" else 80
    name = target.host if target.port == usual else f"{target.host}:{target.port}"
    known = {one.host: one.methods for one in listed(session, agent_id)}
    if name not in known:
        allowed = ", ".join(known) or "none yet"
        raise Invalid(f"{name} is not among the hosts that this agent may ask: {allowed}", field=field)
    if method not in known[name]:
        raise Invalid(f"{name} may be asked by {', '.join(known[name])} alone", field="args.method")
