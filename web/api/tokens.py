"""`/api/tokens`: a person's own tokens for scripts. Only a signed-in browser makes them: a token begets no token."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from hub.access import personal_tokens
from hub.access.callers import PersonCaller
from hub.access.personal_tokens import NAME_MAX
from hub.errors import Forbidden
from hub.tables import PersonalToken
from web.api.caller import CurrentPerson
from web.api.once import Once
from web.dependencies import Db, Now

router = APIRouter(prefix="/api/tokens", tags=["tokens"])


class TokenBody(BaseModel):
    """A personal token, without its secret."""

    token_id: UUID
    name: str = Field(examples=["backup script"])
    scopes: list[str] = Field(examples=[["devices:read", "events:*"]])
    created_at: datetime
    expires_at: datetime
    last_used_at: datetime | None
    revoked_at: datetime | None


class TokenList(BaseModel):
    """One's tokens, the newest first; those that ended too."""

    items: list[TokenBody]


class NewToken(BaseModel):
    """A token to be made."""

    model_config = ConfigDict(extra="forbid")

    name: Annotated[str, Field(min_length=1, max_length=NAME_MAX, examples=["backup script"])]
    scopes: Annotated[list[Annotated[str, Field(max_length=80)]], Field(min_length=1, max_length=50)] = Field(
        description="permissions; `noun:*` and `*` mean whatever the role gives", examples=[["devices:read"]]
    )
    expires_at: AwareDatetime = Field(description="at most 366 days from now")


class TokenWithSecret(BaseModel):
    """A new token, shown this once; null when the answer is a repeated one."""

    info: TokenBody
    token: str | None = Field(examples=["mvp.…"])


@router.get("")
def overview(caller: CurrentPerson, session: Db) -> TokenList:
    """One's own tokens."""
    return TokenList(items=[_body(one) for one in personal_tokens.of_user(session, caller.user_id)])


@router.post("", status_code=201, response_model=TokenWithSecret)
def create(new: NewToken, caller: CurrentPerson, session: Db, now: Now, once: Once) -> JSONResponse:
    """Make a token; it is in the answer and nowhere else."""
    _by_hand(caller)

    def make() -> TokenWithSecret:
        row, token = personal_tokens.create(session, caller.user_id, new.name, new.scopes, new.expires_at, now)
        return TokenWithSecret(info=_body(row), token=token)

    return once(make, secrets=("token",))


@router.delete("/{token_id}", status_code=204)
def revoke(token_id: UUID, caller: CurrentPerson, session: Db, now: Now) -> Response:
    """End a token; a token may end itself and no other."""
    if caller.token is None or caller.token.token_id != token_id:
        _by_hand(caller)
    personal_tokens.revoke(session, caller.user_id, token_id, now)
    return Response(status_code=204)


def _by_hand(caller: PersonCaller) -> None:
    if caller.session_id is None:
        raise Forbidden("tokens are made and ended on the account page, not with a token")


def _body(row: PersonalToken) -> TokenBody:
    return TokenBody(**{name: getattr(row, name) for name in TokenBody.model_fields})
