"""The plugin's whole configuration, `dynamic-security.json`, made from the database."""

from collections.abc import Iterable
from typing import Any, Final

import msgspec

from broker.mosquitto.accounts import ROLE_PREFIX, TEXT_NAME, Account, Acl, acls_as_json, role_of, roles_as_json
from hub.access.credentials import hash_parts, hash_secret

ADAPTER: Final = "marvain_adapter"
CONTROL: Final = "$CONTROL/dynamic-security/v1"
RESPONSE: Final = f"{CONTROL}/response"
# Always empty but for a moment: whom the plugin puts into it, it sends off.
SENT_OFF: Final = f"{ROLE_PREFIX}sent_off"
DEFAULTS: Final = ("publishClientSend", "publishClientReceive", "subscribe", "unsubscribe")


# Below the root: where the adapter looks for what is retained.
READ: Final = ("d", "ext", "out", "x", "hub")
_WRITTEN: Final = frozenset(("d", "ext", "out"))


def adapter_acls(root: str) -> frozenset[Acl]:
    """What the adapter does: drive the plugin, tell who was refused, see what is retained, and purge somebody's."""
    own = [Acl("publishClientSend", CONTROL), Acl("publishClientReceive", RESPONSE), Acl("subscribePattern", RESPONSE)]
    for part in READ:
        filter_ = f"{root}/{part}/#"
        own += [Acl("publishClientSend", filter_)] if part in _WRITTEN else []
        own += [
            Acl("publishClientReceive", filter_),
            Acl("subscribePattern", filter_),
            Acl("unsubscribePattern", filter_),
        ]
    return frozenset(own)


def render(accounts: Iterable[Account], root: str, admins: dict[str, str]) -> bytes:
    """The document; `admins` are names with their passwords that may drive the plugin, bound to no client id."""
    clients: list[dict[str, Any]] = []
    roles: list[dict[str, Any]] = []
    shared: dict[str, frozenset[Acl]] = {}
    for account in sorted(accounts, key=lambda one: one.username):
        secret = _secret(account.stored)
        bound = {"username": account.username, "clientid": account.username}
        texts = {"textname": TEXT_NAME, "textdescription": account.mark}
        borne = account.worth_sharing
        shared |= {role: account.shared[role] for role in borne}
        state = {"disabled": True} if account.is_suspended else {}
        clients.append(bound | secret | texts | state | {"roles": roles_as_json(account.role, borne)})
        roles.append({"rolename": account.role, "acls": acls_as_json(account.own(borne))})
    roles += [{"rolename": role, "acls": acls_as_json(acls)} for role, acls in sorted(shared.items())]
    for username, password in admins.items():
        role = role_of(ADAPTER)
        clients.append({"username": username, **_secret(hash_secret(password)), "roles": [{"rolename": role}]})
    roles.append({"rolename": role_of(ADAPTER), "acls": acls_as_json(adapter_acls(root))})
    document = {
        "defaultACLAccess": dict.fromkeys(DEFAULTS, False),
        "clients": clients,
        "groups": [{"groupname": SENT_OFF}],
        "roles": roles,
    }
    return msgspec.json.format(msgspec.json.encode(document), indent=1)


def _secret(stored: str) -> dict[str, Any]:
    iterations, salt, digest = hash_parts(stored)
    return {"password": digest, "salt": salt, "iterations": iterations}
