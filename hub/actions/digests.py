"""What an action is, in one string: people and policies approve exactly this, and exactly this runs."""

import hashlib
import json
import uuid
from collections.abc import Mapping
from decimal import Decimal
from typing import Any


def of(agent_id: uuid.UUID, tool: str, args: Mapping[str, Any], space_id: uuid.UUID | None) -> str:
    """SHA-256, in hex, of the canonical form: the same in whatever order and form the arguments were given.

    Raises ValueError for what is no JSON (NaN, infinity).
    """
    facts = {"agent": str(agent_id), "args": _plain(args), "space": str(space_id) if space_id else None, "tool": tool}
    canonical = json.dumps(facts, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def _plain(value: Any) -> Any:
    """The value with its numbers written out: Postgres gives 1e22 back as an integer, and 1.50 as 1.5.

    Written so, a number is a string that no string can be: U+0000 is refused in arguments.
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        exact = Decimal(repr(value))
        if not exact.is_finite():
            raise ValueError("no JSON has this number")
        return "\0" + (format(exact.normalize(), "f") if exact else "0")
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return value
