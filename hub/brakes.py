"""The brake on guessing: failures are counted per account and per network address, and each costs a longer wait."""

import ipaddress
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import text
from sqlmodel import Session

# People mistype; an address may be that of a whole office.
FREE_PER_ACCOUNT: Final = 5
FREE_PER_ADDRESS: Final = 20
LONGEST_S: Final = 900
FORGET_AFTER: Final = timedelta(days=1)
_MAX_EMAIL: Final = 254


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
    held = text("SELECT max(retry_at) FROM sign_in_brakes WHERE key IN (:account, :address)")
    until = session.execute(held, {"account": account, "address": address or account}).scalar_one()
    return max(0.0, (until - now).total_seconds()) if isinstance(until, datetime) else 0.0


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
