"""`/api/devices/{id}/config` and `/tags`: how a device is to be set and says that it is; the words it shares."""

import re
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Header, Response
from pydantic import BaseModel, ConfigDict, Field

from hub import device_config, devices, tags
from hub.device_config import ConfigView
from hub.errors import Invalid
from hub_protocol.messages import MAX_SAFE_INTEGER
from web.api.access import Access, needs_person
from web.dependencies import Db, Now

router = APIRouter(prefix="/api/devices/{device_id}", tags=["devices"])

Member = Annotated[Access, Depends(needs_person("config:read"))]
Writer = Annotated[Access, Depends(needs_person("devices:write"))]
IfMatch = Annotated[str | None, Header(alias="If-Match", description="the ETag of the config that you saw")]


class DifferenceBody(BaseModel):
    """One key: how what is wanted and what is reported stand to each other."""

    key: str
    state: Literal["waiting", "applied", "refused", "different", "own", "missing"]
    wanted: Any = None
    reported: Any = None
    why: str = ""


class ConfigBody(BaseModel):
    """Desired and reported values; revision 0: nobody has asked for anything."""

    state: Literal["unset", "waiting", "applied", "refused", "different"]
    desired: dict[str, Any]
    desired_rev: int
    set_by: str | None
    set_at: datetime | None
    reported: dict[str, Any]
    reported_rev: int | None
    reported_at: datetime | None
    ok: bool | None = Field(description="whether the device applied the revision that it reported last")
    error: str
    refused: dict[str, str]
    differences: list[DifferenceBody]


class NewConfig(BaseModel):
    """What is wanted from now on: all of it, not a change."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"values": {"log_level": "debug"}, "expected_rev": 3}]}
    )

    values: dict[str, Any] = Field(description="at most 8 KiB; keys are [a-z0-9_.]{1,63}")
    expected_rev: Annotated[int, Field(ge=0, le=MAX_SAFE_INTEGER)] | None = Field(
        None, description="the `desired_rev` that you saw; or send If-Match"
    )


class TagsBody(BaseModel):
    """The tags of a device, all of them."""

    model_config = ConfigDict(extra="forbid")

    tags: Annotated[list[Annotated[str, Field(max_length=80)]], Field(max_length=100, examples=[["lamps", "upstairs"]])]


@router.get("/config")
def show(device_id: UUID, access: Member, session: Db, response: Response) -> ConfigBody:
    """How the device is to be set, and how it says that it is."""
    device = devices.find(session, access.agent_id, device_id)
    config = device_config.view(session, device.device_id)
    response.headers["ETag"] = f'"{config.desired_rev}"'
    return _body(config)


@router.put("/config")
def change(
    device_id: UUID,
    new: NewConfig,
    access: Writer,
    session: Db,
    now: Now,
    response: Response,
    if_match: IfMatch = None,
) -> ConfigBody:
    """Want these values; 409 when somebody else has set others since the revision that you saw."""
    device = devices.find(session, access.agent_id, device_id)
    expected = _expected(new.expected_rev, if_match)
    config = device_config.set_desired(session, device, new.values, by=access.label, expected_rev=expected, now=now)
    response.headers["ETag"] = f'"{config.desired_rev}"'
    return _body(config)


@router.put("/tags")
def tag(device_id: UUID, new: TagsBody, access: Writer, session: Db) -> TagsBody:
    """Let the device have exactly these tags."""
    device = devices.find(session, access.agent_id, device_id)
    return TagsBody(tags=tags.set_tags(session, device, new.tags, by=access.label))


def _expected(given: int | None, if_match: str | None) -> int:
    if if_match is not None:
        found = re.fullmatch(r'(?:W/)?"(\d{1,16})"', if_match.strip(), re.ASCII)
        if found is None:
            raise Invalid('is the ETag of a config, such as "3"', field="If-Match")
        if given is not None and given != int(found[1]):
            raise Invalid("is another revision than that of If-Match", field="expected_rev")
        return int(found[1])
    if given is None:
        raise Invalid("is required, here or as If-Match", field="expected_rev")
    return given


def _body(config: ConfigView) -> ConfigBody:
    rows = [
        DifferenceBody(key=row.key, state=row.state, wanted=row.wanted, reported=row.reported, why=row.why)
        for row in device_config.differences(config)
    ]
    facts = {name: getattr(config, name) for name in ConfigBody.model_fields if name != "differences"}
    return ConfigBody(**facts, differences=rows)
