"""`telemetry`: samples are stored once by stream and time, or the whole message is refused with its reason."""

from collections.abc import Sequence

from sqlmodel import Session

from hub import spaces
from hub.errors import Invalid
from hub.inbox.envelope import Accepted, Outcome
from hub.telemetry import samples
from hub.telemetry.samples import NewSamples
from hub_protocol import messages


def handle(session: Session, accepted: Sequence[Accepted[messages.Telemetry]], outcome: Outcome) -> None:
    """Store a batch of samples; what open pages are to see of it waits in the outcome."""
    private = spaces.private_among(session, {one.sender.space_id for one in accepted})
    taken: list[tuple[Accepted[messages.Telemetry], NewSamples]] = []
    for one in accepted:
        if one.incoming.retained and isinstance(one.message, float):
            continue  # the broker kept it: nobody knows when it was measured
        known = one.sender.known
        if one.sender.space_id in private:
            outcome.decline(known.handle, one.incoming, spaces.PRIVATE)
            continue
        try:
            read = samples.read(one.message, one.incoming.received_at)
        except Invalid as error:
            outcome.refuse(known.handle, one.incoming, f"field `{error.field}`: {error.message}")
            continue
        taken.append((one, NewSamples(known.device_id, known.agent_id, one.levels[0], read)))
    if not taken:
        return
    refused = samples.append(session, [new for _, new in taken])
    for one, new in taken:
        if (new.device_id, new.stream) in refused:
            outcome.refuse(one.sender.known.handle, one.incoming, samples.TOO_MANY)
        else:
            outcome.samples.append(new)
