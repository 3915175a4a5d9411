"""`request`: a device asks what its HTTP twin would ask, with the same checks, and is answered on `response`."""

from collections import Counter
from collections.abc import Sequence
from typing import Final

import msgspec
import structlog
from sqlalchemy.exc import DBAPIError
from sqlmodel import Session

from hub import outbox
from hub.access.callers import DeviceCaller
from hub.errors import Conflict, Forbidden, HubError, Invalid, NotFound, Throttled
from hub.inbox.envelope import Accepted, Outcome
from hub.operations.questions import parse
from hub.operations.registry import OPERATIONS
from hub_protocol import messages
from hub_protocol.catalogue import BY_KIND
from hub_protocol.topics import Topics

log = structlog.get_logger(__name__)

# Of one device in one batch: a page of events costs more than most messages, and others wait in the same batch.
AT_ONCE: Final = 20
_MAX_BYTES: Final = BY_KIND["response"].max_bytes
_TOPICS: Final = Topics.below_root()
_CODES: Final[tuple[tuple[type[HubError], str], ...]] = (
    (Invalid, "invalid"),
    (Forbidden, "forbidden"),
    (NotFound, "not_found"),
    (Conflict, "conflict"),
    (Throttled, "throttled"),
)


def handle(session: Session, accepted: Sequence[Accepted[messages.Request]], outcome: Outcome) -> None:  # noqa: ARG001
    """Answer a batch of requests; one that fails is told why and holds up no other."""
    asked: Counter[str] = Counter()
    for one in accepted:
        handle_ = one.sender.known.handle
        asked[handle_] += 1
        if asked[handle_] > AT_ONCE:
            response = failed("throttled", f"at most {AT_ONCE} requests at once; ask again a little later")
        else:
            response = _answer(session, one)
        outbox.enqueue(session, _TOPICS.response(handle_, one.levels[1]), response)


def _answer(session: Session, one: Accepted[messages.Request]) -> messages.Response:
    operation = OPERATIONS.get(one.levels[0])
    if operation is None:
        return failed("not_found", f"there is no operation {one.levels[0]}; there are {', '.join(OPERATIONS)}")
    known = one.sender.known
    caller = DeviceCaller(known.device_id, known.agent_id, known.handle, one.sender.space_id, tuple(one.sender.scopes))
    try:
        with session.begin_nested():
            agent_id = caller.permit(operation.scope)
            question = parse(operation.question, one.message.body)
            body = operation.answer(
                session, caller, agent_id, question, one.incoming.received_at, one.levels[1]
            ).model_dump(mode="json")
    except HubError as error:
        return problem(error)
    except DBAPIError as error:
        if error.connection_invalidated:
            raise
        log.warning("request.failed", handle=known.handle, op=one.levels[0], error=type(error).__name__)
        return failed("failed", "the hub could not answer this")
    response = messages.Response(ok=True, body=body)
    if len(msgspec.json.encode(response)) > _MAX_BYTES:
        return failed("too_large", f"the answer is larger than {_MAX_BYTES} bytes; ask for fewer", "limit")
    return response


def problem(error: HubError) -> messages.Response:
    """A refusal of the domain as it is told over MQTT."""
    code = next((code for kind, code in _CODES if isinstance(error, kind)), "failed")
    return failed(code, error.message, error.field)


def failed(code: str, message: str, field: str | None = None) -> messages.Response:
    """An answer that says why there is none."""
    problem = msgspec.convert({"code": code, "message": message, "field": field}, messages.Problem)
    return messages.Response(ok=False, error=problem)
