"""Who waits for what the hub makes of an event."""

import asyncio
from dataclasses import dataclass
from typing import Final

DEFAULT_TIMEOUT_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class Sent:
    """What became of an event: stored by the hub, refused for good (with the reason), or neither yet."""

    id: str
    stored: bool
    refused: str = ""
    why: str = ""


class Receipts:
    """Events that somebody waits for, by id."""

    def __init__(self) -> None:
        self._waiting: dict[str, asyncio.Future[str]] = {}

    def expect(self, event_id: str) -> None:
        """Take note of an event before it is sent, so that its receipt cannot come too early."""
        self._waiting[event_id] = asyncio.get_running_loop().create_future()

    def settle(self, message_id: str, refused: str = "") -> None:
        """The hub stored this message, or refused it for good."""
        waiting = self._waiting.get(message_id)
        if waiting is not None and not waiting.done():
            waiting.set_result(refused)

    async def wait(self, event_id: str, timeout_s: float) -> Sent:
        """Wait for an expected event; neither stored nor refused when the time is over."""
        try:
            async with asyncio.timeout(timeout_s):
                refused = await self._waiting[event_id]
                return Sent(event_id, stored=not refused, refused=refused)
        except TimeoutError:
            return Sent(event_id, stored=False)
        finally:
            self._waiting.pop(event_id, None)
