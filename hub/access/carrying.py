"""Waits, once a transaction that issued credentials is committed, until the broker's adapter has carried them to it.

Whoever is handed a token must not be faster than the broker. Where no adapter is at work nothing is sealed, and nothing
waits.
"""

import time
from typing import Final

from sqlalchemy import Engine, text
from sqlmodel import Session

PATIENCE_S: Final = 3.0
_FIRST_PAUSE_S: Final = 0.005
_LAST_PAUSE_S: Final = 0.05
_ISSUED: Final = "marvain: issued"
# An adapter says every five seconds that it is there; one that is away would be waited for in vain.
_WAITING: Final = (
    "SELECT 1 FROM credentials c, broker_state b WHERE c.username = ANY(:names) AND c.sealed IS NOT NULL"
    " AND c.replaced_at IS NULL AND b.reported_at > now() - interval '15 s' LIMIT 1"
)


def note(session: Session, username: str) -> None:
    """A credential of this name was sealed in this transaction."""
    session.info.setdefault(_ISSUED, set()).add(username)


def discard(session: Session) -> None:
    """The transaction was rolled back."""
    session.info.pop(_ISSUED, None)


def wait(session: Session, engine: Engine) -> bool:
    """After the commit: return when the broker knows what was issued, at last after `PATIENCE_S`; whether it does."""
    names = session.info.pop(_ISSUED, None)
    if not names:
        return True
    deadline = time.monotonic() + PATIENCE_S
    pause = _FIRST_PAUSE_S
    while True:
        # On a connection of its own: what the session has loaded stays readable.
        with engine.connect() as connection:
            waiting = connection.execute(text(_WAITING), {"names": sorted(names)}).first() is not None
        if not waiting or time.monotonic() > deadline:
            return not waiting
        time.sleep(pause)
        pause = min(pause * 1.5, _LAST_PAUSE_S)
