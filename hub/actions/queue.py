"""Puts an action into the job queue, within the transaction that approves it. A job carries the id and nothing else."""

import uuid
from datetime import datetime
from typing import Final

from sqlalchemy import text
from sqlmodel import Session

QUEUE: Final = "actions"
TASK: Final = "hub.actions.run"


def put(session: Session, action_id: uuid.UUID, *, run_after: datetime | None = None) -> None:
    """Let a runner take this action after the commit, not before `run_after`.

    Were the job lost, the sweep would put it again: the row of the action is the truth.
    """
    session.execute(
        text(
            "SELECT procrastinate_defer_jobs_v1(ARRAY[ROW(CAST(:queue AS varchar), CAST(:task AS varchar), 0, "
            "CAST(NULL AS text), CAST(NULL AS text), jsonb_build_object('action_id', CAST(:id AS text)), "
            "CAST(:at AS timestamptz))]::procrastinate_job_to_defer_v1[])"
        ),
        {"queue": QUEUE, "task": TASK, "id": str(action_id), "at": run_after},
    )
