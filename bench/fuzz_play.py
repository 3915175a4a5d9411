"""A play: clients in memory that do to a broker what a string of bytes says, well-formed and malformed alike.

The same bytes are the same play, so that whatever finds them (chance, hypothesis, a coverage-guided fuzzer) can show
them again. The broker and its connections are the product's; principals come from a table, transports are in memory.
"""

import asyncio
import sys
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench import fuzz_rules
from bench.fuzz_clients import Client, connect, frame, packet, publish, string
from broker.embedded.admission import Admitted, Rejected
from broker.embedded.broker import Broker
from broker.embedded.limits import LIMITS
from broker.embedded.refusals import Refusals
from broker.embedded.store import Store
from hub.access.changes import Change
from hub.access.grants import Action, Grant
from hub.access.principals import Principal

ROOT: Final = "marvain/v1"
# So small that a short play reaches them; `out_bytes` stays above what a connection gathers before it writes.
SMALL: Final = replace(
    LIMITS["device"],
    window=3,
    queue_messages=6,
    queue_bytes=4_000,
    out_bytes=150_000,
    subscriptions=5,
    retained=3,
    retained_bytes=3_000,
)
NAMES: Final = ("alpha", "beta", "gamma")
TOPICS: Final = (
    "s/a",
    "s/a",
    "s/a",
    "s/b",
    "s/a/b",
    "s",
    "s//",
    "n/a",
    "n/a",
    "n/b",
    "s/é",
    "w/1",
    "h/a",
    "h/a",
    "h/b",
)
ODD_TOPICS: Final = ("", "s/+", "#", "$SYS/x", "s/" * 130, "d/alpha", f"{ROOT}/d/alpha/denied", "s/\0")
FILTERS: Final = (
    "s/#",
    "s/+",
    "s/a",
    "+/a",
    "s/a/#",
    "s/+/b",
    "n/#",
    "n/a",
    "#",
    "w/#",
    "$share/g/h/#",
    "$share/g/h/a",
    "$share/h/h/a",
    "$share//s/#",
    "$SYS/#",
    "s/#/x",
    "",
    "s/é",
)
# Shared subscriptions have `h/` for themselves: there a message may come a second time, and late.
SIZES: Final = (0, 20, 20, 20, 20, 20, 20, 130, 130, 900, 1_500, 20_000)


class Table:
    """Three devices, whose rights may be taken and given, and two clients that are only ever looked on."""

    def __init__(self) -> None:
        self.wide = dict.fromkeys(NAMES, True)
        self.present = dict.fromkeys((*NAMES, "witness", "speaker"), True)

    def principal(self, name: str) -> Principal:
        filters = ["w/#"] if name in {"witness", "speaker"} else ["s/#", "h/#", f"{ROOT}/d/{name}/denied"]
        if self.wide.get(name):
            filters.append("n/#")
        actions: tuple[Action, ...] = ("publish", "subscribe")
        return Principal(name, "device", tuple(Grant(action, one, "x") for one in filters for action in actions), ROOT)

    async def admit(self, username: str, password: str) -> Admitted | Rejected:
        # The database is never so quick as to answer in the same turn.
        await asyncio.sleep(0)
        if password != "secret" or not self.present.get(username):
            return Rejected("wrong username or password", 4)
        return Admitted(self.principal(username), uuid.UUID(int=0))

    async def review_many(self, asked: list[tuple[str, uuid.UUID]]) -> dict[str, Admitted | Rejected]:
        return {username: await self.admit(username, "secret") for username, _ in asked}

    async def ended(self, usernames: list[str]) -> list[str] | None:
        await asyncio.sleep(0)
        return [username for username in usernames if not self.present.get(username)]


class Play:
    """The bytes as a source of choices; when they have run out, every choice is 0 and the play ends."""

    def __init__(self, data: bytes, folder: Path | None = None) -> None:
        self.data = data
        self.folder = folder
        self.at = 0
        self.table = Table()
        store = Store.open(folder) if folder else None
        self.broker = Broker(self.table, Refusals(None, None), ROOT, store=store)  # type: ignore[arg-type]
        self.slots: list[Client | None] = [None] * 5
        self.gone: list[Client] = []
        self.number = 0
        self.said = 0
        self.turns = 0

    def pick(self, most: int) -> int:
        if self.at >= len(self.data):
            return 0
        self.at += 1
        return self.data[self.at - 1] % most

    async def run(self) -> None:
        self.witness, self.speaker = await self.bystander("witness"), await self.bystander("speaker")
        self.witness.unsent += packet(0x82, b"\0\1" + string("w/#") + b"\0")
        self.witness.feed()
        while self.at < len(self.data):
            self.act()
            if self.pick(3):
                await self.settle()
        await self.settle()
        self.check_bystanders()
        for client in self.slots:
            if client is not None:
                client.lose()
        await self.settle()
        fuzz_rules.check_end(self.broker, {"witness", "speaker"})
        for client in (self.witness, self.speaker):
            client.lose()
        await self.rest()
        kept = fuzz_rules.kept_in_memory(self.broker)
        await self.broker.close()
        await asyncio.sleep(0)
        if self.folder:
            store = Store.open(self.folder)
            fuzz_rules.check_store(store, kept)
            await store.close()

    async def rest(self) -> None:
        """Let the loop come to rest, and the store write what it holds back."""
        for _ in range(4):
            await asyncio.sleep(0)
        while self.broker.output.holding:  # noqa: ASYNC110 - the writer is a thread
            await asyncio.sleep(0.0002)

    async def bystander(self, name: str) -> Client:
        client = Client(self.broker, 0)
        client.name = name
        client.unsent += connect(name)
        client.feed()
        await self.settle()
        return client

    async def settle(self) -> None:
        """Let the loop come to rest, then look at everything."""
        await self.rest()
        for client in (self.witness, self.speaker) if hasattr(self, "speaker") else ():
            client.hear()
        for client in self.slots:
            if client is not None:
                client.hear()
                client.feed()
        for _ in range(3):
            await asyncio.sleep(0)
        self.turns += 1
        # It costs as much as all the rest.
        if self.turns % 4 == 0 or self.at >= len(self.data):
            fuzz_rules.check(self.broker)

    def check_bystanders(self) -> None:
        """Who has nothing to do with all this has heard every word, once and in order."""
        assert not self.witness.pipe.said_end, "a bystander was disconnected"
        assert not self.speaker.pipe.said_end, "a bystander was disconnected"
        numbers = [int(got.payload) for got in self.witness.heard.messages if got.topic == b"w/1"]
        assert numbers == list(range(1, self.said + 1)), f"the bystander heard {numbers} of {self.said}"

    # --- what can happen ----------------------------------------------------------------------------------------

    def act(self) -> None:  # noqa: C901, PLR0912 - a table of what can happen, with its odds
        what = self.pick(64)
        slot = self.pick(len(self.slots))
        client = self.slots[slot]
        if client is None or client.lost or client.pipe.closing or client.pipe.said_end:
            if client is not None:
                client.lose()
            client = self.slots[slot] = Client(self.broker, len(self.slots) + self.at, websocket=slot == 4)
            self.send(client, self.connect(client) if what else self.packet(client))
            return
        if what < 44:
            self.send(client, self.packet(client))
        elif what < 46:
            self.answer_all(client)
        elif what == 46:
            self.send(client, self.connect(client))
        elif what < 49:
            self.send(client, self.spoilt(self.packet(client)))
        elif what == 49:
            self.send(client, bytes(self.pick(256) for _ in range(1 + self.pick(12))))
        elif what == 50:
            client.protocol.pause_writing()
        elif what < 53:
            client.protocol.resume_writing()
        elif what < 55:
            client.lose(ConnectionResetError() if self.pick(2) else None)
        elif what < 58:
            name = NAMES[self.pick(3)]
            self.table.wide[name] = not self.table.wide[name]
            self.broker.changed(Change(name, "changed"))
        elif what == 58:
            name = NAMES[self.pick(3)]
            self.broker.changed(Change(name, ("kicked", "revoked", "rotated", "ended")[self.pick(4)], "for the play"))
        elif what == 59:
            self.broker.review_all()
        else:
            self.said += 1
            self.speaker.unsent += publish("w/1", str(self.said).encode(), 0, 0)
            self.speaker.feed()

    def send(self, client: Client, data: bytes) -> None:
        client.unsent += self.framed(data) if client.websocket else data
        if how := self.pick(6):
            client.feed(1 << 20 if how > 1 else 1 + self.pick(64))

    def framed(self, data: bytes) -> bytes:
        """As WebSocket frames with the mask 0, now and then of another kind or in fragments."""
        odd = self.pick(24)
        opcode = {1: 1, 2: 9, 3: 10, 4: 8, 5: 3}.get(odd, 2)
        if odd == 6 and len(data) > 1:
            return frame(2, data[:1], final=False) + frame(0, data[1:])
        return data if odd == 7 else frame(opcode, data)

    def connect(self, client: Client) -> bytes:
        client.name = NAMES[self.pick(3)]
        odd = self.pick(16)
        will = (TOPICS[self.pick(len(TOPICS))], b"will", self.pick(3), self.pick(2)) if odd in {1, 2, 3} else None
        begin = connect(
            client.name,
            client_id="other" if odd == 4 else client.name,
            password=b"wrong" if odd == 5 else b"secret",
            level=3 if odd == 6 else 4,
            clean=bool(self.pick(2)),
            will=will,
        )
        hears = packet(
            0x82, b"\0\1" + b"".join(string(name) + bytes([self.pick(3)]) for name in ("s/#", "n/#", "$share/g/h/#"))
        )
        return begin + hears if self.pick(3) else begin

    def packet(self, client: Client) -> bytes:
        kind = self.pick(16)
        packet_id = 1 + self.pick(4)
        if kind < 8:
            return self.publish(client, packet_id)
        if kind < 10:
            filters = [(FILTERS[self.pick(len(FILTERS))], self.pick(3)) for _ in range(1 + self.pick(3))]
            body = b"".join(string(name) + bytes([qos]) for name, qos in filters)
            return packet(0x82, packet_id.to_bytes(2, "big") + body)
        if kind == 10:
            return packet(0xA2, packet_id.to_bytes(2, "big") + string(FILTERS[self.pick(len(FILTERS))]))
        if kind == 11:
            client.unreleased.pop(packet_id, None)
            return packet(0x62, packet_id.to_bytes(2, "big"))
        if kind < 15:
            owed = client.heard.owed
            chosen = owed[self.pick(len(owed))] if owed else packet_id
            return packet((0x40, 0x50, 0x70)[kind - 12], chosen.to_bytes(2, "big"))
        return b"\xc0\0" if self.pick(4) else b"\xe0\0"

    def publish(self, client: Client, packet_id: int) -> bytes:
        odd, flags, qos = self.pick(40), self.pick(8), self.pick(3)
        if odd < 4 and packet_id in client.unreleased:
            return client.unreleased[packet_id]
        self.number += 1
        names = TOPICS if odd else ODD_TOPICS
        topic, size = names[self.pick(len(names))], SIZES[self.pick(len(SIZES))]
        payload = (b"#%d by %d " % (self.number, client.serial)).ljust(size, b"x") if size else b""
        sent = publish(topic, payload, qos, packet_id, retain=flags == 1, dup=flags == 2)
        if qos == 2 and packet_id not in client.unreleased:
            # Until it is released it may be repeated, and must be passed on once.
            client.unreleased[packet_id] = sent
        return sent

    def spoilt(self, good: bytes) -> bytes:
        """With a byte changed, put in or taken out."""
        # Its number may come out changed.
        good = good.replace(b"#", b"-")
        at = self.pick(len(good))
        how = self.pick(4)
        if how == 3 and 0 < good[1] < 128:
            # A length that is longer than it needs to be.
            return good[:1] + bytes([good[1] | 128, 0]) + good[2:]
        return good[:at] + (bytes([self.pick(256)]) if how < 2 else b"") + good[at + (how != 1) :]

    def answer_all(self, client: Client) -> None:
        """Acknowledge whatever was sent, as its QoS demands."""
        owed, client.heard.owed = client.heard.owed, []
        answers = b"".join(packet(first, i.to_bytes(2, "big")) for i in owed for first in (0x40, 0x50, 0x70))
        client.unsent += frame(2, answers) if client.websocket else answers
        client.feed()


def perform(data: bytes, loop: asyncio.AbstractEventLoop, folder: Path | None = None) -> None:
    """Play it, with a store in `folder` if given; raises whatever the broker did wrong."""
    wrong: list[BaseException] = []
    loop.set_exception_handler(
        lambda _, context: wrong.append(context.get("exception") or AssertionError(context["message"]))
    )
    earlier, LIMITS["device"] = LIMITS["device"], SMALL
    try:
        loop.run_until_complete(asyncio.wait_for(_play(data, folder), 30))
    finally:
        LIMITS["device"] = earlier
    if wrong:
        raise wrong[0]


async def _play(data: bytes, folder: Path | None) -> None:
    await Play(data, folder).run()
