"""What the plugin must hold of each principal: a client with its secret's mark, and a role of its own with its ACLs."""

import hashlib
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal, NamedTuple
from uuid import UUID

from sqlalchemy import text
from sqlmodel import Session

from hub.access import principals
from hub.access.grants import Grant
from hub.access.principals import Principal

# What is ours at a broker that others use too: roles by their prefix, clients by their text name.
ROLE_PREFIX: Final = "marvain."
TEXT_NAME: Final = "Marvain"

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
    """A principal as the plugin is to hold it. `mark` says, without telling it, which secret counts."""

    username: str
    mark: str
    acls: frozenset[Acl]
    stored: str
    credential_id: UUID
    principal: Principal

    @property
    def role(self) -> str:
        return role_of(self.username)


def role_of(username: str) -> str:
    """The role that this client alone bears: a change of it concerns nobody else."""
    return ROLE_PREFIX + username


def mark_of(stored: str) -> str:
    """Which secret a stored hash is of: equal marks, equal secrets."""
    return hashlib.sha256(stored.encode()).hexdigest()[:32]


def acls_of(grants: Iterable[Grant]) -> frozenset[Acl]:
    """The rules that amount to these grants where everything else is refused."""
    acls = {UNSUBSCRIBE}
    for grant in grants:
        if grant.action == "publish":
            acls.add(Acl("publishClientSend", grant.filter))
            continue
        wild = grant.filter[0] in "+#"
        acls.add(Acl("publishClientReceive", grant.filter))
        acls.add(Acl("subscribePattern", grant.filter, _WILD if wild else _USUAL))
        acls.add(Acl("subscribePattern", f"$share/+/{grant.filter}"))
        if wild:
            acls.update(Acl("subscribePattern", closed, _CLOSED, allow=False) for closed in _NEVER_BY_WILDCARD)
    return frozenset(acls)


def load(session: Session, usernames: Collection[str] | None, root: str, now: datetime) -> dict[str, Account]:
    """The accounts of these names that count now, or everybody's."""
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
            )
    return accounts


def acls_as_json(acls: Iterable[Acl]) -> list[dict[str, Any]]:
    """The rules as the plugin writes them, in one order everywhere."""
    return [
        {"acltype": acl.kind, "topic": acl.topic, "priority": acl.priority, "allow": acl.allow} for acl in sorted(acls)
    ]
