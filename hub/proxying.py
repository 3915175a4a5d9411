"""Who reports for whom: a satellite is told to check a remote that cannot speak for itself, or no longer to."""

import ipaddress
import re
import uuid
from datetime import UTC, datetime
from typing import Final

from sqlalchemy import text
from sqlmodel import Session

from hub import audit, device_config, feed, presence_records, proxied
from hub.errors import Conflict, Invalid
from hub.presence import Evidence, lose_sight
from hub.presence_records import Known
from hub.tables import Device

REMOTES_MAX: Final = 24
EVERY_S: Final = 30.0
ADDRESS_MAX: Final = 120
_HOST: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")
_SERIAL: Final = re.compile(r"/dev/[A-Za-z0-9._:+/-]+")


def assign(
    session: Session, device: Device, proxy: Device, *, kind: str, address: str, every_s: float = EVERY_S, by: str
) -> None:
    """Let `proxy` check `device` from now on, in place of whoever did.

    Raises `Invalid` (kind, address, every_s, proxy) and `Conflict` for a device that is revoked or has its part in
    such a pair already, and for one remote too many.
    """
    address = check_address(kind, address)
    if not 5 <= every_s <= 3600:
        raise Invalid("is 5 to 3600 seconds", field="every_s")
    if proxy.device_id == device.device_id or proxy.agent_id != device.agent_id:
        raise Invalid("is another satellite of the same agent", field="proxy")
    # Both held, in the order of their ids: of two such pairs made at once, the second sees the first.
    session.execute(
        text("SELECT 1 FROM devices WHERE device_id = ANY(:ids) ORDER BY device_id FOR NO KEY UPDATE"),
        {"ids": [device.device_id, proxy.device_id]},
    )
    for one, who in ((device, "it"), (proxy, proxy.handle)):
        session.refresh(one)
        if one.revoked_at is not None or one.deleted_at is not None:
            raise Conflict(f"{who} is revoked", field="proxy")
    before = _assigned(session, device.device_id)
    if _assigned(session, proxy.device_id) is not None:
        raise Conflict(f"{proxy.handle} is checked by another one itself", field="proxy")
    if proxied.of_proxy(session, device.device_id):
        raise Conflict("it checks others itself", field="proxy")
    if before != proxy.device_id and len(proxied.of_proxy(session, proxy.device_id)) >= REMOTES_MAX:
        raise Conflict(f"{proxy.handle} checks {REMOTES_MAX} remotes, and one satellite checks no more", field="proxy")
    session.execute(
        text(
            "INSERT INTO proxied_remotes (device_id, agent_id, proxy_id, kind, address, every_s) "
            "VALUES (:device, :agent, :proxy, :kind, :address, :every_s) ON CONFLICT (device_id) DO UPDATE SET "
            "proxy_id = excluded.proxy_id, kind = excluded.kind, address = excluded.address, "
            "every_s = excluded.every_s, assigned_at = now(), reported_at = NULL"
        ),
        {
            "device": device.device_id,
            "agent": device.agent_id,
            "proxy": proxy.device_id,
            "kind": kind,
            "address": address,
            "every_s": every_s,
        },
    )
    metadata = dict(device.metadata_) | {"is_remote": True, "address": address, "connection_type": kind}
    device.metadata_ = metadata
    session.add(device)
    session.flush()
    for told in {proxy.device_id, before or proxy.device_id}:
        _tell_proxy(session, told, by)
    _unknown(session, device, f"waiting for the first report of {proxy.handle}")
    facts = {"proxy": proxy.handle, "kind": kind, "address": address, "every_s": every_s}
    _record(session, device, "proxied", by, facts)


def end(session: Session, device: Device, *, by: str) -> None:
    """Let nobody check this device any more; nothing when nobody does."""
    proxy_id = session.execute(
        text("DELETE FROM proxied_remotes WHERE device_id = :device RETURNING proxy_id"), {"device": device.device_id}
    ).scalar()
    if proxy_id is None:
        return
    _tell_proxy(session, proxy_id, by)
    if device.revoked_at is None:
        _unknown(session, device, "no satellite checks it any more")
    _record(session, device, "unproxied", by, {})


def abandon(session: Session, proxy: Device) -> None:
    """A satellite is deleted: of what it checked, nobody knows anything any more."""
    rows = session.execute(
        text("DELETE FROM proxied_remotes WHERE proxy_id = :proxy RETURNING device_id"), {"proxy": proxy.device_id}
    ).scalars()
    for device_id in sorted(rows):
        _unknown(session, session.get_one(Device, device_id), f"{proxy.handle}, which checked it, was deleted")


def check_address(kind: str, address: str) -> str:
    """The address as it is kept: `host:port`, or the path of a serial port; raises `Invalid`."""
    address = address.strip()
    if kind == "serial":
        if len(address) > ADDRESS_MAX or not _SERIAL.fullmatch(address) or "/../" in f"{address}/":
            raise Invalid("is the path of a port, such as /dev/ttyUSB0", field="address")
        return address
    if kind != "network":
        raise Invalid("is network or serial", field="kind")
    host, colon, port = address.rpartition(":")
    bare = host.removeprefix("[").removesuffix("]")
    try:
        is_host = ipaddress.ip_address(bare) is not None
    except ValueError:
        is_host = bare == host and _HOST.fullmatch(host) is not None
    if len(address) > ADDRESS_MAX or not colon or not is_host or not re.fullmatch(r"[1-9][0-9]{0,4}", port):
        raise Invalid("is host:port, such as 192.168.1.20:9100", field="address")
    if int(port) > 65_535:
        raise Invalid("has a port of 1 to 65535", field="address")
    return f"[{bare}]:{port}" if ":" in bare else address


def _assigned(session: Session, device_id: uuid.UUID) -> uuid.UUID | None:
    return session.execute(
        text("SELECT proxy_id FROM proxied_remotes WHERE device_id = :device"), {"device": device_id}
    ).scalar()


def _tell_proxy(session: Session, proxy_id: uuid.UUID, by: str) -> None:
    """Write the proxy's config anew; its list follows from the rows."""
    proxy = session.get_one(Device, proxy_id)
    session.refresh(proxy)
    if proxy.revoked_at is not None:
        return
    before = device_config.lock(session, proxy)
    device_config.write(session, proxy, before, dict(before.desired), by=by, now=datetime.now(UTC))


def _unknown(session: Session, device: Device, why: str) -> None:
    evidence = presence_records.lock(session, [device.device_id])[device.device_id]
    if evidence.source != "proxy" and evidence.verdict in ("online", "suspect", "sleeping"):
        return  # it speaks for itself
    known = Known(device.device_id, device.agent_id, device.handle, evidence)
    after = lose_sight(_of_proxy(evidence), why, datetime.now(UTC))
    presence_records.save(session, {device.device_id: (known, after)})


def _of_proxy(evidence: Evidence) -> Evidence:
    return Evidence(
        epoch=evidence.epoch,
        verdict=evidence.verdict,
        why=evidence.why,
        since=evidence.since,
        last_heard_at=evidence.last_heard_at,
        last_hello_at=evidence.last_hello_at,
        source="proxy",
    )


def _record(session: Session, device: Device, change: str, by: str, facts: dict[str, object]) -> None:
    item = {"device_id": str(device.device_id), "handle": device.handle, "change": change, "by": by}
    feed.tell(session, device.agent_id, "devices", "devices.updated", item)
    audit.record(
        session,
        device.agent_id,
        by=by,
        action=f"device.{change}",
        subject=device.handle,
        subject_id=device.device_id,
        after=facts or None,
    )
