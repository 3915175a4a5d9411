"""`/v1/enrol`: a device without a token shows a claim code, waits, and fetches its token; no cookie counts here."""

from datetime import datetime
from typing import Annotated, Any, Final, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Header, Request, Response
from fastapi.responses import JSONResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from hub import enrolment, idempotency
from hub.devices import NAME_MAX
from hub.enrolment import KEY_MAX, POLL_S, TEXT_MAX, Refused, Standing, Statement
from hub.errors import Forbidden, NotFound, Throttled, Unauthenticated
from hub.settings import Settings
from web.api.pace import Pace
from web.api.problems import ProblemBody
from web.dependencies import Db, Now, WebSettings
from web.device_address import mqtt_host
from web.errors import answer
from web.security import came_in_clear

BODY_MAX: Final = 8192
IN_CLEAR: Final = (
    "this came over plain HTTP, where others in the network could read the token. Use the hub's https address (behind a"
    " proxy, its address must stand in MARVAIN_TRUSTED_PROXIES); in a network that you trust, whoever runs the hub can"
    " set MARVAIN_ENROL_OVER_HTTP=true"
)

_bearer = HTTPBearer(auto_error=False, scheme_name="EnrolmentSecret", description="The secret that the claim gave.")


async def _door(request: Request, settings: WebSettings) -> str:
    """Before anything is looked at: the way must be safe, the body small, the pace human; the caller's address."""
    if came_in_clear(request) and not settings.enrol_over_http:
        raise Forbidden(IN_CLEAR)
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() not in {"application/json", ""}:
        raise HTTPException(415, "Send JSON, as Content-Type: application/json.")
    if len(await request.body()) > BODY_MAX:
        raise HTTPException(413, f"The request is larger than {BODY_MAX} bytes.")
    address = request.client.host if request.client else ""
    pace: Pace = request.app.state.pace
    pace.take(f"enrol:{address}")
    return address


Address = Annotated[str, Depends(_door)]


class Claim(BaseModel):
    """A device with a claim code; what it says of itself is shown to the person who decides."""

    model_config = ConfigDict(extra="forbid")

    code: Annotated[str, Field(min_length=1, max_length=400)] = Field(
        description="as it was shown; capital or small letters, with or without hyphens",
        examples=["K7QF-2M9X-W3TE-0HVB"],
    )
    name: Annotated[str, Field(max_length=NAME_MAX, examples=["Weather mast"])] = ""
    hardware: Annotated[str, Field(max_length=TEXT_MAX, examples=["ESP32-C3 rev 4"])] = ""
    firmware: Annotated[str, Field(max_length=TEXT_MAX, examples=["mast 1.4.0"])] = ""
    public_key: Annotated[str, Field(max_length=KEY_MAX)] = Field(
        "", description="PEM, base64 of DER, or a line of OpenSSH; its fingerprint is shown, nothing more"
    )


class Broker(BaseModel):
    """Where the device connects, with its handle as client id and user name and the token as password."""

    host: str = Field(examples=["hub.example.org"])
    port: int = Field(examples=[8883])
    tls: bool
    root: str = Field(examples=["marvain/v1"])


class EnrolmentBody(BaseModel):
    """How it stands. `secret` comes with the first answer alone, `token` each time it is made."""

    enrolment_id: UUID
    state: Literal["pending", "approved"]
    phrase: str = Field(examples=["amber tiger kettle"], description="show it: the page shows the same words")
    expires_at: datetime
    secret: str | None = Field(None, description="the bearer of this may ask how it stands, and fetch the token")
    token: str | None = Field(None, examples=["mv1.weather-mast.…"])
    handle: str | None = Field(None, examples=["weather-mast"])
    name: str | None = Field(None, examples=["Weather mast"])
    mqtt: Broker | None = None
    retry_after_s: int | None = Field(None, examples=[POLL_S])


class EnrolmentOver(ProblemBody):
    """Problem JSON for a device that gets no token (any more); without `state` the refusal is another."""

    state: Literal["rejected", "expired", "collected"] | None = None


router = APIRouter(prefix="/v1/enrol", tags=["enrolment"])
_PROBLEM: Final = {"application/problem+json": {"schema": EnrolmentOver.model_json_schema()}}
_OVER: Final[dict[int | str, dict[str, Any]]] = {
    403: {"description": "A person said no; or this way is not safe", "content": _PROBLEM},
    410: {"description": "Nobody decided in time, or the token was fetched already", "content": _PROBLEM},
    415: {"description": "It is not JSON", "content": _PROBLEM},
}


@router.post(
    "",
    status_code=202,
    response_model=EnrolmentBody,
    responses={
        201: {"model": EnrolmentBody, "description": "The code needs nobody's word: here is the token"},
        **_OVER,
    },
)
def ask(
    request: Request,
    address: Address,
    asked: Claim,
    session: Db,
    settings: WebSettings,
    now: Now,
    key: Annotated[str | None, Header(alias=idempotency.HEADER, max_length=200)] = None,
) -> Response:
    """Use a claim code. Sent again with the same random `Idempotency-Key` within ten minutes, it is answered again."""
    statement = Statement(asked.name, asked.hardware, asked.firmware, asked.public_key)
    found = enrolment.ask(session, asked.code, statement, address=address, now=now, retry_key=key)
    return _refused(request, found) if isinstance(found, Refused) else _answer(request, settings, found, made=True)


@router.post(
    "/{own_enrolment_id}",
    response_model=EnrolmentBody,
    responses={202: {"model": EnrolmentBody, "description": "Nobody has decided yet; see Retry-After"}, **_OVER},
)
def collect(
    request: Request,
    own_enrolment_id: UUID,
    address: Address,
    session: Db,
    settings: WebSettings,
    now: Now,
    given: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
) -> Response:
    """Ask how it stands; once approved, the answer holds the token. Lost on its way? Ask again within ten minutes."""
    if given is None:
        raise Unauthenticated("send the secret that the claim gave, as `Authorization: Bearer …`")
    found = enrolment.collect(session, own_enrolment_id, given.credentials, address=address, now=now)
    return _refused(request, found) if isinstance(found, Refused) else _answer(request, settings, found)


def _refused(request: Request, refused: Refused) -> Response:
    """An answer, not an error: what was counted must be committed."""
    if refused.message == enrolment.TOO_MANY:
        return answer(request, Throttled(refused.message, retry_after_s=refused.retry_after_s))
    response = answer(request, NotFound(refused.message))
    if refused.retry_after_s:
        response.headers["Retry-After"] = str(max(1, round(refused.retry_after_s)))
    return response


def _answer(request: Request, settings: Settings, found: Standing, *, made: bool = False) -> Response:
    if found.state == "rejected":
        words = f"it was rejected: {found.reason}" if found.reason else "it was rejected"
        return _over(403, "Forbidden", words, found.state)
    if found.state in {"expired", "collected"}:
        return _over(410, "Gone", found.reason, found.state)
    body = EnrolmentBody(
        enrolment_id=found.enrolment_id,
        state="approved" if found.token else "pending",
        phrase=found.phrase,
        expires_at=found.expires_at,
        secret=found.secret or None,
    )
    if not found.token:
        body.retry_after_s = POLL_S
        return JSONResponse(_plain(body), status_code=202, headers={"Retry-After": str(POLL_S)})
    body.token, body.handle, body.name = found.token, found.handle, found.name
    body.mqtt = Broker(
        host=mqtt_host(request, settings),
        port=settings.device_mqtt_port,
        tls=settings.tls_cert_file is not None,
        root=settings.root,
    )
    return JSONResponse(_plain(body), status_code=201 if made else 200)


def _over(status: int, title: str, detail: str, state: str) -> Response:
    body = {"type": "about:blank", "title": title, "status": status, "detail": detail, "state": state}
    return JSONResponse(body, status_code=status, media_type="application/problem+json")


def _plain(body: EnrolmentBody) -> dict[str, object]:
    return body.model_dump(mode="json", exclude_none=True)
