"""An invitation into a further agent, for somebody who has an account: what it offers, and accepting it."""

from fastapi import APIRouter, Request, Response

from hub import joining
from web.dependencies import CurrentVisitor, Db, MaybeAgent, Now
from web.templating import redirect, render

router = APIRouter(prefix="/join")


@router.get("/{token}")
def show(request: Request, token: str, visitor: CurrentVisitor, _: MaybeAgent, session: Db, now: Now) -> Response:
    """What is offered, and to whom."""
    offer = joining.peek(session, token, now)
    return render(request, "join.html", offer=offer, token=token, is_mine=offer.user_id == visitor.user.user_id)


@router.post("/{token}")
def accept(request: Request, token: str, visitor: CurrentVisitor, session: Db, now: Now) -> Response:
    """Join."""
    offer = joining.accept(session, token, visitor.user.user_id, now)
    return redirect(request, f"/devices?agent={offer.agent_id}", message=f"You belong to {offer.agent_name} now.")
