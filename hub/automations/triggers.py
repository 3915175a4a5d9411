"""What sets an automation going: an event, a change of presence, a threshold, or a time; read from plain JSON."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal, get_args

from hub import schedules
from hub.automations.thresholds import Threshold
from hub.errors import Invalid
from hub.tags import check_tag
from hub_protocol.errors import BadName
from hub_protocol.topics import check_handle, check_level

Kind = Literal["event", "presence", "telemetry", "time"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
VERDICTS: Final = ("online", "suspect", "offline", "sleeping", "unknown")
FOR_MAX_S: Final = 86_400.0
DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


@dataclass(frozen=True, slots=True)
class Trigger:
    """A trigger that has been read: what is not of its kind is None. `plain` is what is stored."""

    kind: Kind
    plain: dict[str, Any]
    event_type: str | None = None
    device: str | None = None
    tag: str | None = None
    space: str | None = None
    stream: str | None = None
    to: tuple[str, ...] = ()
    threshold: Threshold | None = None
    for_s: float = 0.0
    cron: str | None = None
    zone: str = "UTC"

    def next_at(self, after: datetime) -> datetime | None:
        """When it comes next after that; None where it is no time."""
        if self.kind != "time":
            return None
        return schedules.following(self.cron or "", schedules.zone_of(self.zone, "trigger.zone"), after)


def read(kind: str, given: Mapping[str, Any]) -> Trigger:
    """The trigger; raises `Invalid` (kind, trigger.<name>) for what is none."""
    if kind not in KINDS:
        raise Invalid(f"is one of {', '.join(KINDS)}", field="kind")
    known = {
        "event": {"type", "device", "tag", "space"},
        "presence": {"device", "tag", "to", "for_s"},
        "telemetry": {"device", "tag", "stream", "above", "below", "rearm", "for_s"},
        "time": {"at", "days", "cron", "zone"},
    }[kind]
    for name in given:
        if name not in known:
            raise Invalid(f"is not of a trigger of this kind; there are {', '.join(sorted(known))}", field=_f(name))
    plain = {name: value for name, value in given.items() if value not in (None, "")}
    return {"event": _event, "presence": _presence, "telemetry": _telemetry, "time": _time}[kind](plain)


def _event(plain: dict[str, Any]) -> Trigger:
    return Trigger("event", plain, event_type=_level(plain, "type"), space=_text(plain, "space"), **_whose(plain))


def _presence(plain: dict[str, Any]) -> Trigger:
    to = plain.get("to")
    if not isinstance(to, list) or not to or any(one not in VERDICTS for one in to):
        raise Invalid(f"are one or more of {', '.join(VERDICTS)}", field=_f("to"))
    return Trigger("presence", plain, to=tuple(to), for_s=_seconds(plain), **_whose(plain))


def _telemetry(plain: dict[str, Any]) -> Trigger:
    if ("above" in plain) == ("below" in plain):
        raise Invalid("say either above or below", field=_f("above"))
    direction: Literal["above", "below"] = "above" if "above" in plain else "below"
    bound = _number(plain, direction)
    rearm = _number(plain, "rearm") if "rearm" in plain else bound
    if (rearm > bound) if direction == "above" else (rearm < bound):
        raise Invalid(f"is not on the other side of {direction}", field=_f("rearm"))
    threshold = Threshold(direction, bound, rearm)
    stream = _level(plain, "stream")
    return Trigger("telemetry", plain, stream=stream, threshold=threshold, for_s=_seconds(plain), **_whose(plain))


def _time(plain: dict[str, Any]) -> Trigger:
    zone = _text(plain, "zone") or "UTC"
    schedules.zone_of(zone, _f("zone"))
    if ("at" in plain) == ("cron" in plain):
        raise Invalid("say either when (at) or how often (cron)", field=_f("at"))
    if "cron" in plain:
        cron = schedules.check_cron(_text(plain, "cron") or "", _f("cron"))
        return Trigger("time", plain, cron=cron, zone=zone)
    hour, _, minute = (_text(plain, "at") or "").partition(":")
    if not (hour.isdigit() and minute.isdigit() and len(minute) == 2 and int(hour) < 24 and int(minute) < 60):
        raise Invalid("is a time as in 07:30", field=_f("at"))
    days = plain.get("days") or list(DAYS)
    if not isinstance(days, list) or any(one not in DAYS for one in days):
        raise Invalid(f"are some of {', '.join(DAYS)}", field=_f("days"))
    return Trigger("time", plain, cron=f"{int(minute)} {int(hour)} * * {','.join(dict.fromkeys(days))}", zone=zone)


def _whose(plain: Mapping[str, Any]) -> dict[str, Any]:
    device, tag = _text(plain, "device"), _text(plain, "tag")
    if device and tag:
        raise Invalid("name a satellite or a tag, not both", field=_f("tag"))
    if device:
        try:
            check_handle(device)
        except BadName as error:
            raise Invalid(error.rule, field=_f("device")) from None
    if tag:
        try:
            check_tag(tag)
        except Invalid as error:
            raise Invalid(error.message, field=_f("tag")) from None
    return {"device": device, "tag": tag}


def _seconds(plain: Mapping[str, Any]) -> float:
    if "for_s" not in plain:
        return 0.0
    seconds = _number(plain, "for_s")
    if not 0 <= seconds <= FOR_MAX_S:
        raise Invalid("is at most a day, in seconds", field=_f("for_s"))
    return seconds


def _number(plain: Mapping[str, Any], name: str) -> float:
    value = plain.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > 1e15:
        raise Invalid("is a number", field=_f(name))
    return float(value)


def _text(plain: Mapping[str, Any], name: str) -> str | None:
    value = plain.get(name)
    if value is None:
        return None
    if not isinstance(value, str) or len(value) > 200 or "\0" in value:
        raise Invalid("is a text of at most 200 characters", field=_f(name))
    return value


def _level(plain: Mapping[str, Any], name: str) -> str:
    value = _text(plain, name)
    if not value:
        raise Invalid("is required", field=_f(name))
    try:
        return check_level(value, name)
    except BadName as error:
        raise Invalid(error.rule, field=_f(name)) from None


def _f(name: str) -> str:
    return f"trigger.{name[:40]}"
