"""Entries of the audit in words: what was done, and the facts that differ."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from hub.tables import AuditEntry

_MOST_SHOWN: Final = 40
_LONGEST: Final = 300


@dataclass(frozen=True, slots=True)
class Line:
    """One fact that changed: what is gone and what has come, each a readable text."""

    name: str
    gone: list[str]
    come: list[str]


@dataclass(frozen=True, slots=True)
class Change:
    """An entry of the audit in words; `mark` is the beginning of its hash."""

    at: datetime
    by: str
    kind: str
    what: str
    subject: str
    lines: list[Line]
    seq: int | None
    mark: str


def in_words(entry: AuditEntry) -> Change:
    """The entry with its difference, fact by fact."""
    what = f"{action_words(entry.action)}:"
    lines = difference(entry.before or {}, entry.after or {})
    mark = (entry.hash or "")[:10]
    return Change(entry.at, entry.actor, entry.actor_kind, what, entry.subject, lines, entry.seq, mark)


def action_words(action: str) -> str:
    """An action as people read it: "Role scopes changed" for "role.scopes_changed"."""
    return action.replace(".", " ").replace("_", " ").capitalize()


def difference(before: dict[str, Any], after: dict[str, Any]) -> list[Line]:
    """The facts that differ; of lists only what was taken out and put in."""
    lines = []
    for name in dict.fromkeys([*before, *after]):
        old, new = _texts(before.get(name)), _texts(after.get(name))
        gone = [one for one in old if one not in new]
        come = [one for one in new if one not in old]
        if gone or come:
            lines.append(Line(name.replace("_", " "), _cut(gone), _cut(come)))
    return lines


def _texts(value: Any) -> list[str]:
    if value in (None, "", False, [], {}):
        return []
    if isinstance(value, list):
        return [_text(one) for one in value]
    return [_text(value)]


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        # A grant reads "publish x/…"; whatever else has parts is listed with their names.
        if set(value) == {"action", "filter"}:
            return f"{value['action']} {value['filter']}"
        words = ", ".join(f"{name}: {_text(one)}" for name, one in value.items())
    elif isinstance(value, list):
        words = " ".join(_text(one) for one in value)
    else:
        words = str(value)
    return words if len(words) <= _LONGEST else words[: _LONGEST - 1] + "…"


def _cut(texts: list[str]) -> list[str]:
    more = len(texts) - _MOST_SHOWN
    return texts if more <= 0 else [*texts[:_MOST_SHOWN], f"and {more} more"]
