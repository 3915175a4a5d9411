"""Who calls the HTTP interface: the bearer of a token (device or person), or a signed-in browser; and how often.

`CurrentCaller` refuses nobody but strangers; `hub.access.callers` says what the caller may do.
"""

from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from hub.access import callers
from hub.access.callers import Caller, DeviceCaller, PersonCaller
from hub.errors import Forbidden, Unauthenticated
from web.api.pace import Pace
from web.dependencies import Db, MaybeVisitor, Now

_bearer = HTTPBearer(
    auto_error=False,
    description="A device's token (`mv1.…`) or a personal one (`mvp.…`). In a browser the session cookie will do.",
)


def _caller(
    request: Request,
    session: Db,
    now: Now,
    visitor: MaybeVisitor,
    given: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
) -> Caller:
    pace: Pace = request.app.state.pace
    address = request.client.host if request.client else ""
    if given is not None:
        pace.check_failures(address, given.credentials)
        try:
            caller = callers.by_token(session, given.credentials, now)
        except Unauthenticated as refused:
            pace.failed(address, given.credentials, is_known=refused.is_known)
            raise
        pace.succeeded(given.credentials)
    elif request.headers.get("authorization"):
        raise Unauthenticated("send the token as `Authorization: Bearer …`")
    elif visitor is not None:
        caller = callers.visitor(session, visitor)
    else:
        raise Unauthenticated("send a token as `Authorization: Bearer …`, or sign in")
    pace.take(caller.name)
    return caller


CurrentCaller = Annotated[Caller, Depends(_caller)]


def _device(caller: CurrentCaller) -> DeviceCaller:
    if not isinstance(caller, DeviceCaller):
        raise Forbidden("this is for devices; use a device's token")
    return caller


CurrentDevice = Annotated[DeviceCaller, Depends(_device)]


def _person(caller: CurrentCaller) -> PersonCaller:
    if not isinstance(caller, PersonCaller):
        raise Forbidden("this is for people; use a personal token, or sign in")
    return caller


CurrentPerson = Annotated[PersonCaller, Depends(_person)]
