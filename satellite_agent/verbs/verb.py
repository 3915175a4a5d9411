"""What a verb is: a name, a risk, the type of its arguments, and a function that does it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from hub_protocol.messages import Verb as Announced


class VerbError(Exception):
    """The verb could not do what was asked; `code` is for programs, the message for people."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Verb:
    """`run` gets checked arguments, works in a thread of its own, and returns a JSON value or raises `VerbError`.

    With `in_thread` False it is quick, and works where the satellite's state lives.
    """

    name: str
    risk: Literal["low", "medium", "high"]
    args: type[msgspec.Struct]
    run: Callable[[Any], Any]
    in_thread: bool = True

    def announced(self) -> Announced:
        """The verb as `hello` tells it to the hub."""
        _, schemas = msgspec.json.schema_components([self.args])
        return Announced(name=self.name, risk=self.risk, args_schema=schemas[self.args.__name__])
