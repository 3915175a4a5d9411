"""Vendored files are pinned, whole and licensed, and no page loads anything from elsewhere."""

import hashlib
import json
import re
from pathlib import Path

import pytest

from web.assets import STATIC_DIR, Assets

VENDOR = STATIC_DIR / "vendor"
TEMPLATES = STATIC_DIR.parent / "templates"
ENTRIES = json.loads((VENDOR / "VENDOR.json").read_text())["files"]
OURS = [
    path for path in [*STATIC_DIR.rglob("*"), *TEMPLATES.rglob("*")] if path.is_file() and VENDOR not in path.parents
]


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_every_vendored_file_is_accounted_for() -> None:
    named = {entry["file"] for entry in ENTRIES} | {entry["licence_file"] for entry in ENTRIES} | {"VENDOR.json"}
    assert {path.name for path in VENDOR.iterdir()} == named


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry["file"])
def test_it_is_the_pinned_file(entry: dict[str, str]) -> None:
    assert sha256(VENDOR / entry["file"]) == entry["sha256"]
    assert sha256(VENDOR / entry["licence_file"]) == entry["licence_sha256"]
    assert entry["version"] in entry["file"]
    assert entry["licence"] in {"MIT", "0BSD"}


@pytest.mark.parametrize("path", OURS, ids=lambda path: path.name)
def test_nothing_of_ours_loads_from_elsewhere(path: Path) -> None:
    words = path.read_text().replace('xmlns="http://www.w3.org/2000/svg"', "")
    assert not re.search(r"""(?:src|href|url\(|import |from |fetch\() *=? *["'(]*(?:https?:)?//""", words)


@pytest.mark.parametrize("path", sorted(TEMPLATES.rglob("*.html")), ids=lambda path: path.name)
def test_no_template_holds_script_style_or_handlers(path: Path) -> None:
    # What is left of a template without Jinja's own tags is what a browser gets.
    words = re.sub(r"{[#%].*?[#%]}", "", path.read_text(), flags=re.DOTALL)
    assert not re.search(r"<script(?![^>]*\bsrc=)[^>]*>", words)
    assert not re.search(r"<style|\sstyle\s*=|javascript:|\son[a-z]+\s*=", words, re.IGNORECASE)
    assert not re.search(r"\|\s*safe\b|autoescape\s+false|Markup\(", words)


def test_addresses_change_with_the_content(tmp_path: Path) -> None:
    (tmp_path / "a.js").write_text("export const a = 1;")
    before = Assets(tmp_path)
    (tmp_path / "a.js").write_text("export const a = 2;")
    after = Assets(tmp_path)
    assert before.url("a.js") != after.url("a.js")
    with pytest.raises(KeyError):
        after.url("b.js")
