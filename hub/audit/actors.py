"""Who did it: a name as people know it that also says of which kind its bearer is."""

from typing import Final, Literal, Self

Kind = Literal["person", "device", "integration", "policy", "system"]
KINDS: Final[tuple[Kind, ...]] = ("person", "device", "integration", "policy", "system")


class Actor(str):
    """The name of somebody who changes something, to be handed on as `by=` wherever a plain name is."""

    __slots__ = ("kind",)
    kind: Kind

    def __new__(cls, name: str, kind: Kind) -> Self:
        actor = super().__new__(cls, name)
        actor.kind = kind
        return actor


def kind_of(by: str) -> Kind:
    """The kind of a name: its own, where it has one; a bare name is a person's when it is an e-mail address."""
    if isinstance(by, Actor):
        return by.kind
    return "person" if "@" in by else "system"
