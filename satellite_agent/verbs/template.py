"""A command line with places for arguments: split once in the config, filled argument by argument, never a shell."""

import string
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from satellite_agent.process import check_program


class TemplateError(ValueError):
    """A command in the config is wrong; the message says how."""


@dataclass(frozen=True, slots=True)
class Template:
    """`parts` are the words of a command, the first an absolute program; `{name}` in the others is filled."""

    parts: tuple[str, ...]

    @classmethod
    def parse(cls, command: Sequence[str]) -> "Template":
        """Raises `TemplateError`."""
        if not command or not command[0]:
            raise TemplateError("must name a program")
        if fault := check_program(command[0]):
            raise TemplateError(fault)
        if any("\0" in part for part in command):
            raise TemplateError("must not hold the character U+0000")
        if _names_in(command[0]):
            raise TemplateError("the program itself cannot be an argument")
        template = cls(tuple(command))
        for name in template.names:
            if not name.isidentifier():
                raise TemplateError(f"the place {{{name}}} must hold a plain name; a brace itself is written twice")
        return template

    @property
    def names(self) -> set[str]:
        """The arguments that have a place."""
        return {name for part in self.parts[1:] for name in _names_in(part)}

    def fill(self, values: Mapping[str, str], *, chosen: Collection[str] = ()) -> list[str]:
        """The words with these values in their places. Raises `ValueError` for a value that would become an option: a
        text at the beginning of a word with no `--` before it must not begin with `-`, unless it is among the `chosen`
        names, whose values the config itself wrote or which are numbers.
        """
        words = [self.parts[0]]
        for part in self.parts[1:]:
            word = "".join(
                literal + (values[name] if name is not None else "")
                for literal, name, _, _ in string.Formatter().parse(part)
            )
            is_free = not set(_names_in(part)) <= set(chosen)
            if word.startswith("-") and not part.startswith("-") and is_free and "--" not in self.parts[: len(words)]:
                raise ValueError(f"must not begin with -, for {self.parts[0]} would take it for an option")
            words.append(word)
        return words


def _names_in(part: str) -> list[str]:
    try:
        found = list(string.Formatter().parse(part))
    except ValueError as error:
        raise TemplateError(f"{part!r}: {error}; a brace itself is written twice") from None
    for _, name, form, conversion in found:
        if name is not None and (form or conversion or not name):
            raise TemplateError(f"{part!r}: a place is a name in braces, such as {{station}}")
    return [name for _, name, _, _ in found if name is not None]
