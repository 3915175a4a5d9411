"""`/v1/tools`: what actions can do; and what admins allow of it: hosts, channels, schedules, who decides."""

from datetime import datetime
from typing import Annotated, Any, Literal, TypeVar
from uuid import UUID

from fastapi import APIRouter, Depends, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from hub import notify_channels, outside, outside_hosts, schedules
from hub.actions import approval_rules
from hub.actions.approval_rules import APPROVALS_MAX, EXPIRES_MAX_S, EXPIRES_MIN_S, RISKS, Rule, Rules
from hub.sealed import Sealed
from hub.tools import registry
from web.api.access import Access, needs, needs_person
from web.api.once import Once
from web.dependencies import Db, Now, WebSettings

router = APIRouter(tags=["tools"])

Reader = Annotated[Access, Depends(needs("actions:read"))]
Person = Annotated[Access, Depends(needs_person("actions:read"))]
Admin = Annotated[Access, Depends(needs_person("tools:write"))]
T = TypeVar("T", bound=BaseModel)
Role = Literal["member", "admin", "owner"]
Approvals = Annotated[int, Field(ge=1, le=APPROVALS_MAX)]


class ToolBody(BaseModel):
    """A tool: what it takes, how risky it is, what a policy must cover."""

    name: str = Field(examples=["send_message"])
    about: str
    args_schema: dict[str, Any]
    risk: str
    scopes: list[str]
    is_repeatable: bool = Field(description="it is tried again when it failed")
    timeout_s: float


class ToolsBody(BaseModel):
    """All tools."""

    items: list[ToolBody]


class RulesBody(BaseModel):
    """Who decides: by risk the lowest role, and how many have to say yes; and how long proposals wait."""

    model_config = ConfigDict(extra="forbid")

    low_role: Role = "member"
    medium_role: Role = "admin"
    high_role: Role = "admin"
    low_approvals: Approvals = 1
    medium_approvals: Approvals = 1
    high_approvals: Approvals = 1
    expires_s: Annotated[float, Field(ge=EXPIRES_MIN_S, le=EXPIRES_MAX_S)] = 86_400.0
    revision: int = Field(0, ge=0, description="0 while the defaults hold; refused when it is another by now")


class HostBody(BaseModel):
    """A host that `http_request` may ask, and how."""

    host: str = Field(examples=["api.example.org"])
    methods: list[str]
    added_by: str
    added_at: datetime


class NewHost(BaseModel):
    """A host to allow; again with other methods replaces them."""

    model_config = ConfigDict(extra="forbid")

    host: Annotated[str, Field(min_length=1, max_length=260, examples=["api.example.org"])]
    methods: Annotated[list[Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]], Field(min_length=1)] = ["GET"]


class ChannelBody(BaseModel):
    """A channel that `notify` may use; its address and token are never told."""

    channel_id: UUID
    name: str
    host: str
    added_by: str
    added_at: datetime


class NewChannel(BaseModel):
    """A webhook."""

    model_config = ConfigDict(extra="forbid")

    name: Annotated[str, Field(min_length=1, max_length=63, examples=["phones"])]
    url: Annotated[str, Field(min_length=8, max_length=outside.URL_MAX, examples=["https://ntfy.example.org/home"])]
    token: Annotated[str, Field(max_length=notify_channels.TOKEN_MAX)] = Field("", description="sent as a bearer token")


class ScheduleBody(BaseModel):
    """What is done later, or again and again; `next_at` is null once it is over."""

    schedule_id: UUID
    action_id: UUID
    tool: str
    args: dict[str, Any]
    cron: str | None
    zone: str
    next_at: datetime | None
    left_over: int | None
    stopped_at: datetime | None
    stopped_by: str | None
    created_at: datetime
    approved_by: str | None


class Hosts(BaseModel):
    """All of them."""

    items: list[HostBody]


class Channels(BaseModel):
    """All of them."""

    items: list[ChannelBody]


class Schedules(BaseModel):
    """All of them, those that come next first."""

    items: list[ScheduleBody]


@router.get("/v1/tools")
def tools(access: Reader) -> ToolsBody:  # noqa: ARG001  (who may look)
    """What actions can do."""
    return ToolsBody(
        items=[
            ToolBody(
                name=one.name,
                about=one.about,
                args_schema=dict(one.schema),
                risk=one.risk,
                scopes=list(one.scopes),
                is_repeatable=one.is_repeatable,
                timeout_s=one.timeout_s,
            )
            for one in registry.load().values()
        ]
    )


@router.get("/api/approval-rules")
def rules(access: Person, session: Db) -> RulesBody:
    """Who decides on this agent's actions."""
    return _rules_body(approval_rules.view(session, access.agent_id))


@router.put("/api/approval-rules")
def set_rules(asked: RulesBody, access: Admin, session: Db) -> RulesBody:
    """Decide by these rules from now on."""
    by_risk = {risk: Rule(getattr(asked, f"{risk}_role"), getattr(asked, f"{risk}_approvals")) for risk in RISKS}
    wanted = Rules(**by_risk, expires_s=asked.expires_s, revision=asked.revision)
    return _rules_body(approval_rules.change(session, access.agent_id, wanted, by=access.label))


@router.get("/api/outside-hosts")
def hosts(access: Person, session: Db) -> Hosts:
    """The hosts that `http_request` may ask."""
    return Hosts(items=[_as(HostBody, one) for one in outside_hosts.listed(session, access.agent_id)])


@router.put("/api/outside-hosts")
def allow(asked: NewHost, access: Admin, session: Db) -> HostBody:
    """Let it ask a host."""
    return _as(HostBody, outside_hosts.allow(session, access.agent_id, asked.host, asked.methods, by=access.label))


@router.delete("/api/outside-hosts", status_code=204)
def forbid(host: Annotated[str, Field(max_length=260)], access: Admin, session: Db) -> Response:
    """Let it ask a host no more."""
    outside_hosts.forbid(session, access.agent_id, host, by=access.label)
    return Response(status_code=204)


@router.get("/api/notify-channels")
def channels(access: Person, session: Db) -> Channels:
    """The channels that `notify` may use."""
    return Channels(items=[_as(ChannelBody, one) for one in notify_channels.listed(session, access.agent_id)])


@router.post("/api/notify-channels", status_code=201, response_model=ChannelBody)
def add_channel(asked: NewChannel, access: Admin, session: Db, settings: WebSettings, once: Once) -> JSONResponse:
    """Add a channel."""

    def add() -> ChannelBody:
        secret = notify_channels.Secret(asked.url, asked.token)
        made = notify_channels.add(
            session,
            access.agent_id,
            asked.name,
            secret,
            sealed=Sealed(settings),
            private_hosts=settings.private_hosts,
            by=access.label,
        )
        return _as(ChannelBody, made)

    return once(add)


@router.delete("/api/notify-channels/{channel_id}", status_code=204)
def remove_channel(channel_id: UUID, access: Admin, session: Db) -> Response:
    """Remove a channel with its secret."""
    notify_channels.remove(session, access.agent_id, channel_id, by=access.label)
    return Response(status_code=204)


@router.get("/api/schedules")
def all_schedules(access: Person, session: Db) -> Schedules:
    """What is done later, or again and again."""
    return Schedules(items=[_as(ScheduleBody, one) for one in schedules.listed(session, access.agent_id)])


@router.post("/api/schedules/{schedule_id}/stop", status_code=204)
def stop(
    schedule_id: UUID,
    access: Annotated[Access, Depends(needs_person("actions:approve"))],
    session: Db,
    now: Now,
) -> Response:
    """End a schedule for good."""
    schedules.stop(session, access.agent_id, schedule_id, by=access.label, now=now)
    return Response(status_code=204)


def _rules_body(found: Rules) -> RulesBody:
    roles = {f"{risk}_role": found.of(risk).role for risk in RISKS}
    approvals = {f"{risk}_approvals": found.of(risk).approvals for risk in RISKS}
    return RulesBody(**roles, **approvals, expires_s=found.expires_s, revision=found.revision)


def _as(kind: type[T], one: object) -> T:
    return kind(**{name: getattr(one, name) for name in kind.model_fields})
