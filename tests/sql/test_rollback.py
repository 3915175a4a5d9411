"""The way back: each step restores the shape and the rows that were there before it."""

import pytest

from hub import migrations
from hub.migrations.files import read_files

FILES = read_files()


@pytest.fixture
def up_to(tmp_path, sql_folder):
    """Migrates with only the first so many files."""

    def migrate(url, count):
        for file in FILES[:count]:
            for name in (f"{file.id}.sql", f"{file.id}.rollback.sql"):
                (tmp_path / name).write_bytes((sql_folder / name).read_bytes())
        migrations.migrate(url, tmp_path)

    return migrate


def test_each_step_back_restores_the_shape_and_the_rows_before_it(legacy, up_to):
    migrations.adopt(legacy.url)
    before = {}
    for count in range(4, len(FILES)):
        up_to(legacy.url, count)
        before[count] = legacy.shape(), legacy.contents()
    migrations.migrate(legacy.url)
    for count in range(len(FILES) - 1, 3, -1):
        assert migrations.rollback(legacy.url, str(count)) == [FILES[count].id]
        shape, contents = before[count]
        assert legacy.shape() == shape, FILES[count].id
        assert legacy.contents() == contents, FILES[count].id


def test_all_the_way_down_and_up_again_keeps_the_earlier_rows(legacy):
    shape, contents = legacy.shape(), legacy.contents()
    migrations.migrate(legacy.url)
    latest = legacy.shape()
    roles = legacy.rows("SELECT agent_id, user_id, role, revoked_at FROM agent_memberships ORDER BY 1, 2")
    migrations.rollback(legacy.url, "004")
    assert [row for row in legacy.shape() if "yoyo" not in row[1] and row[1] != "schema_checksums"] == shape
    assert legacy.contents() == contents
    migrations.migrate(legacy.url)
    assert legacy.shape() == latest
    assert legacy.rows("SELECT agent_id, user_id, role, revoked_at FROM agent_memberships ORDER BY 1, 2") == roles
    assert legacy.rows("SELECT count(*) FROM remote_device_map") == [(6,)]


def test_down_to_nothing_and_up_again(fresh):
    latest = fresh.shape()
    assert migrations.rollback(fresh.url, None) == [file.id for file in reversed(FILES)]
    assert {row[1] for row in fresh.shape()} == {"_yoyo_log", "_yoyo_migration", "_yoyo_version", "schema_checksums"}
    assert migrations.rollback(fresh.url, None) == []
    assert migrations.migrate(fresh.url) == [file.id for file in FILES]
    assert fresh.shape() == latest


def test_rows_made_since_survive_the_way_back(legacy):
    """Access that was taken away since does not come back, and a device made since gets a hash that nothing has."""
    migrations.migrate(legacy.url)
    legacy.run("UPDATE agent_memberships SET role = 'guest' WHERE user_id = %s", legacy.users["cy"])
    legacy.run("UPDATE agent_memberships SET revoked_at = now() WHERE user_id = %s", legacy.users["dee"])
    legacy.run("INSERT INTO devices (agent_id, name, handle) VALUES (%s, 'New', 'new')", legacy.home)
    legacy.run("INSERT INTO events (agent_id, type) VALUES (%s, 'without a space')", legacy.home)
    legacy.run("INSERT INTO users (email, password_hash) VALUES ('new@example.org', 'x')")
    migrations.rollback(legacy.url, "004")
    assert legacy.rows(
        "SELECT role, revoked_at IS NOT NULL FROM agent_memberships WHERE user_id = ANY(%s) ORDER BY role",
        [legacy.users["cy"], legacy.users["dee"]],
    ) == [("guest", False), ("guest", True)]
    [(token_hash,)] = legacy.rows("SELECT token_hash FROM devices WHERE name = 'New'")
    assert token_hash.startswith("unusable:")
    assert legacy.rows("SELECT count(*) FROM events") == [(5,)]
    migrations.migrate(legacy.url)
    assert legacy.rows(
        "SELECT role, revoked_at IS NOT NULL FROM agent_memberships WHERE user_id = ANY(%s) ORDER BY role",
        [legacy.users["cy"], legacy.users["dee"]],
    ) == [("guest", False), ("guest", True)]


@pytest.mark.parametrize("to", ["900", "nonsense", "9999999", "²"])
def test_an_unknown_goal_is_refused(fresh, to):
    with pytest.raises(migrations.SchemaError, match="there is no migration"):
        migrations.rollback(fresh.url, to)
    migrations.check(fresh.url)
