"""What was refused to this agent's devices and integrations, and one click to grant exactly that."""

import hashlib
from typing import Annotated, Any, Final, Literal
from uuid import UUID

from fastapi import APIRouter, Form, Query, Request, Response
from sqlmodel import Session

from hub import device_views, feed, integrations
from hub.access import denials, roles
from hub.access.denials import Denial
from hub.access.preview import preview
from hub.access.roles import RoleDraft
from hub.errors import Conflict, Invalid, NotFound
from hub.settings import Settings
from web.dependencies import AdminAgent, AgentContext, CurrentVisitor, Db, MemberAgent, Now, WebSettings
from web.pages.access_frame import address, open_topics, show
from web.templating import redirect

router = APIRouter(prefix="/access/denials")

SHOWN: Final = 200
MINUTES: Final = 24 * 60
_GRANTABLE: Final = frozenset({"publish", "subscribe"})
Topic = Annotated[str, Query(max_length=1_100)]
Name = Annotated[str, Query(max_length=200)]
Action = Annotated[Literal["publish", "subscribe"], Query()]


@router.get("")
def overview(request: Request, current: MemberAgent, session: Db, principal: Name = "") -> Response:
    """The denials of the last day, or those of one principal."""
    rev = feed.revision(session, current.agent_id)  # read first: what is refused from here on is replayed by the page
    names = _names(session, current.agent_id)
    found = denials.recent(
        session, agent_id=current.agent_id, principal=principal or None, minutes=MINUTES, limit=SHOWN
    )
    return show(
        request,
        "denials.html",
        current,
        session,
        tab="/access/denials",
        rev=rev,
        denials=[_row(one, names) for one in found],
        principal=principal,
        known=sorted(((username, name) for username, (name, _) in names.items()), key=lambda one: one[1].casefold()),
    )


@router.get("/grant")
def ask(
    request: Request,
    current: AdminAgent,
    visitor: CurrentVisitor,
    session: Db,
    settings: WebSettings,
    now: Now,
    principal: Name,
    action: Action,
    topic: Topic,
) -> Response:
    """The question before exactly that is granted: what it changes, or why it cannot be granted."""
    if principal not in _names(session, current.agent_id):
        raise NotFound("there is nobody of this name here", field="principal")
    doing = "publish to" if action == "publish" else "subscribe to"
    sentences = [f"{principal} may then {doing} {topic}, and nothing beyond that."]
    effect, problem = None, ""
    try:
        role_id, draft = _trial(session, current, settings, principal, action, topic, by=visitor.label)
        sentences.append(f"The role “{draft.name}” says so; it is borne by {principal} alone and can be edited.")
        effect = preview(
            session,
            current.agent_id,
            role_id,
            draft,
            root=settings.root,
            open_topics=open_topics(settings),
            now=now,
        )
    except (Invalid, Conflict) as error:
        problem = f"This cannot be granted: {error.message}."
        sentences = [f"{principal} asked to {doing} {topic}."]
    return show(
        request,
        "confirm.html",
        current,
        session,
        tab="/access/denials",
        question="Grant exactly this?",
        sentences=sentences,
        action=address(current, "/access/denials/grant"),
        carried={"principal": principal, "action": action, "topic": topic},
        back=address(current, "/access/denials"),
        keep="Leave it refused",
        do="Grant it",
        preview=effect,
        problem=problem,
        allowed=not problem,
        dangerous=False,
    )


@router.post("/grant")
def grant(
    request: Request,
    current: AdminAgent,
    visitor: CurrentVisitor,
    session: Db,
    settings: WebSettings,
    principal: Annotated[str, Form(max_length=200)],
    action: Annotated[Literal["publish", "subscribe"], Form()],
    topic: Annotated[str, Form(max_length=1_100)],
) -> Response:
    """Grant exactly that, and offer to undo it."""
    saved = roles.grant_exactly(
        session,
        current.agent_id,
        principal,
        action,
        topic,
        by=visitor.label,
        root=settings.root,
        open_topics=open_topics(settings),
    )
    return redirect(request, address(current, f"/access/roles/{saved.role.role_id}", saved=saved.entry_id))


def _trial(
    session: Session, current: AgentContext, settings: Settings, principal: str, action: str, topic: str, *, by: str
) -> tuple[UUID | None, RoleDraft]:
    """The role that granting this would make or edit, as it would be; nothing is changed. None for a new role."""
    before = {role.role_id for role in roles.list_roles(session, current.agent_id)}
    with session.begin_nested() as trial:
        saved = roles.grant_exactly(
            session,
            current.agent_id,
            principal,
            action,
            topic,
            by=by,
            root=settings.root,
            open_topics=open_topics(settings),
        )
        trial.rollback()
    return (saved.role.role_id if saved.role.role_id in before else None), saved.role.draft


def _names(session: Session, agent_id: UUID) -> dict[str, tuple[str, str]]:
    """By username: what people call it, and its page."""
    names = {one.handle: (one.name, f"/devices/{one.device_id}") for one in device_views.overview(session, agent_id)}
    for one in integrations.list_integrations(session, agent_id):
        names[one.username] = (one.name, f"/integrations/{one.integration_id}")
    return names


def _row(denial: Denial, names: dict[str, tuple[str, str]]) -> dict[str, Any]:
    name, href = names.get(denial.principal, (denial.principal, ""))
    minute = denial.last_at.replace(second=0, microsecond=0).isoformat()
    said = repr((minute, denial.principal, denial.action, denial.topic, denial.reason))
    return {
        "key": hashlib.sha256(said.encode("utf-8", "replace")).hexdigest()[:24],
        "principal": denial.principal,
        "name": name,
        "href": href,
        "action": denial.action,
        "topic": denial.topic,
        "reason": denial.reason,
        "count": denial.count,
        "last_at": denial.last_at,
        "grantable": denial.action in _GRANTABLE and bool(denial.topic) and denial.principal in names,
    }
