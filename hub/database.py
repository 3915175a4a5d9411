"""The way to Postgres: an engine, transactions that tell their changes last, and a listener for NOTIFY."""

import contextlib
import selectors
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self

import psycopg
import structlog
from psycopg import sql
from sqlalchemy import URL, Engine, create_engine, make_url
from sqlalchemy.exc import ArgumentError
from sqlmodel import Session

from hub import audit, feed
from hub.access import carrying
from hub.errors import Invalid

log = structlog.get_logger(__name__)

DRIVER: Final = "postgresql+psycopg"
# A server that vanished without a word (power, network) is noticed in about half a minute, not after hours.
KEEPALIVE: Final[dict[str, Any]] = {
    "connect_timeout": 5,
    "keepalives": 1,
    "keepalives_idle": 15,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}
FIRST_RETRY_S: Final = 0.05
LAST_RETRY_S: Final = 5.0


def normalise_url(url: str) -> str:
    """The same URL with the driver that we use; accepts postgres://, postgresql:// and postgresql+psycopg://."""
    return _parse(url).render_as_string(hide_password=False)


def libpq_url(url: str) -> str:
    """The same URL as psycopg and psql want it."""
    return _parse(url).set(drivername="postgresql").render_as_string(hide_password=False)


def _parse(url: str) -> URL:
    # The message never repeats the URL: it holds a password.
    try:
        parsed = make_url(url.strip())
    except (ArgumentError, ValueError):
        raise Invalid(
            "the database URL must look like postgresql://user:password@host:5432/name", field="url"
        ) from None
    if parsed.drivername not in {"postgres", "postgresql", DRIVER}:
        raise Invalid("the database URL must begin with postgresql://", field="url")
    return parsed.set(drivername=DRIVER)


class Database:
    """One Postgres database. Threads share it; a session belongs to one thread."""

    def __init__(
        self,
        url: str,
        *,
        pool_size: int = 5,
        max_overflow: int = 10,
        pool_timeout_s: float = 10.0,
        statement_timeout_s: float = 30.0,
        lock_timeout_s: float = 10.0,
        application_name: str = "marvain",
    ) -> None:
        self.url = normalise_url(url)
        self.application_name = application_name
        asked = _parse(url).query.get("options", "")
        options = (
            "-c timezone=UTC"
            f" -c statement_timeout={round(statement_timeout_s * 1000)}"
            f" -c lock_timeout={round(lock_timeout_s * 1000)}"
            " -c idle_in_transaction_session_timeout=60000"
        )
        self.engine: Engine = create_engine(
            self.url,
            pool_size=pool_size,
            max_overflow=max_overflow,
            pool_timeout=pool_timeout_s,
            # A connection is tried before it is lent, so that a restarted Postgres costs a reconnect and no error.
            pool_pre_ping=True,
            connect_args={
                **KEEPALIVE,
                "application_name": application_name,
                # What the URL asks for comes last and wins.
                "options": f"{options} {asked if isinstance(asked, str) else ' '.join(asked)}".strip(),
            },
        )

    def __repr__(self) -> str:
        return f"Database({self.engine.url.render_as_string(hide_password=True)})"

    @contextlib.contextmanager
    def transaction(self) -> Iterator[Session]:
        """A session whose work is committed at the end of the block, or rolled back by an exception.

        What was collected with `hub.feed.tell` is written last. Rows stay readable after the commit. Where credentials
        were issued, the block ends when the broker knows them, or after three seconds.
        """
        with Session(self.engine, expire_on_commit=False) as session:
            try:
                yield session
                session.flush()
                audit.flush(session)
                feed.flush(session)
                session.commit()
            except BaseException:
                session.rollback()
                audit.discard(session)
                feed.discard(session)
                carrying.discard(session)
                raise
            carrying.wait(session, self.engine)

    def listen(self, *channels: str) -> "Listener":
        """Hear NOTIFY on the channels from now on; raises psycopg.OperationalError when Postgres is away."""
        return Listener(libpq_url(self.url), *channels, application_name=f"{self.application_name} listener")

    def close(self) -> None:
        """Close the pool; connections still lent are closed when they come back."""
        self.engine.dispose()


@dataclass(frozen=True, slots=True)
class Notification:
    """One NOTIFY."""

    channel: str
    payload: str


class Listener:
    """A connection of its own that hears NOTIFY and comes back by itself after Postgres was away.

    Postgres keeps nothing for a listener that is away. `reconnected` is therefore true after a `wait` that
    had to connect anew: whatever was notified meanwhile is lost, and the caller must look at the rows themselves.
    """

    def __init__(self, url: str, *channels: str, application_name: str = "marvain listener") -> None:
        if not channels:
            raise ValueError("a listener needs at least one channel")
        self.channels = channels
        self.reconnected = False
        self._url = libpq_url(url)
        self._application_name = application_name
        self._closed = threading.Event()
        self._in_use = threading.Lock()
        # close() may come from another thread while wait() sleeps: this pair wakes it.
        self._wake, self._woken = socket.socketpair()
        self._retry_s = FIRST_RETRY_S
        try:
            self._connection: psycopg.Connection | None = self._connect()
        except BaseException:
            self._wake.close()
            self._woken.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def connected(self) -> bool:
        """Whether a connection is held, as far as is known."""
        return self._connection is not None

    def wait(self, timeout: float) -> list[Notification]:
        """What was notified, waiting at most `timeout` seconds; [] after that, on a reconnect, and once closed."""
        with self._in_use:
            self.reconnected = False
            if self._closed.is_set():
                return []
            deadline = time.monotonic() + timeout
            if self._connection is None:
                self._reconnect(deadline)
                return []
            try:
                return self._receive(self._connection, deadline)
            except (psycopg.OperationalError, psycopg.InterfaceError, OSError, ValueError) as error:
                log.warning("listener.lost", channels=self.channels, error=str(error).strip())
                self._drop()
                self._reconnect(deadline)
                return []

    def close(self) -> None:
        """End a running `wait` and the connection; may be called from any thread, and twice."""
        if self._closed.is_set():
            return
        self._closed.set()
        self._wake.send(b"x")
        with self._in_use:
            self._drop()
            self._wake.close()
            self._woken.close()

    def _receive(self, connection: psycopg.Connection, deadline: float) -> list[Notification]:
        while True:
            # Some may have come with an answer already, so the socket is asked only when there is none.
            heard = [Notification(n.channel, n.payload) for n in connection.notifies(timeout=0)]
            remaining = deadline - time.monotonic()
            if heard or remaining <= 0 or self._closed.is_set():
                return heard
            with selectors.DefaultSelector() as selector:
                selector.register(connection.fileno(), selectors.EVENT_READ)
                selector.register(self._woken, selectors.EVENT_READ)
                selector.select(remaining)

    def _reconnect(self, deadline: float) -> None:
        while not self._closed.is_set():
            try:
                self._connection = self._connect()
            except psycopg.Error as error:
                log.debug("listener.away", channels=self.channels, error=str(error).strip())
            else:
                self.reconnected = True
                self._retry_s = FIRST_RETRY_S
                log.info("listener.reconnected", channels=self.channels)
                return
            remaining = deadline - time.monotonic()
            if self._closed.wait(max(0.0, min(self._retry_s, remaining))) or remaining <= self._retry_s:
                return
            self._retry_s = min(self._retry_s * 2, LAST_RETRY_S)

    def _connect(self) -> psycopg.Connection:
        connection = psycopg.connect(self._url, autocommit=True, application_name=self._application_name, **KEEPALIVE)
        try:
            for channel in self.channels:
                connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(channel)))
        except BaseException:
            connection.close()
            raise
        return connection

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
