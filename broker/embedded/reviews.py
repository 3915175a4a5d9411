"""Keeps sessions to what their principals may do: changes are collected, looked up together, and take effect."""

import asyncio
from datetime import UTC, datetime
from typing import Final

import structlog

from broker.embedded.admission import Admitted, Authority, Rejected
from broker.embedded.exchange import Exchange, give
from broker.embedded.session import Session
from hub.access import decide
from hub.access.changes import EVERYBODY, Change
from hub.access.principals import kind_of

log = structlog.get_logger(__name__)

REVIEW_AGAIN_S: Final = 1.0
# Names in one question to the authority.
MOST_AT_ONCE: Final = 500


class Reviews:
    """Changes in, sessions bound, cut short or ended. One question is open at a time; what comes meanwhile is next."""

    def __init__(self, exchange: Exchange, authority: Authority) -> None:
        self._exchange = exchange
        self._authority = authority
        self._loop = asyncio.get_running_loop()
        # Who is to be looked at, and the reason that came with the news.
        self._due: dict[str, str] = {}
        # Whether somebody may have been revoked without our hearing of it: what he retained must go.
        self._purge_due = False
        self._task: asyncio.Task[None] | None = None

    def changed(self, change: Change) -> None:
        """Something about a principal, or about everybody, was changed in the database."""
        if change.username == EVERYBODY:
            self.review_all()
        elif change.kind in {"revoked", "ended"}:
            self.expel(change.username, change.reason or f"this access was {change.kind}", purge=True)
        elif change.kind == "kicked":
            self.kick(change.username, change.reason or "an administrator ended this connection")
        else:
            if change.kind == "rotated" and change.username not in self._exchange.sessions:
                self._purge(change.username)
            # After a rotation the new secret may be in use already: look which one let the session in.
            self._review_soon(change.username, change.reason)

    def review_all(self) -> None:
        """Look at every session again."""
        for username in self._exchange.sessions:
            self._review_soon(username, "")

    def news_missed(self) -> None:
        """Look at every session and at every retained topic again: notifications may have been missed."""
        self._purge_due = True
        self.review_all()
        self._begin()

    def _review_soon(self, username: str, told: str) -> None:
        if username in self._exchange.sessions:
            self._due[username] = told or self._due.get(username, "")
            self._begin()

    def _begin(self) -> None:
        if self._task is None:
            self._task = self._loop.create_task(self._run())

    async def _run(self) -> None:
        try:
            # Let everything that this turn of the loop brings become one question.
            await asyncio.sleep(0)
            while self._due or self._purge_due:
                due, self._due = self._due, {}
                names = list(due)
                unknown: dict[str, str] = {}
                for start in range(0, len(names), MOST_AT_ONCE):
                    some = {name: due[name] for name in names[start : start + MOST_AT_ONCE]}
                    try:
                        unknown |= await self._review(some)
                    except Exception:
                        # Whatever it was, nobody keeps a right because of it.
                        log.exception("reviews.failed", names=len(some))
                        unknown |= some
                if self._purge_due:
                    self._purge_due = False
                    self._purge_due = not await self.purge_ended() or self._purge_due
                if unknown or self._purge_due:
                    await asyncio.sleep(REVIEW_AGAIN_S)
                    self._due = unknown | self._due
        finally:
            self._task = None

    async def purge_ended(self) -> bool:
        """Purge what those retained who are nobody any more, with a session or without; False when that is unknown."""
        retained = self._exchange.retained
        ended = await self._authority.ended(retained.publishers)
        for username in ended or ():
            if kind_of(username) != "hub":
                topics = retained.delete_of(username)
                log.info("retained.purged", username=username, topics=len(topics))
        return ended is not None

    async def _review(self, due: dict[str, str]) -> dict[str, str]:
        """Ask about these names and act on the answers; returns those about whom there is no answer now."""
        sessions = {name: session for name in due if (session := self._exchange.sessions.get(name)) is not None}
        asked = [(name, session.credential_id) for name, session in sessions.items()]
        verdicts = await self._authority.review_many(asked)
        unknown: dict[str, str] = {}
        for name, credential_id in asked:
            session = sessions[name]
            verdict = verdicts.get(name)
            if self._exchange.sessions.get(name) is not session:
                continue
            if session.credential_id != credential_id:
                # Meanwhile the client came back with another secret: what became of the old one is not about it.
                self._review_soon(name, due[name])
            elif verdict is None or (isinstance(verdict, Rejected) and verdict.code == decide.SERVER_UNAVAILABLE):
                unknown[name] = due[name]
            elif isinstance(verdict, Rejected):
                # Revoked or rotated: whoever had that secret may have said what is retained.
                self.expel(name, due[name] or verdict.reason, purge=True)
            else:
                self.bind(session, verdict)
        return unknown

    def bind(self, session: Session, admitted: Admitted) -> None:
        """Let the session have exactly what the principal may do now."""
        earlier, session.principal = session.principal, admitted.principal
        if earlier.grants != admitted.principal.grants:
            self.keep_to_grants(session)
        session.cancel_expiry()
        if admitted.principal.expires_at is not None:
            left = (admitted.principal.expires_at - datetime.now(UTC)).total_seconds()
            reason = "this credential ran out; ask for a new one"
            session.expiry = self._loop.call_later(max(0.0, left), self.expel, session.username, reason)

    def keep_to_grants(self, session: Session) -> None:
        """Take from the session every subscription and message that its principal has no grant for."""
        exchange = self._exchange
        connection = exchange.connected.get(session.username)
        if connection is not None:
            connection.forget_routes()
        for topic_filter in list(session.subscriptions):
            verdict = decide.subscribe(session.principal, topic_filter)
            if verdict:
                exchange.router.forget(topic_filter)
            else:
                exchange.router.unsubscribe(session, topic_filter)
                exchange.refusals.add(session.username, "subscribe", topic_filter, f"taken away: {verdict.reason}")
                if connection is not None:
                    connection.tell_denied("subscribe", topic_filter, f"taken away: {verdict.reason}")
        give(session.forget_unreadable())

    def expel(self, username: str, reason: str, *, purge: bool = False) -> None:
        """End a session at once, connected or not: told why, its Will unpublished; `purge` what it retained, too."""
        session = self._exchange.sessions.get(username)
        if purge:
            self._purge(username)
        if session is None:
            return
        log.info("session.expelled", username=username, reason=reason)
        self._exchange.refusals.add(username, "connect", "", f"disconnected: {reason}")
        self._disconnect(session, reason)
        # The hub's own messages wait for it through a change of its password; nobody else's session is kept.
        if session.principal.kind != "hub":
            self._exchange.destroy(session)

    def _purge(self, username: str) -> None:
        """Forget what a name retained. Never what the hub did: that is the hub's word, whatever its password."""
        if kind_of(username) != "hub":
            self._exchange.retained.delete_of(username)

    def kick(self, username: str, reason: str) -> None:
        """End a client's connection and nothing else: it may come back, and its session is kept as by DISCONNECT."""
        session = self._exchange.sessions.get(username)
        if session is not None and username in self._exchange.connected:
            log.info("session.kicked", username=username, reason=reason)
            self._exchange.refusals.add(username, "connect", "", f"disconnected: {reason}")
            self._disconnect(session, reason)

    def _disconnect(self, session: Session, reason: str) -> None:
        connection = self._exchange.connected.get(session.username)
        if connection is not None:
            self._exchange.tell_denied(session.principal, "connect", "", reason)
            connection.close(reason, publish_will=False)

    def close(self) -> None:
        """Nothing is looked at any more, and nothing runs out."""
        if self._task is not None:
            self._task.cancel()
        for session in self._exchange.sessions.values():
            session.cancel_expiry()
