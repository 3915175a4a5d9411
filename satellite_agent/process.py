"""Runs one program of this machine: no shell, a small environment, bounded time and output, and nothing of it left."""

import contextlib
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final

from satellite_agent.verbs.verb import Job, VerbError

# What every program gets; nothing of the satellite's own environment, which may hold its token.
ENVIRONMENT: Final = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8"}
_LOOK_EVERY_S: Final = 0.05
_CHUNK: Final = 65_536
# Between the polite signal and the other one.
_TO_LEAVE_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class Limits:
    """`output_max_bytes` bounds each of standard output and standard error; what is beyond is read and dropped."""

    timeout_s: float = 30.0
    output_max_bytes: int = 16_384


@dataclass(frozen=True, slots=True)
class Done:
    """How a program ended; `exit_code` is negative for the signal that ended it."""

    exit_code: int
    stdout: bytes
    stderr: bytes
    truncated: bool
    took_s: float


@dataclass(slots=True)
class _Stream:
    limit: int
    heard: Callable[[bytes], None] | None
    kept: bytearray = field(default_factory=bytearray)
    truncated: bool = False

    def take(self, data: bytes) -> None:
        room = self.limit - len(self.kept)
        self.kept += data[:room]
        self.truncated = self.truncated or len(data) > room
        if self.heard is not None:
            self.heard(data)


def run(
    command: Sequence[str],
    job: Job,
    limits: Limits,
    *,
    stdin: bytes = b"",
    environment: Mapping[str, str] | None = None,
    directory: str = "/",
    heard: Callable[[bytes], None] | None = None,
) -> Done:
    """Run it to its end. `heard` gets each piece of standard output as it comes.

    The program leads a process group. When it has ended, or its time is over, or the job is to end, all that is left of
    the group is killed. Raises `VerbError`: no_program, time_limit, or what the job says (deadline, cancelled).
    """
    began = time.monotonic()
    job.check()
    try:
        process = subprocess.Popen(  # noqa: S603 - an absolute program and its arguments, never a shell
            list(command),
            stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**ENVIRONMENT, **(environment or {})},
            cwd=directory,
            start_new_session=True,
            bufsize=0,
        )
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise VerbError("no_program", f"{command[0]} cannot be started: {reason}") from None
    out, err = _Stream(limits.output_max_bytes, heard), _Stream(limits.output_max_bytes, None)
    fault: VerbError | None = None
    with contextlib.closing(_Pipes(process, out, err, stdin)) as pipes:
        while not _has_ended(process):
            pipes.move(_LOOK_EVERY_S)
            fault = job.fault()
            if fault is None and time.monotonic() - began >= limits.timeout_s:
                fault = VerbError("time_limit", f"it took longer than {limits.timeout_s:g} s and was ended")
            if fault is not None:
                _ask_to_leave(process, pipes)
                break
        # Before it is reaped, for only then is the group's number surely still its own.
        _signal(process, signal.SIGKILL)
        process.wait()
        pipes.move_what_is_there()
    if fault is not None:
        raise fault
    took = time.monotonic() - began
    return Done(process.returncode, bytes(out.kept), bytes(err.kept), out.truncated or err.truncated, round(took, 3))


def check_program(path: str) -> str | None:
    """What is wrong with a program's path as it stands in a config; None: nothing."""
    if not Path(path).is_absolute():
        return "the program must be an absolute path, such as /usr/bin/mpc"
    return None


class _Pipes:
    """Standard input, output and error of one process, moved without ever blocking."""

    def __init__(self, process: "subprocess.Popen[bytes]", out: _Stream, err: _Stream, stdin: bytes) -> None:
        self._selector = selectors.DefaultSelector()
        self._ends: list[IO[bytes]] = []
        self._left = memoryview(stdin)
        self._stdin = process.stdin
        for end, stream in ((process.stdout, out), (process.stderr, err)):
            self._watch(end, selectors.EVENT_READ, stream)
        self._watch(process.stdin, selectors.EVENT_WRITE, None)

    def move(self, within_s: float) -> bool:
        """Wait for something to move, and move it; False when nothing did."""
        if not self._selector.get_map():
            time.sleep(within_s)
            return False
        moved = False
        for key, _ in self._selector.select(within_s):
            moved = True
            if key.data is None:
                self._write()
            else:
                self._read(key.fileobj, key.data)  # type: ignore[arg-type]
        return moved

    def move_what_is_there(self) -> None:
        # A program that left its group may hold the pipe for ever: only what is there now counts.
        for _ in range(64):
            if not self._selector.get_map() or not self.move(0):
                return

    def close(self) -> None:
        self._selector.close()
        for end in self._ends:
            with contextlib.suppress(OSError):
                end.close()

    def _watch(self, end: IO[bytes] | None, what: int, stream: _Stream | None) -> None:
        if end is not None:
            os.set_blocking(end.fileno(), False)
            self._ends.append(end)
            self._selector.register(end, what, stream)

    def _read(self, end: IO[bytes], stream: _Stream) -> None:
        data = os.read(end.fileno(), _CHUNK)
        if data:
            stream.take(data)
        else:
            self._selector.unregister(end)

    def _write(self) -> None:
        assert self._stdin is not None  # noqa: S101 - it is watched only when it is there
        try:
            self._left = self._left[os.write(self._stdin.fileno(), self._left[:_CHUNK]) :]
        except BrokenPipeError:
            self._left = self._left[:0]
        if not self._left:
            self._selector.unregister(self._stdin)
            self._stdin.close()


def _has_ended(process: "subprocess.Popen[bytes]") -> bool:
    # Looked at without reaping it: as long as it is a zombie, its number and that of its group name nobody else.
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _ask_to_leave(process: "subprocess.Popen[bytes]", pipes: _Pipes) -> None:
    _signal(process, signal.SIGTERM)
    until = time.monotonic() + _TO_LEAVE_S
    while time.monotonic() < until and not _has_ended(process):
        pipes.move(_LOOK_EVERY_S)


def _signal(process: "subprocess.Popen[bytes]", number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)
