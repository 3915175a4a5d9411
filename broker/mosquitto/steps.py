"""One round with the plugin: for each name what is told to its bearer, commanded, and purged; planned, not yet done."""

from collections.abc import Callable
from dataclasses import dataclass, field

from broker.mosquitto import differences
from broker.mosquitto.accounts import Account
from broker.mosquitto.differences import Command, Mend, Seen
from broker.mosquitto.told import denied
from hub.access import decide
from hub.access.changes import Change
from hub.access.principals import Principal
from hub.settings import HUB_USERNAME


@dataclass(slots=True)
class Name:
    """What is known of one name: before the round, and what the database says now.

    `held` tells the filters that it is subscribed to, or None where that is not known.
    """

    username: str
    before: Account | None
    account: Account | None
    seen: Seen | None
    secret: str | None
    end: Change | None
    held: Callable[[str], list[str] | None]

    @property
    def is_gone(self) -> bool:
        return self.account is None and self.before is not None

    @property
    def is_shut_out(self) -> bool:
        """Whether what it retained goes with it: it is gone, or its place is another's now."""
        return self.is_gone or (self.end is not None and self.end.kind == "rotated")


@dataclass(slots=True)
class Steps:
    """The round; additions come before removals, words before both, purges last."""

    additions: list[Command] = field(default_factory=list)
    removals: list[Command] = field(default_factory=list)
    after: dict[str, Seen | None] = field(default_factory=dict)
    words: list[tuple[str, bytes]] = field(default_factory=list)
    purges: list[tuple[Principal, bool]] = field(default_factory=list)

    @property
    def commands(self) -> list[Command]:
        return [*self.additions, *self.removals]

    def add(self, name: Name) -> Mend:
        """Plan what this name needs; the difference that was found."""
        mend = differences.mend(name.username, name.account, name.seen, name.secret)
        commands = list(mend.commands)
        if name.before is not None and name.username != HUB_USERNAME and not mend.is_foreign:
            if self._tell(name) and name.account is not None and not mend.kicks and name.seen is not None:
                commands += differences.kick(name.username)
            if name.is_shut_out:
                self.purges.append((name.before.principal, name.is_gone))
        (self.removals if name.account is None else self.additions).extend(commands)
        if commands or mend.after != name.seen:
            self.after[name.username] = mend.after
        return mend

    def _tell(self, name: Name) -> bool:
        """Say what ends, or what is taken away; whether there was anything to say."""
        assert name.before is not None  # noqa: S101  (its caller asked)
        if name.end is not None or name.account is None:
            reason = name.end.reason if name.end is not None else "this access has ended"
            self.words += denied(name.before.principal, "connect", "", reason)
            return True
        taken = _taken_away(name.before, name.account, name.held)
        for filter_, reason in taken:
            self.words += denied(name.account.principal, "subscribe", filter_, reason)
        return bool(taken)


def _taken_away(before: Account, account: Account, held: Callable[[str], list[str] | None]) -> list[tuple[str, str]]:
    """Subscriptions that are open and no longer granted, with the reason; all that were granted, if unknown."""
    lost = [acl.topic for acl in before.acls - account.acls if acl.kind == "publishClientReceive"]
    if not lost:
        return []
    filters = held(account.username)
    verdicts = [(one, decide.subscribe(account.principal, one)) for one in (lost if filters is None else filters)]
    return [(filter_, f"taken away: {verdict.reason}") for filter_, verdict in verdicts if not verdict]
