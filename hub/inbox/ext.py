"""`ext/…`: an integration asks. It never tells a device anything: what it asks for is proposed, and waits for a yes."""

import hashlib
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import structlog
from sqlalchemy.exc import DBAPIError
from sqlmodel import Session

from hub import identity, integration_scopes, outbox
from hub.actions import deciding, proposing
from hub.actions.deciding import Decider
from hub.actions.proposing import Proposal, Proposer
from hub.actions.records import ActionView
from hub.audit.actors import Actor
from hub.errors import Forbidden, HubError, Invalid, NotFound
from hub.inbox.envelope import Incoming, Outcome
from hub.inbox.request import failed, problem
from hub.integration_scopes import Asker
from hub.operations import actions
from hub_protocol import messages
from hub_protocol.topics import Topics

log = structlog.get_logger(__name__)

# Of one integration in one batch; the others wait in the same batch.
AT_ONCE: Final = 20
TOO_MANY: Final = f"at most {AT_ONCE} at once; ask again a little later"
# Asked again within this time without a key, it is the same wish: the broker may have sent it twice.
SAME_WITHIN_S: Final = 10
_TOPICS: Final = Topics.below_root()


@dataclass(frozen=True, slots=True)
class Asked:
    """What an integration asks: `levels` are those of its topic behind its handle."""

    incoming: Incoming
    handle: str
    levels: tuple[str, ...]
    message: messages.Asking


def handle(session: Session, asked: Sequence[Asked], outcome: Outcome) -> None:
    """Answer a batch on `out/<integration>/response/<id>`; one that fails is told why and holds up no other."""
    if not asked:
        return
    known = integration_scopes.of_handles(session, {one.handle for one in asked})
    counts: dict[str, int] = {}
    for one in asked:
        asker = known.get(one.handle)
        if asker is None:
            outcome.refuse_integration(one.handle, one.incoming, "no integration with this handle may ask")
            continue
        counts[one.handle] = counts.get(one.handle, 0) + 1
        if counts[one.handle] > AT_ONCE:
            outcome.refuse_integration(one.handle, one.incoming, TOO_MANY)
            if counts[one.handle] > 2 * AT_ONCE:
                continue  # a flood is counted, and not answered with another
            response = failed("throttled", TOO_MANY)
        else:
            response = _answer(session, asker, one)
        outbox.enqueue(session, _TOPICS.out_response(asker.handle, _answered_as(one)), response)


def _answered_as(one: Asked) -> str:
    """The last level of the answer's topic: the request's id, the action's, or the verb's."""
    if len(one.levels) == 2:
        return one.levels[1]
    return one.levels[2] if one.levels[1] == "propose" else one.levels[1]


def _answer(session: Session, asker: Asker, one: Asked) -> messages.Response:
    try:
        with session.begin_nested():
            if len(one.levels) == 2:
                action = _tell_device(session, asker, one)
            elif one.levels[1] == "propose":
                action = _propose(session, asker, one)
            else:
                action = _decide(session, asker, one)
    except HubError as error:
        return problem(error)
    except DBAPIError as error:
        if error.connection_invalidated:
            raise
        log.warning("ext.failed", integration=asker.handle, error=type(error).__name__)
        return failed("failed", "the hub could not answer this")
    return messages.Response(ok=True, body=actions.whole(action).model_dump(mode="json"))


def _need(asker: Asker, scope: str) -> None:
    if scope not in asker.scopes:
        raise Forbidden(f"this integration lacks the scope {scope}")


def _tell_device(session: Session, asker: Asker, one: Asked) -> ActionView:
    args: dict[str, Any] = {"device": one.levels[0], "verb": one.levels[1]}
    if one.message.args:
        args["args"] = one.message.args
    if one.message.ttl_s is not None:
        args["ttl_s"] = one.message.ttl_s
    return _proposed(session, asker, one, "device_command", args, None)


def _propose(session: Session, asker: Asker, one: Asked) -> ActionView:
    return _proposed(session, asker, one, one.message.tool, one.message.args, one.levels[2])


def _proposed(
    session: Session, asker: Asker, one: Asked, tool: str, args: dict[str, Any], request_id: str | None
) -> ActionView:
    _need(asker, "actions:propose")
    space = one.message.space
    space_id = identity.find_space(session, asker.agent_id, space).space_id if space else None
    key = one.message.key or (f"mqtt:{request_id}" if request_id else _wish(one))
    proposal = Proposal(tool, args, one.message.why, None, space_id, key, None)
    proposer = Proposer(_principal(asker), _label(asker))
    now = one.incoming.received_at
    return proposing.propose(session, asker.agent_id, proposal, proposer=proposer, now=now).action


def _decide(session: Session, asker: Asker, one: Asked) -> ActionView:
    _need(asker, "actions:approve")
    try:
        action_id = uuid.UUID(one.levels[1])
    except ValueError:
        raise NotFound("there is no such action") from None
    by = Decider(_principal(asker), _label(asker), asker.decides_as)
    now, reason = one.incoming.received_at, one.message.reason
    if one.levels[2] == "approve":
        digest = one.message.digest
        return deciding.approve(session, asker.agent_id, action_id, by=by, digest=digest, reason=reason, now=now)
    if one.levels[2] == "reject":
        return deciding.reject(session, asker.agent_id, action_id, by=by, reason=reason, now=now)
    raise Invalid("is approve or reject", field="topic")


def _wish(one: Asked) -> str:
    """A key of a wish that has none."""
    when = int(one.incoming.received_at.timestamp()) // SAME_WITHIN_S
    what = hashlib.sha256("/".join(one.levels).encode() + b"\0" + one.incoming.payload).hexdigest()[:40]
    return f"wish:{what}:{when}"


def _principal(asker: Asker) -> str:
    return f"integration:{asker.integration_id}"


def _label(asker: Asker) -> Actor:
    return Actor(f"ext_{asker.handle}", "integration")
