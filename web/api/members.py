"""`/api/members`: the people of the agent."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from hub import members
from hub.access.callers import PersonCaller
from hub.errors import Forbidden
from hub.members import MemberView
from web.api.access import Access, needs_person
from web.api.once import Once
from web.dependencies import Db, Now

router = APIRouter(prefix="/api/members", tags=["members"])

Reader = Annotated[Access, Depends(needs_person("members:read"))]
Writer = Annotated[Access, Depends(needs_person("members:write"))]


class MemberBody(BaseModel):
    """A person and what they are to the agent."""

    user_id: UUID
    email: str = Field(examples=["ben@example.org"])
    display_name: str = Field(examples=["Ben"])
    role: Literal["guest", "member", "admin", "owner", "blocked"]
    since: datetime
    last_seen: datetime | None
    can_sign_in: bool = Field(description="false until an invitation was used")
    disabled: bool = Field(description="the account, by the hub's operator")
    invited_until: datetime | None


class MemberList(BaseModel):
    """Everybody, the owner first; those blocked are told to admins alone."""

    items: list[MemberBody]


class NewMember(BaseModel):
    """Somebody to be invited."""

    model_config = ConfigDict(extra="forbid")

    email: Annotated[str, Field(min_length=3, max_length=254, examples=["ben@example.org"])]
    display_name: Annotated[str, Field(max_length=100)] = ""
    role: Literal["guest", "member", "admin"] = "member"


class Invited(BaseModel):
    """Who was invited. `link` works once, is for them alone, and is shown this once: null in a repeated answer."""

    user_id: UUID
    email: str = Field(examples=["ben@example.org"])
    is_new: bool = Field(description="they choose a password by it; else they have an account, and join with it")
    link: str | None = Field(examples=["https://hub.example.org/invite/…"])


class RoleChange(BaseModel):
    """Another role; `blocked` keeps them out. Ownership is handed over on the page alone."""

    model_config = ConfigDict(extra="forbid")

    role: Literal["guest", "member", "admin", "blocked"]


@router.get("")
def overview(access: Reader, session: Db, now: Now) -> MemberList:
    """Everybody who belongs to the agent."""
    person = _person(access)
    with_blocked = "members:write" in person.may(access.agent_id)
    found = members.overview(session, access.agent_id, now, with_blocked=with_blocked)
    return MemberList(items=[_body(one) for one in found])


@router.post("", status_code=201, response_model=Invited)
def invite(request: Request, new: NewMember, access: Writer, session: Db, now: Now, once: Once) -> JSONResponse:
    """Invite somebody by their address."""
    person = _person(access)

    def make() -> Invited:
        added = members.invite(
            session,
            access.agent_id,
            new.email,
            new.role,
            by_user_id=person.user_id,
            now=now,
            name=new.display_name,
        )
        base = str(request.base_url).rstrip("/")
        way = "invite" if added.is_new else "join"
        return Invited(
            user_id=added.user_id, email=added.email, is_new=added.is_new, link=f"{base}/{way}/{added.token}"
        )

    return once(make, secrets=("link",))


@router.patch("/{user_id}")
def change(user_id: UUID, asked: RoleChange, access: Writer, session: Db, now: Now) -> MemberBody:
    """Give a member another role, or block them."""
    person = _person(access)
    if asked.role == "blocked":
        members.block(session, access.agent_id, user_id, by_user_id=person.user_id)
    else:
        members.set_role(session, access.agent_id, user_id, asked.role, by_user_id=person.user_id)
    return _body(members.view(session, access.agent_id, user_id, now))


@router.delete("/{user_id}", status_code=204)
def remove(user_id: UUID, access: Writer, session: Db) -> Response:
    """End a membership; the account stays."""
    members.remove(session, access.agent_id, user_id, by_user_id=_person(access).user_id)
    return Response(status_code=204)


def _person(access: Access) -> PersonCaller:
    if not isinstance(access.caller, PersonCaller):  # `needs_person` has seen to that
        raise Forbidden("this is for people")
    return access.caller


def _body(view: MemberView) -> MemberBody:
    return MemberBody(**{name: getattr(view, name) for name in MemberBody.model_fields})
