"""Roles for people: listed, edited with every effect shown before it is saved, deleted, and all of that undone."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Form, Request, Response
from sqlmodel import Session

from hub.access import roles
from hub.access.preview import Preview, preview
from hub.access.roles import RoleView
from hub.errors import Conflict, Invalid, NotFound
from hub.settings import Settings
from hub.tables import AuditEntry
from web.dependencies import AdminAgent, AgentContext, CurrentVisitor, Db, MemberAgent, Now, WebSettings
from web.pages import access_role_form
from web.pages.access_frame import EntryId, address, just_saved, may_change, open_topics, show
from web.pages.access_role_form import RoleForm, TypedRole
from web.templating import redirect

router = APIRouter(prefix="/access/roles")

TypedForm = Annotated[RoleForm, Form()]


@router.get("")
def overview(request: Request, current: MemberAgent, session: Db, deleted: EntryId = 0) -> Response:
    """All roles of the agent."""
    entry = just_saved(session, current, deleted, "role.deleted")
    undo = _undo(current, entry, "The role is deleted.")
    found = roles.list_roles(session, current.agent_id)
    return show(request, "roles.html", current, session, tab="/access/roles", roles=found, undo=undo)


@router.get("/new")
def new(request: Request, current: AdminAgent, session: Db, settings: WebSettings) -> Response:
    """The form for a further role."""
    return _page(request, current, session, settings, None, access_role_form.of_role(None))


@router.post("/check")
def check(current: AdminAgent, session: Db, settings: WebSettings, form: TypedForm) -> dict[str, list[dict[str, str]]]:
    """What is wrong with the role as it is typed so far, by field."""
    typed = access_role_form.read(form)
    found = _problems(session, current, settings, form, typed)
    return {"problems": [{"field": field, "message": message} for field, message in found.items()]}


@router.post("/preview")
def look(
    request: Request, current: AdminAgent, session: Db, settings: WebSettings, now: Now, form: TypedForm
) -> Response:
    """What saving the role as it is typed would change; a piece of a page."""
    typed = access_role_form.read(form)
    if _problems(session, current, settings, form, typed):
        return show(request, "preview.html", current, session, blocked=True)
    effect = preview(
        session,
        current.agent_id,
        _role_id(form),
        typed.draft,
        root=settings.root,
        open_topics=open_topics(settings),
        now=now,
    )
    return show(request, "preview.html", current, session, preview=effect, sure=access_role_form.mark(typed.draft))


@router.post("/undo")
def undo(
    request: Request,
    current: AdminAgent,
    visitor: CurrentVisitor,
    session: Db,
    settings: WebSettings,
    entry: Annotated[int, Form(ge=1, le=2**63 - 1)],
) -> Response:
    """Make a role what it was before one change; 409 when it was changed again since."""
    saved = roles.undo(
        session, current.agent_id, entry, by=visitor.label, open_topics=open_topics(settings), root=settings.root
    )
    if saved is None:
        return redirect(request, address(current, "/access/roles"), message="Undone: the role is gone again.")
    path = address(current, f"/access/roles/{saved.role.role_id}")
    return redirect(request, path, message="Undone: the role is what it was before.")


@router.post("")
def add(
    request: Request,
    current: AdminAgent,
    visitor: CurrentVisitor,
    session: Db,
    settings: WebSettings,
    now: Now,
    form: TypedForm,
) -> Response:
    """Save a new role, or show what that would change."""
    return _edit(request, current, visitor.label, session, settings, now, form, None)


@router.get("/{role_id}")
def open_one(
    request: Request, role_id: UUID, current: MemberAgent, session: Db, settings: WebSettings, saved: EntryId = 0
) -> Response:
    """One role: a form for admins, words for members."""
    role = roles.find(session, current.agent_id, role_id)
    entry = just_saved(session, current, saved, "role.")
    undo_offer = _undo(current, entry if entry and entry.subject_id == role_id else None, "Saved.")
    return _page(request, current, session, settings, role, access_role_form.of_role(role), undo=undo_offer)


@router.post("/{role_id}")
def edit(
    request: Request,
    role_id: UUID,
    current: AdminAgent,
    visitor: CurrentVisitor,
    session: Db,
    settings: WebSettings,
    now: Now,
    form: TypedForm,
) -> Response:
    """Save the role, or show what that would change."""
    role = roles.find(session, current.agent_id, role_id)
    return _edit(request, current, visitor.label, session, settings, now, form, role)


@router.get("/{role_id}/delete")
def ask_to_delete(
    request: Request, role_id: UUID, current: AdminAgent, session: Db, settings: WebSettings, now: Now
) -> Response:
    """The question before a role is deleted: who loses what."""
    role = roles.find(session, current.agent_id, role_id)
    effect = preview(
        session, current.agent_id, role_id, None, root=settings.root, open_topics=open_topics(settings), now=now
    )
    return show(
        request,
        "confirm.html",
        current,
        session,
        tab="/access/roles",
        question=f"Delete the role {role.name}?",
        sentences=["Whoever bears it loses what it grants, at once. You can undo it right after."],
        action=address(current, f"/access/roles/{role_id}/delete"),
        back=address(current, f"/access/roles/{role_id}"),
        keep="Keep it",
        do="Delete the role",
        preview=effect,
    )


@router.post("/{role_id}/delete")
def delete(request: Request, role_id: UUID, current: AdminAgent, visitor: CurrentVisitor, session: Db) -> Response:
    """Delete the role."""
    entry = roles.delete(session, current.agent_id, role_id, by=visitor.label)
    return redirect(request, address(current, "/access/roles", deleted=entry))


def _edit(
    request: Request,
    current: AgentContext,
    by: str,
    session: Session,
    settings: Settings,
    now: datetime,
    form: RoleForm,
    role: RoleView | None,
) -> Response:
    typed = access_role_form.read(form)
    if form.do not in {"save", "preview"}:
        return _page(request, current, session, settings, role, typed.pressed(form.do), revision=form.revision)
    draft, outside = typed.draft, open_topics(settings)
    form.role_id = str(role.role_id) if role else ""
    problems = _problems(session, current, settings, form, typed)
    if problems:
        return _page(request, current, session, settings, role, typed, revision=form.revision, problems=problems)

    def again(revision: int, *, status_code: int = 200, conflict: str = "", theirs: RoleView | None = None) -> Response:
        role_id = role.role_id if role else None
        effect = preview(session, current.agent_id, role_id, draft, root=settings.root, open_topics=outside, now=now)
        return _page(
            request,
            current,
            session,
            settings,
            role,
            typed,
            revision=revision,
            status_code=status_code,
            effect=effect,
            sure=access_role_form.mark(draft),
            conflict=conflict,
            theirs=theirs,
        )

    if form.do != "save" or form.previewed != access_role_form.mark(draft):
        return again(form.revision)
    try:
        with session.begin_nested():  # a refusal halfway leaves nothing behind, and the page can still be read
            if role is None:
                saved = roles.create(session, current.agent_id, draft, by=by, open_topics=outside, root=settings.root)
            else:
                saved = roles.edit(
                    session,
                    current.agent_id,
                    role.role_id,
                    draft,
                    revision=form.revision,
                    by=by,
                    open_topics=outside,
                    root=settings.root,
                )
    except Conflict as error:
        theirs = roles.find(session, current.agent_id, role.role_id) if role else None
        return again(
            theirs.revision if theirs else 0, status_code=409, conflict=error.message or "Look again.", theirs=theirs
        )
    except Invalid as error:
        found = typed.at_rows([(error.field or "", error.message)])
        return _page(request, current, session, settings, role, typed, revision=form.revision, problems=found)
    return redirect(request, address(current, f"/access/roles/{saved.role.role_id}", saved=saved.entry_id))


def _page(
    request: Request,
    current: AgentContext,
    session: Session,
    settings: Settings,
    role: RoleView | None,
    typed: TypedRole,
    *,
    revision: int | None = None,
    problems: dict[str, str] | None = None,
    effect: Preview | None = None,
    sure: str = "",
    conflict: str = "",
    theirs: RoleView | None = None,
    undo: dict[str, Any] | None = None,
    status_code: int = 200,
) -> Response:
    if revision is None:
        revision = role.revision if role else 0
    return show(
        request,
        "role.html",
        current,
        session,
        tab="/access/roles",
        status_code=422 if problems else status_code,
        role=role,
        typed=typed,
        revision=revision,
        problems=problems or {},
        blocked=bool(problems),
        preview=effect,
        sure=sure,
        conflict=conflict,
        theirs=theirs,
        undo=undo,
        root=settings.root,
        **(access_role_form.choices(session, current.agent_id, open_topics(settings)) if may_change(current) else {}),
    )


def _problems(
    session: Session, current: AgentContext, settings: Settings, form: RoleForm, typed: TypedRole
) -> dict[str, str]:
    found = roles.problems(
        session,
        current.agent_id,
        typed.draft,
        role_id=_role_id(form),
        open_topics=open_topics(settings),
        root=settings.root,
    )
    return typed.at_rows(found)


def _role_id(form: RoleForm) -> UUID | None:
    try:
        return UUID(form.role_id) if form.role_id else None
    except ValueError:
        raise NotFound("there is no such role", field="role") from None


def _undo(current: AgentContext, entry: AuditEntry | None, text: str) -> dict[str, Any] | None:
    if entry is None:
        return None
    return {"path": address(current, "/access/roles/undo"), "fields": [("entry", entry.entry_id)], "text": text}
