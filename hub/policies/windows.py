"""A window of time: days of the week, from and to by a zone's clock; over midnight it belongs to the day it began."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from typing import Any, Final

from hub import schedules
from hub.errors import Invalid

DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


@dataclass(frozen=True, slots=True)
class Window:
    """Open from `begin` until just before `end`; equal ones mean the whole day."""

    days: frozenset[str]
    begin: time
    end: time
    zone: str

    def holds(self, now: datetime) -> bool:
        """Whether this moment is within."""
        local = now.astimezone(schedules.zone_of(self.zone, "zone"))
        clock, today = local.time(), DAYS[local.weekday()]
        if self.begin == self.end:
            return today in self.days
        if self.begin < self.end:
            return today in self.days and self.begin <= clock < self.end
        yesterday = DAYS[(local - timedelta(days=1)).weekday()]
        return (today in self.days and clock >= self.begin) or (yesterday in self.days and clock < self.end)


def read(given: Mapping[str, Any], field: str) -> Window:
    """The window; raises `Invalid` for whatever is not wholly clear."""
    if set(given) != {"days", "from", "to", "zone"}:
        raise Invalid("has days, from, to and zone", field=field)
    days = given["days"]
    if not isinstance(days, list) or not days or any(one not in DAYS for one in days):
        raise Invalid(f"are some of {', '.join(DAYS)}", field=f"{field}.days")
    if not isinstance(given["zone"], str):
        raise Invalid("is a time zone as in Europe/Berlin", field=f"{field}.zone")
    schedules.zone_of(given["zone"], f"{field}.zone")
    return Window(
        frozenset(days), _time(given["from"], f"{field}.from"), _time(given["to"], f"{field}.to"), given["zone"]
    )


def _time(given: Any, field: str) -> time:
    hour, _, minute = given.partition(":") if isinstance(given, str) else ("", "", "")
    plain = hour.isascii() and hour.isdigit() and minute.isascii() and minute.isdigit() and len(minute) == 2
    if not plain or len(hour) > 2 or int(hour) > 23 or int(minute) > 59:
        raise Invalid("is a time as in 07:30", field=field)
    return time(int(hour), int(minute))
