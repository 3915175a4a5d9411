"""Behind the HTTP door: who may come in and do what, asked of `hub.access`; whatever goes wrong is a deny."""

import asyncio
import base64
import binascii
import contextlib
import hmac
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any, Final

import structlog
from sqlalchemy.exc import SQLAlchemyError

from broker.embedded.refusals import Refusals
from broker.known_principals import KnownPrincipals
from hub.access import credentials, decide, principals
from hub.access.credentials import Refused
from hub.access.decide import Decision
from hub.access.denials import Refusable
from hub.access.principals import Principal
from hub.database import Database
from hub.errors import Invalid
from hub.settings import Settings

log = structlog.get_logger(__name__)

MIN_SECRET: Final = 16
_THREADS: Final = 8
_VERBS: Final[dict[str, Callable[[Principal, str], Decision]]] = {
    "publish": decide.publish,
    "subscribe": decide.subscribe,
    "receive": decide.receive,
}


class Door:
    """What the routes share: the database, who is known, and what was refused."""

    def __init__(self, settings: Settings) -> None:
        self.secret = read_secret(settings)
        self.root = settings.root
        self.database = Database(
            settings.database_url,
            pool_size=_THREADS + 1,
            statement_timeout_s=10.0,
            application_name="marvain http auth",
        )
        self.executor = ThreadPoolExecutor(_THREADS, thread_name_prefix="database")
        self.known = KnownPrincipals(self.database, settings.root)
        self.refusals = Refusals(self.database, self.executor)

    async def open(self) -> None:
        """Begin to listen; raises psycopg.OperationalError when the database is away."""
        await asyncio.to_thread(self.known.start)
        self.refusals.start()

    async def close(self) -> None:
        await self.refusals.close()
        await asyncio.to_thread(self.known.close)
        self.executor.shutdown()
        self.database.close()

    def is_open_to(self, authorization: str) -> bool:
        """Whether the header holds the secret: `Bearer SECRET`, or `Basic` with any name and it as the password."""
        form, _, value = authorization.partition(" ")
        given = b""
        if form.lower() == "bearer":
            given = value.strip().encode("utf-8", "replace")
        elif form.lower() == "basic":
            with contextlib.suppress(binascii.Error, ValueError):
                given = base64.b64decode(value.strip(), validate=True).partition(b":")[2]
        return hmac.compare_digest(given, self.secret)

    async def admit(self, username: str, password: str, client_id: str) -> tuple[Decision, Principal | None]:
        """Whether the client may connect, and who it then is."""
        return await self._safely(self._admit, username, password, client_id)

    async def judge(
        self, username: str, client_id: str, verbs: list[str], topic: str
    ) -> tuple[Decision, Principal | None]:
        """Whether a connected client may do all of `verbs` (publish, subscribe, receive) there, and who it is."""
        return await self._safely(self._judge, username, client_id, verbs, topic)

    def refuse(self, username: str, action: Refusable, topic: str, reason: str, *, stranger: bool) -> None:
        """Record a refusal; `stranger` is who has not proved to be this name, whose rows he must not fill."""
        self.refusals.add(username, action, topic, reason, stranger=stranger)

    async def _safely(
        self, question: Callable[..., tuple[Decision, Principal | None]], *args: Any
    ) -> tuple[Decision, Principal | None]:
        try:
            return await asyncio.get_running_loop().run_in_executor(self.executor, question, *args)
        except SQLAlchemyError as error:
            log.warning("http_auth.database_away", error=type(error).__name__)
            return Decision(False, "the database is away, so nothing can be allowed"), None

    def _admit(self, username: str, password: str, client_id: str) -> tuple[Decision, Principal | None]:
        now = datetime.now(UTC)
        with self.database.transaction() as session:
            verdict = credentials.authenticate(session, username, password, now)
            if isinstance(verdict, Refused):
                return Decision(False, verdict.reason, verdict.code), None
            principal = principals.load(session, verdict.username, self.root, now)
        if principal is None:
            return Decision(False, "this access has ended"), None
        return decide.connect(principal, client_id), principal

    def _judge(self, username: str, client_id: str, verbs: list[str], topic: str) -> tuple[Decision, Principal | None]:
        principal = self.known.get(username)
        if principal is None:
            return Decision(False, "there is no such principal, or its access has ended"), None
        decision = decide.connect(principal, client_id)
        if not decision:
            return decision, None
        # The broker asks this only for clients that it let in: it is the one that it says.
        for verb in verbs:
            decision = _VERBS[verb](principal, topic)
            if not decision:
                break
        return decision, principal


def read_secret(settings: Settings) -> bytes:
    """The shared secret; raises `Invalid` saying what to do."""
    name = "http_auth_secret_file"
    if settings.http_auth_secret_file is None:
        raise Invalid("set MARVAIN_HTTP_AUTH_SECRET_FILE to a file with the secret shared with the broker", field=name)
    try:
        secret = settings.http_auth_secret_file.read_text(encoding="utf-8").strip().encode()
    except (OSError, UnicodeDecodeError) as error:
        raise Invalid(f"MARVAIN_HTTP_AUTH_SECRET_FILE cannot be read: {error}", field=name) from None
    if len(secret) < MIN_SECRET:
        raise Invalid(f"the shared secret needs at least {MIN_SECRET} characters", field=name)
    return secret
