"""`Idempotency-Key`: a request that creates something and is sent twice creates it once and gets the same answer."""

import hashlib
from collections.abc import Callable, Sequence
from typing import Annotated, Any

from fastapi import Depends, Header, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from sqlmodel import Session

from hub import idempotency
from web.api.caller import CurrentCaller
from web.dependencies import Db

KeyHeader = Annotated[
    str | None,
    Header(
        alias=idempotency.HEADER,
        description="any text of your own, new for each request: sent again with it, the request is carried out once",
    ),
]


class OnceOnly:
    """Carries out the work of a request, or gives the answer that it had already."""

    def __init__(self, session: Session, principal: str, key: str | None, request_hash: str) -> None:
        self._session = session
        self._principal = principal
        self._key = None if key is None else idempotency.check_key(key)
        self._hash = request_hash

    def __call__(
        self, make: Callable[[], BaseModel], *, status: int = 201, secrets: Sequence[str] = ()
    ) -> JSONResponse:
        """The answer with what `make` returns. What `secrets` names is not kept: a repeated answer has null there."""
        if self._key is not None:
            known = idempotency.recall(self._session, self._principal, self._key, self._hash)
            if known is not None:
                return JSONResponse(known.body, status_code=known.status, headers={"Idempotency-Replayed": "true"})
        body: dict[str, Any] = make().model_dump(mode="json")
        if self._key is not None:
            kept = body | dict.fromkeys(secrets)
            answer = idempotency.Answer(status, kept)
            idempotency.keep(self._session, self._principal, self._key, self._hash, answer)
        return JSONResponse(body, status_code=status)


async def _fingerprint(request: Request) -> str:
    """What makes two requests the same: method, path, query and body."""
    digest = hashlib.sha256()
    for part in (request.method, request.scope["path"], request.scope["query_string"].decode("latin-1")):
        digest.update(part.encode() + b"\0")
    digest.update(await request.body())
    return digest.hexdigest()


def _once(
    caller: CurrentCaller, session: Db, fingerprint: Annotated[str, Depends(_fingerprint)], key: KeyHeader = None
) -> OnceOnly:
    return OnceOnly(session, caller.name, key, fingerprint)


Once = Annotated[OnceOnly, Depends(_once)]
