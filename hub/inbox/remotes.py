"""`remotes`: a satellite reports for devices that it was told to check, and for no others."""

from collections.abc import Sequence

from sqlmodel import Session

from hub import proxied
from hub.inbox.envelope import Accepted, Outcome
from hub.presence import Report
from hub_protocol import messages


def handle(session: Session, accepted: Sequence[Accepted[messages.Remotes]], outcome: Outcome) -> None:
    """Take a batch of reports; of several about one remote the last counts. Retained ones tell of the past."""
    latest = {}
    for one in accepted:
        if one.incoming.retained:
            continue
        known = one.sender.known
        for handle_, said in one.message.remotes.items():
            told = Report(said.reachable, one.incoming.received_at, known.handle, 0.0, said.why)
            latest[known.device_id, handle_] = (one, told)
    if not latest:
        return
    taken = proxied.report(session, {key: told for key, (_, told) in latest.items()})
    for key, (one, told) in latest.items():
        device = taken.get(key)
        if device is None:
            reason = f"field `remotes`: this device was not told to check {key[1]}"
            outcome.refuse(one.sender.known.handle, one.incoming, reason)
        elif told.reachable:
            outcome.heard.append((one.sender.known.agent_id, device, told.at))
