"""One's own tokens for scripts: made with the permissions they need and an end, shown once, ended."""

from datetime import timedelta
from typing import Annotated, Final
from uuid import UUID

from fastapi import APIRouter, Form, Request, Response
from sqlmodel import Session

from hub import identity
from hub.access import permissions, personal_tokens
from hub.access.permissions import PERMISSIONS
from hub.access.personal_tokens import NAME_MAX
from hub.errors import HubError, Invalid
from hub.sessions import Visitor, end_all
from web.dependencies import CurrentVisitor, Db, MaybeAgent, Now
from web.templating import redirect, render

router = APIRouter(prefix="/account")

DAYS: Final = (7, 30, 90, 365)


@router.get("/tokens/new")
def new(request: Request, visitor: CurrentVisitor, _: MaybeAgent, session: Db) -> Response:
    """The form for a token."""
    return _form(request, visitor, session)


@router.post("/tokens")
def create(
    request: Request,
    visitor: CurrentVisitor,
    _: MaybeAgent,
    session: Db,
    now: Now,
    name: Annotated[str, Form(max_length=400)] = "",
    scopes: Annotated[list[str] | None, Form()] = None,
    days: Annotated[int, Form()] = 30,
) -> Response:
    """Make it and show it, this once."""
    try:
        if days not in DAYS:
            raise Invalid(f"is {', '.join(str(one) for one in DAYS)} days", field="days")
        row, token = personal_tokens.create(
            session, visitor.user.user_id, name, scopes or [], now + timedelta(days=days), now
        )
    except HubError as error:
        if error.field is None:
            raise
        typed = {"name": name, "scopes": scopes or [], "days": days}
        return _form(request, visitor, session, typed=typed, errors={error.field: error.message})
    base = str(request.base_url).rstrip("/")
    return render(request, "account_token.html", info=row, token=token, base=base)


@router.post("/tokens/{token_id}/revoke")
def revoke(request: Request, token_id: UUID, visitor: CurrentVisitor, session: Db, now: Now) -> Response:
    """End it."""
    personal_tokens.revoke(session, visitor.user.user_id, token_id, now)
    return redirect(request, "/account", message="The token is worthless now.")


@router.post("/sessions/end-others")
def end_others(request: Request, visitor: CurrentVisitor, session: Db) -> Response:
    """Sign all other browsers of one's own out."""
    end_all(session, visitor.user.user_id, "ended from another browser", but=visitor.session_id)
    return redirect(request, "/account", message="All other browsers are signed out.")


def _form(
    request: Request,
    visitor: Visitor,
    session: Session,
    *,
    typed: dict[str, object] | None = None,
    errors: dict[str, str] | None = None,
) -> Response:
    """Offered is what the person may somewhere; a token never gives more than the role does."""
    roles = {role for _, role in identity.memberships_of(session, visitor.user.user_id)}
    may = frozenset[str]().union(*(permissions.of_role(role) for role in roles))
    return render(
        request,
        "account_token_new.html",
        status_code=422 if errors else 200,
        choices=[one for one in PERMISSIONS.values() if one.name in may],
        days=DAYS,
        typed=typed or {"name": "", "scopes": [], "days": 30},
        errors=errors or {},
        name_max=NAME_MAX,
    )
