"""What a verb is (a name, a risk, the type of its arguments, a function that does it), and one run of it."""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import msgspec

from hub_protocol.messages import Verb as Announced

# The hub is told how far a verb is at most so often.
PROGRESS_EVERY_S: Final = 1.0


class VerbError(Exception):
    """The verb could not do what was asked; `code` is for programs, the message for people."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Job:
    """One run of a verb, seen from the thread in which it runs: how long it may take, and whether it is still wanted.

    A verb that can take long calls `check` now and then, or waits by `wait`; both raise `VerbError` when it is to end.
    """

    def __init__(self, within_s: float, tell: Callable[[float | None, str], None] | None = None) -> None:
        self._ends = time.monotonic() + within_s
        self._tell = tell
        self._told = 0.0
        self._stop = threading.Event()
        self._why = VerbError("cancelled", "it was cancelled")

    @property
    def remaining_s(self) -> float:
        """Seconds until the command's deadline; negative when it has passed."""
        return self._ends - time.monotonic()

    def stop(self, code: str, message: str) -> None:
        """Say from any thread that the run is to end, and why; the first reason counts."""
        if not self._stop.is_set():
            self._why = VerbError(code, message)
            self._stop.set()

    def fault(self) -> VerbError | None:
        """Why the run is to end now; None: it goes on."""
        if self._stop.is_set():
            return self._why
        if self.remaining_s <= 0:
            return VerbError("deadline", "it was not done before the command's deadline, and was ended")
        return None

    def check(self) -> None:
        if fault := self.fault():
            raise fault

    def wait(self, seconds: float) -> None:
        """Sleep, and not a moment longer than the run is wanted."""
        self._stop.wait(max(0.0, min(seconds, self.remaining_s)))
        self.check()

    def progress(self, done: float | None, message: str = "") -> None:
        """Tell how far it is, from 0 to 1; what comes too soon after the last is left out."""
        now = time.monotonic()
        if self._tell is not None and now - self._told >= PROGRESS_EVERY_S:
            self._told = now
            self._tell(None if done is None else min(1.0, max(0.0, done)), message)


@dataclass(frozen=True, slots=True)
class Verb:
    """`run` gets checked arguments and its job, works in a thread of its own, and returns a JSON value or raises
    `VerbError`.

    With `in_thread` False it is quick, and works where the satellite's state lives. `afterwards` is called when its
    success has been written down. `schema` stands in for the schema of `args` where that says too little.
    """

    name: str
    risk: Literal["low", "medium", "high"]
    args: type[msgspec.Struct]
    run: Callable[[Any, Job], Any]
    in_thread: bool = True
    schema: Mapping[str, Any] | None = None
    afterwards: Callable[[str], None] | None = None

    def announced(self) -> Announced:
        """The verb as `hello` tells it to the hub."""
        if self.schema is not None:
            return Announced(name=self.name, risk=self.risk, args_schema=dict(self.schema))
        _, schemas = msgspec.json.schema_components([self.args])
        return Announced(name=self.name, risk=self.risk, args_schema=schemas[self.args.__name__])
