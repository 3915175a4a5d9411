"""The telemetry section of a satellite's page: what it needs to be drawn, and the word that somebody looks."""

from typing import Any, Final
from uuid import UUID

from fastapi import APIRouter
from sqlmodel import Session

from hub.access import permissions
from hub.access.scopes import expand
from hub.device_views import DeviceView
from hub.settings import Settings
from hub.telemetry import streams, watches
from hub_protocol.topics import Topics
from web.dependencies import AgentContext, Db, MemberAgent, Now

router = APIRouter(prefix="/devices")

# Seconds that a chart can look back, and what the button says.
SPANS: Final = ((900, "15 min"), (3_600, "1 h"), (86_400, "24 h"), (604_800, "7 d"), (7_776_000, "90 d"))


@router.post("/{device_id}/telemetry/watch", status_code=204)
def watch(device_id: UUID, current: MemberAgent, session: Db, now: Now) -> None:
    """A page shows this satellite's telemetry: it is told of new samples for a minute from now."""
    watches.watch(session, current.agent_id, device_id, now)


def facts(session: Session, current: AgentContext, view: DeviceView, settings: Settings) -> dict[str, Any]:
    """What the section's template needs; guests do not get to see it."""
    if "telemetry:read" not in permissions.of_role(current.role):
        return {"can_measure": False}
    return {
        "can_measure": True,
        "streams": streams.of_device(session, current.agent_id, view.device_id),
        "spans": SPANS,
        "may_send": "telemetry:write" in expand(view.scopes),
        "host": settings.device_mqtt_host,
        "port": settings.device_mqtt_port,
        "tls": settings.tls_cert_file is not None,
        "topics": Topics(settings.root),
    }
