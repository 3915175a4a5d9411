"""What an edit takes away from many: refused to all by one role, until the role of each has been mended.

The plugin writes its whole file for each command, so hundreds of roles take many seconds. Two commands more, and what
nobody is to have any longer is out of everybody's reach before the first of them.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from broker.mosquitto.accounts import Account, Acl, rules
from hub.access.grants import Action, Book

# So many roles are mended about as fast as all of this takes.
FEW: Final = 10
# All of a role goes in one packet, and how large one may be is a setting that has this for its least.
MOST_BYTES: Final = 160 * 1024
_BYTES_BESIDE: Final = 96
_ACTIONS: Final[dict[str, Action]] = {"publishClientSend": "publish", "publishClientReceive": "subscribe"}


@dataclass(frozen=True, slots=True)
class Loss:
    """What one principal has to lose, as (action, filter), and what it keeps."""

    account: Account
    filters: frozenset[tuple[Action, str]]


class Taken:
    """Those whose roles hold more than they are granted, by name: who has been mended is taken out."""

    def __init__(self) -> None:
        self._losses: dict[str, Loss] = {}

    def __bool__(self) -> bool:
        return bool(self._losses)

    def __len__(self) -> int:
        return len(self._losses)

    def add(self, account: Account, lost: Iterable[Acl]) -> None:
        """These rules are to be taken from its role."""
        filters = frozenset((_ACTIONS[acl.kind], acl.topic) for acl in lost if acl.allow and acl.kind in _ACTIONS)
        if filters:
            self._losses[account.username] = Loss(account, filters)

    def settle(self, names: Iterable[str]) -> None:
        """Their roles are as they should be, or they have none any more."""
        for name in names:
            self._losses.pop(name, None)

    def refusals(self, others: Mapping[str, Account]) -> frozenset[Acl]:
        """The rules that refuse to all what these lose, as much of it as nobody is granted, and as fits a packet.

        `others` are all accounts as they were told last. Where everybody's own topic is lost, one rule says so for all.
        """
        accounts = {**others, **{name: loss.account for name, loss in self._losses.items()}}
        refused: set[Acl] = set()
        room = MOST_BYTES
        for action in ("publish", "subscribe"):
            alike: dict[str, set[str]] = {}
            for loss in self._losses.values():
                for lost, filter_ in loss.filters:
                    if lost == action:
                        alike.setdefault(_of_anybody(filter_, loss.account), set()).add(filter_)
            kept = Book(
                grant
                for account in accounts.values()
                if account.principal.kind != "hub"
                for grant in account.principal.grants
                if grant.action == action
            )
            for filter_ in _free(alike, kept):
                some = {acl._replace(allow=False) for acl in rules(action, filter_)}
                room -= sum(len(acl.topic.encode()) + _BYTES_BESIDE for acl in some)
                if room < 0:
                    return frozenset(refused)
                refused |= some
        return frozenset(refused)

    def is_covered(self, username: str, refused: Collection[Acl]) -> bool:
        """Whether all that this one has to lose is refused."""
        loss = self._losses.get(username)
        return loss is None or all(
            acl._replace(allow=False) in refused
            for action, filter_ in loss.filters
            for acl in rules(action, _refused_as(action, filter_, loss.account, refused))
        )


def _of_anybody(filter_: str, account: Account) -> str:
    """The filter with the handle, where it is a level, left open."""
    first, *levels = filter_.split("/")
    return "/".join([first, *("+" if level == account.principal.handle else level for level in levels)])


def _free(alike: Mapping[str, Collection[str]], kept: Book) -> Iterable[str]:
    """The filters, those that are alike in one where that can be, that touch nothing that anybody keeps.

    One that begins with a wildcard would refuse more than it matches, and is left out.
    """
    for general, filters in sorted(alike.items()):
        if general[0] in "+#":
            continue
        if not kept.touches(general):
            yield general
        elif len(filters) > 1 or general not in filters:
            yield from (one for one in sorted(filters) if not kept.touches(one))


def _refused_as(action: Action, filter_: str, account: Account, refused: Collection[Acl]) -> str:
    general = _of_anybody(filter_, account)
    [first, *_] = rules(action, general)
    return general if first._replace(allow=False) in refused else filter_
