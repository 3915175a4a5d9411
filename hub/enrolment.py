"""The device's side of joining: it shows a claim code, waits with a secret of its own, and fetches its token.

A token is made when it is fetched, so nothing that could be read is ever kept. An answer may be lost on its way, so the
device may fetch again for ten minutes: each time it gets a new token that replaces the last, until it has connected.
"""

import base64
import binascii
import hashlib
import hmac
import re
import secrets
import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import text
from sqlmodel import Session, select

from hub import brakes, claims, devices, enrolment_decisions, enrolment_records, phrases
from hub.audit import Actor
from hub.enrolment_decisions import COLLECT_WITHIN, Approval
from hub.errors import Invalid
from hub.tables import Agent, Device, Enrolment

# So long a device waits for a person.
DECIDE_WITHIN: Final = timedelta(days=1)
AGAIN_WITHIN: Final = timedelta(minutes=10)
POLL_S: Final = 5
TEXT_MAX: Final = 120
KEY_MAX: Final = 4000
RETRY_KEY_MIN: Final = 16
NO_CODE: Final = "this code does not work: it is mistyped, was used, has run out or was withdrawn"
NO_ENROLMENT: Final = "there is no such enrolment, or the secret is not its own"
TOO_MANY: Final = "too many wrong codes; wait before the next"


@dataclass(frozen=True, slots=True)
class Statement:
    """What a device says of itself; `public_key` is PEM, base64 of DER, or a line of OpenSSH."""

    name: str = ""
    hardware: str = ""
    firmware: str = ""
    public_key: str = ""


@dataclass(frozen=True, slots=True)
class Standing:
    """How it stands with a device. `token` is set when it was just made; `secret` when the device just asked.

    `state` is pending, approved (here is the token), collected (it was fetched already), rejected or expired.
    """

    enrolment_id: uuid.UUID
    state: str
    phrase: str
    expires_at: datetime
    handle: str = ""
    name: str = ""
    token: str = ""
    secret: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Refused:
    """Not let in. Returned, not raised: the count of failures must be committed."""

    message: str
    retry_after_s: float = 0.0


def ask(
    session: Session, code: str, statement: Statement, *, address: str, now: datetime, retry_key: str | None = None
) -> Standing | Refused:
    """Use a code. The device then waits, or has its token at once when the code needs nobody's word.

    `retry_key` is a random text of the device's: asked again with it, a device whose first answer was lost is known
    again. Raises `Invalid` (what it says, the key), and `Conflict` or `Invalid` when it cannot be made as its code
    says; the caller then rolls back and the code stays good.
    """
    said = _checked(statement)
    retry_hash = _retry_hash(code, retry_key)
    wait = brakes.claims_wait_s(session, address, now)
    if wait > 0:
        return Refused(TOO_MANY, wait)
    claim = claims.use(session, code, now)
    if claim is None:
        again = _asked_before(session, retry_hash, now)
        if again is None:
            return Refused(NO_CODE, brakes.claim_failed(session, address, now))
        return _answer_again(session, again, address, now)
    secret = secrets.token_urlsafe(32)
    row = Enrolment(
        agent_id=claim.agent_id,
        claim_id=claim.claim_id,
        name=said.name,
        hardware=said.hardware,
        firmware=said.firmware,
        fingerprint=said.public_key,
        address=address,
        phrase=phrases.new_phrase(),
        poll_hash=_hash(secret),
        retry_hash=retry_hash,
        asked_at=now,
        expires_at=now + DECIDE_WITHIN,
    )
    session.add(row)
    session.flush()
    view = enrolment_records.find(session, claim.agent_id, row.enrolment_id)
    enrolment_records.note(
        session, view, claim.agent_id, "asked", _by(address), hardware=said.hardware, firmware=said.firmware
    )
    if not claim.needs_approval:
        by = Actor(f"a claim code of {claim.created_by}", "policy")
        approval = Approval(space_id=claim.space_id)
        enrolment_decisions.approve(session, claim.agent_id, row.enrolment_id, approval, by=by, now=now)
        return _hand_over(session, row, now, secret=secret)
    return _standing(row, secret=secret)


def collect(
    session: Session, enrolment_id: uuid.UUID, secret: str, *, address: str, now: datetime
) -> Standing | Refused:
    """How it stands, with the token as soon as there is one to be fetched. Raises `Conflict` for a revoked device."""
    row = session.exec(select(Enrolment).where(Enrolment.enrolment_id == enrolment_id).with_for_update()).one_or_none()
    known = row.poll_hash if row is not None else _hash("")
    if not hmac.compare_digest(known, _hash(secret)) or row is None:
        wait = brakes.claims_wait_s(session, address, now)
        return (
            Refused(TOO_MANY, wait) if wait > 0 else Refused(NO_ENROLMENT, brakes.claim_failed(session, address, now))
        )
    return _proceed(session, row, now)


def _proceed(session: Session, row: Enrolment, now: datetime, secret: str = "") -> Standing:
    if row.status == "approved" and session.get_one(Agent, row.agent_id).disabled:
        # Nobody of it is let in; its word still counts when it is switched on again in time.
        state = "pending" if row.expires_at > now else "expired"
        return _standing(row, state, secret=secret, reason="the agent is switched off")
    if row.status == "approved" and row.first_collected_at is not None and row.collected_at is not None:
        if now - row.first_collected_at > AGAIN_WITHIN or _has_connected(session, row, row.collected_at):
            return _standing(row, "collected", secret=secret, reason="its token was fetched already")
        return _hand_over(session, row, now, secret=secret)
    if row.status in {"pending", "approved"} and row.expires_at <= now:
        return _standing(row, "expired", secret=secret, reason="it waited too long")
    if row.status == "approved":
        return _hand_over(session, row, now, secret=secret)
    return _standing(row, secret=secret, reason=row.reason or "")


def _hand_over(session: Session, row: Enrolment, now: datetime, *, secret: str) -> Standing:
    device = session.get_one(Device, row.device_id)
    by = _by(row.address)
    is_again = row.collected_at is not None
    if device.needs_enrolment:
        token = devices.give_first_token(session, device, by=by)
    else:
        token = devices.rotate(session, device, by=by)
    row.first_collected_at = row.first_collected_at or now
    row.collected_at = now
    session.add(row)
    session.flush()
    view = enrolment_records.find(session, row.agent_id, row.enrolment_id)
    enrolment_records.note(session, view, row.agent_id, "collected_again" if is_again else "collected", by)
    return _standing(row, secret=secret, device=device, token=token)


def _has_connected(session: Session, row: Enrolment, since: datetime) -> bool:
    """Whether the device was heard, or its session seen at the broker, since it fetched its token."""
    seen = text(
        "SELECT EXISTS (SELECT 1 FROM device_presence WHERE device_id = :device AND last_heard_at >= :since)"
        " OR EXISTS (SELECT 1 FROM broker_sessions AS b JOIN devices AS d ON d.handle = b.username"
        " WHERE d.device_id = :device AND b.connected_at >= :since)"
    )
    return bool(session.execute(seen, {"device": row.device_id, "since": since}).scalar_one())


def _asked_before(session: Session, retry_hash: str | None, now: datetime) -> Enrolment | None:
    """The device that asked with this code and this key a moment ago."""
    asked = select(Enrolment).where(Enrolment.retry_hash == (retry_hash or ""), Enrolment.asked_at > now - AGAIN_WITHIN)
    return session.exec(asked.with_for_update()).one_or_none()


def _answer_again(session: Session, row: Enrolment, address: str, now: datetime) -> Standing:
    """The answer to somebody who has proved to be the one that asked: with another secret, for the first got lost."""
    secret = secrets.token_urlsafe(32)
    row.poll_hash = _hash(secret)
    row.address = address
    session.add(row)
    session.flush()
    return _proceed(session, row, now, secret)


def _standing(
    row: Enrolment,
    state: str = "",
    *,
    secret: str = "",
    reason: str = "",
    device: Device | None = None,
    token: str = "",
) -> Standing:
    return Standing(
        enrolment_id=row.enrolment_id,
        state=state or row.status,
        phrase=row.phrase,
        expires_at=row.expires_at,
        handle=device.handle if device is not None else "",
        name=device.name if device is not None else "",
        token=token,
        secret=secret,
        reason=reason,
    )


def _checked(said: Statement) -> Statement:
    return Statement(
        _text(said.name, "name", devices.NAME_MAX),
        _text(said.hardware, "hardware", TEXT_MAX),
        _text(said.firmware, "firmware", TEXT_MAX),
        fingerprint(said.public_key),
    )


def _text(given: str, field: str, most: int) -> str:
    line = " ".join(given.split())
    if len(line) > most or not line.isprintable():
        raise Invalid(f"is at most {most} printable characters", field=field)
    return line


def fingerprint(public_key: str) -> str:
    """`SHA256:…` as OpenSSH writes it, over the key's bytes; "" for no key. Raises `Invalid`."""
    given = public_key.strip()
    if not given:
        return ""
    body = re.fullmatch(r"-----BEGIN [A-Z ]{1,40}-----([A-Za-z0-9+/=\s]+)-----END [A-Z ]{1,40}-----", given)
    line = re.match(r"[a-z0-9@.-]{1,60} ([A-Za-z0-9+/=]+)(?: |$)", given)
    encoded = body[1] if body else line[1] if line else given
    try:
        raw = base64.b64decode("".join(encoded.split()), validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if not raw or len(given) > KEY_MAX:
        raise Invalid("is a public key as PEM, as base64 of DER, or as a line of OpenSSH", field="public_key")
    return f"SHA256:{base64.b64encode(hashlib.sha256(raw).digest()).decode().rstrip('=')}"


def _retry_hash(code: str, retry_key: str | None) -> str | None:
    if retry_key is None:
        return None
    if not RETRY_KEY_MIN <= len(retry_key) <= 200 or not all("!" <= letter <= "~" for letter in retry_key):
        raise Invalid(f"is {RETRY_KEY_MIN} to 200 random visible ASCII characters", field="Idempotency-Key")
    return _hash(f"{claims.code_hash(code)}:{retry_key}")


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode(errors="surrogatepass")).hexdigest()


def _by(address: str) -> Actor:
    return Actor(f"a device at {address}" if address else "a device", "device")


__all__ = [
    "AGAIN_WITHIN",
    "COLLECT_WITHIN",
    "DECIDE_WITHIN",
    "POLL_S",
    "Refused",
    "Standing",
    "Statement",
    "ask",
    "collect",
    "fingerprint",
]
