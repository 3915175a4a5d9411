"""Words that devices share: to find them by, and to speak to all of them."""

import re
import uuid
from collections.abc import Collection, Iterable, Sequence
from typing import Final

from sqlalchemy import text
from sqlmodel import Session

from hub import audit, feed
from hub.errors import Conflict, Invalid, NotFound
from hub.tables import Device

TAGS_MAX: Final = 20
TAG_RULE: Final = "a tag is 1 to 32 of a-z 0-9 _ -, not starting with _ or -"
_TAG: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")


def check_tag(tag: str) -> str:
    """The tag; raises `Invalid`."""
    if not _TAG.fullmatch(tag):
        raise Invalid(f"{TAG_RULE}, got {tag[:80]!r}", field="tags")
    return tag


def split(given: str) -> list[str]:
    """What somebody typed, with commas or spaces between, each once; not checked."""
    return list(dict.fromkeys(one for one in re.split(r"[\s,]+", given.strip().lower()) if one))


def of_devices(session: Session, device_ids: Sequence[uuid.UUID]) -> dict[uuid.UUID, list[str]]:
    """The tags of these devices, in order; those without any are missing."""
    found: dict[uuid.UUID, list[str]] = {}
    rows = session.execute(
        text("SELECT device_id, tag FROM device_tags WHERE device_id = ANY(:ids) ORDER BY tag"),
        {"ids": list(device_ids)},
    )
    for device_id, tag in rows:
        found.setdefault(device_id, []).append(tag)
    return found


def counted(session: Session, agent_id: uuid.UUID) -> dict[str, int]:
    """All tags of an agent with the number of devices that are not revoked, by name."""
    rows = session.execute(
        text(
            "SELECT t.tag, count(*) FILTER (WHERE d.revoked_at IS NULL) FROM device_tags AS t "
            "JOIN devices AS d USING (device_id) WHERE t.agent_id = :agent GROUP BY t.tag ORDER BY t.tag"
        ),
        {"agent": agent_id},
    )
    return {tag: int(count) for tag, count in rows}


def set_tags(
    session: Session, device: Device, tags: Iterable[str], *, by: str, expected: Iterable[str] | None = None
) -> list[str]:
    """Let the device have exactly these tags; returns them in order.

    Raises `Invalid` (tags), or `Conflict` when it has others than `expected` by now.
    """
    wanted = sorted({check_tag(tag) for tag in tags})
    if len(wanted) > TAGS_MAX:
        raise Invalid(f"a device has at most {TAGS_MAX} tags, and these are {len(wanted)}", field="tags")
    _hold(session, [device.device_id])
    before = of_devices(session, [device.device_id]).get(device.device_id, [])
    if expected is not None and sorted(expected) != before:
        told = ", ".join(before) or "no tags"
        raise Conflict(f"somebody else has changed the tags meanwhile: {told}", field="tags")
    _change(session, device, before, wanted, by=by)
    return wanted


def change_many(
    session: Session,
    agent_id: uuid.UUID,
    device_ids: Collection[uuid.UUID],
    *,
    by: str,
    add: Iterable[str] = (),
    remove: Iterable[str] = (),
) -> int:
    """Give tags to many devices of an agent and take others away; returns how many devices changed.

    Raises `NotFound` when one of them is not the agent's, `Invalid` for a bad tag or a device that would have too many;
    nothing is changed then.
    """
    given, taken = {check_tag(tag) for tag in add}, {check_tag(tag) for tag in remove}
    _hold(session, device_ids)
    rows = session.execute(
        text(
            "SELECT device_id, handle FROM devices WHERE agent_id = :agent AND device_id = ANY(:ids) "
            "AND deleted_at IS NULL ORDER BY handle"
        ),
        {"agent": agent_id, "ids": list(device_ids)},
    ).all()
    if len(rows) != len(set(device_ids)):
        raise NotFound("there is no such device")
    tags = of_devices(session, list(device_ids))
    changed = 0
    for device_id, handle in rows:
        before = tags.get(device_id, [])
        wanted = sorted(({*before} | given) - taken)
        if len(wanted) > TAGS_MAX:
            raise Invalid(f"{handle} would have {len(wanted)} tags, and a device has at most {TAGS_MAX}", field="tags")
        if wanted != before:
            changed += 1
            _change(session, session.get_one(Device, device_id), before, wanted, by=by)
    return changed


def _hold(session: Session, device_ids: Collection[uuid.UUID]) -> None:
    # The row of the device stands for all of its tags: two edits at once come one after the other.
    session.execute(
        text("SELECT 1 FROM devices WHERE device_id = ANY(:ids) ORDER BY device_id FOR NO KEY UPDATE"),
        {"ids": list(device_ids)},
    )


def _change(session: Session, device: Device, before: list[str], wanted: list[str], *, by: str) -> None:
    if before == wanted:
        return
    facts = {"device": device.device_id, "agent": device.agent_id, "tags": wanted}
    session.execute(text("DELETE FROM device_tags WHERE device_id = :device AND tag <> ALL(:tags)"), facts)
    session.execute(
        text(
            "INSERT INTO device_tags (device_id, agent_id, tag) SELECT :device, :agent, tag "
            "FROM unnest(CAST(:tags AS text[])) AS tag ON CONFLICT (device_id, tag) DO NOTHING"
        ),
        facts,
    )
    item = {"device_id": str(device.device_id), "handle": device.handle, "change": "tags", "by": by}
    feed.tell(session, device.agent_id, "devices", "devices.updated", item)
    audit.record(
        session,
        device.agent_id,
        by=by,
        action="device.tagged",
        subject=device.handle,
        subject_id=device.device_id,
        before={"tags": before},
        after={"tags": wanted},
    )
