"""Says whether a container's service is well: `python health.py web|hub|broker`, exit code 0 or 1 with the reason.

It runs twice a minute for each service, so it loads no more than it needs: not the domain, and the driver only to ask.
"""

import http.client
import os
import sys

# hub.one_hub.ONE_HUB_LOCK
LOCK = 0x6D61_7276
# Longer than the adapter is silent between two reports.
BROKER_SILENT_S = 60
OUTBOX_WAITS_S = 30


def web() -> str:
    """What is wrong with the pages' server; "" when nothing is."""
    connection = http.client.HTTPConnection("127.0.0.1", int(os.environ.get("MARVAIN_WEB_PORT", "8000")), timeout=4)
    try:
        connection.request("GET", "/sign-in")
        status = connection.getresponse().status
    except OSError as error:
        return f"it does not answer ({error})"
    finally:
        connection.close()
    return "" if status == http.HTTPStatus.OK else f"it answers {status}"


def hub() -> str:
    """What is wrong with the hub: nobody holds its lock, or messages stay where they are."""
    lock = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted AND classid = 0 AND objid = %s"
    late = "SELECT count(*) FROM outbox WHERE created_at < now() - make_interval(secs => %s)"
    if _ask(lock, LOCK) == 0:
        return "no hub is at work"
    return "messages wait for the broker" if _ask(late, OUTBOX_WAITS_S) else ""


def broker() -> str:
    """What is wrong with the adapter: it has not said for a while that it drives the broker."""
    said = "SELECT reported_at > now() - make_interval(secs => %s) FROM broker_state"
    return "" if _ask(said, BROKER_SILENT_S) else f"no report for {BROKER_SILENT_S} s"


def _ask(query: str, value: int) -> object:
    import psycopg  # noqa: PLC0415  the pages' check goes without

    with psycopg.connect(os.environ["MARVAIN_DATABASE_URL"], connect_timeout=4) as connection:
        row = connection.execute(query, [value]).fetchone()
    return row[0] if row else None


def main() -> int:
    """Look at the service named by the one argument."""
    wrong = {"web": web, "hub": hub, "broker": broker}[sys.argv[1]]()
    if wrong:
        sys.stderr.write(f"{sys.argv[1]}: {wrong}\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
