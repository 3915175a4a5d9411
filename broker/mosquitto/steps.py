"""One round with the plugin: for each name what is told to its bearer, commanded, and purged; planned, not yet done."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from broker.mosquitto import differences
from broker.mosquitto.accounts import TAKEN, Account, Acl
from broker.mosquitto.differences import Command, Mend, Roles, Seen
from broker.mosquitto.told import SUSPENDED_RETRY_S, denied
from hub.access import decide
from hub.access.changes import Change
from hub.access.principals import Principal
from hub.settings import HUB_USERNAME


@dataclass(slots=True)
class Name:
    """What is known of one name: before the round, and what the database says now.

    `held` tells the filters that it is subscribed to, or None where that is not known. `is_away`: nobody is connected
    by that name; with `attach` it is given the shared roles that it bears, if so.
    """

    username: str
    before: Account | None
    account: Account | None
    seen: Seen | None
    secret: str | None
    end: Change | None
    held: Callable[[str], list[str] | None]
    is_away: bool = False
    attach: bool = False

    @property
    def is_out(self) -> bool:
        """Whether nobody is let in by this name, for good or while its agent is off."""
        return self.account is None or self.account.is_suspended

    @property
    def is_gone(self) -> bool:
        """Whether it was let in until now."""
        return self.is_out and self.before is not None and not self.before.is_suspended

    @property
    def is_shut_out(self) -> bool:
        """Whether what it retained goes with it: it is gone, or its place is another's now."""
        return self.is_gone or (self.end is not None and self.end.kind == "rotated")


@dataclass(slots=True)
class Step:
    """What is planned for one name. `is_to_go`: its session ends when there is nothing more urgent.

    `lost` are rules that its own role has and will not have any more; what it lost by a shared role is not among them.
    `is_refused`: they are out of its reach already.
    """

    username: str
    mend: Mend
    commands: list[Command] = field(default_factory=list)
    words: list[tuple[str, bytes]] = field(default_factory=list)
    purge: tuple[Principal, bool] | None = None
    is_to_go: bool = False
    is_away: bool = False
    lost: frozenset[Acl] = frozenset()
    gains: bool = False
    can_be_refused: bool = False
    is_refused: bool = False


@dataclass(slots=True)
class Steps:
    """The round. Who waits for a secret comes first, then other additions, then removals."""

    shared: Roles
    first: list[Step] = field(default_factory=list)
    additions: list[Step] = field(default_factory=list)
    removals: list[Step] = field(default_factory=list)
    # Shared roles that will be attached to somebody.
    needed: set[str] = field(default_factory=set)

    @property
    def all(self) -> list[Step]:
        return [*self.first, *self.additions, *self.removals]

    def sort(self) -> None:
        """Among additions: first from whom something is still to be taken, then who waits for something and is there.

        Before them those for whom nothing is to be done.
        """

        def when(step: Step) -> int:
            if not step.commands:
                return 0
            if step.lost and not step.is_refused:
                return 1
            return 4 if step.is_away else 2 if step.gains else 3

        self.additions.sort(key=when)

    def portions(self, most: int) -> Iterator[list[Step]]:
        """Steps in order, so many together that they come to about `most` commands; a step is never divided."""
        some: list[Step] = []
        length = 0
        for step in self.all:
            if length and length + len(step.commands) > most:
                yield some
                some, length = [], 0
            some.append(step)
            length += len(step.commands)
        if some:
            yield some

    def add(self, name: Name) -> Mend:
        """Plan what this name needs; the difference that was found."""
        is_away = name.attach and name.is_away
        mend = differences.mend(name.username, name.account, name.seen, name.secret, self.shared, is_away=is_away)
        step = Step(name.username, mend, list(mend.commands), is_away=name.is_away)
        if mend.after is not None:
            self.needed |= mend.after.borne
            if name.seen is not None:
                before, after = name.seen.acls or frozenset(), mend.after.acls or frozenset()
                step.gains = bool(after - before)
                if not name.is_out:
                    step.lost = before.difference(after, *(self.shared.get(role, ()) for role in mend.after.borne))
                step.can_be_refused = TAKEN in name.seen.borne
        if name.before is not None and name.username != HUB_USERNAME and not mend.is_foreign:
            step.words, is_told = _tell(name)
            if is_told and not name.is_out and not mend.kicks and name.seen is not None:
                if name.end is None:
                    step.is_to_go = True
                else:
                    step.commands += differences.kick(name.username)
            if name.is_shut_out:
                step.purge = (name.before.principal, name.is_gone)
        where = self.removals if name.is_out else self.first if name.secret or name.end else self.additions
        where.append(step)
        return mend


def _tell(name: Name) -> tuple[list[tuple[str, bytes]], bool]:
    """What says what ends, or what is taken away; and whether there was anything to say."""
    assert name.before is not None  # noqa: S101  (its caller asked)
    if name.end is not None or name.is_gone:
        reason = name.end.reason if name.end is not None else "this access has ended"
        again = SUSPENDED_RETRY_S if name.account is not None and name.account.is_suspended else None
        return denied(name.before.principal, "connect", "", reason, retry_after_s=again), True
    if name.account is None:
        return [], False
    taken = _taken_away(name.before, name.account, name.held)
    principal = name.account.principal
    words = [word for filter_, reason in taken for word in denied(principal, "subscribe", filter_, reason)]
    return words, bool(taken)


def _taken_away(before: Account, account: Account, held: Callable[[str], list[str] | None]) -> list[tuple[str, str]]:
    """Subscriptions that are open and no longer granted, with the reason; all that were granted, if unknown."""
    lost = [acl.topic for acl in before.acls - account.acls if acl.kind == "publishClientReceive"]
    if not lost:
        return []
    filters = held(account.username)
    verdicts = [(one, decide.subscribe(account.principal, one)) for one in (lost if filters is None else filters)]
    return [(filter_, f"taken away: {verdict.reason}") for filter_, verdict in verdicts if not verdict]
