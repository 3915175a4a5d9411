"""What the plugin must hold of each principal: a client with its secret's mark, a role of its own, and shared ones."""

import hashlib
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Literal, NamedTuple
from uuid import UUID

from sqlalchemy import text
from sqlmodel import Session

from hub.access import principals
from hub.access.grants import Action, Grant
from hub.access.principals import INTEGRATION_PREFIX, Principal

# What is ours at a broker that others use too: roles by their prefix, clients by their text name.
ROLE_PREFIX: Final = "marvain."
TEXT_NAME: Final = "Marvain"
_SHARED: Final = f"{ROLE_PREFIX}role."
# Borne by everybody but the hub, and empty but for the time that it takes to mend many: see `taken`.
TAKEN: Final = f"{_SHARED}taken"
# What was taken away is asked first. Shared roles come before clients' own, where other refusals are alone: they must
# not hide what is granted.
_TAKEN_PRIORITY: Final = 2
_SHARED_PRIORITY: Final = 1
_OWN_PRIORITY: Final = -1

AclType = Literal["publishClientSend", "publishClientReceive", "subscribePattern", "unsubscribePattern"]

# A filter that begins with a wildcard would, for the plugin, cover subscriptions to topics that begin with "$" too. So
# these refusals stand above such filters and below all others.
_WILD: Final = -2
_CLOSED: Final = -1
_USUAL: Final = 0
_NEVER_BY_WILDCARD: Final = ("$SYS/#", "$share/#", "$CONTROL/#")


class Acl(NamedTuple):
    """One rule of a role; the plugin asks those of higher priority first."""

    kind: AclType
    topic: str
    priority: int = _USUAL
    allow: bool = True


# Whoever leaves a subscription gains nothing by it, also one that is no longer granted.
UNSUBSCRIBE: Final = Acl("unsubscribePattern", "#")


@dataclass(frozen=True, slots=True)
class Account:
    """A principal as the plugin is to hold it. `mark` says, without telling it, which secret counts.

    `acls` are all its rules; `shared` tells by the plugin's role which of them all bearers of a role have alike, `kept`
    which it has, too, from elsewhere. `is_suspended`: its agent is switched off. It has no rules and is not let in, and
    its client stays all the same: the plugin has its secret, and nobody could tell it again.
    """

    username: str
    mark: str
    acls: frozenset[Acl]
    stored: str
    credential_id: UUID
    principal: Principal
    shared: Mapping[str, frozenset[Acl]] = field(default_factory=dict)
    kept: frozenset[Acl] = frozenset()
    is_suspended: bool = False

    @property
    def role(self) -> str:
        return role_of(self.username)

    @property
    def worth_sharing(self) -> frozenset[str]:
        """The shared roles that hold anything, or may come to."""
        return frozenset(role for role, acls in self.shared.items() if acls or role == TAKEN)

    def own(self, borne: Iterable[str]) -> frozenset[Acl]:
        """What its own role has to hold beside these shared ones."""
        return self.kept | self.acls.difference(*(self.shared.get(role, frozenset()) for role in borne))


def role_of(username: str) -> str:
    """The role that this client alone bears: a change of it concerns nobody else."""
    return ROLE_PREFIX + username


def is_shared(role: str) -> bool:
    """Whether a role of the plugin stands for one of Marvain's, or for all clients; not for one client."""
    return role.startswith(_SHARED)


def priority_of(role: str) -> int:
    """When a role of ours is asked among a client's others; those of higher priority come first."""
    if role == TAKEN:
        return _TAKEN_PRIORITY
    return _SHARED_PRIORITY if is_shared(role) else _OWN_PRIORITY


def mark_of(stored: str) -> str:
    """Which secret a stored hash is of: equal marks, equal secrets."""
    return hashlib.sha256(stored.encode()).hexdigest()[:32]


def acls_of(grants: Iterable[Grant]) -> frozenset[Acl]:
    """The rules that amount to these grants where everything else is refused."""
    acls = {UNSUBSCRIBE}
    for grant in grants:
        acls.update(rules(grant.action, grant.filter))
    return frozenset(acls)


def rules(action: Action, filter_: str) -> list[Acl]:
    """What one grant comes to."""
    if action == "publish":
        return [Acl("publishClientSend", filter_)]
    wild = filter_[0] in "+#"
    found = [
        Acl("publishClientReceive", filter_),
        Acl("subscribePattern", filter_, _WILD if wild else _USUAL),
        Acl("subscribePattern", f"$share/+/{filter_}"),
    ]
    if wild:
        found += [Acl("subscribePattern", closed, _CLOSED, allow=False) for closed in _NEVER_BY_WILDCARD]
    return found


def shared_of(principal: Principal) -> dict[str, frozenset[Acl]]:
    """By the plugin's role: the rules that it is to hold for all bearers of a role of Marvain's.

    Only what this principal is granted, whatever the role says; and no refusals, which would count for other roles too.
    The role of what was taken away is among them, for all whom an edit may take anything from.
    """
    granted = {(grant.action, grant.filter) for grant in principal.grants}
    taken: dict[str, frozenset[Acl]] = {} if principal.kind == "hub" else {TAKEN: frozenset()}
    return taken | {
        f"{_SHARED}{role_id}": frozenset(
            acl for action, filter_ in common if filter_[0] not in "+#" for acl in rules(action, filter_)
        )
        for role_id, common in principal.common.items()
        if common <= granted
    }


def _kept_of(principal: Principal) -> frozenset[Acl]:
    """What does not come from roles alone: it must not go when a role does. Roles give a grant once at most."""
    given = Counter((grant.action, grant.filter) for grant in principal.grants)
    return acls_of(grant for grant in principal.grants if given[grant.action, grant.filter] > 1)


def load(session: Session, usernames: Collection[str] | None, root: str, now: datetime) -> dict[str, Account]:
    """The accounts of these names that count now, or everybody's; those of agents that are off are suspended.

    At the beginning of a transaction: all of it is of one moment, so that nobody is taken for gone who is being
    switched on or off just now.
    """
    session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
    found = principals.load_many(session, None if usernames is None else list(usernames), root, now)
    rows = session.execute(
        text(
            "SELECT username, credential_id, hash FROM credentials WHERE replaced_at IS NULL"
            " AND (CAST(:names AS text[]) IS NULL OR username = ANY(:names))"
        ),
        {"names": None if usernames is None else list(found)},
    )
    accounts = {}
    for row in rows:
        principal = found.get(row.username)
        if principal is not None:
            accounts[row.username] = Account(
                row.username,
                mark_of(row.hash),
                acls_of(principal.grants),
                row.hash,
                row.credential_id,
                principal,
                shared_of(principal),
                _kept_of(principal),
            )
    return accounts | _suspended(session, usernames, root)


def _suspended(session: Session, usernames: Collection[str] | None, root: str) -> dict[str, Account]:
    rows = session.execute(
        text(
            "WITH off AS (SELECT d.handle AS username, 'device' AS kind FROM devices d JOIN agents a USING (agent_id)"
            " WHERE a.disabled AND a.deleted_at IS NULL AND d.revoked_at IS NULL AND d.deleted_at IS NULL"
            " UNION ALL SELECT :prefix || i.handle, 'integration' FROM integrations i JOIN agents a USING (agent_id)"
            " WHERE a.disabled AND a.deleted_at IS NULL AND i.revoked_at IS NULL)"
            " SELECT c.username, c.credential_id, c.hash, off.kind FROM off JOIN credentials AS c USING (username)"
            " WHERE c.replaced_at IS NULL AND (:all OR c.username = ANY(:names))"
        ),
        {"prefix": INTEGRATION_PREFIX, "all": usernames is None, "names": list(usernames or ())},
    )
    return {
        row.username: Account(
            row.username,
            mark_of(row.hash),
            frozenset(),
            row.hash,
            row.credential_id,
            Principal(row.username, row.kind, (), root),
            is_suspended=True,
        )
        for row in rows
    }


def acls_as_json(acls: Iterable[Acl]) -> list[dict[str, Any]]:
    """The rules as the plugin writes them, in one order everywhere."""
    return [
        {"acltype": acl.kind, "topic": acl.topic, "priority": acl.priority, "allow": acl.allow} for acl in sorted(acls)
    ]


def roles_as_json(own: str, shared: Iterable[str]) -> list[dict[str, Any]]:
    """The roles of a client as the plugin takes them."""
    return [{"rolename": role, "priority": priority_of(role)} for role in sorted(shared)] + [{"rolename": own}]
