"""One question to the decision, and its answer with the reason; the address holds the question."""

from typing import Annotated, Final, Literal

from fastapi import APIRouter, Query, Request, Response

from hub.access import overview
from web.dependencies import Db, MemberAgent, WebSettings
from web.pages.access_frame import show
from web.pages.access_overview import known_topics, topic_problem

router = APIRouter(prefix="/access/try")

ACTIONS: Final = (
    ("publish", "publish to a topic"),
    ("subscribe", "subscribe to a filter"),
    ("receive", "be sent what comes on a topic"),
    ("connect", "connect, perhaps with a Will"),
)


@router.get("")
def ask(
    request: Request,
    current: MemberAgent,
    session: Db,
    settings: WebSettings,
    username: Annotated[str, Query(max_length=200)] = "",
    action: Literal["connect", "publish", "subscribe", "receive"] = "publish",
    topic: Annotated[str, Query(max_length=1_024)] = "",
    will: Annotated[str, Query(max_length=1_024)] = "",
) -> Response:
    """The form and, when the question is whole, the verdict."""
    topic, will = topic.strip(), will.strip()
    problem = topic_problem(action, topic) if action != "connect" else topic_problem("publish", will)
    decision = None
    if username and not problem and (topic or action == "connect"):
        asked = "" if action == "connect" else topic
        decision = overview.try_it(
            session, current.agent_id, username, action, asked, will=will or None, root=settings.root
        )
    return show(
        request,
        "try.html",
        current,
        session,
        tab="/access/try",
        principals=overview.by_principal(session, current.agent_id, settings.root),
        actions=ACTIONS,
        username=username,
        action=action,
        topic=topic,
        will=will,
        problem=problem,
        decision=decision,
        root=settings.root,
        known_topics=known_topics(session, current.agent_id, settings.root),
    )
