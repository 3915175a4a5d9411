"""What keeps a page live: a short-lived MQTT credential, its renewal, and whatever the page missed."""

import uuid
from datetime import datetime
from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field
from sqlalchemy import text
from sqlmodel import Session

from hub import feed
from hub.access import changes, credentials
from hub.access.principals import FEEDS_OF_GUESTS
from hub.identity import require_role
from hub.tables import UserSession
from hub_protocol.catalogue import FEEDS
from hub_protocol.messages import MAX_SAFE_INTEGER
from hub_protocol.topics import Topics
from web import mqtt_proxy
from web.dependencies import CurrentVisitor, Db, Now, WebSettings

router = APIRouter()
router.include_router(mqtt_proxy.router)

# Open pages of one sign-in that can be live at once; beyond that the one opened first falls silent.
PAGES_PER_SESSION: Final = 60


class Asked(BaseModel):
    """A page that wants to be live for one agent."""

    agent_id: UUID


class Renewed(BaseModel):
    """A page that wants to stay live."""

    username: Annotated[str, Field(max_length=64)]


@router.post("/live/credential")
def credential(asked: Asked, visitor: CurrentVisitor, session: Db, settings: WebSettings, now: Now) -> dict[str, Any]:
    """A credential for one page: subscribe only, ten minutes, renewable, gone with the sign-in."""
    role = require_role(session, visitor.user.user_id, asked.agent_id, "guest")
    feeds = FEEDS_OF_GUESTS if role == "guest" else ("+",)
    user_session = session.get_one(UserSession, visitor.session_id)
    _make_room(session, visitor.session_id, now)
    username, password, expires_at = credentials.issue_for_session(session, user_session, now)
    topics = Topics(settings.root)
    return {
        "url": "/mqtt",
        "username": username,
        "client_id": username,
        "password": password,
        "expires_at": expires_at,
        "now": now,
        "root": settings.root,
        "topics": [
            *(f"{settings.root}/ui/{asked.agent_id}/{feed}" for feed in feeds),
            topics.hub_status(),
        ],
        "rev": feed.revision(session, asked.agent_id),
    }


@router.post("/live/renew")
def renew(asked: Renewed, visitor: CurrentVisitor, session: Db, now: Now) -> dict[str, datetime]:
    """Ten more minutes for this page's credential; 404 when it has run out or belongs to another sign-in."""
    expires_at = credentials.renew(session, asked.username, visitor.session_id, now)
    return {"expires_at": expires_at, "now": now}


@router.get("/live/since")
def since(
    agent: UUID,
    rev: Annotated[int, Query(ge=0, le=MAX_SAFE_INTEGER)],
    visitor: CurrentVisitor,
    session: Db,
    now: Now,
) -> dict[str, Any]:
    """Everything told to the agent's pages after `rev`, or `reset` when that is too much or too long ago."""
    role = require_role(session, visitor.user.user_id, agent, "guest")
    gap = feed.since(session, agent, rev, feeds=FEEDS_OF_GUESTS if role == "guest" else FEEDS)
    return {"rev": gap.rev, "messages": gap.messages, "reset": gap.reset, "now": now}


def _make_room(session: Session, session_id: uuid.UUID, now: datetime) -> None:
    """Take back the oldest credentials of a sign-in that has too many, and end what they hold open."""
    ended = session.execute(
        text(
            "DELETE FROM credentials WHERE credential_id IN ("
            " SELECT credential_id FROM credentials WHERE session_id = :session_id AND kind = 'browser'"
            " AND expires_at > :now ORDER BY created_at DESC OFFSET :kept) RETURNING username"
        ),
        {"session_id": session_id, "now": now, "kept": PAGES_PER_SESSION - 1},
    ).scalars()
    for username in ended.all():
        changes.announce(session, username, "ended", f"more than {PAGES_PER_SESSION} pages are open")
