"""The seam between the broker and whoever knows the principals: admit at CONNECT, look again later."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from hub.access.principals import Principal


@dataclass(frozen=True, slots=True)
class Admitted:
    """The secret was right; `credential_id` is what is looked at again when something changes."""

    principal: Principal
    credential_id: uuid.UUID


@dataclass(frozen=True, slots=True)
class Rejected:
    """No entry, with CONNACK's return code: 3 unavailable, 4 wrong name or secret, 5 no longer allowed."""

    reason: str
    code: int


class Authority(Protocol):
    """Knows who may come in. Fails closed: whatever goes wrong becomes `Rejected`, never an exception."""

    async def admit(self, username: str, password: str) -> Admitted | Rejected:
        """Check a username and its secret."""
        ...

    async def review_many(self, asked: Sequence[tuple[str, uuid.UUID]]) -> dict[str, Admitted | Rejected]:
        """What has become of those who were admitted earlier: (username, credential id), each name once.

        Everyone asked about has an answer; it is `Rejected` with code 3 when that cannot be known now.
        """
        ...

    async def ended(self, usernames: Sequence[str]) -> list[str] | None:
        """Those of these names who are nobody any more: revoked, disabled, unknown; None when that is unknown now."""
        ...
