"""`hello`: what a device can do is kept, it is welcomed, and gets what waits for it: config and commands."""

from collections.abc import Sequence
from typing import Final

import msgspec
from sqlalchemy import text
from sqlmodel import Session

from hub import commands, device_config, feed, outbox
from hub.inbox.envelope import Accepted, Outcome
from hub_protocol import messages
from hub_protocol.topics import Topics

_TOPICS: Final = Topics.below_root()


def handle(session: Session, hellos: Sequence[Accepted[messages.Hello]], outcome: Outcome) -> None:  # noqa: ARG001
    """Handle the last live hello of each device; what the broker kept from earlier asks for nothing."""
    latest = {one.sender.known.device_id: one for one in hellos if not one.incoming.retained}
    if not latest:
        return
    changed = session.execute(
        text(
            "UPDATE device_presence AS p SET hello = CAST(n.hello AS jsonb) "
            "FROM unnest(CAST(:ids AS uuid[]), CAST(:hellos AS text[])) AS n (device_id, hello) "
            "WHERE p.device_id = n.device_id AND p.hello - 'epoch' IS DISTINCT FROM CAST(n.hello AS jsonb) - 'epoch' "
            "RETURNING p.device_id"
        ),
        {
            "ids": list(latest),
            "hellos": [msgspec.json.encode(one.message).decode() for one in latest.values()],
        },
    ).scalars()
    for device_id in list(changed):
        known = latest[device_id].sender.known
        item = {"device_id": str(device_id), "handle": known.handle, "change": "changed", "by": "the device"}
        feed.tell(session, known.agent_id, "devices", "devices.updated", item)
    wanted = device_config.greet(
        session,
        {device_id: (one.sender.known.handle, one.message.config_rev) for device_id, one in latest.items()},
    )
    for device_id, one in latest.items():
        welcome = messages.Welcome(
            one.message.epoch,
            one.message.heartbeat_s,
            one.sender.scopes,
            wanted.get(device_id, 0),
            one.incoming.received_at,
        )
        outbox.enqueue(session, _TOPICS.welcome(one.sender.known.handle), welcome)
    epochs = [(device_id, one.message.epoch) for device_id, one in latest.items()]
    commands.resend(session, epochs, max(one.incoming.received_at for one in latest.values()))
