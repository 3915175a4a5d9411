"""The publisher before a real Mosquitto: what can never be published, and what came too late to be."""

import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import text

from hub import commands, outbox
from hub.mqtt import HubClient
from hub.publisher import Publisher
from hub.settings import Settings
from hub_protocol.messages import Receipt

TOO_LARGE = 2_000  # for the broker of `mosquitto_port`


def wait_until(condition: Callable[[], object], what: str, within_s: float = 30) -> None:
    end = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > end:
            pytest.fail(f"not within {within_s} s: {what}")
        time.sleep(0.02)


def topics(heard: list[tuple[str, bytes]]) -> list[str]:
    return [topic for topic, _ in heard]


@pytest.fixture
def publisher(database, mosquitto_port: int, tmp_path: Path) -> Iterator[Publisher]:
    settings = Settings(database_url=database.url, mqtt_port=mosquitto_port, hub_password_file=tmp_path / "none")
    client = HubClient(settings, "", ["marvain/v1/nothing"], lambda _: None, lambda _: None)
    publisher = Publisher(database, client)
    client.start()
    thread = threading.Thread(target=publisher.run, daemon=True)
    thread.start()
    yield publisher
    publisher.stop()
    thread.join(20)
    client.stop()


def test_a_message_that_the_broker_never_takes_is_parked_and_the_rest_goes_on(database, publisher, heard):
    with database.transaction() as work:
        for n in range(20):
            size = TOO_LARGE if n == 7 else 1
            outbox.enqueue(work, f"d/porch/{n}", Receipt(["x" * size]))
    publisher.wake()

    def parked() -> list[str]:
        with database.transaction() as work:
            left = work.execute(text("SELECT count(*) FROM outbox")).scalar_one()
            found = work.execute(text("SELECT topic FROM dead_letters")).scalars().all()
        return [] if left else list(found)

    # Heard is not yet committed: a message is heard before the transaction that forgets it ends.
    wait_until(parked, "the one parked, and nothing left")
    assert parked() == ["d/porch/7"]
    wait_until(lambda: "marvain/v1/d/porch/19" in topics(heard), "what stood behind it")
    assert list(dict.fromkeys(topics(heard))) == [f"marvain/v1/d/porch/{n}" for n in range(20) if n != 7]
    publisher.wake()


def test_a_command_whose_time_has_passed_is_not_sent(database, session, device, say, publisher, heard):
    say(("porch/state", {"state": "online", "epoch": 1}))
    session.commit()
    with database.transaction() as work:
        late = commands.request(work, device, "blink", by="ann", now=datetime.now(UTC) - timedelta(minutes=5))
        good = commands.request(work, device, "ping", by="ann")
    publisher.wake()
    wait_until(lambda: f"marvain/v1/d/porch/cmd/ping/{good.command_id}" in topics(heard), "the good one")
    assert not any("/blink/" in topic for topic in topics(heard))
    with database.transaction() as work:
        assert commands.get(work, late.agent_id, late.command_id).sent_at is None
