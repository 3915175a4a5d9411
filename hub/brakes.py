"""The brake on guessing: failures are counted per account and per network address, and each costs a longer wait.

Claim codes have counts of their own, so that a lost device does not lock people out and the other way round.
"""

import ipaddress
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import text
from sqlmodel import Session

# People mistype; an address may be that of a whole office.
FREE_PER_ACCOUNT: Final = 5
FREE_PER_ADDRESS: Final = 20
FREE_CLAIMS_PER_ADDRESS: Final = 10
# Wrong codes from everywhere together. Guessing 80 bits is hopeless at any pace: this bounds the work, not the risk.
CLAIMS_PER_S: Final = 5
CLAIMS_AT_ONCE: Final = 300
# However long a flood lasts, the door opens again so soon after it: nobody can keep it shut with a few requests.
LONGEST_CLAIMS_S: Final = 10
LONGEST_S: Final = 900
FORGET_AFTER: Final = timedelta(days=1)
_MAX_EMAIL: Final = 254
_ALL_CLAIMS: Final = "claims"


def delay_s(failures: int, free: int) -> int:
    """How long to wait after so many failures, in seconds: 0 below `free`, then 1, 2, 4 … up to 15 minutes."""
    return 0 if failures < free else min(LONGEST_S, 2 ** min(failures - free, 20))


def account_key(email: str) -> str:
    """The account's key, whether it exists or not."""
    return f"account:{email.strip().lower().replace(chr(0), '')[:_MAX_EMAIL]}"


def address_key(address: str) -> str | None:
    """The key of a network address: a single IPv4, a /64 of IPv6; None for what says nothing about who is asking."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return None
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is None:
            return None if parsed.is_loopback else f"address:{ipaddress.ip_network((parsed, 64), strict=False)}"
        parsed = parsed.ipv4_mapped
    # Behind a proxy that is not declared everybody comes from here: one guesser must not lock all out.
    return None if parsed.is_loopback else f"address:{parsed}"


def take_turn(session: Session, account: str) -> bool:
    """Whether this is the only attempt on the account right now; many at once must not share one count."""
    taken = text("SELECT pg_try_advisory_xact_lock(hashtextextended(:key, 0))")
    return bool(session.execute(taken, {"key": account}).scalar_one())


def wait_s(session: Session, account: str, address: str | None, now: datetime) -> float:
    """How many seconds the next attempt has to wait; 0 for none."""
    return _wait_s(session, account, address or account, now)


def failed(session: Session, account: str, address: str | None, now: datetime) -> int:
    """Count a failure for both keys; returns how many seconds to wait before the next attempt."""
    waits = [_count(session, account, FREE_PER_ACCOUNT, now)]
    if address is not None:
        waits.append(_count(session, address, FREE_PER_ADDRESS, now))
    return max(waits)


def succeeded(session: Session, account: str, now: datetime) -> None:
    """Forget the account's failures, not the address's: a guesser may have an account of his own."""
    session.execute(
        text("DELETE FROM sign_in_brakes WHERE key = :key OR last_failure_at < :long_ago"),
        {"key": account, "long_ago": now - FORGET_AFTER},
    )


def claims_wait_s(session: Session, address: str, now: datetime) -> float:
    """How many seconds the next claim code from this network address has to wait; 0 for none."""
    return _wait_s(session, _ALL_CLAIMS, _claims_key(address) or _ALL_CLAIMS, now)


def claim_failed(session: Session, address: str, now: datetime) -> float:
    """Count a wrong claim code for its address and for all; returns how many seconds to wait before the next."""
    waits: list[float] = []
    if (key := _claims_key(address)) is not None:
        waits.append(_count(session, key, FREE_CLAIMS_PER_ADDRESS, now))
    # A bucket that leaks: what is above its brim has to run off first.
    level = session.execute(
        text(
            "INSERT INTO sign_in_brakes AS b (key, failures, last_failure_at, retry_at) VALUES (:key, 1, :now, :now)"
            " ON CONFLICT (key) DO UPDATE SET last_failure_at = greatest(:now, b.last_failure_at),"
            " failures = 1 + least(:most, greatest(0, b.failures"
            " - floor(greatest(0, extract(epoch FROM :now - b.last_failure_at)) * :per_s)))::integer"
            " RETURNING failures"
        ),
        {
            "key": _ALL_CLAIMS,
            "now": now,
            "per_s": CLAIMS_PER_S,
            "most": CLAIMS_AT_ONCE + CLAIMS_PER_S * LONGEST_CLAIMS_S - 1,
        },
    ).scalar_one()
    waits.append(max(0.0, (level - CLAIMS_AT_ONCE) / CLAIMS_PER_S))
    session.execute(
        text("UPDATE sign_in_brakes SET retry_at = :retry_at WHERE key = :key"),
        {"key": _ALL_CLAIMS, "retry_at": now + timedelta(seconds=waits[-1])},
    )
    return max(waits)


def _claims_key(address: str) -> str | None:
    key = address_key(address)
    return f"claims:{key}" if key is not None else None


def _wait_s(session: Session, one: str, other: str, now: datetime) -> float:
    held = text("SELECT max(retry_at) FROM sign_in_brakes WHERE key IN (:one, :other)")
    until = session.execute(held, {"one": one, "other": other}).scalar_one()
    return max(0.0, (until - now).total_seconds()) if isinstance(until, datetime) else 0.0


def _count(session: Session, key: str, free: int, now: datetime) -> int:
    failures = session.execute(
        text(
            "INSERT INTO sign_in_brakes AS b (key, failures, last_failure_at, retry_at) VALUES (:key, 1, :now, :now)"
            " ON CONFLICT (key) DO UPDATE SET last_failure_at = :now,"
            " failures = CASE WHEN b.last_failure_at < :long_ago THEN 1 ELSE b.failures + 1 END RETURNING failures"
        ),
        {"key": key, "now": now, "long_ago": now - FORGET_AFTER},
    ).scalar_one()
    wait = delay_s(failures, free)
    session.execute(
        text("UPDATE sign_in_brakes SET retry_at = :retry_at WHERE key = :key"),
        {"key": key, "retry_at": now + timedelta(seconds=wait)},
    )
    return wait
