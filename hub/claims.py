"""Claim codes: made by somebody who may add devices, shown once, good for one device and for a short while."""

import hashlib
import secrets
import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Literal

from sqlalchemy import text
from sqlmodel import Session, select

from hub import audit, devices, feed, identity
from hub.access.scopes import check_scopes
from hub.errors import Conflict, Invalid, NotFound
from hub.tables import ClaimCode

MINUTES: Final = 15
MINUTES_MAX: Final = 7 * 24 * 60
OPEN_MAX: Final = 50
# Crockford's base 32, without the letters that are taken for digits. Sixteen of them are 80 random bits.
_ALPHABET: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_LENGTH: Final = 16
_GROUP: Final = 4
_MISREAD: Final = str.maketrans({"O": "0", "I": "1", "L": "1"})
# Longer ones are certainly wrong; an address with the code behind it is not longer.
_GIVEN_MAX: Final = 400


@dataclass(frozen=True, slots=True)
class ClaimDraft:
    """What a code shall be for: a device to be made with what is known of it, or one that is there (`device_id`)."""

    name: str | None = None
    handle: str | None = None
    space_id: uuid.UUID | None = None
    scopes: tuple[str, ...] = devices.DEFAULT_SCOPES
    device_id: uuid.UUID | None = None
    needs_approval: bool = True
    minutes: int = MINUTES


@dataclass(frozen=True, slots=True)
class ClaimView:
    """A code as lists show it; the code itself is kept nowhere."""

    claim_id: uuid.UUID
    device_id: uuid.UUID | None
    device_name: str | None
    name: str | None
    handle: str | None
    space_id: uuid.UUID | None
    space_name: str | None
    scopes: list[str]
    needs_approval: bool
    created_at: datetime
    created_by: str
    expires_at: datetime
    used_at: datetime | None
    withdrawn_at: datetime | None

    def state(self, now: datetime) -> Literal["open", "used", "withdrawn", "expired"]:
        """How it stands."""
        if self.used_at is not None:
            return "used"
        if self.withdrawn_at is not None:
            return "withdrawn"
        return "open" if self.expires_at > now else "expired"


@dataclass(frozen=True, slots=True)
class NewClaim:
    """A code with the one sight of it."""

    claim: ClaimView
    code: str


def create(
    session: Session, agent_id: uuid.UUID, draft: ClaimDraft, *, by: str, user_id: uuid.UUID | None, now: datetime
) -> NewClaim:
    """Make a code. `user_id` is whose authority it carries; None for whoever runs the hub.

    Raises `Invalid` (minutes, name, handle, scopes), `NotFound` (space or device of another agent), `Conflict` (handle
    taken, device revoked, too many open codes).
    """
    if not 1 <= draft.minutes <= MINUTES_MAX:
        raise Invalid(f"is 1 to {MINUTES_MAX} minutes", field="minutes")
    code = "".join(secrets.choice(_ALPHABET) for _ in range(_LENGTH))
    row = ClaimCode(
        agent_id=agent_id,
        code_hash=_hash(code),
        scopes=check_scopes(draft.scopes),
        needs_approval=draft.needs_approval,
        created_at=now,
        created_by=by,
        user_id=user_id,
        expires_at=now + timedelta(minutes=draft.minutes),
    )
    if draft.device_id is not None:
        device = devices.find(session, agent_id, draft.device_id)
        if device.revoked_at is not None:
            raise Conflict(f"{device.handle} is revoked and gets no new token; add it again under another handle")
        row.device_id, subject = device.device_id, device.handle
    else:
        row.name = devices.check_name(draft.name) if draft.name else None
        row.handle = _free_handle(session, draft.handle) if draft.handle else None
        if draft.space_id is not None:
            row.space_id = identity.find_space(session, agent_id, str(draft.space_id)).space_id
        subject = row.handle or row.name or "a new device"
    # One after the other, so that the bound holds.
    session.execute(
        text("SELECT pg_advisory_xact_lock(hashtextextended('marvain: claim codes of ' || :agent, 0))"),
        {"agent": str(agent_id)},
    )
    if len(open_ones(session, agent_id, now)) >= OPEN_MAX:
        raise Conflict(f"there are {OPEN_MAX} open codes already; withdraw some first")
    session.add(row)
    session.flush()
    facts = {
        "expires_at": row.expires_at,
        "needs_approval": row.needs_approval,
        "name": row.name,
        "handle": row.handle,
        "scopes": row.scopes,
    }
    audit.record(session, agent_id, by=by, action="claim.made", subject=subject, subject_id=row.claim_id, after=facts)
    tell(session, agent_id, row.claim_id, "open")
    return NewClaim(find(session, agent_id, row.claim_id), spelled(code))


def open_ones(session: Session, agent_id: uuid.UUID, now: datetime) -> list[ClaimView]:
    """The agent's codes that still work, the one that ends first on top."""
    where = "c.used_at IS NULL AND c.withdrawn_at IS NULL AND c.expires_at > :now ORDER BY c.expires_at, c.claim_id"
    return _views(session, agent_id, where, now=now)


def find(session: Session, agent_id: uuid.UUID, claim_id: uuid.UUID) -> ClaimView:
    """One code of the agent, whatever became of it; `NotFound` also for another agent's."""
    for view in _views(session, agent_id, "c.claim_id = :claim", claim=claim_id):
        return view
    raise NotFound("there is no such claim code")


def withdraw(session: Session, agent_id: uuid.UUID, claim_id: uuid.UUID, *, by: str, now: datetime) -> None:
    """Make an open code worthless; raises `NotFound`, or `Conflict` when it is not open any more."""
    view = find(session, agent_id, claim_id)
    done = session.execute(
        text(
            "UPDATE claim_codes SET withdrawn_at = :now WHERE claim_id = :claim AND agent_id = :agent"
            " AND used_at IS NULL AND withdrawn_at IS NULL AND expires_at > :now RETURNING 1"
        ),
        {"claim": claim_id, "agent": agent_id, "now": now},
    ).one_or_none()
    if done is None:
        state = find(session, agent_id, claim_id).state(now)
        raise Conflict({"used": "a device has used this code already"}.get(state, f"this code is {state} already"))
    subject = view.device_name or view.handle or view.name or "a new device"
    audit.record(session, agent_id, by=by, action="claim.withdrawn", subject=subject, subject_id=claim_id)
    tell(session, agent_id, claim_id, "withdrawn")


def use(session: Session, code: str, now: datetime) -> ClaimCode | None:
    """Use a code up; None when it does not work, whatever the reason. Of several at once exactly one gets it.

    It does not work either once its maker may no longer add devices to the agent, or the agent is disabled.
    """
    claim_id = session.execute(
        text(
            "UPDATE claim_codes AS c SET used_at = :now FROM agents AS a WHERE c.code_hash = :hash"
            " AND a.agent_id = c.agent_id AND NOT a.disabled"
            " AND c.used_at IS NULL AND c.withdrawn_at IS NULL AND c.expires_at > :now"
            " AND (c.user_id IS NULL OR EXISTS (SELECT 1 FROM agent_memberships AS m JOIN users AS u USING (user_id)"
            " WHERE m.agent_id = c.agent_id AND m.user_id = c.user_id AND m.role IN ('owner', 'admin')"
            " AND m.revoked_at IS NULL AND NOT u.disabled)) RETURNING c.claim_id"
        ),
        {"hash": _hash(code), "now": now},
    ).scalar_one_or_none()
    if claim_id is None:
        return None
    row = session.exec(select(ClaimCode).where(ClaimCode.claim_id == claim_id)).one()
    session.refresh(row)
    tell(session, row.agent_id, row.claim_id, "used")
    return row


def code_hash(given: str) -> str:
    """The hash under which a code that somebody gave would be kept."""
    return _hash(given)


def spelled(code: str) -> str:
    """The code in groups that people can read out, such as K7QF-2M9X-W3TE-0HVB."""
    return "-".join(code[at : at + _GROUP] for at in range(0, len(code), _GROUP))


def tell(session: Session, agent_id: uuid.UUID, claim_id: uuid.UUID, state: str) -> None:
    """Let open pages know; no more than an id, for guests hear it too."""
    feed.tell(session, agent_id, "devices", "claims.updated", {"claim_id": str(claim_id), "state": state})


def _hash(given: str) -> str:
    """Of a code, or of an address that ends with one; small letters, hyphens and misread letters do not matter."""
    code = given[:_GIVEN_MAX].rpartition("code=")[2].upper().translate(_MISREAD)
    plain = "".join(letter for letter in code if letter.isalnum())
    return hashlib.sha256(plain.encode(errors="surrogatepass")).hexdigest()


def _free_handle(session: Session, handle: str) -> str:
    checked = devices.check_handle_of_device(handle)
    free = devices.propose_handle(session, checked)
    if free != checked:
        raise Conflict(f"the handle {checked} is taken; {free} is free", field="handle")
    return checked


def _views(session: Session, agent_id: uuid.UUID, where: str, **values: Any) -> list[ClaimView]:
    rows = session.execute(
        text(
            "SELECT c.claim_id, c.device_id, d.name AS device_name, c.name, c.handle, c.space_id, s.name AS space_name,"
            " c.scopes, c.needs_approval, c.created_at, c.created_by, c.expires_at, c.used_at, c.withdrawn_at"
            " FROM claim_codes AS c LEFT JOIN devices AS d USING (device_id)"
            f" LEFT JOIN spaces AS s ON s.space_id = c.space_id WHERE c.agent_id = :agent AND {where}"
        ),
        {"agent": agent_id} | values,
    )
    return [ClaimView(**row._mapping) for row in rows]  # noqa: SLF001  (SQLAlchemy's public name for it)
