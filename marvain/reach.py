"""How a command reaches the database of an instance: of the running one, or of one started for the command alone."""

import contextlib
import os
import time
from collections.abc import Iterator

from hub import migrations
from hub.database import Database
from hub.errors import NotFound
from marvain.addresses import split
from marvain.embedded_postgres import EmbeddedPostgres
from marvain.instance import Instance

START_PATIENCE_S = 60.0
APPLICATION = "marvain command"
MQTT_PORT = 1883


@contextlib.contextmanager
def database_url(instance: Instance, *, make: bool = False) -> Iterator[str]:
    """The URL of the instance's database, up for as long as the block lasts.

    A running instance comes first, then MARVAIN_DATABASE_URL, then the database that the instance used last.
    Raises `NotFound` when there is no instance in the folder and `make` is not set.
    """
    url = _of_running(instance)
    if url is None:
        url = os.environ.get("MARVAIN_DATABASE_URL") or _given(instance)
    if url is not None:
        yield url
        return
    server = EmbeddedPostgres(instance.folder)
    if not make and not server.exists():
        raise NotFound(
            f"there is no Marvain in {instance.folder}; start one there with `marvain up`, or name another with --data",
            field="data",
        )
    with instance.held("command"):
        try:
            yield server.start()
        finally:
            server.stop()


@contextlib.contextmanager
def database(instance: Instance) -> Iterator[Database]:
    """The instance's database with the schema that this version needs; raises what `hub.migrations.check` raises."""
    with database_url(instance) as url:
        migrations.check(url)
        opened = Database(url, pool_size=1, application_name=APPLICATION)
        try:
            yield opened
        finally:
            opened.close()


def broker_address(instance: Instance) -> tuple[str, str, int]:
    """What devices are told to dial: scheme, host and port, by the settings or as the running instance says."""
    running = instance.running()
    host, port = split(running.mqtt) if running else ("127.0.0.1", instance.last_ports().mqtt or MQTT_PORT)
    scheme = "mqtts" if os.environ.get("MARVAIN_TLS_CERT_FILE") else "mqtt"
    return (
        scheme,
        os.environ.get("MARVAIN_PUBLIC_MQTT_HOST") or host,
        int(os.environ.get("MARVAIN_PUBLIC_MQTT_PORT") or port),
    )


def _of_running(instance: Instance) -> str | None:
    """The URL when an instance is up; one that is just starting is waited for."""
    deadline = time.monotonic() + START_PATIENCE_S
    while (holder := instance.holder()) is not None and holder[1] == "up":
        if instance.running() is not None:
            return _given(instance) or EmbeddedPostgres(instance.folder).attach()
        if time.monotonic() > deadline:
            break
        time.sleep(0.05)
    return None


def _given(instance: Instance) -> str | None:
    """The URL of the server that the instance was last started with, when that was not ours."""
    with contextlib.suppress(FileNotFoundError):
        return instance.database_url_file.read_text(encoding="utf-8").strip()
    return None
