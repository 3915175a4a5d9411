"""What `bench/ingest.py` holds against the hub: consumers with no product around them, each as a process of its own.

    python bench/ingest_peers.py row|bound DATABASE_URL PORT

`row`: one INSERT and one commit for each message, acknowledged after it, as one writes it first. `bound`: nothing but
batches, the bare way from the broker to the table.
"""

import json
import queue
import sys
import threading
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import msgspec
import paho.mqtt.client as paho
import psycopg
from services import HUB_PASSWORD

BATCH = 500
FILTER = "marvain/v1/d/+/event/+"
INSERT = "INSERT INTO bare_events (handle, type, message_id, payload) "


def connect(port: int, on_message: object) -> paho.Client:
    client = paho.Client(paho.CallbackAPIVersion.VERSION2, "hub_service", protocol=paho.MQTTv311, manual_ack=True)
    client.username_pw_set("hub_service", HUB_PASSWORD)
    client.on_message = on_message
    client.on_connect = lambda *_: client.subscribe(FILTER, 1)
    client.on_subscribe = lambda *_: print("ready", flush=True)
    client.on_socket_open = lambda _c, _d, opened: opened.setsockopt(6, 1, 1)  # TCP_NODELAY, as ours has it
    client.connect("127.0.0.1", port)
    return client


def row(url: str, port: int) -> None:
    """In paho's own thread: parse, insert, commit, acknowledge."""
    database = psycopg.connect(url)

    def store(client: paho.Client, _data: object, message: paho.MQTTMessage) -> None:
        _, _, _, handle, _, kind = message.topic.split("/")
        event = json.loads(message.payload)
        database.execute(
            INSERT + "VALUES (%s, %s, %s, %s) ON CONFLICT DO NOTHING",
            (handle, kind, event["id"], json.dumps(event["payload"])),
        )
        database.commit()
        client.ack(message.mid, message.qos)

    connect(port, store).loop_forever()


def bound(url: str, port: int) -> None:
    """One thread hears, another stores whatever has come."""
    waiting: queue.SimpleQueue[tuple[str, bytes, int]] = queue.SimpleQueue()
    decoder = msgspec.json.Decoder()
    client = connect(port, lambda _c, _d, message: waiting.put((message.topic, message.payload, message.mid)))

    def store() -> None:
        database = psycopg.connect(url)
        while True:
            batch = [waiting.get()]
            while len(batch) < BATCH and not waiting.empty():
                batch.append(waiting.get())
            parts = [topic.split("/") for topic, _, _ in batch]
            events = [decoder.decode(payload) for _, payload, _ in batch]
            database.execute(
                INSERT + "SELECT * FROM unnest(%s::text[], %s::text[], %s::text[], %s::jsonb[]) ON CONFLICT DO NOTHING",
                (
                    [part[3] for part in parts],
                    [part[5] for part in parts],
                    [event["id"] for event in events],
                    [msgspec.json.encode(event["payload"]).decode() for event in events],
                ),
            )
            database.commit()
            for _, _, mid in batch:
                client.ack(mid, 1)

    threading.Thread(target=store, daemon=True).start()
    client.loop_forever()


if __name__ == "__main__":
    {"row": row, "bound": bound}[sys.argv[1]](sys.argv[2], int(sys.argv[3]))
