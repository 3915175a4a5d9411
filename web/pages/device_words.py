"""How a device's state is said in words and tones; static/js/device-words.js says changes in the same words."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from hub.device_views import DeviceView

PENDING: Final = frozenset({"queued", "sent", "accepted", "running"})
# A refusal older than this is history: it stands on the device's own page.
RECENT_REFUSAL: Final = timedelta(hours=1)
_TONES: Final = {
    "succeeded": "good",
    "failed": "bad",
    "rejected": "bad",
    "expired": "bad",
    "unknown": "warn",
    "cancelled": "calm",
}


@dataclass(frozen=True, slots=True)
class Row:
    """A device with what is said about it beyond its bare facts."""

    device: DeviceView
    command: str
    command_id: str
    command_status: str
    command_tone: str
    command_at: datetime | None
    refusal: dict[str, Any] | None
    refusal_at: datetime | None


def row(device: DeviceView, now: datetime) -> Row:
    """What a row of a list says of this device."""
    command = device.last_command
    refusal, refusal_at = device.last_denial, None
    if refusal is not None:
        refusal_at = moment(refusal["last_at"])
        if refusal_at is None or now - refusal_at > RECENT_REFUSAL:
            refusal, refusal_at = None, None
    return Row(
        device=device,
        command=command_words(command["verb"], command["status"], command["rtt_ms"], command["message"])
        if command
        else "",
        command_id=str(command["command_id"]) if command else "",
        command_status=command["status"] if command else "",
        command_tone=command_tone(command["status"]) if command else "calm",
        command_at=moment(command["created_at"]) if command else None,
        refusal=refusal,
        refusal_at=refusal_at,
    )


def command_words(verb: str, status: str, rtt_ms: float | None, message: str | None) -> str:
    """Such as "pong in 12 ms", "ping …", "ping: the device did not answer before the deadline"."""
    told = f": {message}" if message else ""
    if status in PENDING:
        return f"{verb} running …" if status == "running" else f"{verb} …"
    if status == "succeeded":
        took = "" if rtt_ms is None else f" in {milliseconds(rtt_ms)}"
        return f"pong{took}" if verb == "ping" else f"{verb} done{took}"
    if status == "expired":
        return f"{verb}: {message or 'no answer in time'}"
    if status == "unknown":
        return f"{verb}: outcome unknown" + (f" ({message})" if message else "")
    if status == "cancelled":
        return f"{verb} cancelled"
    if status == "late":
        return f"{verb}: answered too late"
    return f"{verb} {status}{told}"


def command_tone(status: str) -> str:
    """The tone of a command's state."""
    return "busy" if status in PENDING else _TONES.get(status, "warn")


def milliseconds(value: float) -> str:
    """A duration as people read it: 3.2 ms, 48 ms, 12.5 s."""
    if value < 10:
        return f"{value:.1f} ms"
    return f"{value:.0f} ms" if value < 10_000 else f"{value / 1000:.1f} s"


def moment(value: Any) -> datetime | None:
    """A time out of JSON that Postgres made; None for none."""
    if not isinstance(value, str):
        return None
    at = datetime.fromisoformat(value)
    return at if at.tzinfo else at.replace(tzinfo=UTC)
