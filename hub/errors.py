"""The few ways in which the domain says no, named for what the caller does next.

`message` is for people and never holds a secret; `field` names the input that is meant, when one is.
"""


class HubError(Exception):
    """Base of all refusals of the domain."""

    def __init__(self, message: str, *, field: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.field = field


class Invalid(HubError):
    """The input breaks a rule; change it and try again."""


class Unauthenticated(HubError):
    """Nobody is signed in; sign in and try again.

    `is_known`: what was shown is right, and its bearer is not let in all the same; nobody is guessing.
    """

    def __init__(self, message: str, *, is_known: bool = False) -> None:
        super().__init__(message)
        self.is_known = is_known


class Forbidden(HubError):
    """The caller is known and may not do this."""


class NotFound(HubError):
    """There is no such thing, or the caller may not know of it."""


class Conflict(HubError):
    """The thing is no longer in the state that the request expects; look again."""


class Throttled(HubError):
    """Too many attempts; wait `retry_after_s` seconds."""

    def __init__(self, message: str, *, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
