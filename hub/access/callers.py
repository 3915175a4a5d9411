"""Who asks something of the hub by HTTP or by `request/<op>`: a device or a person, and what they may ask.

A caller answers one question, `permit`: may you do this, and with which agent? Whoever is let through works with the
agent id that comes back, and finds nothing of another agent.
"""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from sqlalchemy import text
from sqlmodel import Session

from hub import identity
from hub.access import credentials, decide, permissions, personal_tokens
from hub.access.principals import INTEGRATION_PREFIX
from hub.access.scopes import VOCABULARY
from hub.audit.actors import Actor
from hub.errors import Forbidden, Invalid, NotFound, Unauthenticated
from hub.sessions import Visitor

_NO_AGENT: Final = "there is no such agent among yours"
_TOKEN_MAX: Final = 512


@dataclass(frozen=True, slots=True)
class DeviceCaller:
    """A device that proved who it is with its token."""

    device_id: uuid.UUID
    agent_id: uuid.UUID
    handle: str
    space_id: uuid.UUID | None
    scopes: tuple[str, ...]

    @property
    def name(self) -> str:
        """What its limits and its idempotency keys are kept under."""
        return f"device:{self.device_id}"

    @property
    def label(self) -> Actor:
        """Its name in ledgers."""
        return Actor(self.handle, "device")

    def permit(self, scope: str, agent_id: uuid.UUID | None = None) -> uuid.UUID:
        """Its agent, if it has the scope; raises `Forbidden` naming what is missing, `NotFound` for another agent."""
        if agent_id not in (None, self.agent_id):
            raise NotFound(_NO_AGENT, field="agent")
        if scope not in VOCABULARY:
            raise Forbidden("this is for people, not for devices")
        decide.require(self.scopes, scope)
        return self.agent_id


@dataclass(frozen=True, slots=True)
class PersonCaller:
    """A person: signed in with a browser, or by a personal token that narrows what the role gives."""

    user_id: uuid.UUID
    email: str
    display_name: str
    roles: Mapping[uuid.UUID, str] = field(default_factory=dict)
    session_id: uuid.UUID | None = None
    token: personal_tokens.Bearer | None = None

    @property
    def name(self) -> str:
        """What its limits and its idempotency keys are kept under."""
        return f"user:{self.user_id}"

    @property
    def label(self) -> Actor:
        """The name in ledgers; a token is named with it."""
        who = self.email or self.display_name or str(self.user_id)
        return Actor(f"{who} (token {self.token.token_name})" if self.token else who, "person")

    def may(self, agent_id: uuid.UUID) -> frozenset[str]:
        """All permissions in this agent."""
        return permissions.narrowed(self.roles.get(agent_id, ""), self.token.scopes if self.token else None)

    def permit(self, scope: str, agent_id: uuid.UUID | None = None) -> uuid.UUID:
        """The agent that is meant, if the person may do this there.

        Raises `NotFound` for an agent that is not theirs, `Invalid` when several could be meant, `Forbidden` naming
        the role or the token's permission that is missing.
        """
        if agent_id is None:
            if len(self.roles) > 1:
                raise Invalid("you belong to several agents; say which one is meant", field="agent")
            if not self.roles:
                raise NotFound("you are not a member of any agent", field="agent")
            agent_id = next(iter(self.roles))
        role = self.roles.get(agent_id)
        if role is None:
            raise NotFound(_NO_AGENT, field="agent")
        if scope not in permissions.PERMISSIONS:
            raise Forbidden(f"{scope} is for devices, not for people")
        if scope not in permissions.of_role(role):
            needed = permissions.PERMISSIONS[scope].role
            raise Forbidden(f"this takes the role {needed} in this agent; yours is {role}")
        if scope not in self.may(agent_id):
            raise Forbidden(f"this token lacks the permission {scope}")
        return agent_id


Caller = DeviceCaller | PersonCaller


def by_token(session: Session, token: str, now: datetime) -> Caller:
    """The caller who bears this token; raises `Unauthenticated` with words that only its bearer gets to see."""
    if not token or len(token) > _TOKEN_MAX or not token.isascii() or not token.isprintable():
        raise Unauthenticated("the token is not one of this hub")
    if token.startswith(personal_tokens.PREFIX):
        bearer = personal_tokens.find_bearer(session, token, now)
        if bearer is None:
            raise Unauthenticated("this token is unknown, has run out or was revoked")
        return PersonCaller(
            bearer.user_id, bearer.email, bearer.display_name, _roles(session, bearer.user_id), token=bearer
        )
    username = token.split(".")[1] if token.count(".") >= 2 else ""
    if not username:
        raise Unauthenticated("the token is not one of this hub")
    found = credentials.authenticate(session, username, token, now)
    if isinstance(found, credentials.Refused):
        is_known = found.code != decide.BAD_CREDENTIALS
        raise Unauthenticated(found.reason if is_known else "the token is wrong", is_known=is_known)
    if found.device_id is None:
        kind = "integrations" if username.startswith(INTEGRATION_PREFIX) else "this"
        raise Unauthenticated(f"{kind} speak MQTT alone; use a device's token or a personal one")
    return device(session, found.device_id)


def device(session: Session, device_id: uuid.UUID) -> DeviceCaller:
    """The device as a caller, without asking for its token: for messages that the broker has vouched for."""
    row = session.execute(
        text("SELECT device_id, agent_id, handle, space_id, scopes FROM devices WHERE device_id = :id"),
        {"id": device_id},
    ).one()
    return DeviceCaller(row.device_id, row.agent_id, row.handle, row.space_id, tuple(row.scopes))


def visitor(session: Session, one: Visitor) -> PersonCaller:
    """A signed-in browser as a caller."""
    user = one.user
    return PersonCaller(
        user.user_id, user.email, user.display_name, _roles(session, user.user_id), session_id=one.session_id
    )


def _roles(session: Session, user_id: uuid.UUID) -> dict[uuid.UUID, str]:
    return {agent.agent_id: role for agent, role in identity.memberships_of(session, user_id)}
