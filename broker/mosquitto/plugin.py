"""What the plugin must have beside the accounts: defaults that refuse, and the adapter's own role."""

from typing import Final

import structlog

from broker.mosquitto.accounts import acls_as_json, role_of
from broker.mosquitto.control import Control
from broker.mosquitto.document import ADAPTER, DEFAULTS, SENT_OFF, adapter_acls

log = structlog.get_logger(__name__)

# Leaving a subscription harms nobody.
_HARMLESS: Final = "unsubscribe"


def check_defaults(control: Control, *, mend: bool) -> list[str]:
    """What is allowed without any grant; with `mend` it is no longer. Raises `BrokerAway`."""
    [answer] = control.ask([{"command": "getDefaultACLAccess"}])
    found = {one["acltype"]: one["allow"] for one in answer.get("data", {}).get("acls", ())}
    wrong = [kind for kind in DEFAULTS if found.get(kind, True) and kind != _HARMLESS]
    if wrong and mend:
        closed = [{"acltype": kind, "allow": False} for kind in wrong]
        control.ask([{"command": "setDefaultACLAccess", "acls": closed}])
    if wrong:
        log.error("mosquitto.open_defaults", allowed=wrong, mended=mend)
    return wrong


def have_group(control: Control) -> None:
    """See that there is the group by which many are sent off. Raises `BrokerAway`."""
    [found] = control.ask([{"command": "getGroup", "groupname": SENT_OFF}])
    if "error" in found:
        control.ask([{"command": "createGroup", "groupname": SENT_OFF}])


def bear_own_role(control: Control, admin: str, root: str) -> None:
    """Give the adapter, at a broker that is not ours, the role to speak to devices, beside its others.

    Raises `BrokerAway`, also when the role was added: the plugin ends our connection for it.
    """
    role = role_of(ADAPTER)
    rules = acls_as_json(adapter_acls(root))
    [found] = control.ask([{"command": "getRole", "rolename": role}])
    command = "createRole" if "error" in found else "modifyRole"
    control.ask([{"command": command, "rolename": role, "acls": rules}])
    [client] = control.ask([{"command": "getClient", "username": admin}])
    borne = client.get("data", {}).get("client", {}).get("roles", ())
    if role not in {one["rolename"] for one in borne}:
        control.ask([{"command": "addClientRole", "username": admin, "rolename": role}])
