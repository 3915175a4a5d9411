"""What an earlier system left behind is read by the migrations alone: nobody gets in by a row of it."""

import re
from pathlib import Path

import pytest

import hub.tables
import hub.tables.legacy

ROOT = Path(hub.__file__).parents[1]
CLASSES = {
    name: model.__tablename__
    for name, model in vars(hub.tables.legacy).items()
    if getattr(model, "__module__", "") == hub.tables.legacy.__name__ and hasattr(model, "__tablename__")
}
# Their names before they were put aside, too.
LEGACY = sorted({*CLASSES.values(), *(table.removeprefix("legacy_") for table in CLASSES.values())})
SOURCES = [
    file
    for folder in ("hub", "web", "broker", "marvain", "satellite_agent", "hub_protocol")
    for file in (ROOT / folder).rglob("*.py")
    if not file.is_relative_to(ROOT / "hub" / "migrations") and file != Path(hub.tables.legacy.__file__)
]


def test_there_is_something_to_look_for() -> None:
    assert {"legacy_memberships", "legacy_remotes", "agent_tokens"} <= set(LEGACY)
    assert len(SOURCES) > 150


@pytest.mark.parametrize("table", LEGACY)
def test_nothing_reads_or_writes_it(table: str) -> None:
    named = re.compile(rf"\b(FROM|JOIN|INTO|UPDATE|USING|TABLE)\s+{table}\b", re.IGNORECASE)
    assert [str(file.relative_to(ROOT)) for file in SOURCES if named.search(file.read_text("utf-8"))] == []


def test_no_module_uses_its_classes() -> None:
    named = re.compile(rf"\b({'|'.join(CLASSES)})\b")
    users = {str(file.relative_to(ROOT)) for file in SOURCES if named.search(file.read_text("utf-8"))}
    assert users == {"hub/tables/__init__.py"}
