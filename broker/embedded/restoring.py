"""Brings back the sessions that the store found, once the authority has said who their principals are now."""

import asyncio
import time
from typing import Final

import structlog

from broker.embedded.admission import Admitted, Authority, Rejected
from broker.embedded.exchange import Exchange
from broker.embedded.reviews import MOST_AT_ONCE, Reviews
from broker.embedded.session import Session
from broker.embedded.store import Store, StoredSession
from hub.access import decide
from hub.access.principals import hub_principal, kind_of

log = structlog.get_logger(__name__)

_ASK_AGAIN_S: Final = 1.0


async def restore(exchange: Exchange, reviews: Reviews, authority: Authority) -> None:
    """Bring back who may come back, drop the others, and let clients in only then.

    Raises whatever is wrong with what was stored; nobody is admitted then, and nothing of the store is touched.
    """
    store = exchange.store
    if store is not None:
        found = store.take_sessions()
        left = {stored.username: stored for stored in found}
        while left:
            for names in _portions(list(left)):
                verdicts = await authority.review_many([(name, left[name].credential_id) for name in names])
                for name in names:
                    verdict = verdicts.get(name)
                    if verdict is None or (isinstance(verdict, Rejected) and verdict.code == decide.SERVER_UNAVAILABLE):
                        continue
                    try:
                        _judge(exchange, reviews, store, left.pop(name), verdict)
                    except Exception as error:
                        log.error("session.cannot_restore", username=name, reason=repr(error))
                        raise
            if left:
                await asyncio.sleep(_ASK_AGAIN_S)
        while not await reviews.purge_ended():  # noqa: ASYNC110 - it is the database that may be away
            await asyncio.sleep(_ASK_AGAIN_S)
        log.info("store.restored", sessions=len(exchange.sessions), found=len(found), retained=len(exchange.retained))
    exchange.ready.set()


def _portions(names: list[str]) -> list[list[str]]:
    return [names[start : start + MOST_AT_ONCE] for start in range(0, len(names), MOST_AT_ONCE)]


def _judge(
    exchange: Exchange, reviews: Reviews, store: Store, stored: StoredSession, verdict: Admitted | Rejected
) -> None:
    left_at = stored.left_at or time.time()
    remaining_s = exchange.session_expiry_s - max(0.0, time.time() - left_at)
    if isinstance(verdict, Rejected) and kind_of(stored.username) == "hub":
        # As when its password changes while the broker runs: what waits for the hub, waits for it.
        verdict = Admitted(hub_principal(exchange.root), stored.credential_id)
    if isinstance(verdict, Rejected) or remaining_s <= 0:
        reason = verdict.reason if isinstance(verdict, Rejected) else "its client stayed away too long"
        log.info("session.not_restored", username=stored.username, reason=reason)
        store.drop(stored)
        return
    session = Session(verdict.principal, stored.credential_id, persistent=True)
    session.restore(stored)
    exchange.sessions[session.username] = session
    for topic_filter, qos in stored.subscriptions.items():
        # Those that are not allowed any more are taken away by the review below, like those of any other session.
        exchange.router.subscribe(session, topic_filter, qos)
    session.keeper = store.keep_on(stored)
    reviews.keep_to_grants(session)
    if not stored.left_at:
        session.keeper.left()
    exchange.await_return(session, remaining_s)
