"""What all operations share: the model that a question is parsed into, its errors in our words, and the cursor."""

import uuid
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from hub.errors import Invalid

PAGE_MAX: Final = 200
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
# Year 9999; a later one would not be a time.
_LATEST: Final = 253_402_300_800 * 1_000_000


class Question(BaseModel):
    """A request's parameters; what it does not know it refuses, so that a misspelt filter never means "all"."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Body(BaseModel):
    """An answer's body."""

    model_config = ConfigDict(frozen=True)


Q = TypeVar("Q", bound=Question)


def parse(kind: type[Q], given: Mapping[str, Any]) -> Q:
    """The question that a JSON object asks; raises `Invalid` naming the field and the rule."""
    try:
        return kind.model_validate(given)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(str(part) for part in first["loc"]) or None
        raise Invalid(first["msg"], field=field) from None


def write_cursor(at: datetime, row_id: uuid.UUID) -> str:
    """Where a page ends, for rows ordered by (time, id)."""
    return f"{(at - _EPOCH) // _MICROSECOND}-{row_id.hex}"


def read_cursor(given: str, field: str = "before") -> tuple[datetime, uuid.UUID]:
    """The time and the id in a cursor; raises `Invalid` for anything that `write_cursor` did not make."""
    micros, _, row_id = given.partition("-")
    is_time = micros.isascii() and micros.isdigit() and len(micros) <= 18 and int(micros) < _LATEST
    try:
        last = uuid.UUID(hex=row_id)
    except ValueError:
        is_time = False
    if not is_time:
        raise Invalid("is the `next` of an earlier page", field=field)
    return _EPOCH + int(micros) * _MICROSECOND, last
