"""Roles that are offered with a new integration while they do not exist; ticking one makes it."""

from dataclasses import dataclass
from typing import Final
from uuid import UUID

from sqlmodel import Session

from hub.access import roles
from hub.access.roles import GrantDraft, RoleDraft
from hub.settings import Settings
from web.pages.access_frame import open_topics


@dataclass(frozen=True, slots=True)
class Preset:
    """A role in the making; `key` is its name in the form."""

    key: str
    name: str
    about: str
    grants: tuple[GrantDraft, ...]


PRESETS: Final = (
    Preset(
        "watch",
        "Watches everything",
        "Hears what pages of this agent are told: presence, events, commands and denials, and the hub's status.",
        (GrantDraft("subscribe", "ui/{agent}/#"), GrantDraft("subscribe", "hub/status")),
    ),
    Preset(
        "space",
        "Own space",
        "Writes and hears below x/{agent}/, a space of this agent where devices and integrations talk to each other.",
        (GrantDraft("publish", "x/{agent}/#"), GrantDraft("subscribe", "x/{agent}/#")),
    ),
)


def made(session: Session, agent_id: UUID, settings: Settings, keys: list[str], *, by: str) -> list[UUID]:
    """The roles of these presets; those that do not exist yet are made. Raises as `roles.create`."""
    known = {role.name.casefold(): role.role_id for role in roles.list_roles(session, agent_id)}
    found = []
    for preset in PRESETS:
        if preset.key in keys:
            role_id = known.get(preset.name.casefold())
            if role_id is None:
                draft = RoleDraft(preset.name, preset.about, preset.grants)
                saved = roles.create(
                    session, agent_id, draft, by=by, open_topics=open_topics(settings), root=settings.root
                )
                role_id = saved.role.role_id
            found.append(role_id)
    return found
