"""A net below all tests that run the product in their own process: no change by the product without an audit entry."""

import re
import sys
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, Engine, event

_ROOT: Final = Path(__file__).resolve().parents[2]
_PRODUCT: Final = ("hub", "web", "broker", "marvain")
_WRITES: Final = re.compile(r"\b(INSERT INTO|UPDATE|DELETE FROM)\s+(\w+)", re.IGNORECASE)
_CHANGED: Final = "marvain_changed"

# What people, devices, integrations and policies change on purpose. What merely happens (presence, events, samples,
# feeds, brakes) is no change of anybody's, and each of the ledgers of commands and of settings tells of itself.
GUARDED: Final = frozenset(
    {
        "agent_memberships",
        "agents",
        "automations",
        "action_approvals",
        "approval_rules",
        "claim_codes",
        "command_batches",
        "device_config",
        "device_tags",
        "devices",
        "enrolments",
        "integrations",
        "notify_channels",
        "one_time_links",
        "outside_hosts",
        "personal_tokens",
        "policies",
        "role_assignments",
        "role_grants",
        "roles",
        "spaces",
        "telemetry_streams",
        "user_identities",
        "user_sessions",
        "users",
    }
)


class Net:
    """Collects what was committed without an entry, as words for a failing test."""

    def __init__(self) -> None:
        self.holes: list[str] = []

    def open(self) -> None:
        """Watch every engine of this process."""
        event.listen(Engine, "after_cursor_execute", self._executed)
        event.listen(Engine, "commit", self._committed)
        event.listen(Engine, "rollback", self._forget)
        event.listen(Engine, "rollback_savepoint", self._forget)

    def close(self) -> None:
        """Watch no longer."""
        event.remove(Engine, "after_cursor_execute", self._executed)
        event.remove(Engine, "commit", self._committed)
        event.remove(Engine, "rollback", self._forget)
        event.remove(Engine, "rollback_savepoint", self._forget)

    def _executed(
        self, connection: Connection, cursor: Any, statement: str, _parameters: Any, _context: Any, _many: Any
    ) -> None:
        for _, table in _WRITES.findall(statement):
            if table == "audit_entries":
                connection.info[_CHANGED] = None
            elif table in GUARDED and cursor.rowcount and not _is_no_change(statement):
                writer = _writer()
                if writer is not None and connection.info.get(_CHANGED, "") is not None:
                    connection.info[_CHANGED] = f"{writer} wrote {table}: {statement[:160]}"

    def _committed(self, connection: Connection) -> None:
        if hole := connection.info.pop(_CHANGED, None):
            self.holes.append(hole)

    def _forget(self, connection: Connection, *_savepoint: Any) -> None:
        connection.info.pop(_CHANGED, None)


def _is_no_change(statement: str) -> bool:
    """What a request leaves behind without changing anything that anybody sees as theirs."""
    return any(re.search(pattern, statement) for pattern in NO_CHANGE)


# A stream comes to be, and tells its newest value, with the samples; to have it forgotten is somebody's act.
# That somebody was here is no change of theirs, and what has had its time goes by itself.
NO_CHANGE: Final = (
    r"^(INSERT INTO|UPDATE) telemetry_streams",
    r"SET last_(seen|seen_at|used_at) = ",
    r"DELETE FROM \w+( AS \w+)? WHERE (\w+\.)?(created_at|expires_at) <",
    # What an automation does is told by the actions that it proposes.
    r"UPDATE automations SET (next_at|last_fired_at|last_error) = ",
)


def _writer() -> str | None:
    """The line of the product that wrote; None when the test itself did."""
    frame = sys._getframe(2)
    while frame is not None:
        if frame.f_code.co_name == "_autoflush":
            return None  # a question has written what somebody else had added
        file = Path(frame.f_code.co_filename)
        if file.is_relative_to(_ROOT) and ".venv" not in file.parts:
            inside = file.relative_to(_ROOT)
            if inside.parts[0] == "tests" and file != Path(__file__):
                return None
            if inside.parts[0] in _PRODUCT and inside.as_posix() != "hub/database.py":
                return f"{inside}:{frame.f_lineno}"
        frame = frame.f_back
    return None
