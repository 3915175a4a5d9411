"""Work that blocks, done in a thread that nobody waits for at the end."""

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")


class Work(asyncio.Future[Result]):
    """What a thread is doing; `thread` may outlive whoever waited for it. `ended` is called in the loop at its end."""

    thread: threading.Thread


def start(function: Callable[[], Result], ended: Callable[[], None] = lambda: None) -> Work[Result]:
    """Do it in a thread of its own. The process ends without it, so what hangs in the system holds nobody up."""
    loop = asyncio.get_running_loop()
    work: Work[Result] = Work(loop=loop)

    def arrive(result: Result | None, error: BaseException | None) -> None:
        ended()
        if work.done():
            return
        if error is not None:
            work.set_exception(error)
        else:
            work.set_result(result)  # type: ignore[arg-type]

    def run() -> None:
        result: Result | None = None
        error: BaseException | None = None
        try:
            result = function()
        except BaseException as raised:  # noqa: BLE001 - whoever waits gets it
            error = raised
        with contextlib.suppress(RuntimeError):  # the loop is closed: the satellite has ended
            loop.call_soon_threadsafe(arrive, result, error)

    work.thread = threading.Thread(target=run, name="work", daemon=True)
    work.thread.start()
    return work
