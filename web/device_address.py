"""Where devices find the broker, as an answer to one that found the web."""

import ipaddress

from starlette.requests import HTTPConnection

from hub.settings import Settings


def mqtt_host(connection: HTTPConnection, settings: Settings) -> str:
    """The host to dial. Where none but this machine's own is known, the one under which the device found us."""
    known = settings.device_mqtt_host
    found = connection.url.hostname or ""
    return found if is_local(known) and found and not is_local(found) else known


def is_local(host: str) -> bool:
    """Whether a host name means the machine that uses it."""
    if host == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified
