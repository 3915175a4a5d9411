"""Writes what a bench measured: JSON for machines and a Markdown table for people, both named for the bench."""

import json
import os
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

RESULTS = Path(__file__).parent / "results"


def write(name: str, title: str, rows: Sequence[Mapping[str, object]], *, folder: Path = RESULTS) -> None:
    """Write `rows` (the same keys in each: the columns) to `<folder>/<name>.json` and `.md`, and print the table."""
    facts = {
        "bench": name,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "rows": list(rows),
    }
    folder.mkdir(parents=True, exist_ok=True)
    folder.joinpath(f"{name}.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    lines = [
        f"# {title}",
        "",
        f"{facts['at']}, Python {facts['python']}, {facts['cores']} cores.",
        "",
        f"| {' | '.join(rows[0])} |",
        f"|{'---|' * len(rows[0])}",
        *(f"| {' | '.join(_cell(value) for value in row.values())} |" for row in rows),
    ]
    folder.joinpath(f"{name}.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines), flush=True)


def _cell(value: object) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return f"{value:,.2f}" if isinstance(value, float) else str(value)
