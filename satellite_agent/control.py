"""The control socket: `send` and `status` talk to the running satellite, one JSON line each way."""

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, Final

import msgspec

log = logging.getLogger(__name__)

# Twice the largest event, for its payload may be written with spaces.
MAX_LINE: Final = 256 * 1024
_READ_TIMEOUT_S: Final = 10.0
# sun_path holds 108 bytes on Linux and 104 elsewhere, with the final NUL.
_LONGEST_PATH: Final = 100

Answer = dict[str, Any]
Answering = Callable[[dict[str, Any]], Awaitable[Answer]]


class ControlError(Exception):
    """The running satellite cannot be asked; the message says why."""


class NotServed(ControlError):
    """No process listens on the socket."""


@contextlib.asynccontextmanager
async def serve(path: Path, answer: Answering) -> AsyncIterator[None]:
    """Answer requests on the socket at `path` while the context lasts; the caller holds the lock of the folder."""
    listener = _listen(path)
    try:
        server = await asyncio.start_unix_server(
            lambda reader, writer: _converse(reader, writer, answer), sock=listener, limit=MAX_LINE
        )
    except BaseException:
        listener.close()
        raise
    try:
        yield
    finally:
        server.close()
        _remove(path)


def ask(path: Path, request: dict[str, Any], timeout_s: float) -> Answer:
    """Ask the satellite that serves `path`; raises `ControlError` when none answers in time."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as link:
        link.settimeout(timeout_s)
        try:
            with _reachable(path) as name:
                link.connect(name)
            link.sendall(msgspec.json.encode(request) + b"\n")
            with link.makefile("rb") as stream:
                line = stream.readline(MAX_LINE)
        except TimeoutError:
            raise ControlError(f"the running satellite did not answer within {timeout_s:g} s") from None
        except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError):
            raise NotServed(f"no satellite runs with the state folder {path.parent}") from None
        except OSError as error:
            raise ControlError(f"the satellite at {path} cannot be asked: {error.strerror}") from None
    if not line:
        raise ControlError("the satellite stopped before it answered")
    try:
        return msgspec.json.decode(line, type=Answer)
    except msgspec.MsgspecError as error:
        raise ControlError(f"the running satellite answered something odd: {error}") from None


async def _converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answer: Answering) -> None:
    try:
        async with asyncio.timeout(_READ_TIMEOUT_S):
            line = await reader.readline()
        if line:
            request = msgspec.json.decode(line, type=dict[str, Any])
            writer.write(msgspec.json.encode(await answer(request)) + b"\n")
            await writer.drain()
    except (TimeoutError, ConnectionError):
        log.debug("a client of the control socket went away")
    except (ValueError, msgspec.MsgspecError, RecursionError) as error:  # ValueError: a line over the limit
        with contextlib.suppress(ConnectionError):
            writer.write(msgspec.json.encode(refusal("request", str(error))) + b"\n")
            await writer.drain()
    finally:
        writer.close()


def _listen(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _remove(path)  # left by a process that was killed
        with _reachable(path) as name:
            listener.bind(name)
        path.chmod(0o600)
    except BaseException:
        listener.close()
        raise
    return listener


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink()


def refusal(field: str, rule: str) -> Answer:
    return {"ok": False, "field": field, "rule": rule}


@contextlib.contextmanager
def _reachable(path: Path) -> Iterator[str]:
    # A socket's path is short by nature; a long one is used by its last part from within its folder. The working
    # directory belongs to the whole process, so this happens only while no other thread runs: at start, and in the CLI.
    if len(os.fsencode(path)) <= _LONGEST_PATH:
        yield str(path)
        return
    before = os.open(".", os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.chdir(path.parent)
        try:
            yield path.name
        finally:
            os.fchdir(before)
    finally:
        os.close(before)
