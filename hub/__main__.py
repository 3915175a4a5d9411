"""The hub service put together: takes messages in, publishes the outbox, sweeps for silence, keeps pages alive."""

import signal
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from types import FrameType
from typing import Final

import psycopg
import structlog
from pydantic import ValidationError
from sqlalchemy.exc import SQLAlchemyError

from hub import logs, migrations
from hub.actions.jobs import Runner
from hub.automations.follower import Follower
from hub.database import Database
from hub.errors import HubError
from hub.inbox import router
from hub.inbox.consumer import Consumer
from hub.inbox.envelope import Outcome
from hub.inbox.gate import Gate, Limits
from hub.inbox.tally import Tally
from hub.janitor import Janitor
from hub.mqtt import HubClient
from hub.one_hub import OneHub
from hub.outbox import Message
from hub.publisher import Publisher
from hub.pulse import Pulse
from hub.purger import Purger
from hub.settings import Settings
from hub.sweeper import Sweeper
from hub.telemetry.live import LiveSamples
from hub.telemetry.upkeep import Upkeep
from hub.warden import Warden
from hub_protocol.catalogue import encode
from hub_protocol.messages import Receipt
from hub_protocol.topics import Topics

log = structlog.get_logger("hub")

EX_UNAVAILABLE: Final = 69
EX_CONFIG: Final = 78
RECEIPT_IDS: Final = 500
# What the parts have to end their work at hand; a Postgres that does not answer must not hold the service for ever.
STOP_WITHIN_S: Final = 15.0
_TOPICS: Final = Topics.below_root()


class Hub:
    """All parts of the service; `run` returns when `stop` was called or a part has died."""

    def __init__(self, settings: Settings, database: Database, password: str, one_hub: OneHub) -> None:
        self._one_hub = one_hub
        self._stopping = threading.Event()
        self._back_at: datetime | None = None
        self._broken: str | None = None
        # The embedded broker counts by itself, whatever passes through it.
        tally = None if settings.broker == "embedded" else Tally(database, settings.root)
        limits = Limits(
            settings.device_messages_per_second,
            settings.device_messages_at_once,
            settings.device_garbage_per_minute,
            settings.device_calm_s,
        )
        gate = Gate(limits)
        self._consumer = Consumer(database, settings.root, self._stored, tally, gate=gate)
        self._client = HubClient(
            settings, password, router.subscriptions(settings.root), self._consumer.put, self._connected
        )
        self._publisher = Publisher(database, self._client)
        self._warden = Warden(database, gate, limits, self._client, settings.root)
        self._sweeper = Sweeper(database, self._heard_since)
        self._pulse = Pulse(database, self._client)
        self._purger = Purger(database)
        self._janitor = Janitor(database)
        self._live_samples = LiveSamples(database, self._client)
        self._upkeep = Upkeep(database, settings)
        self._runner = Runner(database, settings)
        self._follower = Follower(database)

    def stop(self) -> None:
        self._stopping.set()

    def run(self) -> int:
        """Work until stopped; returns the exit code."""
        parts: dict[str, Callable[[], None]] = {
            "publisher": self._publisher.run,
            "listener": self._publisher.listen,
            "sweeper": self._sweeper.run,
            "pulse": self._pulse.run,
            "purger": self._purger.run,
            "janitor": self._janitor.run,
            "warden": self._warden.run,
            "live samples": self._live_samples.run,
            "telemetry upkeep": self._upkeep.run,
            "actions": self._runner.run,
            "action sweep": self._runner.watch,
            "automations": self._follower.run,
            "consumer": lambda: self._consumer.run(self._client),
            "lock": self._one_hub.run,
            "network": self._client.watch,
        }
        threads = [
            threading.Thread(target=self._guard, args=(name, part), name=name, daemon=True)
            for name, part in parts.items()
        ]
        self._client.start()
        for thread in threads:
            thread.start()
        self._stopping.wait()
        self._consumer.stop()
        for part in (
            self._sweeper,
            self._pulse,
            self._purger,
            self._janitor,
            self._warden,
            self._live_samples,
            self._upkeep,
            self._runner,
            self._follower,
            self._publisher,
            self._one_hub,
        ):
            part.stop()
        self._client.stop_watching()
        deadline = time.monotonic() + STOP_WITHIN_S
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        self._client.stop()
        log.info("hub.stopped")
        return 1 if self._broken else 0

    def _guard(self, name: str, part: Callable[[], None]) -> None:
        try:
            part()
        except HubError as error:
            self._broken = name
            log.error("hub.part_ended", part=name, reason=error.message)
            self._stopping.set()
        except Exception:
            # A part that dies takes the service with it: the supervisor starts it again, whole.
            self._broken = name
            log.exception("hub.part_died", part=name)
            self._stopping.set()

    def _connected(self, session_present: bool) -> None:  # noqa: FBT001  (paho's own)
        self._back_at = datetime.now(UTC)
        if not session_present:
            self._publisher.republish()
        self._publisher.wake()
        log.info("hub.ready")

    def _heard_since(self) -> datetime | None:
        return self._back_at if self._client.is_connected else None

    def _stored(self, outcome: Outcome) -> None:
        """After a batch has committed: confirm, say what was refused, and tell the pages who was heard.

        None of this is kept: a device that misses its receipt sends again and gets another.
        """
        for handle, ids in outcome.receipts.items():
            for start in range(0, len(ids), RECEIPT_IDS):
                payload = encode(Receipt(ids[start : start + RECEIPT_IDS]))
                self._client.send(Message(_TOPICS.receipt(handle), payload))
        for (handle, _, _), denied in outcome.denied.items():
            self._client.send(Message(_TOPICS.denied(handle), encode(denied), qos=0))
        self._pulse.hear(outcome.heard)
        self._live_samples.take(outcome.samples)


def main() -> int:
    """Run the hub service; the exit code says what to do (see docs/operations.md)."""
    try:
        settings = Settings()
        password = settings.hub_password()
    except ValidationError as error:
        for fault in error.errors():
            name = "_".join(str(part) for part in fault["loc"]).upper()
            sys.stderr.write(f"hub: MARVAIN_{name}: {fault['msg']}\n")
        return EX_CONFIG
    except (OSError, ValueError) as error:
        sys.stderr.write(f"hub: the hub's MQTT password could not be read: {error}\n")
        return EX_CONFIG
    logs.configure(settings)
    try:
        migrations.check(settings.database_url)
        database = Database(settings.database_url, application_name="marvain hub")
    except HubError as error:
        log.error("hub.cannot_start", reason=error.message)
        return EX_CONFIG
    except (SQLAlchemyError, psycopg.Error) as error:
        log.error("hub.database_away", error=type(error).__name__)
        return EX_UNAVAILABLE
    one_hub = OneHub(database)
    hub = Hub(settings, database, password, one_hub)
    stop = _on_signals(hub.stop)
    try:
        return hub.run() if one_hub.acquire(stop) else 0
    except SQLAlchemyError as error:
        log.error("hub.database_away", error=type(error).__name__)
        return EX_UNAVAILABLE
    finally:
        one_hub.close()
        database.close()


def _on_signals(stop_hub: Callable[[], None]) -> threading.Event:
    stop = threading.Event()

    def ask(_number: int, _frame: FrameType | None) -> None:
        stop.set()
        stop_hub()

    signal.signal(signal.SIGTERM, ask)
    signal.signal(signal.SIGINT, ask)
    return stop


if __name__ == "__main__":
    sys.exit(main())
