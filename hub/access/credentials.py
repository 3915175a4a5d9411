"""Secrets of everything that speaks MQTT: made, hashed, checked, issued and renewed.

Secrets are 256 bits from the system's generator, so few iterations suffice; the form is the one that Mosquitto's
dynamic-security plugin stores (PBKDF2-SHA512, 12 bytes of salt, 101 iterations).
"""

import base64
import binascii
import hashlib
import hmac
import secrets
import uuid
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Protocol

from sqlalchemy import text
from sqlmodel import Session

from hub import audit
from hub.access import changes, projection
from hub.access.decide import BAD_CREDENTIALS, NOT_AUTHORIZED, SERVER_UNAVAILABLE
from hub.access.principals import BROWSER_PREFIX, INTEGRATION_PREFIX, Kind, kind_of
from hub.errors import NotFound
from hub.settings import HUB_USERNAME
from hub_protocol.topics import check_handle

BROWSER_LIFETIME: Final = timedelta(minutes=10)

_ITERATIONS: Final = 101
_SALT_BYTES: Final = 12
_HASH_BYTES: Final = 64
_FORM: Final = "pbkdf2-sha512"
# Longer ones are certainly wrong; the limit keeps a hostile CONNECT cheap.
_MAX_SECRET_BYTES: Final = 1024
# How many secrets are tried on the way to a refusal, known username or not, so that time tells nothing.
_TRIES: Final = 4


class EnrolledDevice(Protocol):
    """What is needed of a device to give it a token; `hub.tables.Device` is one."""

    device_id: Any
    handle: str
    needs_enrolment: bool


class NamedIntegration(Protocol):
    """What is needed of an integration to give it a token; `hub.tables.Integration` is one."""

    integration_id: Any
    handle: str


class SignedInSession(Protocol):
    """What is needed of a signed-in session to give its browser a credential; `hub.tables.UserSession` is one."""

    session_id: Any
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Authenticated:
    """The secret was right and the one who knows it may come in. `credential_id` names the row that let it in."""

    username: str
    kind: Kind
    credential_id: uuid.UUID
    device_id: uuid.UUID | None = None
    session_id: uuid.UUID | None = None
    expires_at: datetime | None = None
    integration_id: uuid.UUID | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """No entry. `code` is CONNACK's: 4 for a wrong name or secret, 5 when the secret is right but no longer counts.

    At a CONNECT it is 3 while the agent is disabled: the secret will count again, and devices that were told 5 would
    never try again.
    """

    reason: str
    code: int


def new_token(username: str) -> str:
    """A new token of a device or integration: `mv1.<username>.<43 characters>`."""
    check_handle(username.removeprefix(INTEGRATION_PREFIX))
    return f"mv1.{username}.{secrets.token_urlsafe(32)}"


def hash_secret(secret: str) -> str:
    """The form in which a secret is stored."""
    salt = secrets.token_bytes(_SALT_BYTES)
    digest = hashlib.pbkdf2_hmac("sha512", secret.encode(), salt, _ITERATIONS, _HASH_BYTES)
    return f"{_FORM}${_ITERATIONS}${base64.b64encode(salt).decode()}${base64.b64encode(digest).decode()}"


def hash_parts(stored: str) -> tuple[int, str, str]:
    """A stored hash as Mosquitto's plugin wants it: (iterations, salt, hash), the last two in base64."""
    form, iterations, salt, digest = stored.split("$")
    if form != _FORM:
        raise ValueError(f"not a hash of the form {_FORM}")
    return int(iterations), salt, digest


def verify_secret(secret: str, stored: str) -> bool:
    """Whether `secret` is the one that was stored; the comparison takes the same time wherever they differ."""
    try:
        form, iterations, salt, digest = stored.split("$")
        rounds = int(iterations)
        salt_bytes = base64.b64decode(salt, validate=True)
        expected = base64.b64decode(digest, validate=True)
        given = secret.encode()
    except (ValueError, binascii.Error):
        return False
    if form != _FORM or not 0 < rounds <= 10_000_000 or not expected or len(given) > _MAX_SECRET_BYTES:
        return False
    actual = hashlib.pbkdf2_hmac("sha512", given, salt_bytes, rounds, len(expected))
    return hmac.compare_digest(actual, expected)


_COLUMNS: Final = (
    "SELECT c.credential_id, c.username, c.kind, c.hash, c.replaced_at, c.valid_until, c.expires_at, c.device_id,"
    " c.session_id, c.integration_id, coalesce(d.revoked_at, i.revoked_at) AS revoked_at,"
    " coalesce(d.revoked_by, i.revoked_by) AS revoked_by, coalesce(d.revoked_reason, i.revoked_reason)"
    " AS revoked_reason, a.name AS agent_name, a.disabled AS agent_disabled,"
    " s.expires_at AS session_expires_at, u.disabled AS user_disabled"
)
_OWNERS: Final = (
    " LEFT JOIN devices d USING (device_id) LEFT JOIN integrations i USING (integration_id)"
    " LEFT JOIN agents a ON a.agent_id = coalesce(d.agent_id, i.agent_id)"
    " LEFT JOIN user_sessions s USING (session_id) LEFT JOIN users u ON u.user_id = s.user_id"
)
_ASKED: Final = text(
    f"{_COLUMNS} FROM unnest(CAST(:names AS text[])) AS asked (name) CROSS JOIN LATERAL ("
    "SELECT * FROM credentials WHERE username = asked.name ORDER BY replaced_at DESC NULLS FIRST LIMIT :tries"
    f") c{_OWNERS}"
)
_GONE: Final = Refused("this credential is gone: the session has ended or the device was removed", NOT_AUTHORIZED)
_DUMMY: Final = hash_secret(secrets.token_urlsafe(32))


def authenticate(session: Session, username: str, password: str, now: datetime) -> Authenticated | Refused:
    """Check a username and its secret; why somebody is refused is told only to the one who knew the secret."""
    return authenticate_many(session, [(username, password)], now)[0]


def authenticate_many(
    session: Session, logins: Sequence[tuple[str, str]], now: datetime
) -> list[Authenticated | Refused]:
    """The same for many in one query; the verdicts come in the order of the (username, password) pairs."""
    names = list({username for username, _ in logins if _storable(username)})
    rows = session.execute(_ASKED, {"names": names, "tries": _TRIES}).all()
    known: dict[str, list[Any]] = defaultdict(list)
    for row in sorted(rows, key=lambda row: (row.replaced_at is None, row.replaced_at or now), reverse=True):
        known[row.username].append(row)
    return [_authenticate(known.get(username, []), username, password, now) for username, password in logins]


def _authenticate(rows: list[Any], username: str, password: str, now: datetime) -> Authenticated | Refused:
    hashes = [row.hash for row in rows]
    hashes += [_DUMMY] * (_TRIES - len(rows))
    for index, stored in enumerate(hashes):
        if verify_secret(password, stored) and index < len(rows):
            verdict = _verdict(rows[index], username, now)
            if isinstance(verdict, Refused) and verdict.reason == _disabled_trouble(rows[index]):
                return Refused(verdict.reason, SERVER_UNAVAILABLE)
            return verdict
    return Refused("wrong username or password", BAD_CREDENTIALS)


def recheck(session: Session, credential_id: uuid.UUID, now: datetime) -> Authenticated | Refused:
    """Whether a credential that was good at CONNECT still is: for sessions that are open."""
    return recheck_many(session, [credential_id], now)[credential_id]


def recheck_many(
    session: Session, credential_ids: Collection[uuid.UUID], now: datetime
) -> dict[uuid.UUID, Authenticated | Refused]:
    """The same for many in one query; every id asked for has an answer."""
    rows = session.execute(
        text(f"{_COLUMNS} FROM credentials c{_OWNERS} WHERE c.credential_id = ANY(:ids)"), {"ids": list(credential_ids)}
    ).all()
    answers: dict[uuid.UUID, Authenticated | Refused] = dict.fromkeys(credential_ids, _GONE)
    answers |= {row.credential_id: _verdict(row, row.username, now) for row in rows}
    return answers


def issue_for_device(session: Session, device: EnrolledDevice, *, overlap_s: int = 0) -> str:
    """Give the device a new token, which replaces the one it had; shown once, stored as a hash.

    The old one is good for `overlap_s` more seconds; those that were replaced before it are not.
    """
    session.flush()
    token = new_token(device.handle)
    session.execute(
        text("UPDATE credentials SET valid_until = NULL WHERE device_id = :device_id AND valid_until IS NOT NULL"),
        {"device_id": device.device_id},
    )
    session.execute(
        text(
            "UPDATE credentials SET replaced_at = now(),"
            " valid_until = CASE WHEN :overlap_s > 0 THEN now() + make_interval(secs => :overlap_s) END"
            " WHERE device_id = :device_id AND replaced_at IS NULL"
        ),
        {"device_id": device.device_id, "overlap_s": overlap_s},
    )
    _store(session, device.handle, "device", token, device_id=device.device_id)
    device.needs_enrolment = False
    return token


def end_overlaps(session: Session, now: datetime) -> int:
    """Let brokers look again at devices whose replaced token has had its overlap; returns how many there were."""
    handles = session.execute(
        text(
            "UPDATE credentials SET valid_until = NULL WHERE valid_until <= :now RETURNING username",
        ),
        {"now": now},
    ).scalars()
    ended = list(handles)
    for handle in ended:
        changes.announce(session, handle, "changed", "the overlap of its old token has ended")
    return len(ended)


def issue_for_integration(session: Session, integration: NamedIntegration) -> str:
    """Give the integration a new token, which replaces the one it had; shown once, stored as a hash."""
    session.flush()
    username = f"{INTEGRATION_PREFIX}{integration.handle}"
    token = new_token(username)
    session.execute(
        text("UPDATE credentials SET replaced_at = now() WHERE integration_id = :id AND replaced_at IS NULL"),
        {"id": integration.integration_id},
    )
    _store(session, username, "integration", token, integration_id=integration.integration_id)
    return token


def issue_for_session(session: Session, user_session: SignedInSession, now: datetime) -> tuple[str, str, datetime]:
    """A short-lived credential for a page of a signed-in user: (username, password, expires_at)."""
    session.flush()
    username = f"{BROWSER_PREFIX}{secrets.token_hex(16)}"
    password = secrets.token_urlsafe(32)
    expires_at = min(now + BROWSER_LIFETIME, user_session.expires_at)
    # Whoever ends a membership at this moment waits, and then tells this page too.
    session.execute(
        text(
            "SELECT 1 FROM agent_memberships m JOIN user_sessions s USING (user_id) WHERE s.session_id = :session_id"
            " ORDER BY m.agent_id FOR SHARE OF m"
        ),
        {"session_id": user_session.session_id},
    )
    session.execute(
        text("DELETE FROM credentials WHERE session_id = :session_id AND expires_at < :long_ago"),
        {"session_id": user_session.session_id, "long_ago": now - BROWSER_LIFETIME},
    )
    _store(session, username, "browser", password, session_id=user_session.session_id, expires_at=expires_at)
    return username, password, expires_at


def renew(session: Session, username: str, session_id: uuid.UUID, now: datetime) -> datetime:
    """Let a browser's credential live on; raises `NotFound` when it is not this session's or has run out."""
    expires_at = session.execute(
        text(
            "UPDATE credentials c SET expires_at = least(:until, s.expires_at) FROM user_sessions s"
            " WHERE c.username = :username AND c.kind = 'browser' AND c.session_id = :session_id"
            " AND s.session_id = c.session_id AND c.expires_at > :now AND s.expires_at > :now"
            " AND c.replaced_at IS NULL RETURNING c.expires_at"
        ),
        {"until": now + BROWSER_LIFETIME, "username": username, "session_id": session_id, "now": now},
    ).scalar_one_or_none()
    if not isinstance(expires_at, datetime):
        raise NotFound("this page's live credential has run out; ask for a new one")
    changes.announce(session, username, "changed", "renewed")
    return expires_at


def set_hub_password(session: Session, password: str) -> bool:
    """Make `password` the hub service's; True when it was another before (its open session is then ended)."""
    current = session.execute(
        text("SELECT hash FROM credentials WHERE kind = 'hub' AND replaced_at IS NULL"),
    ).scalars()
    known = list(current)
    if any(verify_secret(password, stored) for stored in known):
        return False
    session.execute(text("UPDATE credentials SET replaced_at = now() WHERE kind = 'hub' AND replaced_at IS NULL"))
    _store(session, HUB_USERNAME, "hub", password)
    if known:
        changes.announce(session, HUB_USERNAME, "rotated", "the hub service was given a new password")
    audit.record(session, None, by="the hub", action="hub.rotated" if known else "hub.added", subject=HUB_USERNAME)
    return True


def _store(
    session: Session,
    username: str,
    kind: Kind,
    secret: str,
    *,
    device_id: uuid.UUID | None = None,
    integration_id: uuid.UUID | None = None,
    session_id: uuid.UUID | None = None,
    expires_at: datetime | None = None,
) -> None:
    credential_id = session.execute(
        text(
            "INSERT INTO credentials (username, kind, device_id, integration_id, session_id, hash, expires_at) VALUES"
            " (:username, :kind, :device_id, :integration_id, :session_id, :hash, :expires_at) RETURNING credential_id"
        ),
        {
            "username": username,
            "kind": kind,
            "device_id": device_id,
            "integration_id": integration_id,
            "session_id": session_id,
            "hash": hash_secret(secret),
            "expires_at": expires_at,
        },
    ).scalar_one()
    projection.keep_sealed(session, credential_id, username, secret)


def _verdict(row: Any, username: str, now: datetime) -> Authenticated | Refused:
    """What becomes of one who knew the secret of this row."""
    if row.kind != kind_of(username):
        return Refused("wrong username or password", BAD_CREDENTIALS)
    why = _revoked_trouble(row) or _browser_trouble(row, now)
    if not why and row.replaced_at is not None and (row.valid_until is None or row.valid_until <= now):
        why = f"this token was replaced on {_when(row.replaced_at)}; use the new one"
    if why:
        return Refused(why, NOT_AUTHORIZED)
    return Authenticated(
        username, row.kind, row.credential_id, row.device_id, row.session_id, row.expires_at, row.integration_id
    )


def _revoked_trouble(row: Any) -> str:
    if row.kind not in {"device", "integration"}:
        return ""
    if row.revoked_at is not None:
        by = f" by {row.revoked_by}" if row.revoked_by else ""
        why = f": {row.revoked_reason}" if row.revoked_reason else ""
        return f"this {row.kind} was revoked on {_when(row.revoked_at)}{by}{why}"
    return _disabled_trouble(row)


def _disabled_trouble(row: Any) -> str:
    return f"the agent {row.agent_name} is disabled" if row.agent_disabled else ""


def _browser_trouble(row: Any, now: datetime) -> str:
    if row.kind != "browser":
        return ""
    if row.user_disabled:
        return "this account is disabled"
    if row.session_expires_at <= now:
        return "the session has ended; sign in again"
    if row.expires_at <= now:
        return f"this credential ran out on {_when(row.expires_at)}; ask for a new one"
    return ""


def _when(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"


def _storable(name: str) -> bool:
    """Postgres takes neither NUL nor half a character in text, and no name of ours is long."""
    return len(name) <= 200 and "\0" not in name and name.encode("utf-8", "ignore").decode() == name
