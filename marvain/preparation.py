"""What an instance's database needs before its services start: schema, first agent, hub password, demo device."""

import sys
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import msgspec
import structlog
from sqlmodel import Session

from hub import devices, identity, logs, migrations, sign_in
from hub.access import credentials
from hub.database import Database
from hub.errors import Conflict, NotFound
from hub.settings import Settings
from marvain.cli.errors import exit_code, explain
from marvain.instance import Instance, write_private
from marvain.prepared import NotPrepared, Prepared

log = structlog.get_logger(__name__)

DEMO_HANDLE = "demo"
DEMO_NAME = "Demo satellite"


def prepare(url: str, instance: Instance, *, demo: bool) -> Prepared:
    """Bring the database up to date and fill in what a fresh one lacks; again and again without harm."""
    migrations.migrate(url)
    database = Database(url, pool_size=1, application_name="marvain up")
    try:
        with database.transaction() as session:
            agent = identity.ensure_first_agent(session)
            credentials.set_hub_password(session, instance.hub_password())
            setup = sign_in.setup_link(session, datetime.now(UTC))
            runs = demo and _demo_device(session, agent.agent_id, instance)
    finally:
        database.close()
    return Prepared(setup, runs)


def _demo_device(session: Session, agent_id: UUID, instance: Instance) -> bool:
    """Whether there is a demo satellite to run: registered once, its token kept in the data folder."""
    token_file = instance.demo / "token"
    try:
        device = devices.by_handle(session, DEMO_HANDLE)
    except NotFound:
        spaces = identity.spaces_of(session, agent_id)
        try:
            token = devices.add(
                session,
                agent_id,
                DEMO_NAME,
                scopes=list(devices.DEFAULT_SCOPES),
                space_id=spaces[0].space_id if spaces else None,
                handle=DEMO_HANDLE,
                by="marvain up",
            ).token
        except Conflict:
            # It was deleted, and its handle is nobody's for ever.
            log.info("demo.deleted", handle=DEMO_HANDLE)
            return False
    else:
        if device.revoked_at is not None:
            log.info("demo.revoked", handle=DEMO_HANDLE, by=device.revoked_by)
            return False
        if token_file.exists():
            return True
        if device.name != DEMO_NAME:
            # Somebody else's device with this handle.
            return False
        token = devices.rotate(session, device, by="marvain up")
    instance.demo.mkdir(mode=0o700, exist_ok=True)
    write_private(token_file, token + "\n")
    return True


def main() -> None:
    """`python -m marvain.preparation DIR [--no-demo]`: tells on standard output what came of it, as JSON."""
    settings = Settings()
    logs.configure(settings)
    told: Prepared | NotPrepared
    try:
        told = prepare(settings.database_url, Instance(Path(sys.argv[1])), demo="--no-demo" not in sys.argv)
    except Exception as error:
        code = exit_code(error)
        if code is None:
            raise
        told = NotPrepared(explain(error), code)
    sys.stdout.buffer.write(msgspec.json.encode(told))


if __name__ == "__main__":
    main()
