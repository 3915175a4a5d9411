"""Says whether a container's service is well: `python health.py web|hub|broker`, exit code 0 or 1 with the reason."""

# ruff: noqa: INP001  a script of the image, in no package

import http.client
import sys

import psycopg

from hub.database import libpq_url
from hub.one_hub import ONE_HUB_LOCK
from hub.settings import Settings

# Twice what the adapter takes between two reports at most, and then some.
BROKER_SILENT_S = 60
OUTBOX_WAITS_S = 30


def web(settings: Settings) -> str:
    """What is wrong with the page's server; "" when nothing is."""
    connection = http.client.HTTPConnection("127.0.0.1", settings.web_port, timeout=4)
    try:
        connection.request("GET", "/sign-in")
        status = connection.getresponse().status
    except OSError as error:
        return f"it does not answer ({error})"
    finally:
        connection.close()
    return "" if status == http.HTTPStatus.OK else f"it answers {status}"


def hub(settings: Settings) -> str:
    """What is wrong with the hub: nobody holds its lock, or messages stay where they are."""
    lock = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted AND classid = 0 AND objid = %s"
    late = "SELECT count(*) FROM outbox WHERE created_at < now() - make_interval(secs => %s)"
    with psycopg.connect(libpq_url(settings.database_url), connect_timeout=4) as connection:
        if connection.execute(lock, [ONE_HUB_LOCK]).fetchone() == (0,):
            return "no hub is at work"
        waiting = connection.execute(late, [OUTBOX_WAITS_S]).fetchone()
    return "" if waiting == (0,) else "messages wait for the broker"


def broker(settings: Settings) -> str:
    """What is wrong with the adapter: it has not said for a while that it drives the broker."""
    said = "SELECT reported_at > now() - make_interval(secs => %s) FROM broker_state"
    with psycopg.connect(libpq_url(settings.database_url), connect_timeout=4) as connection:
        lately = connection.execute(said, [BROKER_SILENT_S]).fetchone()
    return "" if lately == (True,) else f"no report for {BROKER_SILENT_S} s"


def main() -> int:
    """Look at the service named by the one argument."""
    try:
        wrong = {"web": web, "hub": hub, "broker": broker}[sys.argv[1]](Settings())
    except psycopg.Error as error:
        wrong = f"the database is away ({type(error).__name__})"
    if wrong:
        sys.stderr.write(f"{sys.argv[1]}: {wrong}\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
