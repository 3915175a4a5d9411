"""The ways in which a database and the migrations of this program do not fit."""

from hub.errors import HubError


class SchemaError(HubError):
    """Base of all refusals around migrations; the message says what to do."""


class SchemaOutdated(SchemaError):
    """The database lacks migrations that this program needs."""


class SchemaAhead(SchemaError):
    """The database has migrations that this program does not know."""


class SchemaEdited(SchemaError):
    """A migration file was changed after it had been applied."""


class SchemaForeign(SchemaError):
    """The database has tables of ours in a shape that is not ours."""


class MigrationFailed(SchemaError):
    """A file could not be applied or rolled back; nothing of it remains."""
