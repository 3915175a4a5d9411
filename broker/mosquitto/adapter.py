"""Keeps the plugin at what the database says: told by NOTIFY, and compared in full now and then."""

import math
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Final, Literal
from uuid import UUID

import psycopg
import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import Session

from broker.mosquitto import accounts, plugin
from broker.mosquitto.accounts import Account
from broker.mosquitto.control import Control
from broker.mosquitto.document import ADAPTER
from broker.mosquitto.health import Health
from broker.mosquitto.held import Held
from broker.mosquitto.retained import Inventory
from broker.mosquitto.sealing import Unsealer
from broker.mosquitto.taken import FEW
from hub.access import changes, live_sessions, projection
from hub.access.changes import EVERYBODY, Change
from hub.access.credentials import verify_secret
from hub.access.principals import Principal
from hub.database import Database, Listener
from hub.settings import HUB_USERNAME, Settings

log = structlog.get_logger(__name__)

BrokerKind = Literal["mosquitto", "external"]

REPORT_EVERY_S: Final = 5.0
LOOK_EVERY_S: Final = 60.0
_REST: Final = 20
_SOME_REST: Final = 4
_SOON_S: Final = 1.0
_AWAY_S: Final = 0.5


class Adapter:
    """For one life of the broker, or of the connection to it; another life takes another adapter.

    `subscriptions` tells the filters that a name is subscribed to, or None where that is not known; `is_away` whether
    it is known that nobody is connected by a name.
    """

    def __init__(
        self,
        kind: BrokerKind,
        settings: Settings,
        database: Database,
        unsealer: Unsealer,
        subscriptions: Callable[[str], list[str] | None],
        is_away: Callable[[str], bool],
        look_every_s: float = LOOK_EVERY_S,
    ) -> None:
        self._kind: BrokerKind = kind
        self._settings = settings
        self._root = settings.root
        self._database = database
        self._unsealer = unsealer
        self._look_every_s = look_every_s
        self._listener: Listener | None = None
        self._look_at = math.inf
        self._heard: list[Change] = []
        self._closed = threading.Event()
        self._report_at = 0.0
        self._inventory = Inventory(self._root)
        # Called before it is asked who is connected and what is subscribed.
        self.catch_up: Callable[[], object] = lambda: None
        self.health = Health()
        self._held = Held(self._root, self.health, subscriptions, is_away)

    def begin(self) -> dict[str, Account]:
        """Hear changes from now on, publish the key, and read everybody: what the plugin is to begin with.

        Raises what the database raises when it is away.
        """
        self._listener = self._database.listen(changes.CHANNEL)
        now = datetime.now(UTC)
        with self._database.transaction() as session:
            known = projection.state(session)
            # An external broker's adapter keeps its key, so that what was sealed while it was away is not lost.
            if self._kind == "mosquitto" or known is None or known.sealing_key != self._unsealer.public_key:
                projection.publish_key(session, self._kind, self._unsealer.public_key, now)
        with self._database.transaction() as session:
            self._held.accounts = accounts.load(session, None, self._root, datetime.now(UTC))
        return self._held.accounts

    def rendered(self) -> None:
        """The plugin was started with exactly what `begin` returned."""
        self._held.rendered()

    def close(self) -> None:
        """End `work`; from any thread."""
        self._closed.set()
        if self._listener is not None:
            self._listener.close()

    def principal(self, username: str) -> Principal | None:
        """Who this is, as far as the plugin was told."""
        account = self._held.accounts.get(username)
        return account.principal if account is not None else None

    def work(self, control: Control, ready: Callable[[], None] = lambda: None) -> None:
        """Until closed; `ready` is called when the plugin holds what the database says.

        Raises `BrokerAway`, and at the beginning what the database raises when it is away.
        """
        listener = self._listener
        if listener is None:
            raise RuntimeError("begin comes first")
        if self._kind == "external":
            plugin.have_group(control)
            plugin.bear_own_role(control, self._settings.broker_admin_username, self._root)
            self._look(control, None)
        self._report()
        ready()
        self._report_at = time.monotonic() + REPORT_EVERY_S
        self._look_at = time.monotonic() + self._look_every_s
        while not self._closed.is_set():
            due_at = min(self._report_at, self._look_at, self._inventory.due_at)
            soon = min(due_at - time.monotonic(), self._until_next_end())
            self._hear(listener, max(0.0, soon))
            if self._closed.is_set():
                return
            try:
                self._turn(control, listener)
            except (SQLAlchemyError, psycopg.Error) as error:
                # Sessions go on meanwhile; what was heard is still there, and a new connection has all looked at.
                log.warning("mosquitto.database_away", error=type(error).__name__)
                self._closed.wait(_AWAY_S)

    def _turn(self, control: Control, listener: Listener) -> None:
        """What is due now."""
        self._take_up(control, listener)
        if control.is_gone:
            control.settle()
        if self._held.is_doubtful:
            self._held.is_doubtful = False
            self._look_at = min(self._look_at, time.monotonic() + REPORT_EVERY_S)
        if time.monotonic() >= self._look_at and not self._held.departures.are_due:
            self._look_again(control, listener)
            self._report_at = 0.0
        self._send_off(control, listener)
        if time.monotonic() >= self._inventory.due_at and not self._heard:
            self._look_at_retained(control)
        if time.monotonic() >= self._report_at:
            self._report()
            self._report_at = time.monotonic() + REPORT_EVERY_S

    def _look_again(self, control: Control, listener: Listener) -> None:
        """Compare in full, and say when again: however many there are, it takes a small part of the time."""
        began = time.monotonic()
        self._look_at = began + _SOON_S
        is_done = self._look(control, listener)
        now = time.monotonic()
        if self._look_at == began + _SOON_S:
            self._look_at = math.inf
        rest = max(self._look_every_s, _REST * (now - began)) if is_done else max(_SOON_S, _SOME_REST * (now - began))
        self._look_at = min(self._look_at, now + rest)

    def _hear(self, listener: Listener, timeout_s: float) -> None:
        """Take in what was notified, waiting unless something is there already."""
        for notification in listener.wait(0.0 if self._heard else timeout_s):
            self._heard += changes.read_all(notification.payload)
        if listener.reconnected:
            self._look_at = 0.0

    def _is_more(self, listener: Listener, left: int) -> bool:
        """Whether anything was heard that does not wait until so many names are done.

        Whoever is to be shut out overtakes edits always; an edit may take something away, and overtakes those of many.
        """
        self._hear(listener, 0.0)
        return any(change.kind != "changed" for change in self._heard) or (left > FEW and bool(self._heard))

    # --- changes ------------------------------------------------------------------------------------------------

    def _take_up(self, control: Control, listener: Listener) -> None:
        """What was heard, urgent things alone when there are any; what is left stays heard."""
        known = {(change.username, change.kind) for change in self._heard}
        ended = [Change(name, "ended", "it ran out") for name in self._ran_out() if (name, "ended") not in known]
        self._heard += ended
        if not self._heard:
            return
        urgent = [change for change in self._heard if change.kind != "changed"]
        now = urgent or self._heard
        self._heard = [change for change in self._heard if change.kind == "changed"] if urgent else []
        try:
            left = self._apply(control, now, lambda left: not urgent and self._is_more(listener, left))
        except (SQLAlchemyError, psycopg.Error):
            self._heard = now + self._heard
            raise
        self._heard = [*(Change(name, "changed") for name in left), *self._heard]

    def _send_off(self, control: Control, listener: Listener) -> None:
        """Whose subscriptions were taken away: together, and not before changes that are waiting, or not long."""
        if self._held.departures.are_due:
            self._hear(listener, 0.0)
            if not self._heard or self._held.departures.are_late:
                self._held.departures.carry_out(control)

    def _apply(self, control: Control, heard: list[Change], interrupted: Callable[[int], bool]) -> list[str]:
        """Read again who is concerned, and have the plugin hold that; the names that were not come to."""
        everybody = any(change.username == EVERYBODY for change in heard)
        names = {change.username for change in heard if change.username != EVERYBODY}
        wanted, secrets, spent = self._read(None if everybody else names)
        if everybody:
            # Rare, and the time to look whether the plugin still is as it was left.
            self._look_at = 0.0
            names |= self._held.accounts.keys() | wanted.keys()
        ends = {change.username: change for change in heard if change.kind != "changed"}
        self.catch_up()
        left = self._held.bring(control, names, wanted, secrets, ends, interrupted)
        self._carried(secrets.keys() - set(left), spent)
        return left

    def _read(self, names: set[str] | None) -> tuple[dict[str, Account], dict[str, str], list[UUID]]:
        """The accounts that count, the secrets at hand for them, and the ids of secrets that nobody can read."""
        now = datetime.now(UTC)
        with self._database.transaction() as session:
            wanted = accounts.load(session, names, self._root, now)
            secrets, spent = self._secrets(session, wanted)
        return wanted, secrets, spent

    def _secrets(self, session: Session, wanted: Mapping[str, Account]) -> tuple[dict[str, str], list[UUID]]:
        secrets: dict[str, str] = {}
        spent: list[UUID] = []
        for credential_id, username, _, sealed in projection.pending(session):
            secret = self._unsealer.open(sealed)
            account = wanted.get(username)
            if secret is None:
                spent.append(credential_id)
            elif account is not None and account.credential_id == credential_id:
                secrets[username] = secret
        if HUB_USERNAME in wanted and HUB_USERNAME not in secrets:
            secrets |= self._hub_secret(wanted[HUB_USERNAME])
        return secrets, spent

    def _hub_secret(self, hub: Account) -> dict[str, str]:
        try:
            password = self._settings.hub_password()
        except (OSError, ValueError):
            return {}
        return {HUB_USERNAME: password} if verify_secret(password, hub.stored) else {}

    def _carried(self, names: Iterable[str], spent: list[UUID]) -> None:
        """The secrets of these names have reached the plugin."""
        done = [self._held.accounts[name].credential_id for name in names if name in self._held.accounts]
        if done or spent:
            with self._database.transaction() as session:
                projection.carried(session, [*done, *spent])

    # --- the end of browsers' credentials -----------------------------------------------------------------------

    def _ends_at(self) -> Iterable[tuple[datetime, str]]:
        for account in self._held.accounts.values():
            if account.principal.expires_at is not None:
                yield account.principal.expires_at, account.username

    def _until_next_end(self) -> float:
        first = min(self._ends_at(), default=None)
        return REPORT_EVERY_S if first is None else (first[0] - datetime.now(UTC)).total_seconds()

    def _ran_out(self) -> list[str]:
        now = datetime.now(UTC)
        return [username for ends_at, username in self._ends_at() if ends_at <= now]

    # --- comparing in full --------------------------------------------------------------------------------------

    def _look(self, control: Control, listener: Listener | None) -> bool:
        """Compare everything that the plugin has with everything that the database says, and mend what differs.

        What is heard meanwhile is done at once. False when something has to be looked at again for it.
        """
        self._held.touched.clear()
        clients, roles = control.everything(lambda: self._between_pages(control, listener))
        self.health.open_defaults = plugin.check_defaults(control, mend=self._kind == "mosquitto")
        is_whole = not self._held.touched
        drift = self._held.found(clients, roles, {self._settings.broker_admin_username, ADAPTER})
        wanted, secrets, spent = self._read(None)
        concerned = self._held.names | wanted.keys()

        def is_more(left: int) -> bool:
            return listener is not None and self._is_more(listener, left)

        self.catch_up()
        left_over = self._held.bring(control, concerned, wanted, secrets, {}, is_more, attach=True)
        self._carried(secrets.keys() - set(left_over), spent)
        if is_whole and not left_over:
            self._held.forget_shared(control)
        if drift:
            self.health.drifted(drift)
        return is_whole and not left_over

    def _between_pages(self, control: Control, listener: Listener | None) -> None:
        if listener is not None:
            self._hear(listener, 0.0)
            self._take_up(control, listener)
            self._send_off(control, listener)

    def _look_at_retained(self, control: Control) -> None:
        found = self._inventory.look(control)
        if found is not None:
            with self._database.transaction() as session:
                live_sessions.replace_retained(session, found, datetime.now(UTC))
            self._inventory.written(found)

    def _report(self) -> None:
        with self._database.transaction() as session:
            projection.report(session, self._kind, self.health.as_detail(len(self._held.accounts)), datetime.now(UTC))
