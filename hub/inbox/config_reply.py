"""`config_reply`: how devices are set, written beside what is wanted and confirmed by a receipt after the commit."""

from collections.abc import Sequence

from sqlmodel import Session

from hub import device_config
from hub.inbox.envelope import Accepted, Outcome
from hub_protocol import messages


def handle(session: Session, accepted: Sequence[Accepted[messages.ConfigReply]], outcome: Outcome) -> None:
    """Write a batch of answers."""
    told = [
        device_config.Told(
            one.sender.known.device_id,
            one.sender.known.agent_id,
            one.sender.known.handle,
            one.message,
            one.incoming.received_at,
        )
        for one in accepted
        if not one.incoming.retained  # nobody should retain it; what the broker kept is not what is so now
    ]
    if told:
        device_config.answer(session, told)
    for one in accepted:
        outcome.receive(one.sender.known.handle, f"config:{one.message.rev}")
