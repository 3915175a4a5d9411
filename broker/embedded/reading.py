"""Reads what a client sends: every whole packet of a chunk at once, PUBLISH in one loop because its speed matters."""

from typing import Final

from broker.embedded import packets
from broker.embedded.exchange import CannotKeep, Exchange
from broker.embedded.flow import Way
from broker.embedded.limits import MAX_CONNECT_BYTES, MAX_LEVELS, MAX_TOPIC_BYTES
from broker.embedded.link import Link
from broker.embedded.message import Message
from broker.embedded.packets import MalformedPacket
from broker.embedded.routing import Route
from broker.embedded.session import Session
from hub.access import decide
from hub.access.grants import valid_topic

# The route's `refused` while what it leads to cannot be stored. It is never said to anybody.
_UNKEPT: Final = "cannot be stored"
_NOWHERE: Final = Way(Route((), "no topic yet"))


def read(exchange: Exchange, connection: Link, data: bytes) -> int:  # noqa: C901, PLR0912, PLR0915 - the hot path is one loop on purpose
    """Handle every whole packet; returns where the first incomplete one begins."""
    pos = 0
    end = len(data)
    connection.needed = 0
    session = connection.session
    published = acknowledged = controls = 0
    # Messages mostly come in runs on one topic: it is looked up, and they are counted, once per run.
    way, run = _NOWHERE, 0
    last: bytes | None = None
    route = way.route
    while end - pos >= 2:
        head = data[pos]
        length = data[pos + 1]
        body = pos + 2
        if length > 127:
            length, body = _long_length(data, pos, end)
            if not body:
                break
            if length > connection.max_packet_bytes or (session is None and length > MAX_CONNECT_BYTES):
                raise _too_large(connection, head, length)
        stop = body + length
        if session is None and head != 0x10:
            raise MalformedPacket("the first packet is not CONNECT")
        if stop > end:
            connection.needed = stop - pos
            break
        if 0x30 <= head < 0x40 and session is not None:
            # PUBLISH
            qos = head >> 1 & 3
            if length < 2:
                raise MalformedPacket("PUBLISH: ends before the topic")
            topic_end = body + 2 + (data[body] << 8 | data[body + 1])
            payload = topic_end + 2 if qos else topic_end
            if payload > stop:
                raise MalformedPacket("PUBLISH: ends within the topic or before the packet identifier")
            topic = data[body + 2 : topic_end]
            if topic != last or not route.live:
                if run:
                    way.count += run
                    published += run
                    run = 0
                found = connection.routes.get(topic)
                way = found if found is not None and found.route.live else _way(exchange, connection, topic)
                route, last = way.route, topic
            run += 1
            if not qos:
                if head & 8:
                    raise MalformedPacket("PUBLISH: DUP is set at QoS 0")
                if route.refused or head & 1:
                    _publish_specially(exchange, connection, route, Message(topic, data[payload:stop], 0), head & 1)
                else:
                    packet = data[pos:stop]
                    message = None
                    for target, _ in route.targets:
                        if target.queue:
                            message = message or Message(topic, data[payload:stop], 0)
                            target.deliver(message, 0)
                        else:
                            target.deliver_packet(packet)
            elif qos == 1:
                packet_id = data[topic_end:payload]
                if packet_id == b"\0\0":
                    raise MalformedPacket("PUBLISH: the packet identifier is 0")
                message = Message(topic, data[payload:stop], 1, front1=data[pos:topic_end] if head == 0x32 else None)
                if route.refused or head & 1:
                    _publish_specially(exchange, connection, route, message, head & 1)
                else:
                    for target, granted in route.targets:
                        target.deliver(message, granted)
                connection.answer(b"\x40\x02" + packet_id)
            elif qos == 2:
                _publish2(exchange, connection, session, route, head, topic, data[topic_end:stop])
            else:
                raise MalformedPacket("PUBLISH: QoS 3")
        elif head == 0x40 and length == 2 and session is not None and (data[body + 1] or data[body]):
            acknowledged += 1
            session.acknowledge(data[body] << 8 | data[body + 1])
        else:
            controls += 1
            way.count += run
            published += run
            run = 0
            _control(exchange, connection, head, data[body:stop])
            session = connection.session
            if connection.state != "open":
                pos = stop
                break
        pos = stop
    way.count += run
    flow = connection.flow
    flow.published += published + run
    flow.acknowledged += acknowledged
    flow.controls += controls
    return pos


def _too_large(connection: Link, head: int, length: int) -> MalformedPacket:
    name = packets.NAMES.get(head >> 4, "packet")
    most = connection.max_packet_bytes if connection.session is not None else MAX_CONNECT_BYTES
    reason = f"{name} of {length} bytes is larger than the limit of {most}"
    if connection.session is not None and head >> 4 == packets.PUBLISH:
        connection.tell_denied("publish", "", reason)
    return MalformedPacket(reason)


def _way(exchange: Exchange, connection: Link, topic: bytes) -> Way:
    """The way of a topic for this publisher: the route that all share, or one that says why it may not."""
    route = _route(exchange, connection, topic)
    if len(topic) > MAX_TOPIC_BYTES:
        # It is refused, and would take more room than all that is sent to it is worth.
        return Way(route)
    way = connection.routes.get(topic)
    if way is not None:
        way.route = route
        return way
    if connection.session is not None and len(connection.routes) >= connection.session.limits.routes:
        connection.forget_routes()
    way = connection.routes[topic] = Way(route)
    return way


def _route(exchange: Exchange, connection: Link, topic: bytes) -> Route:
    text = packets.decode_string(topic, "PUBLISH: the topic")
    if not valid_topic(text):
        raise MalformedPacket("PUBLISH: the topic is empty or holds a wildcard")
    if len(topic) > MAX_TOPIC_BYTES:
        return Route((), f"a topic has at most {MAX_TOPIC_BYTES} bytes here")
    session = connection.session
    assert session is not None  # noqa: S101 - called while open
    verdict = decide.publish(session.principal, text)
    if not verdict:
        return Route((), verdict.reason)
    if text.startswith("$"):
        # Whatever a grant says: these tell of the broker, and nobody else may.
        return Route((), "topics that begin with $ are the broker's own")
    if text.count("/") >= MAX_LEVELS:
        return Route((), f"a topic has at most {MAX_LEVELS} levels here")
    route = exchange.router.route(text)
    if not exchange.keeps and any(target.persistent for target, _ in route.targets):
        return Route(route.targets, _UNKEPT)
    return route


def _publish_specially(exchange: Exchange, connection: Link, route: Route, message: Message, retain: int) -> None:
    """What is refused, and what is to be retained."""
    session = connection.session
    assert session is not None  # noqa: S101
    topic = message.topic.decode()
    refused = route.refused
    if message.qos and not exchange.keeps and (retain or refused is _UNKEPT):
        raise CannotKeep("what it published would have to be stored, and nothing can be stored now")
    if refused is _UNKEPT:
        refused = ""
    if not refused and retain:
        refused = exchange.retain(topic, message, session)
    if refused:
        exchange.refusals.add(session.username, "publish", topic, refused)
        connection.tell_denied("publish", topic, refused)
        return
    for target, granted in route.targets:
        target.deliver(message, granted)


def _publish2(
    exchange: Exchange, connection: Link, session: Session, route: Route, head: int, topic: bytes, rest: bytes
) -> None:
    packet_id = int.from_bytes(rest[:2], "big")
    if not packet_id:
        raise MalformedPacket("PUBLISH: the packet identifier is 0")
    if len(session.incoming) >= session.limits.incoming and packet_id not in session.incoming:
        raise MalformedPacket(f"PUBLISH: more than {session.limits.incoming} QoS 2 messages without a PUBREL")
    if session.take(packet_id):
        _publish_specially(exchange, connection, route, Message(topic, rest[2:], 2), head & 1)
    connection.answer(b"\x50\x02" + rest[:2])


def _control(exchange: Exchange, connection: Link, head: int, body: bytes) -> None:
    kind = head >> 4
    if packets.FLAGS.get(kind) != head & 0xF:
        name = packets.NAMES.get(kind, f"packet type {kind}")
        raise MalformedPacket(f"{name} with flags {head & 0xF} is not for a server")
    session = connection.session
    if session is None:
        connection.connect(body)
    elif kind == packets.CONNECT:
        raise MalformedPacket("a second CONNECT")
    elif kind == packets.SUBSCRIBE:
        packet_id, asked = packets.parse_subscribe(body)
        exchange.subscribe(connection, session, packet_id, asked)
    elif kind == packets.UNSUBSCRIBE:
        packet_id, filters = packets.parse_unsubscribe(body)
        for topic_filter in filters:
            exchange.router.unsubscribe(session, topic_filter)
        connection.answer(packets.unsuback(packet_id))
    elif kind in {packets.PINGREQ, packets.DISCONNECT}:
        if body:
            raise MalformedPacket(f"{packets.NAMES[kind]} with a body")
        if kind == packets.PINGREQ:
            connection.answer(packets.PINGRESP)
        else:
            connection.close("DISCONNECT", publish_will=False)
    else:
        _acknowledgement(connection, session, kind, body)


def _acknowledgement(connection: Link, session: Session, kind: int, body: bytes) -> None:
    if len(body) != 2:
        raise MalformedPacket(f"{packets.NAMES[kind]} with {len(body)} bytes in place of 2")
    packet_id = int.from_bytes(body, "big")
    if not packet_id:
        raise MalformedPacket(f"{packets.NAMES[kind]}: the packet identifier is 0")
    if kind == packets.PUBREC:
        connection.answer(session.received(packet_id))
    elif kind == packets.PUBCOMP:
        session.complete(packet_id)
    elif kind == packets.PUBREL:
        session.release(packet_id)
        connection.answer(b"\x70\x02" + body)


def _long_length(data: bytes, pos: int, end: int) -> tuple[int, int]:
    """A remaining length of two to four bytes and where the body begins; (0, 0) when it is not all there."""
    length = 0
    for index in range(4):
        at = pos + 1 + index
        if at >= end:
            return 0, 0
        length |= (data[at] & 127) << (7 * index)
        if data[at] < 128:
            if not data[at]:
                # Packets are forwarded as they came, and not every client bears such a length.
                raise MalformedPacket("the remaining length is longer than it needs to be")
            return length, at + 1
    raise MalformedPacket("the remaining length is longer than four bytes")
