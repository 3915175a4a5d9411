"""How a device is to be set and how it says that it is: desired values with revisions, and what came back.

The desired values stand retained on the device's topic, so that one that was away gets them on return.
"""

import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, Literal

import msgspec
from sqlalchemy import text
from sqlmodel import Session

from hub import audit, feed, outbox, proxied, verbs
from hub.errors import Conflict, Invalid
from hub.tables import Device
from hub_protocol import messages
from hub_protocol.messages import CONFIG_KEY_PATTERN, CONFIG_MAX_BYTES, MAX_SAFE_INTEGER
from hub_protocol.topics import Topics

REVISIONS_KEPT: Final = 50
_KEY: Final = re.compile(CONFIG_KEY_PATTERN)
_TOPICS: Final = Topics.below_root()
_FIELDS: Final = "desired, desired_rev, set_by, set_at, reported, reported_rev, reported_at, ok, error, refused"
State = Literal["unset", "waiting", "applied", "refused", "different"]
RowState = Literal["waiting", "applied", "refused", "different", "own", "missing"]


@dataclass(frozen=True, slots=True)
class ConfigView:
    """Desired and reported values of a device; `desired_rev` 0: nobody has asked for anything."""

    desired: dict[str, Any] = field(default_factory=dict)
    desired_rev: int = 0
    set_by: str | None = None
    set_at: datetime | None = None
    reported: dict[str, Any] = field(default_factory=dict)
    reported_rev: int | None = None
    reported_at: datetime | None = None
    ok: bool | None = None
    error: str = ""
    refused: dict[str, str] = field(default_factory=dict)

    @property
    def is_answered(self) -> bool:
        """Whether the device has answered the revision that is wanted now."""
        return self.desired_rev > 0 and self.reported_rev == self.desired_rev

    @property
    def state(self) -> State:
        """The whole in a word."""
        if self.desired_rev == 0:
            return "unset"
        if not self.is_answered:
            return "waiting"
        if not self.ok:
            return "refused"
        as_wanted = all(_same(self.reported.get(key), want) for key, want in self.desired.items())
        return "applied" if as_wanted else "different"


@dataclass(frozen=True, slots=True)
class Difference:
    """One key: what is wanted, what the device says, and how the two stand to each other."""

    key: str
    state: RowState
    wanted: Any = None
    reported: Any = None
    is_wanted: bool = True
    is_reported: bool = True
    why: str = ""


@dataclass(frozen=True, slots=True)
class Revision:
    """Values that were wanted once."""

    rev: int
    desired: dict[str, Any]
    set_by: str
    set_at: datetime
    batch_id: uuid.UUID | None


@dataclass(frozen=True, slots=True)
class Told:
    """A device's answer to a config, as it came in."""

    device_id: uuid.UUID
    agent_id: uuid.UUID
    handle: str
    reply: messages.ConfigReply
    at: datetime


class StaleRevision(Conflict):
    """Somebody else has set other values meanwhile; `current` is how it stands now."""

    def __init__(self, message: str, current: ConfigView) -> None:
        super().__init__(message, field="expected_rev")
        self.current = current


def check_values(values: Mapping[str, Any]) -> None:
    """Raises `Invalid`, naming the key, for what no config may hold."""
    for key in values:
        if not isinstance(key, str) or not _KEY.fullmatch(key):
            raise Invalid("a key is 1 to 63 of a-z 0-9 _ .", field=f"values.{str(key)[:80]}")
    try:
        verbs.check_args(values)
    except Invalid as error:
        raise Invalid(error.message, field="values") from None
    size = len(msgspec.json.encode(dict(values)))
    if size > CONFIG_MAX_BYTES:
        raise Invalid(f"are at most {CONFIG_MAX_BYTES} bytes as JSON, and these are {size}", field="values")


def view(session: Session, device_id: uuid.UUID) -> ConfigView:
    """How the device is to be set and how it says that it is."""
    row = session.execute(
        text(f"SELECT {_FIELDS} FROM device_config WHERE device_id = :device"), {"device": device_id}
    ).one_or_none()
    return ConfigView(*row) if row is not None else ConfigView()


def history(session: Session, device_id: uuid.UUID, limit: int = 10) -> list[Revision]:
    """What was wanted of the device, newest first."""
    rows = session.execute(
        text(
            "SELECT rev, desired, set_by, set_at, batch_id FROM device_config_history WHERE device_id = :device "
            "ORDER BY rev DESC LIMIT :limit"
        ),
        {"device": device_id, "limit": limit},
    )
    return [Revision(*row) for row in rows]


def differences(config: ConfigView) -> list[Difference]:
    """Key by key, wanted ones first. What was not asked for is the device's own."""
    rows = []
    for key, wanted in sorted(config.desired.items()):
        has = key in config.reported
        state: RowState = "waiting"
        why = ""
        if config.is_answered:
            why = config.refused.get(key, "")
            if why:
                state = "refused"
            elif has and _same(config.reported[key], wanted):
                state = "applied"
            elif not config.ok:
                state, why = "refused", "the config was refused whole"
            else:
                state = "different" if has else "missing"
        rows.append(Difference(key, state, wanted, config.reported.get(key), is_reported=has, why=why))
    rows += [
        Difference(key, "own", reported=value, is_wanted=False)
        for key, value in sorted(config.reported.items())
        if key not in config.desired
    ]
    return rows


def set_desired(
    session: Session,
    device: Device,
    values: Mapping[str, Any],
    *,
    by: str,
    expected_rev: int,
    now: datetime | None = None,
) -> ConfigView:
    """Want exactly these values from now on; published to the device at once, retained.

    Raises `Invalid` (values or values.<key>), `StaleRevision` when the revision is not `expected_rev` any more, or
    `Conflict` when the device is revoked.
    """
    check_values(values)
    own = proxied.desired(session, device.device_id)
    if proxied.CONFIG_KEY in values and values[proxied.CONFIG_KEY] != own.get(proxied.CONFIG_KEY):
        raise Invalid("is the hub's own: it follows what the device's page says of remotes", field="values.remotes")
    # Held, so that a revoke at this moment comes either before, and is seen, or after, and purges what is published.
    revoked_at = session.execute(
        text("SELECT revoked_at FROM devices WHERE device_id = :device FOR SHARE"), {"device": device.device_id}
    ).scalar()
    if revoked_at is not None:
        raise Conflict(f"{device.handle} is revoked and cannot be set any more")
    before = lock(session, device)
    if before.desired_rev != expected_rev:
        raise StaleRevision(
            f"{before.set_by or 'somebody'} has set other values meanwhile: revision {before.desired_rev}", before
        )
    return write(session, device, before, dict(values), by=by, now=now or datetime.now(UTC))


def lock(session: Session, device: Device) -> ConfigView:
    """The device's config, its row made if there is none, and held until the transaction ends."""
    session.execute(
        text(
            "INSERT INTO device_config (device_id, agent_id) VALUES (:device, :agent) "
            "ON CONFLICT (device_id) DO NOTHING"
        ),
        {"device": device.device_id, "agent": device.agent_id},
    )
    row = session.execute(
        text(f"SELECT {_FIELDS} FROM device_config WHERE device_id = :device FOR NO KEY UPDATE"),
        {"device": device.device_id},
    ).one()
    return ConfigView(*row)


def write(
    session: Session,
    device: Device,
    before: ConfigView,
    values: dict[str, Any],
    *,
    by: str,
    now: datetime,
    batch_id: uuid.UUID | None = None,
) -> ConfigView:
    """Write the next revision over what `lock` gave, keep it for undo, publish and tell it."""
    values = {key: value for key, value in values.items() if key != proxied.CONFIG_KEY}
    values |= proxied.desired(session, device.device_id)
    check_values(values)
    rev = before.desired_rev + 1
    if rev > MAX_SAFE_INTEGER:
        raise Conflict("there is no higher revision")
    facts = {
        "device": device.device_id,
        "agent": device.agent_id,
        "rev": rev,
        "desired": msgspec.json.encode(values).decode(),
        "by": by,
        "now": now,
        "batch": batch_id,
    }
    session.execute(
        text(
            "UPDATE device_config SET desired = CAST(:desired AS jsonb), desired_rev = :rev, set_by = :by, "
            "set_at = :now WHERE device_id = :device"
        ),
        facts,
    )
    session.execute(
        text(
            "INSERT INTO device_config_history (device_id, agent_id, rev, desired, set_by, set_at, batch_id) "
            "VALUES (:device, :agent, :rev, CAST(:desired AS jsonb), :by, :now, :batch)"
        ),
        facts,
    )
    session.execute(
        text("DELETE FROM device_config_history WHERE device_id = :device AND rev <= :oldest"),
        {"device": device.device_id, "oldest": rev - REVISIONS_KEPT},
    )
    outbox.retain(session, _TOPICS.config(device.handle), messages.Config(rev, values), device_id=device.device_id)
    after = view(session, device.device_id)
    _tell(session, device.agent_id, device.device_id, device.handle, after)
    audit.record(
        session,
        device.agent_id,
        by=by,
        action="device.config_set",
        subject=device.handle,
        subject_id=device.device_id,
        before={"rev": before.desired_rev, "values": before.desired},
        after={"rev": rev, "values": values},
    )
    return after


def earlier(session: Session, device_id: uuid.UUID, rev: int) -> Revision:
    """A revision that is still kept; `Conflict` when it is not."""
    for one in history(session, device_id, REVISIONS_KEPT):
        if one.rev == rev:
            return one
    raise Conflict(f"revision {rev} is not kept any more", field="rev")


def greet(session: Session, hellos: Mapping[uuid.UUID, tuple[str, int]]) -> dict[uuid.UUID, int]:
    """The wanted revision by device, for those of `hellos` (handle and the revision that it said it has) that have one.

    Who says another one is sent the config again: it was away, may not hear what is retained, or lost its memory.
    """
    rows = session.execute(
        text(
            "SELECT device_id, desired, desired_rev FROM device_config WHERE device_id = ANY(:ids) AND desired_rev > 0 "
            "ORDER BY device_id FOR NO KEY UPDATE"
        ),
        {"ids": list(hellos)},
    ).all()
    for device_id, desired, rev in rows:
        handle, said = hellos[device_id]
        if said != rev:
            outbox.retain(session, _TOPICS.config(handle), messages.Config(rev, desired), device_id=device_id)
    return {row.device_id: row.desired_rev for row in rows}


def answer(session: Session, told: Sequence[Told]) -> None:
    """Write what devices said of their config; of several words of one device the last counts."""
    last = {one.device_id: one for one in told}
    rows = [last[device_id] for device_id in sorted(last)]
    session.execute(
        text(
            "INSERT INTO device_config (device_id, agent_id, reported, reported_rev, reported_at, ok, error, refused) "
            "SELECT device_id, agent_id, CAST(reported AS jsonb), rev, at, ok, error, CAST(refused AS jsonb) "
            "FROM unnest(CAST(:devices AS uuid[]), CAST(:agents AS uuid[]), CAST(:reported AS text[]), "
            "CAST(:revs AS bigint[]), "
            "CAST(:times AS timestamptz[]), CAST(:oks AS boolean[]), CAST(:errors AS text[]), "
            "CAST(:refused AS text[])) "
            "WITH ORDINALITY AS n (device_id, agent_id, reported, rev, at, ok, error, refused, n) ORDER BY n "
            "ON CONFLICT (device_id) DO UPDATE SET reported = excluded.reported, reported_rev = excluded.reported_rev, "
            "reported_at = excluded.reported_at, ok = excluded.ok, error = excluded.error, refused = excluded.refused"
        ),
        {
            "devices": [one.device_id for one in rows],
            "agents": [one.agent_id for one in rows],
            "reported": [msgspec.json.encode(one.reply.reported).decode() for one in rows],
            "revs": [one.reply.rev for one in rows],
            "times": [one.at for one in rows],
            "oks": [one.reply.ok for one in rows],
            "errors": [one.reply.error for one in rows],
            "refused": [msgspec.json.encode(one.reply.refused).decode() for one in rows],
        },
    )
    for one in rows:
        _tell(session, one.agent_id, one.device_id, one.handle, view(session, one.device_id))


def _tell(session: Session, agent_id: uuid.UUID, device_id: uuid.UUID, handle: str, config: ConfigView) -> None:
    item = {
        "device_id": str(device_id),
        "handle": handle,
        "state": config.state,
        "desired_rev": config.desired_rev,
        "reported_rev": config.reported_rev,
    }
    feed.tell(session, agent_id, "devices", "config.updated", item)


def _same(one: Any, two: Any) -> bool:
    # 15 and 15.0 are one number in JSON, but true is not 1.
    return isinstance(one, bool) == isinstance(two, bool) and bool(one == two)
