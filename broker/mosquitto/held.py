"""What the plugin holds, as far as it was told or asked, and how it is brought to hold something else."""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from typing import Any

import structlog

from broker.mosquitto import differences, taken
from broker.mosquitto.accounts import TAKEN, Account, Acl
from broker.mosquitto.control import MOST_COMMANDS, Control
from broker.mosquitto.departures import Departures
from broker.mosquitto.differences import Command, Roles, Seen
from broker.mosquitto.health import Health
from broker.mosquitto.retained import OF_THE_HUB
from broker.mosquitto.steps import Name, Step, Steps
from broker.mosquitto.taken import Taken
from hub.access.changes import Change
from hub.access.principals import Principal

log = structlog.get_logger(__name__)


class Held:
    """`accounts` are what the plugin was told to hold, `touched` the names that commands were about since then.

    Whoever compares clears `touched` first. `is_doubtful`: the plugin did not do as it was told; look at all of it.
    """

    def __init__(
        self,
        root: str,
        health: Health,
        subscriptions: Callable[[str], list[str] | None],
        is_away: Callable[[str], bool],
    ) -> None:
        self._root = root
        self._health = health
        self._subscriptions = subscriptions
        self._is_away = is_away
        self._seen: dict[str, Seen] = {}
        self._shared: dict[str, frozenset[Acl]] = {}
        self._taken = Taken()
        self._refused: frozenset[Acl] = frozenset()
        self.accounts: dict[str, Account] = {}
        self.departures = Departures(is_away)
        self.touched: set[str] = set()
        self.is_doubtful = False

    @property
    def names(self) -> set[str]:
        """Everybody who is ours, or was found to be."""
        return self.accounts.keys() | {name for name, seen in self._seen.items() if seen.is_ours}

    def rendered(self) -> None:
        """The plugin was started with exactly the accounts."""
        self._seen = {name: differences.of_account(account) for name, account in self.accounts.items()}
        borne = {role for seen in self._seen.values() for role in seen.borne}
        self._shared = {role: acls for role, acls in self._wanted_shared((), {}).items() if role in borne}

    def found(self, clients: list[dict[str, Any]], roles: list[dict[str, Any]], theirs: Collection[str]) -> list[str]:
        """Take the plugin for what it told of itself; what of ours is not as it was left, once that is known.

        `theirs` are clients that are no matter of ours. What changed while it told is taken for what it was told.
        """
        seen = {name: one for name, one in differences.read(clients, roles).items() if name not in theirs}
        shared = differences.read_shared(roles)
        if self.touched:
            # The pages are of different times, and may have left somebody out.
            differences.keep_unsure(seen, self._seen, self.touched)
            shared = self._shared
        drift = sorted(
            name
            for name in seen.keys() | self._seen.keys()
            if seen.get(name) != self._seen.get(name) and (name in self._seen or seen[name].is_ours)
        )
        drift += sorted(role for role in shared.keys() | self._shared if shared.get(role) != self._shared.get(role))
        was_known = bool(self._seen)
        self._seen, self._shared = seen, shared
        if not was_known:
            # Of an adapter before this one: it stays until all have been mended.
            self._refused = shared.get(TAKEN, frozenset())
        return drift if was_known else []

    def bring(
        self,
        control: Control,
        names: Iterable[str],
        wanted: Mapping[str, Account],
        secrets: Mapping[str, str],
        ends: Mapping[str, Change],
        interrupted: Callable[[int], bool],
        *,
        attach: bool = False,
    ) -> list[str]:
        """Tell the plugin the differences of these names, and those whom they concern before.

        Shared roles come first: one command for all their bearers, also what is taken away from many. Then name by
        name, until that is interrupted; the names that were not come to. With `attach`, who is away is given the shared
        roles that it bears. `interrupted` is asked between commands, with the number of names that are left.
        """
        names = sorted(names)
        shared = self._wanted_shared(names, wanted)
        self._detach_strays(control, shared, {name: wanted.get(name) for name in names})
        self._have_shared(control, shared, ())
        steps = Steps(self._shared)
        for name in names:
            known = (self.accounts.get(name), wanted.get(name), self._seen.get(name))
            asked = (secrets.get(name), ends.get(name), self._subscriptions)
            mend = steps.add(Name(name, *known, *asked, is_away=self._is_away(name), attach=attach))
            self._health.note(name, mend)
        self._have_shared(control, shared, steps.needed)
        self._refuse(control, steps, wanted)
        portions = list(steps.portions(MOST_COMMANDS))
        for number, portion in enumerate(portions):
            left = [step.username for rest in portions[number:] for step in rest]
            if number and interrupted(len(left)):
                return left
            self._carry_out(control, portion, wanted)
            if self.departures.are_late:
                self.departures.carry_out(control)
        if self._refused and not self._taken:
            self._refused = frozenset()
            self._have_shared(control, self._shared | {TAKEN: self._refused}, ())
        return []

    def _refuse(self, control: Control, steps: Steps, wanted: Mapping[str, Account]) -> None:
        """Where many have something to lose: have it refused to all before each is mended."""
        self._taken.settle(step.username for step in steps.all)
        for step in steps.all:
            if step.lost and step.username in wanted:
                self._taken.add(wanted[step.username], step.lost)
        is_due = len(self._taken) > taken.FEW if not self._refused else self._is_edit(wanted)
        if is_due and TAKEN in self._shared:
            gone = {step.username for step in steps.removals}
            others = {name: one for name, one in (self.accounts | dict(wanted)).items() if name not in gone}
            self._refused = self._taken.refusals(others)
            self._have_shared(control, self._shared | {TAKEN: self._refused}, ())
        for step in steps.all:
            step.is_refused = step.can_be_refused and self._taken.is_covered(step.username, self._refused)
        steps.sort()
        if self._refused:
            self._send_off(control, [step for step in steps.additions if step.lost and step.is_refused])

    def _send_off(self, control: Control, steps: Iterable[Step]) -> None:
        """Tell these already, and end the sessions that hold what they have lost: mending all takes long."""
        for step in steps:
            for topic, payload in step.words:
                control.tell(topic, payload)
            if step.is_to_go:
                self.departures.add(step.username)
            step.words, step.is_to_go = [], False
        self.departures.carry_out(control)

    def _is_edit(self, wanted: Mapping[str, Account]) -> bool:
        """Whether somebody may do anything else now: what is refused may be granted again."""
        return any(name not in self.accounts or self.accounts[name].acls != one.acls for name, one in wanted.items())

    def _have_shared(self, control: Control, shared: Roles, needed: Collection[str]) -> None:
        """Have the plugin's shared roles, and those that are needed besides, hold this."""
        commands = differences.mend_shared(shared, self._shared, needed)
        self.touched.update(command["rolename"] for command in commands)
        self._have_done(control, commands)
        self._shared = {role: shared.get(role, frozenset()) for role in {*self._shared, *needed}}

    def _detach_strays(self, control: Control, shared: Roles, now: Mapping[str, Account | None]) -> None:
        """Before a shared role holds more: take it from those to whom it is attached and who do not bear it."""
        growing = {role for role, acls in self._shared.items() if shared.get(role, frozenset()) - acls} - {TAKEN}
        for name, seen in self._seen.items() if growing else ():
            account = now[name] if name in now else self.accounts.get(name)
            bears = account.shared.keys() if account is not None else frozenset()
            strays = sorted(seen.borne & growing - bears) if seen.is_ours else ()
            if strays:
                self.touched.add(name)
                self._seen[name] = replace(seen, roles=tuple(role for role in seen.roles if role not in strays))
                self._have_done(control, differences.detach(name, strays))

    def _wanted_shared(self, names: Collection[str], wanted: Mapping[str, Account]) -> Roles:
        """What each shared role has to hold that anybody bears: these names as `wanted`, others as was read last."""
        shared: dict[str, frozenset[Acl]] = {}
        others = self.accounts.keys() - set(names)
        for name in others:
            shared |= self.accounts[name].shared
        for account in wanted.values():
            shared |= account.shared
        return shared | {TAKEN: self._refused}

    def _carry_out(self, control: Control, portion: list[Step], wanted: Mapping[str, Account]) -> None:
        for step in portion:
            for topic, payload in step.words:
                control.tell(topic, payload)
        if any(step.words and step.commands for step in portion):
            control.settle()
        self._have_done(control, [command for step in portion for command in step.commands])
        self.touched.update(step.username for step in portion if step.commands)
        self._taken.settle(step.username for step in portion)
        for step in portion:
            name = step.username
            if step.mend.after is None:
                self._seen.pop(name, None)
            else:
                self._seen[name] = step.mend.after
            if name in wanted:
                self.accounts[name] = wanted[name]
            else:
                self.accounts.pop(name, None)
            if step.is_to_go:
                self.departures.add(name)
            if step.purge is not None:
                self._purge(control, step.purge[0], is_gone=step.purge[1])

    def _have_done(self, control: Control, commands: list[Command]) -> None:
        for command, answer in zip(commands, control.ask(commands) if commands else (), strict=False):
            if "error" in answer:
                # The plugin is not as it was thought to be: look at all of it.
                what = f"{command['command']} {command.get('username', command.get('rolename', ''))}"
                self._health.refused(what, str(answer["error"]))
                self.is_doubtful = True

    def _purge(self, control: Control, principal: Principal, *, is_gone: bool) -> None:
        """Delete what one who was shut out had retained below its own topics."""
        if principal.kind not in ("device", "integration"):
            return
        part = "d" if principal.kind == "device" else "ext"
        own = f"{self._root}/{part}/{principal.handle}/#"
        # What is the hub's stays when the device gets a new token.
        purged = control.purge([own], frozenset() if is_gone else OF_THE_HUB)
        if purged:
            log.info("mosquitto.purged", username=principal.username, topics=len(purged))

    def forget_shared(self, control: Control) -> None:
        """Delete the shared roles that nobody bears any more, at the plugin neither."""
        borne = {role for seen in self._seen.values() for role in seen.borne}
        unused = sorted(self._shared.keys() - borne)
        self._have_done(control, [{"command": "deleteRole", "rolename": role} for role in unused])
        for role in unused:
            del self._shared[role]
