"""Many ids in one query value."""

import uuid
from typing import Final

from hub.errors import Invalid

IDS_MAX: Final = 100


def parse_ids(ids: str) -> list[uuid.UUID]:
    """UUIDs with commas between, at most `IDS_MAX`; raises `Invalid`."""
    parts = [part for part in ids.split(",") if part]
    if len(parts) > IDS_MAX:
        raise Invalid(f"at most {IDS_MAX} ids at once", field="ids")
    try:
        return [uuid.UUID(part) for part in parts]
    except ValueError:
        raise Invalid("ids are UUIDs with commas between", field="ids") from None
