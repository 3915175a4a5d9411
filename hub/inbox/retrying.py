"""Tries dead letters again: what came in goes through the pipeline anew, what was to go out into the outbox."""

from datetime import datetime
from typing import Final

from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import SessionTransaction
from sqlmodel import Session

from hub import dead_letters, feed, outbox
from hub.dead_letters import DeadLetter, View
from hub.errors import Conflict
from hub.inbox import router
from hub.inbox.envelope import Incoming
from hub_protocol.catalogue import parse_topic

# What says something about whenever it was sent.
_LASTING: Final = frozenset({"event", "telemetry", "reply", "config_reply"})


def can_retry(letter: DeadLetter, root: str) -> bool:
    """Whether trying it again may do any good: not a sign of life of long ago, and no message that is none of ours."""
    topic = parse_topic(letter.topic, root)
    return letter.direction == "out" or (topic is not None and topic.kind in _LASTING)


def retry(
    session: Session, view: View, dead_letter_id: int, root: str, now: datetime, *, by: str
) -> tuple[DeadLetter, str | None]:
    """Try one again; returns it with why it failed, None when it did not.

    Raises `NotFound`, and `Conflict` for what would say something wrong now. It is no sign of life of its device, and
    its epoch may be an old one.
    """
    letter = dead_letters.get(session, view, dead_letter_id)
    if not can_retry(letter, root):
        raise Conflict("it told of a moment that is over; storing it now would be wrong, so it can only be discarded")
    error = _store(session, letter, root) if letter.direction == "in" else _publish(session, letter)
    dead_letters.note_retry(session, letter, error, now, view=view, by=by)
    return letter, error


def _store(session: Session, letter: DeadLetter, root: str) -> str | None:
    incoming = Incoming(letter.topic, letter.payload, False, letter.received_at, retried=True)
    attempt = session.begin_nested()
    try:
        outcome = router.process(session, [incoming], root)
    except DBAPIError as error:
        if error.connection_invalidated:
            raise
        _undo(session, attempt)
        return f"{type(error.orig).__name__}: {error.orig}"
    except Exception as error:  # noqa: BLE001  (it may well be what failed before: it is told, not raised)
        _undo(session, attempt)
        return f"{type(error).__name__}: {error}"
    refused = [denied.reason for denied in outcome.denied.values()]
    if refused:
        _undo(session, attempt)  # a refusal of today is none that the device met
        return f"refused: {refused[0]}"
    attempt.commit()
    return None


def _undo(session: Session, attempt: SessionTransaction) -> None:
    attempt.rollback()
    feed.discard(session)


def _publish(session: Session, letter: DeadLetter) -> str | None:
    outbox.again(session, letter.topic, letter.payload, retain=letter.retain)
    return None
