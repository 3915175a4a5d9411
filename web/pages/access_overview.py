"""Who may do what: everybody with all of their permissions, and everybody's verdict on one topic."""

import uuid
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Query, Request, Response
from sqlmodel import Session

from hub import device_views
from hub.access import overview, roles
from hub.access.grants import valid_filter, valid_topic
from hub.access.overview import PrincipalView
from web.dependencies import Db, MemberAgent, WebSettings
from web.pages.access_frame import show

router = APIRouter(prefix="/access")

SHOWN: Final = 60
_COMPLETED_DEVICES: Final = 100


@router.get("")
def principals(
    request: Request,
    current: MemberAgent,
    session: Db,
    settings: WebSettings,
    find: Annotated[str, Query(max_length=100)] = "",
) -> Response:
    """Everybody of the agent, or those in whose names, scopes or roles `find` stands; the first `SHOWN`."""
    everybody = overview.by_principal(session, current.agent_id, settings.root)
    found = [one for one in everybody if _matches(one, find)]
    role_ids = {role.name: role.role_id for role in roles.list_roles(session, current.agent_id)}
    return show(
        request,
        "principals.html",
        current,
        session,
        tab="/access",
        find=find,
        principals=found[:SHOWN],
        hidden_count=max(0, len(found) - SHOWN),
        role_ids=role_ids,
    )


@router.get("/topics")
def topics(
    request: Request,
    current: MemberAgent,
    session: Db,
    settings: WebSettings,
    action: Literal["publish", "subscribe"] = "publish",
    topic: Annotated[str, Query(max_length=1_024)] = "",
) -> Response:
    """Who may publish to a topic or subscribe to a filter, and what the others lack."""
    topic = topic.strip()
    problem = topic_problem(action, topic)
    found = overview.by_topic(session, current.agent_id, action, topic, settings.root) if topic and not problem else []
    return show(
        request,
        "topics.html",
        current,
        session,
        tab="/access/topics",
        action=action,
        topic=topic,
        problem=problem,
        root=settings.root,
        may=[one for one in found if one[1].allowed],
        may_not=[one for one in found if not one[1].allowed],
        known_topics=known_topics(session, current.agent_id, settings.root),
    )


def topic_problem(action: str, topic: str) -> str:
    """What is wrong with a topic (or, subscribing, a filter) that somebody typed; "" when nothing is typed or wrong."""
    if not topic:
        return ""
    if action == "subscribe":
        return "" if valid_filter(topic) else "This is not a topic filter: + stands for a whole level, # for the rest."
    return "" if valid_topic(topic) else "Wildcards are for subscribing: name one topic, without + and #."


def known_topics(session: Session, agent_id: uuid.UUID, root: str) -> list[str]:
    """Topics of this agent that a field can complete."""
    known = [f"{root}/hub/status", f"{root}/x/{agent_id}/#", f"{root}/ui/{agent_id}/#"]
    for one in device_views.overview(session, agent_id)[:_COMPLETED_DEVICES]:
        if one.revoked_at is None:
            known += [f"{root}/d/{one.handle}/{what}" for what in ("presence", "state", "hello", "cmd/#")]
    return known


def _matches(one: PrincipalView, find: str) -> bool:
    words: list[Any] = [one.name, one.username, one.kind, *one.scopes, *one.roles]
    return find.strip().casefold() in " ".join(words).casefold()
