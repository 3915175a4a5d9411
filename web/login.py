"""Pages of getting in and out: sign-in, set-up, invitations, sign-out, and one's own account."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Form, Request, Response
from sqlmodel import Session

from hub import audit, foreign_identities, identity, sign_in
from hub.access import personal_tokens
from hub.errors import Conflict, Invalid, NotFound
from hub.sign_in import LinkView, SignInRefused, Visitor
from hub.tables import User
from web.dependencies import CurrentVisitor, Db, MaybeAgent, MaybeVisitor, Now, WebSettings
from web.pages.change_words import in_words
from web.security import forget_session_cookie, set_session_cookie
from web.templating import local_path, redirect, render

router = APIRouter()
Text = Annotated[str, Form()]
_START = "/devices"
# What happened to the account, as far back as its page tells.
_CHANGES = 15


def _address(request: Request) -> str:
    return request.client.host if request.client is not None else ""


def _enter(
    request: Request, session: Session, visitor: Visitor | None, user: User, settings: WebSettings, now: Now
) -> Response:
    """Sign `user` in on this browser, in place of whoever was, and go to the start."""
    if visitor is not None:
        sign_in.sign_out(session, visitor.session_id)
    agent = request.headers.get("user-agent", "")
    token = sign_in.start_session(session, user, _address(request), agent, now, way="a link")
    response = redirect(request, _START, message=f"Welcome, {user.display_name or user.email}.")
    set_session_cookie(response, request, settings, token)
    return response


@router.get("/sign-in")
def show_sign_in(request: Request, session: Db, visitor: MaybeVisitor, next: str = "") -> Response:  # noqa: A002
    """The form; whoever is signed in goes on at once."""
    behind = local_path(next, _START)
    if visitor is not None:
        return redirect(request, behind)
    return render(request, "sign_in.html", behind=behind, email="", problem="", waiting=not identity.has_owner(session))


@router.post("/sign-in")
def do_sign_in(
    request: Request,
    session: Db,
    visitor: MaybeVisitor,
    settings: WebSettings,
    now: Now,
    email: Text = "",
    password: Text = "",
    next: Text = "",  # noqa: A002
) -> Response:
    """Right: a session and on to where one wanted to go. Wrong: the form again with what is known to be true."""
    behind = local_path(next, _START)
    agent = request.headers.get("user-agent", "")
    answer = sign_in.sign_in(session, email, password, _address(request), agent, now)
    if isinstance(answer, SignInRefused):
        waiting = not identity.has_owner(session)
        shown = {"behind": behind, "email": email[:254], "problem": answer.message, "waiting": waiting}
        response: Response = render(request, "sign_in.html", status_code=429 if answer.retry_after_s else 401, **shown)
        if answer.retry_after_s:
            response.headers["Retry-After"] = str(max(1, round(answer.retry_after_s)))
        return response
    if visitor is not None:
        sign_in.sign_out(session, visitor.session_id)
    response = redirect(request, behind)
    set_session_cookie(response, request, settings, answer.token)
    return response


@router.post("/sign-out")
def do_sign_out(request: Request, session: Db, visitor: MaybeVisitor, settings: WebSettings) -> Response:
    """End the session, here and for its live pages; without one the cookie is removed all the same."""
    if visitor is not None:
        sign_in.sign_out(session, visitor.session_id)
    response = redirect(request, "/sign-in", message="You are signed out.")
    forget_session_cookie(response, request, settings)
    return response


@router.get("/setup/{token}")
def show_setup(request: Request, session: Db, now: Now, token: str) -> Response:
    """The form that makes the first owner. Looking does not use the link up."""
    return _show_link(request, _link(session, token, now, "setup"), {}, {})


@router.post("/setup/{token}")
def do_setup(
    request: Request,
    session: Db,
    visitor: MaybeVisitor,
    settings: WebSettings,
    now: Now,
    token: str,
    email: Text = "",
    display_name: Text = "",
    password: Text = "",
    password_again: Text = "",
) -> Response:
    """Make the first owner, signed in."""
    view = _link(session, token, now, "setup")
    typed = {"email": email[:254], "display_name": display_name[: identity.MAX_NAME]}
    try:
        email = identity.check_email(email)
        user = _redeem(session, token, email, display_name, (password, password_again), now)
    except (Invalid, Conflict) as error:
        return _show_link(request, view, typed, {error.field or "": error.message})
    return _enter(request, session, visitor, user, settings, now)


@router.get("/invite/{token}")
def show_invite(request: Request, session: Db, now: Now, token: str) -> Response:
    """The form with which an invited user chooses a password, the first or a new one."""
    return _show_link(request, _link(session, token, now, "invite", "reset"), {}, {})


@router.post("/invite/{token}")
def do_invite(
    request: Request,
    session: Db,
    visitor: MaybeVisitor,
    settings: WebSettings,
    now: Now,
    token: str,
    display_name: Text = "",
    password: Text = "",
    password_again: Text = "",
) -> Response:
    """Set the password, signed in."""
    view = _link(session, token, now, "invite", "reset")
    try:
        user = _redeem(session, token, view.email, display_name, (password, password_again), now)
    except (Invalid, Conflict) as error:
        typed = {"display_name": display_name[: identity.MAX_NAME]}
        return _show_link(request, view, typed, {error.field or "": error.message})
    return _enter(request, session, visitor, user, settings, now)


@router.get("/account")
def show_account(request: Request, session: Db, visitor: CurrentVisitor, _: MaybeAgent, now: Now) -> Response:
    """One's name, password and signed-in browsers."""
    return _account(request, session, visitor, now)


@router.post("/account/name")
def rename(
    request: Request, session: Db, visitor: CurrentVisitor, _: MaybeAgent, now: Now, display_name: Text = ""
) -> Response:
    """Change the name that others see."""
    try:
        identity.rename(session, visitor.user.user_id, display_name, by=visitor.label)
    except Invalid as error:
        return _account(request, session, visitor, now, {"display_name": error.message}, status_code=422)
    return redirect(request, "/account", message="Your name is saved.")


@router.post("/account/password")
def change_password(
    request: Request,
    session: Db,
    visitor: CurrentVisitor,
    _: MaybeAgent,
    now: Now,
    current_password: Text = "",
    new_password: Text = "",
    new_password_again: Text = "",
) -> Response:
    """A new password ends all other sessions."""
    if new_password != new_password_again:
        errors = {"new_password_again": "The two are not the same."}
        return _account(request, session, visitor, now, errors, status_code=422)
    try:
        refused = sign_in.change_password(
            session, visitor, current=current_password, new=new_password, address=_address(request), now=now
        )
    except Invalid as error:
        return _account(request, session, visitor, now, {error.field or "": error.message}, status_code=422)
    if refused is not None:
        status = 429 if refused.retry_after_s else 422
        return _account(request, session, visitor, now, {"current_password": refused.message}, status_code=status)
    return redirect(request, "/account", message="Your password is changed. All other browsers are signed out.")


@router.post("/account/sessions/{session_id}/end")
def end_session(
    request: Request, session: Db, visitor: CurrentVisitor, settings: WebSettings, session_id: UUID
) -> Response:
    """Sign another browser of one's own out."""
    sign_in.end_session(session, visitor.user.user_id, session_id)
    if session_id != visitor.session_id:
        return redirect(request, "/account", message="That browser is signed out.")
    response = redirect(request, "/sign-in", message="You are signed out.")
    forget_session_cookie(response, request, settings)
    return response


@router.post("/account/identity/unlink")
def unlink(request: Request, session: Db, visitor: CurrentVisitor, issuer: Text = "") -> Response:
    """Sign in with a provider no more."""
    foreign_identities.unlink(session, visitor.user.user_id, issuer, by=visitor.label)
    return redirect(request, "/account", message="That identity no longer brings anybody in.")


def _link(session: Session, token: str, now: Now, *purposes: str) -> LinkView:
    view = sign_in.peek_link(session, token, now)
    if view is None or view.purpose not in purposes:
        raise NotFound("This link was used already, has run out, or was replaced by a newer one.")
    return view


def _redeem(session: Session, token: str, email: str, display_name: str, passwords: tuple[str, str], now: Now) -> User:
    password, again = passwords
    if password != again:
        raise Invalid("The two are not the same.", field="password_again")
    # What was typed wrong must leave the link as it was, while the answer (the form again) is a success of its own.
    with session.begin_nested():
        return sign_in.redeem(session, token, email=email, display_name=display_name, password=password, now=now)


def _show_link(request: Request, view: LinkView, typed: dict[str, str], errors: dict[str, str]) -> Response:
    shown = {"email": view.email, "display_name": view.display_name, **typed}
    return render(
        request, "setup.html", status_code=422 if errors else 200, purpose=view.purpose, typed=shown, errors=errors
    )


def _account(
    request: Request,
    session: Session,
    visitor: Visitor,
    now: Now,
    errors: dict[str, str] | None = None,
    status_code: int = 200,
) -> Response:
    tokens = personal_tokens.of_user(session, visitor.user.user_id)
    held = session.get_one(User, visitor.user.user_id)
    return render(
        request,
        "account.html",
        status_code=status_code,
        errors=errors or {},
        sessions=sign_in.sessions_of(session, visitor.user.user_id, now),
        identities=foreign_identities.of_user(session, visitor.user.user_id),
        has_password=held.password_hash is not None,
        changes=[in_words(entry) for entry in audit.entries(session, None, subject_id=held.user_id, limit=_CHANGES)],
        tokens=[one for one in tokens if one.revoked_at is None and one.expires_at > now],
    )
