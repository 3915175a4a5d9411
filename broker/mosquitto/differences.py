"""What has to be said to the plugin so that it holds what the database says: differences alone, additions first."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from broker.mosquitto.accounts import (
    ROLE_PREFIX,
    TEXT_NAME,
    Account,
    Acl,
    acls_as_json,
    is_shared,
    priority_of,
    role_of,
    roles_as_json,
)
from broker.mosquitto.document import ADAPTER

Command = dict[str, Any]
Roles = Mapping[str, frozenset[Acl]]


@dataclass(frozen=True, slots=True)
class Seen:
    """A client and its own role as the plugin has them; `acls` is None while there is no such role.

    A role among `roles` that has not the priority that we give stands there with what it has.
    """

    username: str
    is_client: bool = True
    is_ours: bool = True
    mark: str = ""
    client_id: str = ""
    roles: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    is_disabled: bool = False
    acls: frozenset[Acl] | None = None

    @property
    def borne(self) -> frozenset[str]:
        """The shared roles among its own."""
        return frozenset(role for role in self.roles if is_shared(role))


@dataclass(slots=True)
class Mend:
    """Commands in order. `kicks`: they end the client's open connection. `lacks`: the plain secret would be needed."""

    commands: list[Command] = field(default_factory=list)
    after: Seen | None = None
    kicks: bool = False
    lacks: bool = False
    is_foreign: bool = False


def of_account(account: Account) -> Seen:
    """What the plugin has when it was given exactly this account from the beginning."""
    name, borne = account.username, account.worth_sharing
    return Seen(
        name,
        mark=account.mark,
        client_id=name,
        roles=tuple(sorted((account.role, *borne))),
        is_disabled=account.is_suspended,
        acls=account.own(borne),
    )


def mend(
    username: str,
    account: Account | None,
    seen: Seen | None,
    secret: str | None,
    shared: Roles | None = None,
    *,
    is_away: bool = False,
) -> Mend:
    """What makes the plugin hold `account` instead of `seen`; nothing when it does.

    A client of that name that is not ours is left alone. Where the secret would be needed and is not known, the client
    is shut out rather than left with an old one. `shared` are the plugin's shared roles as they will be by then; one is
    attached only when that disturbs nobody: to a client that is new, that is sent off anyway, or that `is_away`. Until
    then the client's own role holds all of it.
    """
    if seen is not None and seen.is_client and not seen.is_ours:
        return Mend(after=seen, is_foreign=True)
    if account is None:
        return _remove(username, seen)
    if account.is_suspended:
        return _suspend(account, seen, secret)
    return _bring(account, seen, secret, shared or {}, is_away=is_away)


def mend_shared(wanted: Roles, seen: Roles, needed: Iterable[str]) -> list[Command]:
    """What makes the plugin's shared roles hold this: those that it has, and those that are needed. It kicks nobody."""
    commands: list[Command] = []
    for role in sorted({*seen, *needed}):
        acls = wanted.get(role, frozenset())
        if role not in seen or seen[role] != acls:
            command = "modifyRole" if role in seen else "createRole"
            commands.append({"command": command, "rolename": role, "acls": acls_as_json(acls)})
    return commands


def detach(username: str, roles: Iterable[str]) -> list[Command]:
    """Take shared roles from a client; it ends the client's open connection."""
    return [{"command": "removeClientRole", "username": username, "rolename": role} for role in roles]


def kick(username: str) -> list[Command]:
    """End the client's open connection without its Will; it may come again at once."""
    return [{"command": "disableClient", "username": username}, {"command": "enableClient", "username": username}]


def send_off(group: str, usernames: Iterable[str]) -> list[Command]:
    """The same for many, at the price of two: the plugin ends the connections of all whom it puts into a group."""
    members = [{"username": name} for name in usernames]
    return [
        {"command": "modifyGroup", "groupname": group, "clients": members},
        {"command": "modifyGroup", "groupname": group, "clients": []},
    ]


def _remove(username: str, seen: Seen | None) -> Mend:
    done = Mend()
    if seen is None:
        return done
    if seen.is_client:
        done.commands.append({"command": "deleteClient", "username": username})
        done.kicks = True
    if seen.acls is not None:
        done.commands.append({"command": "deleteRole", "rolename": role_of(username)})
    return done


def _suspend(account: Account, seen: Seen | None, secret: str | None) -> Mend:
    """Let it in no more and take all rules from it, and keep its client with its secret."""
    done = Mend(after=seen)
    if (seen is None or not seen.is_client) and secret is not None:
        # It came to be while its agent is off; its secret is told this once.
        name = account.username
        facts = {"clientid": name, "textname": TEXT_NAME, "textdescription": account.mark}
        done.commands += _own(account.role, frozenset(), None if seen is None else seen.acls)
        given = {"password": secret, **facts, "roles": roles_as_json(account.role, ())}
        done.commands.append({"command": "createClient", "username": name, **given})
        done.commands.append({"command": "disableClient", "username": name})
        done.after = of_account(account)
        return done
    if seen is None:
        return done
    done.commands += _own(account.role, frozenset(), seen.acls)
    done.after = replace(seen, acls=frozenset())
    if not seen.is_client:
        return done
    if seen.mark != account.mark and secret is not None:
        given = {"password": secret, "textdescription": account.mark}
        done.commands.append({"command": "modifyClient", "username": seen.username, **given})
        done.after = replace(done.after, mark=account.mark)
    if not seen.is_disabled:
        done.kicks = True
        done.commands.insert(0, {"command": "disableClient", "username": seen.username})
        done.after = replace(done.after, is_disabled=True)
    return done


def _bring(account: Account, seen: Seen | None, secret: str | None, shared: Roles, *, is_away: bool) -> Mend:
    name = account.username
    done = Mend(after=of_account(account))
    facts = {
        "clientid": name,
        "textname": TEXT_NAME,
        "textdescription": account.mark,
        "roles": roles_as_json(account.role, account.worth_sharing),
    }
    if seen is None or not seen.is_client:
        acls = None if seen is None else seen.acls
        if secret is None:
            done.lacks = True
            done.after = Seen(name, is_client=False, acls=account.acls)
            done.commands += _own(account.role, account.acls, acls)
            return done
        done.commands += _own(account.role, account.own(account.worth_sharing), acls)
        done.commands.append({"command": "createClient", "username": name, "password": secret, **facts})
        return done
    if seen.mark != account.mark and secret is None:
        done.lacks = True
        done.kicks = not seen.is_disabled
        own = account.own(seen.borne)
        done.commands += _own(account.role, own, seen.acls)
        if done.kicks:
            done.commands.append({"command": "disableClient", "username": name})
        done.after = replace(seen, is_disabled=True, acls=own)
        return done
    is_new = seen.mark != account.mark
    if is_new or not _is_as_left(seen, account):
        done.kicks = True
        own = account.own(account.worth_sharing)
        if seen.acls is None:
            done.commands += _own(account.role, own, None)
        password = {"password": secret} if is_new else {}
        done.commands.append({"command": "modifyClient", "username": name, **password, "groups": [], **facts})
        if seen.acls is not None:
            done.commands += _own(account.role, own, seen.acls)
        if seen.client_id != name:
            # The plugin does not take the binding to a client id from modifyClient.
            done.commands.append({"command": "setClientId", "username": name, "clientid": name})
    else:
        _share(done, account, seen, shared, is_away=is_away)
    if seen.is_disabled:
        done.commands.append({"command": "enableClient", "username": name})
    return done


def _share(done: Mend, account: Account, seen: Seen, shared: Roles, *, is_away: bool) -> None:
    """Its roles, without a new password: what it gains is in its own role, what it no longer bears is detached."""
    name = account.username
    # An empty role that it does not bear any more harms nobody, and taking it away would end the session.
    surplus = {role for role in seen.borne - account.shared.keys() if shared.get(role)}
    missing = account.worth_sharing - seen.borne if is_away else frozenset()
    borne = (seen.borne - surplus) | missing
    own = account.own(borne)
    for role in sorted(missing):
        given = {"username": name, "rolename": role, "priority": priority_of(role)}
        done.commands.append({"command": "addClientRole", **given})
    # Replaced in one step; the plugin kicks nobody for it, unlike for addRoleACL and removeRoleACL.
    done.commands += _own(account.role, own, seen.acls)
    done.commands += detach(name, sorted(surplus))
    done.kicks = bool(missing or surplus)
    done.after = replace(seen, roles=tuple(sorted((account.role, *borne))), acls=own, is_disabled=False)


def _is_as_left(seen: Seen, account: Account) -> bool:
    """Whether the client is bound and has its own role and shared ones alone."""
    rest = [role for role in seen.roles if not is_shared(role)]
    return (seen.client_id, rest, seen.groups) == (account.username, [account.role], ()) and seen.acls is not None


def _own(role: str, acls: frozenset[Acl], seen: frozenset[Acl] | None) -> list[Command]:
    if seen == acls:
        return []
    command = "createRole" if seen is None else "modifyRole"
    return [{"command": command, "rolename": role, "acls": acls_as_json(acls)}]


def read(clients: Iterable[Mapping[str, Any]], roles: Iterable[Mapping[str, Any]]) -> dict[str, Seen]:
    """What `listClients` and `listRoles` told, by name: all clients, and our roles that no client of ours has."""
    rules: dict[str, frozenset[Acl]] = {}
    for role in roles:
        name = str(role["rolename"])
        if name.startswith(ROLE_PREFIX) and name != role_of(ADAPTER) and not is_shared(name):
            rules[name.removeprefix(ROLE_PREFIX)] = _acls(role)
    found = {}
    for client in clients:
        name = str(client["username"])
        found[name] = Seen(
            name,
            is_ours=client.get("textname") == TEXT_NAME,
            mark=str(client.get("textdescription", "")),
            client_id=str(client.get("clientid", "")),
            roles=tuple(sorted(_role(role) for role in client.get("roles", ()))),
            groups=tuple(sorted(str(group["groupname"]) for group in client.get("groups", ()))),
            is_disabled=bool(client.get("disabled", False)),
            acls=rules.pop(name, None),
        )
    return found | {name: Seen(name, is_client=False, acls=acls) for name, acls in rules.items()}


def keep_unsure(seen: dict[str, Seen], left: Mapping[str, Seen], touched: Collection[str]) -> None:
    """Have `seen`, read while the plugin was told things, be as it was `left` where it may be wrong for that reason."""
    for name in left:
        found = seen.get(name)
        if name in touched or found is None or found.acls is None:
            seen[name] = left[name]
    for name in [name for name, one in seen.items() if name not in left and (name in touched or not one.is_client)]:
        del seen[name]


def read_shared(roles: Iterable[Mapping[str, Any]]) -> dict[str, frozenset[Acl]]:
    """The plugin's shared roles among what `listRoles` told."""
    return {str(role["rolename"]): _acls(role) for role in roles if is_shared(str(role["rolename"]))}


def _acls(role: Mapping[str, Any]) -> frozenset[Acl]:
    return frozenset(
        Acl(acl["acltype"], acl["topic"], acl.get("priority", 0), bool(acl.get("allow")))
        for acl in role.get("acls", ())
    )


def _role(role: Mapping[str, Any]) -> str:
    # The plugin leaves out what is the default.
    name, priority = str(role["rolename"]), int(role.get("priority", -1))
    return name if priority == priority_of(name) else f"at {priority}: {name}"
