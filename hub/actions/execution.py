"""Does what was approved: claims the action under a lease, has its tool work, and writes what came of it.

Whoever loses a race changes nothing: a job that comes twice, an action that is over, a lease that is another's.
"""

import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec
import structlog
from sqlalchemy import text
from sqlmodel import Session

from hub import audit, events, spaces
from hub.actions import digests, moving, queue
from hub.actions.states import Status
from hub.audit.actors import Actor
from hub.database import Database
from hub.errors import HubError, Invalid
from hub.settings import Settings
from hub.tools import registry
from hub.tools.tool import Context, Done, Tool, ToolError, Waiting
from hub.verbs import has_nul

log = structlog.get_logger(__name__)

# A lease outlives its tool's time-out by this: whoever holds it has ended, one way or the other.
LEASE_MARGIN: Final = timedelta(seconds=10)
# Tools keep to their deadline themselves; one that does not is given up within its lease.
OVERTIME_S: Final = 5.0
TRIES_MAX: Final = 5
FIRST_BACK_OFF_S: Final = 5.0
RESULT_MAX_BYTES: Final = 65_536
ERROR_MAX: Final = 2_000
RESULT_EVENT: Final = "action_result"
HUB: Final = Actor("the hub", "system")
_RUNNING: Final[tuple[Status, ...]] = ("executing",)


@dataclass(frozen=True, slots=True)
class Claimed:
    """An action that is this runner's until the lease ends."""

    action_id: uuid.UUID
    agent_id: uuid.UUID
    space_id: uuid.UUID | None
    tool: str
    args: dict[str, Any]
    lease: uuid.UUID
    attempt: int
    approved_by: str
    is_as_approved: bool


def claim(session: Session, action_id: uuid.UUID, now: datetime) -> Claimed | None:
    """Take an approved action that is due; None when there is nothing to do: done, taken, not due, its agent off."""
    row = session.execute(
        text(
            "SELECT a.agent_id, a.space_id, a.kind, a.payload, a.approved_digest, a.decided_by, a.attempt "
            "FROM actions AS a JOIN agents AS g USING (agent_id) WHERE a.action_id = :id AND a.status = 'approved' "
            "AND (a.run_after IS NULL OR a.run_after <= :now) AND NOT g.disabled FOR NO KEY UPDATE OF a"
        ),
        {"id": action_id, "now": now},
    ).first()
    if row is None:
        return None
    known = registry.load().get(row.kind)
    timeout_s = known.timeout_s if known is not None else 0.0
    lease = uuid.uuid4()
    session.execute(
        text(
            "UPDATE actions SET status = 'executing', lease = :lease, lease_until = :until, attempt = attempt + 1, "
            "executed_at = coalesce(executed_at, :now), updated_at = :now "
            "WHERE action_id = :id AND status = 'approved'"
        ),
        {"id": action_id, "lease": lease, "until": now + timedelta(seconds=timeout_s) + LEASE_MARGIN, "now": now},
    )
    note = f"try {row.attempt + 1}" if row.attempt else ""
    moving.step(session, row.agent_id, action_id, "executing", at=now, witness=str(HUB), note=note)
    return Claimed(
        action_id,
        row.agent_id,
        row.space_id,
        row.kind,
        row.payload,
        lease,
        row.attempt + 1,
        row.decided_by or "",
        digests.of(row.agent_id, row.kind, row.payload, row.space_id) == row.approved_digest,
    )


def run(
    database: Database,
    settings: Settings,
    action_id: uuid.UUID,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> None:
    """Do one action, if it is there to be done. No transaction is open while its tool works."""
    with database.transaction() as session:
        claimed = claim(session, action_id, clock())
    if claimed is None:
        return
    tool = registry.load().get(claimed.tool)
    outcome: Done | Waiting | ToolError
    if not claimed.is_as_approved:
        outcome = ToolError("it is not what was approved, so it was not done")
    elif tool is None:
        outcome = ToolError(f"there is no tool {claimed.tool} any more")
    else:
        outcome = _work(database, settings, claimed, tool, clock())
    is_repeatable = claimed.is_as_approved and tool is not None and tool.is_repeatable
    with database.transaction() as session:
        finish(session, claimed, outcome, clock(), is_repeatable=is_repeatable)


def _work(
    database: Database, settings: Settings, claimed: Claimed, tool: Tool, now: datetime
) -> Done | Waiting | ToolError:
    context = Context(
        database,
        settings,
        claimed.action_id,
        claimed.agent_id,
        claimed.space_id,
        claimed.approved_by,
        claimed.lease,
        now + timedelta(seconds=tool.timeout_s),
        claimed.attempt,
    )
    outcome: list[Done | Waiting | ToolError] = []
    # A tool that does not end is left alone: whatever it still brings is nobody's, for its lease will be another's.
    work = threading.Thread(target=lambda: outcome.append(_try(tool, context, claimed.args)), daemon=True)
    work.start()
    work.join(tool.timeout_s + OVERTIME_S)
    if outcome:
        return outcome[0]
    log.error("action.tool_too_slow", tool=tool.name, action_id=str(claimed.action_id))
    return ToolError(f"it took longer than {tool.timeout_s:g} s", is_certain=False)


def _try(tool: Tool, context: Context, args: dict[str, Any]) -> Done | Waiting | ToolError:
    try:
        return tool.run(context, args)
    except ToolError as error:
        return error
    except HubError as error:  # what it was checked for has changed since: a device is gone, a space is private
        return ToolError(f"{error.field}: {error.message}" if error.field else error.message, is_final=True)
    except Exception as error:
        log.exception("action.tool_broke", tool=tool.name, action_id=str(context.action_id))
        return ToolError(f"the tool broke ({type(error).__name__}); the hub's log says more", is_certain=False)


def finish(
    session: Session, claimed: Claimed, outcome: Done | Waiting | ToolError, now: datetime, *, is_repeatable: bool
) -> None:
    """Write what came of it, if the lease still holds."""
    if isinstance(outcome, Waiting):
        session.execute(
            text(
                "UPDATE actions SET lease_until = :until, updated_at = :now "
                "WHERE action_id = :id AND status = 'executing' AND lease = :lease"
            ),
            {"id": claimed.action_id, "lease": claimed.lease, "until": outcome.until + LEASE_MARGIN, "now": now},
        )
        return
    if isinstance(outcome, Done):
        try:
            result = checked_result(outcome.result)
        except Invalid as error:
            end(session, claimed.action_id, "executed", now, lease=claimed.lease, result={"left out": error.message})
            return
        end(session, claimed.action_id, "executed", now, lease=claimed.lease, result=result)
    elif is_repeatable and not outcome.is_final and claimed.attempt < TRIES_MAX:
        again_at = now + timedelta(seconds=FIRST_BACK_OFF_S * 3 ** (claimed.attempt - 1))
        try_again(session, claimed.action_id, again_at, now, outcome.message, lease=claimed.lease)
    else:
        status: Status = "failed" if outcome.is_certain or is_repeatable else "unknown"
        end(session, claimed.action_id, status, now, lease=claimed.lease, error=outcome.message)


def try_again(
    session: Session,
    action_id: uuid.UUID,
    again_at: datetime,
    now: datetime,
    why: str,
    *,
    lease: uuid.UUID | None = None,
) -> bool:
    """Back to the queue: its tool may be repeated."""
    moved = moving.move(
        session,
        action_id,
        "approved",
        at=now,
        was=_RUNNING,
        witness=str(HUB),
        note=f"to be tried again: {why}"[:ERROR_MAX],
        lease=lease,
        run_after=again_at,
        error=why[:ERROR_MAX],
    )
    if moved:
        queue.put(session, action_id, run_after=again_at)
    return moved


def end(
    session: Session,
    action_id: uuid.UUID,
    status: Status,
    now: datetime,
    *,
    lease: uuid.UUID | None = None,
    result: Any = None,
    error: str | None = None,
    witness: str = str(HUB),
    note: str = "",
) -> bool:
    """The action is over, or nobody knows: stored, told as an event in its space, audited. False for who is late."""
    error = error[:ERROR_MAX].replace("\0", "\N{REPLACEMENT CHARACTER}") if error is not None else None
    moved = moving.move(
        session,
        action_id,
        status,
        at=now,
        witness=witness,
        note=note or (error or ""),
        lease=lease,
        result=result,
        error=error,
    )
    if not moved:
        return False
    row = session.execute(
        text("SELECT agent_id, space_id, kind, digest FROM actions WHERE action_id = :id"), {"id": action_id}
    ).one()
    if not spaces.private_among(session, [row.space_id]):
        told = {"action_id": str(action_id), "tool": row.kind, "status": status, "result": result, "error": error}
        events.append(
            session,
            [
                events.NewEvent(
                    device_id=None,
                    agent_id=row.agent_id,
                    handle=None,
                    space_id=row.space_id,
                    message_id=uuid.uuid4().hex,
                    type=RESULT_EVENT,
                    payload=told,
                    epoch=None,
                    seq=None,
                    happened_at=now,
                    received_at=now,
                )
            ],
        )
    audit.record(
        session,
        row.agent_id,
        by=HUB,
        action=f"action.{status}",
        subject=row.kind,
        subject_id=action_id,
        after={"digest": row.digest, "error": error},
    )
    return True


def checked_result(result: Any) -> Any:
    """The result as plain JSON that can be kept; raises `Invalid` for what is too large or no JSON."""
    try:
        encoded = msgspec.json.encode(result)
    except (RecursionError, TypeError, ValueError, msgspec.MsgspecError):
        raise Invalid("the result is no JSON", field="result") from None
    if len(encoded) > RESULT_MAX_BYTES:
        raise Invalid(f"the result is larger than {RESULT_MAX_BYTES:,} bytes", field="result")
    plain = msgspec.json.decode(encoded)
    if has_nul(plain):
        raise Invalid("the result holds the character U+0000", field="result")
    return plain
