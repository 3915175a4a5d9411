"""Agents, their spaces, and the people who sign in and belong to them."""

import uuid
from datetime import datetime

from sqlmodel import Field, SQLModel

from hub.tables.columns import FALSE, JSON, TIMESTAMPTZ, created, default, moment, new_uuid_key


class Agent(SQLModel, table=True):
    """One assistant: the owner of everything that bears its agent_id."""

    __tablename__ = "agents"
    agent_id: uuid.UUID = new_uuid_key()
    name: str
    disabled: bool = Field(default=False, sa_column_kwargs=FALSE)
    created_at: datetime = created()
    about: str = Field(default="", sa_column_kwargs=default("''"))
    revision: int = Field(default=1, sa_column_kwargs=default("1"))
    deleted_at: datetime | None = moment()
    deleted_by: str | None = None


class AgentRetention(SQLModel, table=True):
    """For how many days an agent keeps what it gathers, where it does not go by the defaults."""

    __tablename__ = "agent_retention"
    agent_id: uuid.UUID = Field(foreign_key="agents.agent_id", ondelete="CASCADE", primary_key=True)
    events_days: int
    telemetry_days: int
    commands_days: int
    denials_days: int
    dead_letters_days: int
    revision: int = Field(default=1, sa_column_kwargs=default("1"))
    presence_days: int = Field(default=30, sa_column_kwargs=default("30"))
    actions_days: int = Field(default=365, sa_column_kwargs=default("365"))


class Space(SQLModel, table=True):
    """A room or another place of an agent."""

    __tablename__ = "spaces"
    space_id: uuid.UUID = new_uuid_key()
    agent_id: uuid.UUID = Field(foreign_key="agents.agent_id", ondelete="CASCADE")
    name: str
    privacy_mode: bool = Field(default=False, sa_column_kwargs=FALSE)
    created_at: datetime = created()
    revision: int = Field(default=1, sa_column_kwargs=default("1"))


class RetiredSpace(SQLModel, table=True):
    """A space that was deleted, for the events that happened there."""

    __tablename__ = "retired_spaces"
    space_id: uuid.UUID = Field(primary_key=True)
    agent_id: uuid.UUID = Field(foreign_key="agents.agent_id", ondelete="CASCADE")
    name: str
    retired_at: datetime = created()


class User(SQLModel, table=True):
    """Somebody who may sign in."""

    __tablename__ = "users"
    user_id: uuid.UUID = new_uuid_key()
    cognito_sub: str | None = Field(default=None, unique=True)
    email: str | None = None
    created_at: datetime = created()
    display_name: str | None = None
    last_seen: datetime | None = moment()
    password_hash: str | None = None
    disabled: bool = Field(default=False, sa_column_kwargs=FALSE)


class AgentMembership(SQLModel, table=True):
    """What a user is to an agent: owner, admin, member, guest or blocked."""

    __tablename__ = "agent_memberships"
    agent_id: uuid.UUID = Field(foreign_key="agents.agent_id", ondelete="CASCADE", primary_key=True)
    user_id: uuid.UUID = Field(foreign_key="users.user_id", ondelete="CASCADE", primary_key=True)
    role: str
    relationship_label: str | None = None
    created_at: datetime = created()
    revoked_at: datetime | None = moment()


class UserSession(SQLModel, table=True):
    """One browser in which a user is signed in."""

    __tablename__ = "user_sessions"
    session_id: uuid.UUID = new_uuid_key()
    user_id: uuid.UUID = Field(foreign_key="users.user_id", ondelete="CASCADE")
    token_hash: str = Field(unique=True)
    user_agent: str = Field(default="", sa_column_kwargs=default("''"))
    address: str = Field(default="", sa_column_kwargs=default("''"))
    created_at: datetime = created()
    last_seen_at: datetime = created()
    expires_at: datetime = Field(sa_type=TIMESTAMPTZ)


class UserIdentity(SQLModel, table=True):
    """Who a user is at an OpenID Connect provider."""

    __tablename__ = "user_identities"
    issuer: str = Field(primary_key=True)
    subject: str = Field(primary_key=True)
    user_id: uuid.UUID = Field(foreign_key="users.user_id", ondelete="CASCADE")
    created_at: datetime = created()


class ForeignSignIn(SQLModel, table=True):
    """A sign-in at a provider that has not come back yet."""

    __tablename__ = "foreign_sign_ins"
    token_hash: str = Field(primary_key=True)
    state_hash: str
    nonce: str
    code_verifier: str
    redirect_uri: str
    behind: str
    expires_at: datetime = Field(sa_type=TIMESTAMPTZ)


class OneTimeLink(SQLModel, table=True):
    """A link that lets its bearer in once: setup, invite or reset; or, signed in, into a further agent: join."""

    __tablename__ = "one_time_links"
    link_id: uuid.UUID = new_uuid_key()
    purpose: str
    token_hash: str = Field(unique=True)
    user_id: uuid.UUID | None = Field(default=None, foreign_key="users.user_id", ondelete="CASCADE")
    created_at: datetime = created()
    expires_at: datetime = Field(sa_type=TIMESTAMPTZ)
    used_at: datetime | None = moment()
    agent_id: uuid.UUID | None = Field(default=None, foreign_key="agents.agent_id", ondelete="CASCADE")
    role: str | None = None
    invited_by: str | None = None


class SignInBrake(SQLModel, table=True):
    """How often signing in failed for an account or from an address."""

    __tablename__ = "sign_in_brakes"
    key: str = Field(primary_key=True)
    failures: int
    last_failure_at: datetime = Field(sa_type=TIMESTAMPTZ)
    retry_at: datetime = Field(sa_type=TIMESTAMPTZ)


class PersonalToken(SQLModel, table=True):
    """The hash of a token with which a user's scripts use HTTP."""

    __tablename__ = "personal_tokens"
    token_id: uuid.UUID = new_uuid_key()
    user_id: uuid.UUID = Field(foreign_key="users.user_id", ondelete="CASCADE")
    name: str
    token_hash: str = Field(unique=True)
    scopes: list[str] = Field(sa_type=JSON)
    created_at: datetime = created()
    expires_at: datetime = Field(sa_type=TIMESTAMPTZ)
    last_used_at: datetime | None = moment()
    revoked_at: datetime | None = moment()
