"""The earlier system's remotes on their way to devices: each once, whole, counted, and refused until it is enrolled."""

from datetime import UTC, datetime

import pytest
from sqlmodel import Session

from hub import device_views, devices, migrations
from hub.access import credentials
from hub.access.credentials import Refused
from hub.database import Database
from hub.tables import Device

NOW = datetime.now(UTC)


def lose_one(legacy):
    """Let the database swallow the device of one remote, as a trigger of somebody else's may."""
    legacy.run(
        "CREATE FUNCTION swallow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;"
        "CREATE TRIGGER swallow BEFORE INSERT ON devices FOR EACH ROW"
        f" WHEN (NEW.agent_id = '{legacy.cabin}') EXECUTE FUNCTION swallow();"
    )


def test_a_remote_without_its_device_stops_the_migration_and_leaves_all_as_it_was(legacy):
    migrations.adopt(legacy.url)
    lose_one(legacy)
    before = legacy.contents()["remotes"]
    with pytest.raises(migrations.MigrationFailed, match="007"):
        migrations.migrate(legacy.url)
    assert legacy.contents()["remotes"] == before
    assert legacy.rows("SELECT count(*) FROM devices") == [(4,)]
    assert legacy.rows("SELECT to_regclass('remote_device_map') IS NULL") == [(True,)]
    # What stood in the way is taken away, and it goes on from there.
    legacy.run("DROP FUNCTION swallow() CASCADE")
    migrations.migrate(legacy.url)
    assert legacy.rows("SELECT count(*) FROM remote_device_map JOIN devices USING (device_id)") == [(6,)]


def test_address_way_capabilities_and_times_come_along(legacy):
    legacy.run(
        "INSERT INTO remotes (agent_id, name, address, connection_type, capabilities, last_seen, created_at) VALUES"
        " (%s, 'Meter', '/dev/ttyUSB0', 'serial', '{\"baud\": 9600}', '2024-05-06 07:08:09+00', '2023-01-02+00')",
        legacy.home,
    )
    migrations.migrate(legacy.url)
    assert legacy.rows(
        "SELECT d.metadata ->> 'address', d.metadata ->> 'connection_type', d.capabilities, d.created_at,"
        " p.last_heard_at, p.verdict FROM devices AS d JOIN device_presence AS p USING (device_id)"
        " WHERE d.name = 'Meter'"
    ) == [
        (
            "/dev/ttyUSB0",
            "serial",
            {"baud": 9600},
            datetime(2023, 1, 2, tzinfo=UTC),
            datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC),
            "offline",
        )
    ]
    assert ("7 remotes became devices",) in legacy.rows("SELECT note FROM migration_notes WHERE migration LIKE '007%'")


def test_nobody_comes_in_as_a_remote_until_it_is_enrolled(legacy):
    migrations.migrate(legacy.url)
    database = Database(legacy.url, application_name="marvain tests")
    [(device_id, handle)] = legacy.rows(
        "SELECT d.device_id, d.handle FROM remote_device_map AS m JOIN devices AS d USING (device_id)"
        " WHERE m.remote_id = %s",
        legacy.remotes["porch"],
    )
    [(stored,)] = legacy.rows("SELECT token_hash FROM legacy_device_tokens WHERE device_id = %s", device_id)
    guesses = ["", stored, f"migration_{legacy.remotes['porch']}", f"mv1.{handle}.{'A' * 43}"]
    try:
        with Session(database.engine) as session:
            for guess in guesses:
                assert isinstance(credentials.authenticate(session, handle, guess, NOW), Refused), guess
            device = session.get(Device, device_id)
            token = devices.give_first_token(session, device, by="ann@example.org")
            session.flush()
            assert not isinstance(credentials.authenticate(session, handle, token, NOW), Refused)
            seen = device_views.view(session, legacy.home, device_id)
            assert (seen.needs_enrolment, seen.metadata["is_remote"]) == (False, True)
    finally:
        database.close()
