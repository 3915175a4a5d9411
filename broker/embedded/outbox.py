"""What a connection has to say: gathered once per turn of the loop, held back while the store must write first."""

import asyncio
from typing import Final

from broker.embedded.flow import Flow
from broker.embedded.output import Output
from broker.embedded.packets import MalformedPacket

# Handed to the system before the turn ends once this much has gathered.
_FLUSH_AT: Final = 128 * 1024
# A client that sends on and on and does not read our answers is cut off when so many bytes of them wait.
_MOST_UNREAD: Final = 256 * 1024


class Outbox:
    """The writing half of a connection. `out` waits for the turn's end, for the store, or for the peer to read."""

    __slots__ = ("_output", "_paused", "_sealed", "_unread", "flow", "out", "out_bytes", "transport")

    def __init__(self, output: Output) -> None:
        self._output = output
        self.transport: asyncio.Transport
        self.flow = Flow()
        self.out: list[bytes] = []
        self.out_bytes = 0
        # The transport has enough for now, as the peer does not read; how many bytes of answers wait behind that.
        self._paused = False
        self._unread = 0
        # What was gathered is with the store's writer.
        self._sealed = False

    def has_left(self) -> None:
        """Something left, or nothing was there to leave."""
        raise NotImplementedError

    def has_room(self) -> None:
        """More may be sent than before."""
        raise NotImplementedError

    def unwritten(self) -> None:
        """What was sealed may never leave."""
        raise NotImplementedError

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self._unread = 0
        if not self._output.holding:
            self.flush()
        elif self.out:
            self._output.wake(self)
        self.has_room()

    def send(self, data: bytes) -> None:
        """Write at the end of this turn of the loop, or when the peer reads again."""
        if not self.out:
            self._output.wake(self)
        self.out.append(data)
        self.out_bytes += len(data)
        if self.out_bytes > _FLUSH_AT and not self._output.holding:
            self.flush()

    def flush(self) -> None:
        """Hand to the transport what was gathered."""
        if self._paused or self._sealed or not self.out:
            return
        data = self._gathered()
        self.out_bytes = 0
        # One that has gone meanwhile must not keep what the others of this turn have gathered from leaving.
        if not self.transport.is_closing():
            self.transport.write(data)
        self.has_left()

    def _gathered(self) -> bytes:
        data = b"".join(self.out)
        self.flow.packets_out += len(self.out)
        self.flow.bytes_out += len(data)
        self.out.clear()
        return data

    def seal(self) -> bytes:
        """Hand over what was gathered, which leaves by `written` only when it is true for good."""
        self._sealed = True
        return self._gathered()

    def written(self, data: bytes) -> None:
        """What was sealed may leave."""
        self._sealed = False
        if self._paused and data:
            self.out.insert(0, data)
        else:
            self.out_bytes -= len(data)
            if data and not self.transport.is_closing():
                self.transport.write(data)
            self.has_room()
        self.has_left()

    def answer(self, data: bytes) -> None:
        """Send what the peer asked for by sending something itself."""
        self.send(data)
        self.flow.answered += 1
        self.answered(len(data))

    def answered(self, length: int) -> None:
        """Count an answer of so many bytes; raises MalformedPacket when too many wait for a peer that does not read."""
        if self._paused:
            self._unread += length
            if self._unread > _MOST_UNREAD:
                raise MalformedPacket("sends on and does not read the answers")
