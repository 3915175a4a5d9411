"""What has to be said to the plugin so that it holds what the database says: differences alone, additions first."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from broker.mosquitto.accounts import ROLE_PREFIX, TEXT_NAME, Account, Acl, acls_as_json, role_of
from broker.mosquitto.document import ADAPTER

Command = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Seen:
    """A client and its role as the plugin has them; `acls` is None while there is no such role."""

    username: str
    is_client: bool = True
    is_ours: bool = True
    mark: str = ""
    client_id: str = ""
    roles: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    is_disabled: bool = False
    acls: frozenset[Acl] | None = None


@dataclass(slots=True)
class Mend:
    """Commands in order. `kicks`: they end the client's open connection. `lacks`: the plain secret would be needed."""

    commands: list[Command] = field(default_factory=list)
    after: Seen | None = None
    kicks: bool = False
    lacks: bool = False
    is_foreign: bool = False


def of_account(account: Account) -> Seen:
    """What the plugin has when it holds exactly this account."""
    name = account.username
    return Seen(name, mark=account.mark, client_id=name, roles=(account.role,), acls=account.acls)


def mend(username: str, account: Account | None, seen: Seen | None, secret: str | None) -> Mend:
    """What makes the plugin hold `account` instead of `seen`; nothing when it does.

    A client of that name that is not ours is left alone. Where the secret would be needed and is not known, the client
    is shut out rather than left with an old one.
    """
    if seen is not None and seen.is_client and not seen.is_ours:
        return Mend(after=seen, is_foreign=True)
    return _remove(username, seen) if account is None else _bring(account, seen, secret)


def kick(username: str) -> list[Command]:
    """End the client's open connection without its Will; it may come again at once."""
    return [{"command": "disableClient", "username": username}, {"command": "enableClient", "username": username}]


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


def _bring(account: Account, seen: Seen | None, secret: str | None) -> Mend:
    name, role = account.username, account.role
    done = Mend(after=of_account(account))
    acls = acls_as_json(account.acls)
    if seen is None or seen.acls is None:
        done.commands.append({"command": "createRole", "rolename": role, "acls": acls})
    elif seen.acls != account.acls:
        # Replaced in one step; the plugin kicks nobody for it, unlike for addRoleACL and removeRoleACL.
        done.commands.append({"command": "modifyRole", "rolename": role, "acls": acls})
    facts = {"clientid": name, "textname": TEXT_NAME, "textdescription": account.mark, "roles": [{"rolename": role}]}
    if seen is None or not seen.is_client:
        if secret is None:
            done.lacks = True
            done.after = Seen(name, is_client=False, acls=account.acls)
        else:
            done.commands.append({"command": "createClient", "username": name, "password": secret, **facts})
        return done
    if seen.mark != account.mark:
        done.kicks = True
        if secret is None:
            done.lacks = True
            done.kicks = not seen.is_disabled
            if done.kicks:
                done.commands.append({"command": "disableClient", "username": name})
            done.after = _with(seen, account.acls)
            return done
        done.commands.append({"command": "modifyClient", "username": name, "password": secret, "groups": [], **facts})
    elif (seen.client_id, seen.roles, seen.groups) != (name, (role,), ()):
        done.kicks = True
        done.commands.append({"command": "modifyClient", "username": name, "groups": [], **facts})
        # The plugin does not take the binding to a client id from modifyClient.
        done.commands.append({"command": "setClientId", "username": name, "clientid": name})
    if seen.is_disabled:
        done.commands.append({"command": "enableClient", "username": name})
    return done


def _with(seen: Seen, acls: frozenset[Acl]) -> Seen:
    return Seen(seen.username, True, True, seen.mark, seen.client_id, seen.roles, seen.groups, True, acls)


def read(clients: Iterable[Mapping[str, Any]], roles: Iterable[Mapping[str, Any]]) -> dict[str, Seen]:
    """What `listClients` and `listRoles` told, by name: all clients, and our roles that no client of ours has."""
    rules: dict[str, frozenset[Acl]] = {}
    for role in roles:
        name = str(role["rolename"])
        if name.startswith(ROLE_PREFIX) and name != role_of(ADAPTER):
            rules[name.removeprefix(ROLE_PREFIX)] = frozenset(
                Acl(acl["acltype"], acl["topic"], acl.get("priority", 0), bool(acl.get("allow")))
                for acl in role.get("acls", ())
            )
    found = {}
    for client in clients:
        name = str(client["username"])
        found[name] = Seen(
            name,
            is_ours=client.get("textname") == TEXT_NAME,
            mark=str(client.get("textdescription", "")),
            client_id=str(client.get("clientid", "")),
            roles=tuple(sorted(str(role["rolename"]) for role in client.get("roles", ()))),
            groups=tuple(sorted(str(group["groupname"]) for group in client.get("groups", ()))),
            is_disabled=bool(client.get("disabled", False)),
            acls=rules.pop(name, None),
        )
    return found | {name: Seen(name, is_client=False, acls=acls) for name, acls in rules.items()}
