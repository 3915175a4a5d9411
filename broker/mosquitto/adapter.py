"""Keeps the plugin at what the database says: told by NOTIFY, and compared in full now and then."""

import math
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final, Literal
from uuid import UUID

import psycopg
import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import Session

from broker.mosquitto import accounts, differences, plugin
from broker.mosquitto.accounts import Account, Acl
from broker.mosquitto.control import MOST_COMMANDS, Control
from broker.mosquitto.departures import Departures
from broker.mosquitto.differences import Command, Roles, Seen
from broker.mosquitto.document import ADAPTER
from broker.mosquitto.health import Health
from broker.mosquitto.sealing import Unsealer
from broker.mosquitto.steps import Name, Step, Steps
from hub.access import changes, projection
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
# What only the hub publishes below a device's topics: it stays when the device gets a new token.
_OF_THE_HUB: Final = frozenset(("cmd", "welcome", "presence", "denied", "receipt"))


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
        self._subscriptions = subscriptions
        self._is_away = is_away
        self._look_every_s = look_every_s
        self._listener: Listener | None = None
        self._accounts: dict[str, Account] = {}
        self._seen: dict[str, Seen] = {}
        self._shared: dict[str, frozenset[Acl]] = {}
        self._departures = Departures(is_away)
        self._look_at = math.inf
        self._heard: list[Change] = []
        self._touched: set[str] = set()
        self._closed = threading.Event()
        self._report_at = 0.0
        self.health = Health()

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
            self._accounts = accounts.load(session, None, self._root, datetime.now(UTC))
        return self._accounts

    def rendered(self) -> None:
        """The plugin was started with exactly what `begin` returned."""
        self._seen = {name: differences.of_account(account) for name, account in self._accounts.items()}
        borne = {role for seen in self._seen.values() for role in seen.borne}
        self._shared = {role: acls for role, acls in self._wanted_shared((), {}).items() if role in borne}

    def close(self) -> None:
        """End `work`; from any thread."""
        self._closed.set()
        if self._listener is not None:
            self._listener.close()

    def principal(self, username: str) -> Principal | None:
        """Who this is, as far as the plugin was told."""
        account = self._accounts.get(username)
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
            soon = min(self._report_at, self._look_at, time.monotonic() + self._until_next_end()) - time.monotonic()
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
        known = {(change.username, change.kind) for change in self._heard}
        ended = [Change(name, "ended", "it ran out") for name in self._ran_out() if (name, "ended") not in known]
        self._heard += ended
        self._take_up(control, listener)
        if control.is_gone:
            control.settle()
        if time.monotonic() >= self._look_at and not self._departures.are_due:
            self._look_again(control, listener)
            self._report_at = 0.0
        if self._departures.are_due:
            self._hear(listener, 0.0)
            if not self._heard or self._departures.are_late:
                self._departures.carry_out(control)
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

    def _is_urgent(self, listener: Listener) -> bool:
        """Whether somebody is to be shut out: that overtakes edits, however long."""
        self._hear(listener, 0.0)
        return any(change.kind != "changed" for change in self._heard)

    # --- changes ------------------------------------------------------------------------------------------------

    def _take_up(self, control: Control, listener: Listener) -> None:
        """What was heard, urgent things alone when there are any; what is left stays heard."""
        if not self._heard:
            return
        urgent = [change for change in self._heard if change.kind != "changed"]
        now = urgent or self._heard
        self._heard = [change for change in self._heard if change.kind == "changed"] if urgent else []
        try:
            left = self._apply(control, now, lambda: not urgent and self._is_urgent(listener))
        except (SQLAlchemyError, psycopg.Error):
            self._heard = now + self._heard
            raise
        self._heard = [*(Change(name, "changed") for name in left), *self._heard]

    def _apply(self, control: Control, heard: list[Change], interrupted: Callable[[], bool]) -> list[str]:
        """Read again who is concerned, and have the plugin hold that; the names that were not come to."""
        everybody = any(change.username == EVERYBODY for change in heard)
        names = {change.username for change in heard if change.username != EVERYBODY}
        wanted, secrets, spent = self._read(None if everybody else names)
        if everybody:
            # Rare, and the time to look whether the plugin still is as it was left.
            self._look_at = 0.0
            names |= self._accounts.keys() | wanted.keys()
        ends = {change.username: change for change in heard if change.kind != "changed"}
        left = self._bring(control, names, wanted, secrets, ends, interrupted)
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

    def _bring(
        self,
        control: Control,
        names: Iterable[str],
        wanted: Mapping[str, Account],
        secrets: Mapping[str, str],
        ends: Mapping[str, Change],
        interrupted: Callable[[], bool],
        *,
        attach: bool = False,
    ) -> list[str]:
        """Tell the plugin the differences of these names, and those whom they concern before.

        Shared roles come first: one command for all their bearers. Then name by name, until it is `interrupted`; the
        names that were not come to. With `attach`, who is away is given the shared roles that it bears.
        """
        names = sorted(names)
        shared = self._wanted_shared(names, wanted)
        self._detach_strays(control, shared, {name: wanted.get(name) for name in names})
        self._have_shared(control, shared, ())
        steps = Steps(self._shared)
        for name in names:
            known = (self._accounts.get(name), wanted.get(name), self._seen.get(name))
            is_away = attach and self._is_away(name)
            mend = steps.add(Name(name, *known, secrets.get(name), ends.get(name), self._subscriptions, is_away))
            self.health.note(name, mend)
        self._have_shared(control, shared, steps.needed)
        portions = list(steps.portions(MOST_COMMANDS))
        for number, portion in enumerate(portions):
            if number and interrupted():
                return [step.username for rest in portions[number:] for step in rest]
            self._carry_out(control, portion, wanted)
        return []

    def _have_shared(self, control: Control, shared: Roles, needed: Collection[str]) -> None:
        """Have the plugin's shared roles, and those that are needed besides, hold this."""
        commands = differences.mend_shared(shared, self._shared, needed)
        self._touched.update(command["rolename"] for command in commands)
        self._have_done(control, commands)
        self._shared = {role: shared.get(role, frozenset()) for role in {*self._shared, *needed}}

    def _detach_strays(self, control: Control, shared: Roles, now: Mapping[str, Account | None]) -> None:
        """Before a shared role holds more: take it from those to whom it is attached and who do not bear it."""
        growing = {role for role, acls in self._shared.items() if shared.get(role, frozenset()) - acls}
        for name, seen in self._seen.items() if growing else ():
            account = now[name] if name in now else self._accounts.get(name)
            bears = account.shared.keys() if account is not None else frozenset()
            strays = sorted(seen.borne & growing - bears) if seen.is_ours else ()
            if strays:
                self._touched.add(name)
                self._seen[name] = replace(seen, roles=tuple(role for role in seen.roles if role not in strays))
                self._have_done(control, differences.detach(name, strays))

    def _wanted_shared(self, names: Collection[str], wanted: Mapping[str, Account]) -> Roles:
        """What each shared role has to hold that anybody bears: these names as `wanted`, others as was read last."""
        shared: dict[str, frozenset[Acl]] = {}
        others = self._accounts.keys() - set(names)
        for name in others:
            shared |= self._accounts[name].shared
        for account in wanted.values():
            shared |= account.shared
        return shared

    def _carry_out(self, control: Control, portion: list[Step], wanted: Mapping[str, Account]) -> None:
        for step in portion:
            for topic, payload in step.words:
                control.tell(topic, payload)
        if any(step.words and step.commands for step in portion):
            control.settle()
        self._have_done(control, [command for step in portion for command in step.commands])
        self._touched.update(step.username for step in portion if step.commands)
        for step in portion:
            name = step.username
            if step.mend.after is None:
                self._seen.pop(name, None)
            else:
                self._seen[name] = step.mend.after
            if name in wanted:
                self._accounts[name] = wanted[name]
            else:
                self._accounts.pop(name, None)
            if step.is_to_go:
                self._departures.add(name)
            if step.purge is not None:
                self._purge(control, step.purge[0], is_gone=step.purge[1])

    def _have_done(self, control: Control, commands: list[Command]) -> None:
        for command, answer in zip(commands, control.ask(commands) if commands else (), strict=False):
            if "error" in answer:
                # The plugin is not as it was thought to be: look at all of it.
                what = f"{command['command']} {command.get('username', command.get('rolename', ''))}"
                self.health.refused(what, str(answer["error"]))
                self._look_at = min(self._look_at, time.monotonic() + REPORT_EVERY_S)

    def _purge(self, control: Control, principal: Principal, *, is_gone: bool) -> None:
        """Delete what one who was shut out had retained below its own topics."""
        if principal.kind not in ("device", "integration"):
            return
        part = "d" if principal.kind == "device" else "ext"
        own = f"{self._root}/{part}/{principal.handle}/#"
        purged = control.purge([own], frozenset() if is_gone else _OF_THE_HUB)
        if purged:
            log.info("mosquitto.purged", username=principal.username, topics=len(purged))

    def _carried(self, names: Iterable[str], spent: list[UUID]) -> None:
        """The secrets of these names have reached the plugin."""
        done = [self._accounts[name].credential_id for name in names if name in self._accounts]
        if done or spent:
            with self._database.transaction() as session:
                projection.carried(session, [*done, *spent])

    # --- the end of browsers' credentials -----------------------------------------------------------------------

    def _ends_at(self) -> Iterable[tuple[datetime, str]]:
        for account in self._accounts.values():
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
        self._touched = set()
        clients, roles = control.everything(lambda: self._between_pages(control, listener))
        self.health.open_defaults = plugin.check_defaults(control, mend=self._kind == "mosquitto")
        theirs = {self._settings.broker_admin_username, ADAPTER}
        seen = {name: one for name, one in differences.read(clients, roles).items() if name not in theirs}
        shared = differences.read_shared(roles)
        is_whole = not self._touched
        if not is_whole:
            # The pages are of different times, and may have left somebody out.
            differences.keep_unsure(seen, self._seen, self._touched)
            shared = self._shared
        drift = sorted(
            name
            for name in seen.keys() | self._seen.keys()
            if seen.get(name) != self._seen.get(name) and (name in self._seen or seen[name].is_ours)
        )
        drift += sorted(role for role in shared.keys() | self._shared if shared.get(role) != self._shared.get(role))
        was_known = bool(self._seen)
        self._seen, self._shared = seen, shared
        wanted, secrets, spent = self._read(None)
        ours = {name for name, one in seen.items() if one.is_ours}
        concerned = self._accounts.keys() | wanted.keys() | ours
        is_urgent = (lambda: False) if listener is None else (lambda: self._is_urgent(listener))
        left_over = self._bring(control, concerned, wanted, secrets, {}, is_urgent, attach=True)
        self._carried(secrets.keys() - set(left_over), spent)
        if is_whole and not left_over:
            self._forget_shared(control)
        if drift and was_known:
            self.health.drifted(drift)
        return is_whole and not left_over

    def _between_pages(self, control: Control, listener: Listener | None) -> None:
        if listener is not None:
            self._hear(listener, 0.0)
            self._take_up(control, listener)

    def _forget_shared(self, control: Control) -> None:
        """Delete the shared roles that nobody bears any more, at the plugin neither."""
        borne = {role for seen in self._seen.values() for role in seen.borne}
        unused = sorted(self._shared.keys() - borne)
        self._have_done(control, [{"command": "deleteRole", "rolename": role} for role in unused])
        for role in unused:
            del self._shared[role]

    def _report(self) -> None:
        with self._database.transaction() as session:
            projection.report(session, self._kind, self.health.as_detail(len(self._accounts)), datetime.now(UTC))
