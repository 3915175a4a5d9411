"""`$SYS/broker/…`: the broker's own figures under the names that Mosquitto gave them, retained in memory alone."""

import asyncio
import time
from importlib.metadata import version
from typing import Final

from broker.embedded.broker import Broker
from broker.embedded.flow import Flow
from broker.embedded.limits import LIMITS
from broker.embedded.message import Message

PREFIX: Final = "$SYS/broker/"
EVERY_S: Final = 10.0
# Over how many minutes the loads are averaged.
_MINUTES: Final = (1, 5, 15)


class System:
    """Publishes the figures now and then, those that have changed; nobody else may publish there."""

    def __init__(self, broker: Broker, every_s: float = EVERY_S) -> None:
        self._broker = broker
        self._every_s = every_s
        self._started = self._last = time.monotonic()
        self._most_connected = 0
        self._said: dict[str, bytes] = {}
        self._earlier = Flow()
        self._loads: dict[str, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Publish now, and then every few seconds."""
        self._say("version", f"marvain version {version('marvain')}")
        self._tick()

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _tick(self) -> None:
        self._timer = self._broker.loop.call_later(self._every_s, self._tick)
        for name, value in self._figures().items():
            self._say(name, str(value))

    def _figures(self) -> dict[str, int | str]:
        exchange = self._broker.exchange
        sessions = exchange.sessions.values()
        total = Flow()
        total.add(exchange.traffic.gone)
        for connection in self._broker.connections:
            total.add(connection.flow)
        connected = len(exchange.connected)
        self._most_connected = max(self._most_connected, connected)
        waiting = sum(len(session.queue) + len(session.inflight) for session in sessions)
        stored = waiting + len(exchange.retained)
        now = time.monotonic()
        figures: dict[str, int | str] = {
            "uptime": f"{now - self._started:.0f} seconds",
            "clients/connected": connected,
            "clients/disconnected": len(exchange.sessions) - connected,
            "clients/total": len(exchange.sessions),
            "clients/maximum": self._most_connected,
            "messages/received": total.packets_in,
            "messages/sent": total.packets_out,
            "messages/stored": stored,
            "store/messages/count": stored,
            "store/messages/bytes": sum(session.queue_bytes for session in sessions),
            "bytes/received": total.bytes_in,
            "bytes/sent": total.bytes_out,
            "publish/messages/received": total.published,
            "publish/messages/sent": total.delivered,
            "publish/messages/dropped": exchange.dropped + sum(session.overflowed for session in sessions),
            "subscriptions/count": sum(len(session.subscriptions) for session in sessions),
            "retained messages/count": len(exchange.retained),
        }
        figures |= self._averages(total, now)
        return figures

    def _averages(self, total: Flow, now: float) -> dict[str, str]:
        """Mosquitto's `load/…`: per minute, as moving averages over 1, 5 and 15 minutes."""
        passed = (now - self._last) / 60
        before, self._earlier, self._last = self._earlier, total, now
        flows = {
            "messages/received": total.packets_in - before.packets_in,
            "messages/sent": total.packets_out - before.packets_out,
            "publish/received": total.published - before.published,
            "publish/sent": total.delivered - before.delivered,
            "bytes/received": total.bytes_in - before.bytes_in,
            "bytes/sent": total.bytes_out - before.bytes_out,
        }
        figures: dict[str, str] = {}
        for name, more in flows.items():
            rate = more / passed if passed > 0 else 0.0
            for minutes in _MINUTES:
                key = f"load/{name}/{minutes}min"
                weight = min(1.0, passed / minutes)
                self._loads[key] = self._loads.get(key, 0.0) * (1 - weight) + rate * weight
                figures[key] = f"{self._loads[key]:.2f}"
        return figures

    def _say(self, name: str, value: str) -> None:
        payload = value.encode()
        if self._said.get(name) == payload:
            return
        self._said[name] = payload
        topic = PREFIX + name
        exchange = self._broker.exchange
        exchange.figures.store(topic, Message(topic.encode(), payload, 0, retain=True), "", LIMITS["hub"])
        exchange.publish(topic, Message(topic.encode(), payload, 0))
