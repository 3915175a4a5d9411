"""Named actions: a fixed command with places for arguments, each of which is held to a declared rule."""

import math
import re
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from hub_protocol.topics import LEVEL_PATTERN
from satellite_agent.process import Limits
from satellite_agent.verbs.template import Template, TemplateError

_NAME: Final = re.compile(LEVEL_PATTERN)
_MOST_TEXT: Final = 1_024

Plain = str | int | float | bool


class ArgumentError(ValueError):
    """An argument breaks its rule; the message names it."""


class Argument(msgspec.Struct, forbid_unknown_fields=True):
    """The rule for one argument. A text needs `choices` or a `pattern`, which it has to match whole."""

    type: Literal["text", "integer", "number"] = "text"
    about: Annotated[str, Meta(max_length=200)] = ""
    pattern: str | None = None
    max_length: Annotated[int, Meta(ge=1, le=_MOST_TEXT)] = 200
    choices: list[str | int | float] = []
    min: float | None = None
    max: float | None = None
    default: str | int | float | None = None

    def fault_of_rule(self) -> str | None:
        """What is wrong with the rule itself."""
        if self.type == "text":
            if self.pattern is None and not self.choices:
                return "a text needs a pattern or choices"
            if self.min is not None or self.max is not None:
                return "min and max are for numbers"
            try:
                re.compile(self.pattern or "")
            except re.error as error:
                return f"the pattern cannot be read: {error}"
        elif self.pattern is not None:
            return "a pattern is for a text"
        try:
            for one in [*self.choices, *([] if self.default is None else [self.default])]:
                self.check(one)
        except ArgumentError as error:
            return f"breaks its own rule: {error}"
        return None

    def check(self, value: Any) -> str:
        """The value as a word of a command. Raises `ArgumentError`."""
        if self.choices and value not in self.choices:
            raise ArgumentError(f"is one of {', '.join(map(str, self.choices))}")
        if self.type == "text":
            return self._check_text(value)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise ArgumentError("is a number")
        if self.type == "integer" and not (isinstance(value, int) or value.is_integer()):
            raise ArgumentError("is a whole number")
        if (self.min is not None and value < self.min) or (self.max is not None and value > self.max):
            raise ArgumentError(f"is a number {self._range()}")
        return str(int(value)) if self.type == "integer" else repr(value)

    def shown(self) -> str:
        """The rule in a few words, for the hub's form."""
        if self.choices:
            rule = " | ".join(map(str, self.choices))
        elif self.type == "text":
            rule = f"text like {self.pattern}"
        else:
            rule = f"{self.type} {self._range()}".strip()
        return (
            rule
            + ("" if self.default is None else f", else {self.default}")
            + (f" ({self.about})" if self.about else "")
        )

    def _check_text(self, value: Any) -> str:
        if not isinstance(value, str):
            raise ArgumentError("is a text")
        if len(value) > self.max_length:
            raise ArgumentError(f"has at most {self.max_length} characters")
        if "\0" in value or not value.isprintable():
            raise ArgumentError("must not hold control characters")
        if self.pattern is not None and not re.fullmatch(self.pattern, value):
            raise ArgumentError(f"must match {self.pattern}")
        return value

    def _range(self) -> str:
        lowest = "" if self.min is None else f"from {self.min:g}"
        highest = "" if self.max is None else f"to {self.max:g}"
        return f"{lowest} {highest}".strip()


class Action(msgspec.Struct, forbid_unknown_fields=True):
    """`[verbs.run_action.<name>]`: one command; `progress` is a pattern whose first group is a number of percent."""

    command: list[str]
    about: Annotated[str, Meta(max_length=200)] = ""
    args: dict[str, Argument] = {}
    timeout_s: Annotated[float, Meta(gt=0, le=86_400)] = 30.0
    output_max_bytes: Annotated[int, Meta(ge=0, le=24_000)] = 16_384
    environment: dict[str, str] = {}
    directory: str = "/"
    stdin: str = ""
    progress: str | None = None

    @property
    def limits(self) -> Limits:
        return Limits(self.timeout_s, self.output_max_bytes)

    def fault(self) -> str | None:
        """What is wrong with the action as it stands in the config."""
        try:
            places = Template.parse(self.command).names
        except TemplateError as error:
            return f"command: {error}"
        for name, argument in self.args.items():
            if fault := argument.fault_of_rule():
                return f"args.{name}: {fault}"
        if places != set(self.args):
            odd = sorted(places ^ set(self.args))
            return f"command and args must name the same arguments, which {', '.join(odd)} is not"
        if not self.directory.startswith("/"):
            return "directory: must be an absolute path"
        if any("\0" in text or "=" in name for name, text in self.environment.items()):
            return "environment: a name must not hold ="
        try:
            has_group = self.progress is None or re.compile(self.progress).groups > 0
        except re.error as error:
            return f"progress: the pattern cannot be read: {error}"
        return None if has_group else "progress: the pattern needs a group, such as (\\d+)%"

    def fill(self, given: Mapping[str, Any]) -> list[str]:
        """The command with these arguments. Raises `ArgumentError` naming the one that is wrong."""
        for name in given:
            if name not in self.args:
                raise ArgumentError(f"args.{name[:63]}: is unknown; known are {', '.join(self.args) or 'none'}")
        values: dict[str, str] = {}
        for name, argument in self.args.items():
            value = given.get(name, argument.default)
            if value is None:
                raise ArgumentError(f"args.{name}: is required")
            try:
                values[name] = argument.check(value)
            except ArgumentError as error:
                raise ArgumentError(f"args.{name}: {error}") from None
        chosen = [name for name, argument in self.args.items() if argument.choices or argument.type != "text"]
        try:
            return Template(tuple(self.command)).fill(values, chosen=chosen)
        except ValueError as error:
            raise ArgumentError(f"args: {error}") from None

    def shown(self) -> str:
        """What it does and takes, for the hub's form."""
        takes = "; ".join(f"{name}: {argument.shown()}" for name, argument in self.args.items())
        return ", ".join(part for part in (self.about, f"takes {takes}" if takes else "") if part)


def fault_of_name(name: str) -> str | None:
    return None if _NAME.fullmatch(name) else "a name is 1 to 63 of A-Z a-z 0-9 _ -"
