"""A role as somebody types it: read from the form, kept while something is wrong, and known again when saved."""

import hashlib
import uuid
from dataclasses import dataclass
from typing import Annotated, Any, Final

from pydantic import BaseModel, Field
from sqlmodel import Session

from hub import device_views, integrations
from hub.access import templates
from hub.access.roles import GrantDraft, RoleDraft, RoleView
from hub.errors import Invalid

# More than a role may have, so that one grant too many is told and not cut off.
_MOST_GRANTS: Final = 400
_MOST_BEARERS: Final = 20_000
_KNOWN_DEVICES: Final = 200

Text = Annotated[str, Field(max_length=4_000)]


class RoleForm(BaseModel):
    """The form's fields as browsers send them; `do` is the button: preview, save, add or remove-<row>."""

    name: Text = ""
    about: Text = ""
    grant_action: Annotated[list[Text], Field(max_length=_MOST_GRANTS)] = []
    grant_filter: Annotated[list[Text], Field(max_length=_MOST_GRANTS)] = []
    devices: Annotated[list[str], Field(max_length=_MOST_BEARERS)] = []
    integrations: Annotated[list[str], Field(max_length=_MOST_BEARERS)] = []
    all_devices: bool = False
    role_id: Annotated[str, Field(max_length=36)] = ""
    revision: Annotated[int, Field(ge=0, le=2**31 - 1)] = 0
    previewed: Annotated[str, Field(max_length=64)] = ""
    do: Annotated[str, Field(max_length=20)] = "preview"


@dataclass(frozen=True, slots=True)
class TypedRole:
    """What the form holds. `grants` are all rows, empty ones too; `draft` is what would be saved."""

    name: str
    about: str
    grants: tuple[GrantDraft, ...]
    devices: tuple[uuid.UUID, ...]
    integrations: tuple[uuid.UUID, ...]
    all_devices: bool

    @property
    def draft(self) -> RoleDraft:
        """The role without the rows that are still empty."""
        filled = tuple(grant for grant in self.grants if grant.filter.strip())
        return RoleDraft(self.name, self.about, filled, self.devices, self.integrations, self.all_devices)

    def at_rows(self, problems: list[tuple[str, str]]) -> dict[str, str]:
        """The draft's problems by field, the first of each, with grants counted as the form's rows are."""
        rows = [index for index, grant in enumerate(self.grants) if grant.filter.strip()]
        found: dict[str, str] = {}
        for field, message in problems:
            parts = field.split(".")
            if parts[0] == "grants" and len(parts) > 1 and parts[1].isdecimal() and int(parts[1]) < len(rows):
                parts[1] = str(rows[int(parts[1])])
            found.setdefault(".".join(parts), message)
        return found

    def pressed(self, button: str) -> "TypedRole":
        """The same after "add" or "remove-<row>": what the buttons do where no script runs."""
        grants = list(self.grants)
        if button == "add":
            grants.append(GrantDraft("publish", ""))
        row = button.removeprefix("remove-")
        if row.isdecimal() and int(row) < len(grants):
            del grants[int(row)]
        return TypedRole(self.name, self.about, tuple(grants), self.devices, self.integrations, self.all_devices)


def read(form: RoleForm) -> TypedRole:
    """What was typed; raises `Invalid` for ids that are none."""
    rows = zip(form.grant_action, form.grant_filter, strict=False)
    return TypedRole(
        form.name,
        form.about,
        tuple(GrantDraft(action, filter_) for action, filter_ in rows),
        _ids(form.devices, "devices"),
        _ids(form.integrations, "integrations"),
        form.all_devices,
    )


def of_role(role: RoleView | None) -> TypedRole:
    """A role as its form shows it first; an empty one for a new role."""
    if role is None:
        return TypedRole("", "", (GrantDraft("publish", ""),), (), (), all_devices=False)
    return TypedRole(
        role.name,
        role.about,
        tuple(GrantDraft(grant.action, grant.filter) for grant in role.grants),
        tuple(bearer[0] for bearer in role.devices),
        tuple(bearer[0] for bearer in role.integrations),
        role.all_devices,
    )


def mark(draft: RoleDraft) -> str:
    """What tells that a draft is the very one that was previewed."""
    bearers = (sorted(map(str, draft.devices)), sorted(map(str, draft.integrations)), draft.all_devices)
    grants = sorted((grant.action, grant.filter.strip()) for grant in draft.grants)
    said = repr((draft.name.strip(), draft.about.strip(), grants, bearers))
    return hashlib.sha256(said.encode("utf-8", "replace")).hexdigest()[:32]


def choices(session: Session, agent_id: uuid.UUID, open_topics: tuple[str, ...]) -> dict[str, Any]:
    """What the form offers: who can bear the role, filters to complete, and all forms that can be granted."""
    present = [one for one in device_views.overview(session, agent_id) if one.revoked_at is None]
    others = [one for one in integrations.list_integrations(session, agent_id) if one.revoked_at is None]
    forms = {action: templates.allowed_forms(action, open_topics) for action in ("publish", "subscribe")}
    known = [form for of_action in forms.values() for form in of_action if "<" not in form]
    for one in present[:_KNOWN_DEVICES]:
        known += [f"d/{one.handle}/{what}" for what in ("presence", "state", "event/+", "#")]
    return {
        "device_choices": [(one.device_id, one.handle, one.name) for one in present],
        "integration_choices": [(one.integration_id, one.username, one.name) for one in others],
        "known_filters": list(dict.fromkeys(known)),
        "hints": [(action, form) for action, of_action in forms.items() for form in of_action],
    }


def _ids(given: list[str], field: str) -> tuple[uuid.UUID, ...]:
    try:
        return tuple(dict.fromkeys(uuid.UUID(one) for one in given))
    except ValueError:
        raise Invalid("are ids of this agent's own", field=field) from None
