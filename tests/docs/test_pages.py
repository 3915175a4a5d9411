"""The pages for people: every link leads somewhere, every command that is shown exists, every setting is real."""

import re
from pathlib import Path

import click
import pytest

from hub.access.scopes import VOCABULARY
from hub.actions.states import STATUSES
from hub.settings import Settings
from hub.tools import registry
from marvain.__main__ import marvain
from satellite_agent.__main__ import main as satellite

REPOSITORY = Path(__file__).parents[2]
PAGES = [REPOSITORY / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")] + sorted(
    (REPOSITORY / "docs").rglob("*.md")
)


def name_of(page: Path) -> str:
    return str(page.relative_to(REPOSITORY))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_leads_somewhere(page):
    for target in re.findall(r"\]\(([^)#\s]+)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{name_of(page)} links to {target}"


def test_the_page_of_actions_names_every_state_and_every_tool_as_it_is():
    page = (REPOSITORY / "docs/actions.md").read_text()
    for status in STATUSES:
        assert f"| {status} |" in page
    # Other tests register tools of their own in the same process.
    ours = {name: tool for name, tool in registry.load().items() if tool.run.__module__.startswith("hub.tools.")}
    rows = {line.split("`")[1]: line for line in page.splitlines() if line.startswith("| `")}
    assert set(rows) == set(ours)
    for name, tool in ours.items():
        row = rows[name]
        assert all(f"`{scope}`" in row for scope in tool.scopes)
        assert row.endswith("| yes |" if tool.is_repeatable else "| no |")


def words_of(text: str, program: str) -> list[list[str]]:
    """The commands of a program that a page shows in code: indented lines and spans."""
    code = re.findall(r"`([^`\n]+)`", text) + [line.strip() for line in text.splitlines() if line.startswith("    ")]
    return [line.split()[1:] for line in code if line.startswith(program + " ")]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
@pytest.mark.parametrize(("program", "group"), [("marvain", marvain), ("marvain-satellite", satellite)])
def test_every_command_that_is_shown_exists(page, program, group):
    for words in words_of(page.read_text(), program):
        command: click.Command = group
        for word in words:
            if not isinstance(command, click.Group) or not re.fullmatch(r"[a-z-]+", word):
                break
            found = command.get_command(click.Context(command), word)
            assert found, f"{name_of(page)}: {program} {' '.join(words)}"
            command = found
        options = {option for one in command.params for option in one.opts}
        shown = {word.split("=")[0] for word in words for word in re.findall(r"--[a-z][a-z-]+", word)}
        assert shown <= options | {"--help"}, f"{name_of(page)}: {program} {' '.join(words)}"


def test_every_scope_is_on_the_page_of_access():
    text = (REPOSITORY / "docs/access.md").read_text()
    assert [name for name in VOCABULARY if f"`{name}`" not in text] == []


def test_every_variable_on_the_page_of_operations_is_a_setting_or_of_the_command_line():
    shown = set(re.findall(r"MARVAIN_[A-Z_]+", (REPOSITORY / "docs/operations.md").read_text()))
    known = {f"MARVAIN_{name.upper()}" for name in Settings.model_fields}
    assert shown <= known | {"MARVAIN_DATA"}
