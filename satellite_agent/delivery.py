"""What to send next in one connection: new messages in order, old ones again when their receipt does not come."""

import heapq
from typing import Final

from satellite_agent.outbox import Kind, Outbox, Row

RECEIPT_TIMEOUT_S: Final = 30.0
LONGEST_WAIT_S: Final = 600.0
# That many events go out without any receipt; then the hub is not there and the rest stays in the outbox.
WINDOW: Final = 256
CHUNK: Final = 32


class Delivery:
    """The state of sending within one connection; a new connection starts a new one, and so from the oldest row.

    Replies pass by a backlog of events. Times are seconds of any steady clock.
    """

    def __init__(self, outbox: Outbox, *, window: int = WINDOW, receipt_timeout_s: float = RECEIPT_TIMEOUT_S) -> None:
        self._outbox = outbox
        self._window = window
        self._timeout_s = receipt_timeout_s
        self._sent_up_to: dict[Kind, int] = {"reply": 0, "event": 0}
        self._attempts: dict[int, int] = {}
        self._due: list[tuple[float, int]] = []
        self._unanswered = 0

    def take(self, now: float) -> list[Row]:
        """The rows to publish now, at most `CHUNK`; they count as sent."""
        rows: list[Row] = []
        while self._due and self._due[0][0] <= now and len(rows) < CHUNK:
            _, seq = heapq.heappop(self._due)
            row = self._outbox.at(seq) if seq in self._attempts else None
            if row is None:
                self._attempts.pop(seq, None)
            else:
                rows.append(row)
        rows += self._new("reply", CHUNK - len(rows))
        fresh = self._new("event", min(CHUNK - len(rows), self._window - self._unanswered))
        self._unanswered += len(fresh)
        rows += fresh
        for row in rows:
            attempt = self._attempts[row.seq] = self._attempts.get(row.seq, 0) + 1
            wait = min(self._timeout_s * 2 ** min(attempt - 1, 16), LONGEST_WAIT_S)
            heapq.heappush(self._due, (now + wait, row.seq))
        return rows

    def answered(self, seqs: list[int]) -> None:
        """A receipt came: the hub is there, so the window opens again."""
        self._unanswered = 0
        for seq in seqs:
            self._attempts.pop(seq, None)

    def again_at(self) -> float | None:
        """When the next repetition is due; None when nothing waits for a receipt."""
        while self._due and self._due[0][1] not in self._attempts:
            heapq.heappop(self._due)
        return self._due[0][0] if self._due else None

    def _new(self, kind: Kind, limit: int) -> list[Row]:
        rows = self._outbox.after(kind, self._sent_up_to[kind], limit) if limit > 0 else []
        if rows:
            self._sent_up_to[kind] = rows[-1].seq
        return rows
