"""Every change of access as people read it: who did what, and what it was before and after."""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request, Response

from hub import audit
from hub.tables import AuditEntry
from web.dependencies import Db, MemberAgent
from web.pages.access_frame import show

router = APIRouter(prefix="/access/history")

PER_PAGE: Final = 50
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
    """An entry of the audit in words."""

    at: datetime
    by: str
    what: str
    subject: str
    lines: list[Line]


@router.get("")
def history(
    request: Request, current: MemberAgent, session: Db, before: Annotated[int, Query(ge=0, le=2**63 - 1)] = 0
) -> Response:
    """One page of changes, the newest first."""
    found = audit.entries(session, current.agent_id, before_id=before or None, limit=PER_PAGE + 1)
    shown = found[:PER_PAGE]
    return show(
        request,
        "history.html",
        current,
        session,
        tab="/access/history",
        entries=[in_words(entry) for entry in shown],
        before=before,
        older=shown[-1].entry_id if len(found) > PER_PAGE else None,
    )


def in_words(entry: AuditEntry) -> Change:
    """The entry with its difference, fact by fact."""
    noun, _, verb = entry.action.partition(".")
    what = f"{noun.replace('_', ' ').capitalize()} {verb.replace('_', ' ')}:"
    return Change(entry.at, entry.actor, what, entry.subject, difference(entry.before or {}, entry.after or {}))


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
    if value in (None, "", False):
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
