"""The roles that somebody ticked for one integration: as a form's text, and known again when they are saved."""

import hashlib
import uuid
from collections.abc import Iterable
from dataclasses import dataclass

from hub.errors import Invalid

_NONE = "-"


@dataclass(frozen=True, slots=True)
class RoleChoice:
    """Ids of roles, each once."""

    role_ids: frozenset[uuid.UUID]

    @classmethod
    def of(cls, role_ids: Iterable[uuid.UUID]) -> "RoleChoice":
        """These roles."""
        return cls(frozenset(role_ids))

    @classmethod
    def read(cls, text: str) -> "RoleChoice":
        """The roles of a text with commas between; "-" stands for none. Raises `Invalid` for what is no id."""
        try:
            return cls.of(uuid.UUID(one) for one in text.split(",") if one not in {"", _NONE})
        except ValueError:
            raise Invalid("are roles of this agent", field="roles") from None

    @property
    def text(self) -> str:
        """The same as `read` takes it."""
        return ",".join(sorted(map(str, self.role_ids))) or _NONE

    @property
    def mark(self) -> str:
        """What tells that a choice is the very one that was previewed."""
        return hashlib.sha256(self.text.encode()).hexdigest()[:32]

    def fields(self, *, was: "RoleChoice") -> list[tuple[str, str]]:
        """A form that saves this choice in place of `was`, as hidden fields."""
        ticked = [("roles", str(role_id)) for role_id in sorted(self.role_ids)]
        return [*ticked, ("was", was.text), ("previewed", self.mark), ("do", "save")]
