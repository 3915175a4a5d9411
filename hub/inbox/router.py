"""One batch of messages in one transaction: parsed by the catalogue, matched to devices, handed to its handlers.

What is wrong with one message concerns that message alone: it is refused with a reason, and the rest goes on.
"""

import contextlib
from collections.abc import Callable, Sequence
from typing import Any, Final

import structlog
from sqlmodel import Session

from hub import commands, presence, presence_records
from hub.access import denials
from hub.inbox import config_reply, event, ext, hello, remotes, reply, request, senders, telemetry
from hub.inbox.envelope import Accepted, Incoming, Outcome, Sender
from hub.presence import Evidence, Heard
from hub.presence_records import Known
from hub_protocol.catalogue import decode, parse_topic, subscription
from hub_protocol.errors import Malformed
from hub_protocol.topics import Parsed

log = structlog.get_logger(__name__)

Handler = Callable[[Session, Sequence[Accepted[Any]], Outcome], None]

# What the hub listens to. `state` and `heartbeat` are evidence of presence and nothing more.
KINDS: Final = ("state", "hello", "heartbeat", "remotes", "event", "telemetry", "reply", "request", "config_reply")
# What integrations ask, who are no devices: it is evidence of nobody's presence.
EXT_KINDS: Final = ("ext", "ext_actions")
HANDLERS: Final[dict[str, Handler]] = {
    "hello": hello.handle,
    "remotes": remotes.handle,
    "event": event.handle,
    "telemetry": telemetry.handle,
    "reply": reply.handle,
    "request": request.handle,
    "config_reply": config_reply.handle,
}


def subscriptions(root: str) -> list[str]:
    """The filters that the hub subscribes to."""
    return [subscription(kind, root) for kind in (*KINDS, *EXT_KINDS)]


def process(session: Session, batch: Sequence[Incoming], root: str) -> Outcome:
    """Turn a batch into rows; what must be said over MQTT waits in the outbox or in the outcome for the commit."""
    outcome = Outcome()
    read = [one for incoming in batch if (one := _parse(incoming, root, outcome))]
    parsed = [one for one in read if one[1].kind not in EXT_KINDS]
    ext.handle(
        session,
        [ext.Asked(one, topic.handle, topic.levels, said) for one, topic, said in read if topic.kind in EXT_KINDS],
        outcome,
    )
    known = senders.load(session, {topic.handle for _, topic, _ in parsed})
    evidence = {handle: sender.known.evidence for handle, sender in known.items()}
    accepted: dict[str, list[Accepted[Any]]] = {}
    last: dict[str, Heard] = {}
    repeats: dict[str, tuple[Incoming, Heard]] = {}
    for incoming, topic, message in parsed:
        sender = known.get(topic.handle)
        if sender is None or sender.revoked:
            outcome.refuse(topic.handle, incoming, "there is no device with this handle that may speak")
            continue
        if incoming.retried:
            accepted.setdefault(topic.kind, []).append(Accepted(incoming, sender, topic.levels, message))
            continue
        before = evidence[topic.handle]
        heard = _heard(topic.kind, incoming, message)
        if presence.is_stale(before, heard.epoch):
            _refuse_stale(topic, incoming, message, before, outcome)
            continue
        if _is_repeat(last.get(topic.handle), heard):
            repeats[topic.handle] = incoming, heard
        else:
            if topic.handle in repeats:
                _hear(sender, *repeats.pop(topic.handle), evidence, outcome)
            _hear(sender, incoming, heard, evidence, outcome)
        last[topic.handle] = heard
        accepted.setdefault(topic.kind, []).append(Accepted(incoming, sender, topic.levels, message))
    for handle, waiting in repeats.items():
        _hear(known[handle], *waiting, evidence, outcome)
    presence_records.save(
        session, {sender.known.device_id: (sender.known, evidence[handle]) for handle, sender in known.items()}
    )
    for kind, handler in HANDLERS.items():
        if kind in accepted:
            handler(session, accepted[kind], outcome)
    _resume(session, [(sender.known, evidence[handle]) for handle, sender in known.items()], batch)
    denials.record(session, outcome.refusals)
    return outcome


def _is_repeat(before: Heard | None, heard: Heard) -> bool:
    """Whether an event proves no more than the one before it of the same device, but for its time.

    So of a thousand events in a row the first and the last alone are evidence.
    """
    return (
        before is not None
        and heard.kind == before.kind == "event"
        and heard.epoch == before.epoch
        and not heard.retained
        and not before.retained
    )


def _hear(sender: Sender, incoming: Incoming, heard: Heard, evidence: dict[str, Evidence], outcome: Outcome) -> None:
    handle = sender.known.handle
    after = evidence[handle] = presence.hear(evidence[handle], heard)
    if not incoming.retained and after.last_heard_at == incoming.received_at:
        outcome.heard.append((sender.known.agent_id, sender.known.device_id, incoming.received_at))


def parked(incoming: Incoming, root: str) -> Outcome:
    """What to tell the device whose message could not be stored and is kept among the dead letters."""
    outcome = Outcome()
    topic = parse_topic(incoming.topic, root)
    if topic is not None and topic.handle:
        outcome.garbage[topic.handle] += 1
    if topic is not None and topic.kind in ("event", "reply", "config_reply"):
        message_id = None
        if topic.kind == "event":
            with contextlib.suppress(Malformed):
                message_id = decode(topic.kind, incoming.payload).id
        outcome.refuse(
            topic.handle, incoming, "the hub could not store this message; it is kept apart", message_id=message_id
        )
    return outcome


def _resume(session: Session, seen: Sequence[tuple[Known, Evidence]], batch: Sequence[Incoming]) -> None:
    """Send what waited for devices that are heard again within the same connection: those say no hello."""
    back = [
        (known.device_id, after.epoch)
        for known, after in seen
        if known.evidence.verdict in ("offline", "sleeping", "unknown")
        and after.verdict == "online"
        and after.epoch == known.evidence.epoch
    ]
    if back:
        commands.resend(session, back, batch[-1].received_at)


def _parse(incoming: Incoming, root: str, outcome: Outcome) -> tuple[Incoming, Parsed, Any] | None:
    topic = parse_topic(incoming.topic, root)
    if topic is None or topic.kind not in (*KINDS, *EXT_KINDS):
        log.warning("inbox.topic_unknown", topic=incoming.topic[:200])
        return None
    if topic.kind == "state" and not incoming.payload:
        return None  # the retained state of a device was purged: nothing is said
    try:
        return incoming, topic, decode(topic.kind, incoming.payload)
    except Malformed as error:
        log.info("inbox.malformed", handle=topic.handle, kind=topic.kind, field=error.field, rule=error.rule)
        if topic.kind in EXT_KINDS:
            outcome.refuse_integration(topic.handle, incoming, str(error))
            return None
        outcome.garbage[topic.handle] += 1
        outcome.refuse(topic.handle, incoming, str(error))
        return None


def _heard(kind: str, incoming: Incoming, message: Any) -> Heard:
    return Heard(
        kind,  # type: ignore[arg-type]  # one of KINDS, which are the kinds of Heard
        None if kind == "telemetry" else message.epoch,
        incoming.received_at,
        state=message.state if kind == "state" else "online",
        until=message.until if kind == "state" else None,
        heartbeat_s=message.heartbeat_s if kind == "hello" else None,
        retained=incoming.retained,
    )


def _refuse_stale(topic: Parsed, incoming: Incoming, message: Any, before: Evidence, outcome: Outcome) -> None:
    if topic.kind == "state" and (incoming.retained or message.state == "lost"):
        # A late Will, or what the broker remembers: expected after every reconnect, and nobody's fault.
        log.debug("inbox.stale_state", handle=topic.handle, epoch=message.epoch, current=before.epoch)
        return
    reason = f"field `epoch`: {message.epoch} is older than {before.epoch}, the device's current one"
    message_id = message.id if topic.kind == "event" else None
    outcome.refuse(topic.handle, incoming, reason, epoch=before.epoch, message_id=message_id)
