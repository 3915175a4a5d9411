"""The tables as SQLModel classes. `sql/` makes them; these mirror it, and a test holds the two together.

Attributes bear the names of the columns, save `metadata_` for `metadata`. There are no relationships: flush a row
before adding one that refers to it. A JSON value changed in place is not noticed: assign a new one.
"""

from hub.tables.access import (
    AuditChain,
    AuditEntry,
    BrokerRetained,
    BrokerSession,
    BrokerState,
    Integration,
    Role,
    RoleAssignment,
    RoleGrant,
    Traffic,
)
from hub.tables.delivery import (
    DeadLetter,
    Denial,
    FeedEntry,
    FeedRevision,
    IdempotencyKey,
    OutboxMessage,
    RetainedTopic,
)
from hub.tables.devices import Command, CommandStep, Credential, Device, DevicePresence
from hub.tables.identity import (
    Agent,
    AgentMembership,
    OneTimeLink,
    PersonalToken,
    SignInBrake,
    Space,
    User,
    UserSession,
)
from hub.tables.knowledge import Action, AuditState, ConsentGrant, Event, Memory, Person, Presence
from hub.tables.legacy import (
    AgentToken,
    LegacyActionStatus,
    LegacyDeviceToken,
    LegacyMembership,
    LegacyMembershipChange,
    LegacyRemote,
    MigrationNote,
    RemoteDeviceMap,
)

__all__ = [
    "Action",
    "Agent",
    "AgentMembership",
    "AgentToken",
    "AuditChain",
    "AuditEntry",
    "AuditState",
    "BrokerRetained",
    "BrokerSession",
    "BrokerState",
    "Command",
    "CommandStep",
    "ConsentGrant",
    "Credential",
    "DeadLetter",
    "Denial",
    "Device",
    "DevicePresence",
    "Event",
    "FeedEntry",
    "FeedRevision",
    "IdempotencyKey",
    "Integration",
    "LegacyActionStatus",
    "LegacyDeviceToken",
    "LegacyMembership",
    "LegacyMembershipChange",
    "LegacyRemote",
    "Memory",
    "MigrationNote",
    "OneTimeLink",
    "OutboxMessage",
    "Person",
    "PersonalToken",
    "Presence",
    "RemoteDeviceMap",
    "RetainedTopic",
    "Role",
    "RoleAssignment",
    "RoleGrant",
    "SignInBrake",
    "Space",
    "Traffic",
    "User",
    "UserSession",
]
