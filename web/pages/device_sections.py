"""What the sections of a device's page show of its verbs, its commands, its config and its tags."""

import hashlib
import uuid
from typing import Any, Final

import msgspec
from sqlmodel import Session

from hub import commands, device_config, tags, verbs
from hub.access.scopes import expand
from hub.device_views import DeviceView
from web.pages import command_form, config_form
from web.pages.command_form import DEADLINES, VerbForm
from web.pages.config_form import ConfigForm

COMMANDS_SHOWN: Final = 20
REVISIONS_SHOWN: Final = 10


def of_commands(
    session: Session, device: DeviceView, *, sent: VerbForm | None = None, before: uuid.UUID | None = None
) -> dict[str, Any]:
    """The ledger and a form for each verb; `sent` is the form that came back with a fault."""
    found = commands.for_device(session, device.device_id, COMMANDS_SHOWN + 1, before=before)
    known = device.hello if device.last_hello_at else {}
    digest = hashlib.sha256(msgspec.json.encode(known.get("verbs")))
    return {
        "commands": found[:COMMANDS_SHOWN],
        "older": found[COMMANDS_SHOWN - 1].command_id if len(found) > COMMANDS_SHOWN else None,
        "verb_forms": [
            sent if sent is not None and sent.verb.name == verb.name else command_form.of_verb(verb)
            for verb in verbs.of_hello(known)
        ],
        "verbs_digest": digest.hexdigest()[:16],
        "sent_verb": sent.verb.name if sent is not None else "",
        "deadlines": DEADLINES,
        "hears_commands": "commands:receive" in expand(device.scopes),
    }


def of_config(session: Session, device: DeviceView, *, form: ConfigForm | None = None) -> dict[str, Any]:
    """Desired and reported values with their differences, the form, and what was wanted before."""
    config = device_config.view(session, device.device_id)
    return {
        "config": config,
        "differences": device_config.differences(config),
        "config_form": form or config_form.of_config(config),
        "revisions": device_config.history(session, device.device_id, REVISIONS_SHOWN),
        "shown": config_form.shown,
    }


def of_tags(session: Session, device: DeviceView, *, typed: str | None = None, error: str = "") -> dict[str, Any]:
    """The tags as they are typed, with those that there are to choose from."""
    return {
        "tags_typed": ", ".join(device.tags) if typed is None else typed,
        "tags_error": error,
        "tags_known": list(tags.counted(session, device.agent_id)),
    }
