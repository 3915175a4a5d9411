"""The earlier system's database, with its odd rows, on the way to ours."""

import pytest

from hub import migrations


@pytest.fixture
def migrated(legacy):
    migrations.migrate(legacy.url)
    return legacy


def roles(legacy, agent):
    found = legacy.rows(
        "SELECT user_id, role, revoked_at IS NOT NULL FROM agent_memberships WHERE agent_id = %s",
        agent,
    )
    names = {user_id: name for name, user_id in legacy.users.items()}
    return {names[user_id]: role + (" (revoked)" if revoked else "") for user_id, role, revoked in found}


def test_nobody_gets_more_than_a_table_gave_and_nobody_is_locked_out(migrated):
    assert roles(migrated, migrated.home) == {
        "kim": "blocked",  # blocked in the newer table, admin in the older
        "gil": "blocked",  # the other way round
        "fay": "blocked",  # in odd case
        "ida": "owner (revoked)",
        "dee": "guest",  # a role that nobody knows
        "eve": "guest",  # no role at all
        "hal": "guest",  # the newer row stands
        "ann": "owner",  # of longest standing, in the older table
        "bob": "admin",  # owner of shorter standing
        "jon": "admin",
        "cy": "admin",
        "lea": "member",
    }
    assert roles(migrated, migrated.cabin) == {"bob": "owner", "ann": "admin"}


def test_a_second_owner_is_refused_by_the_database(migrated):
    with pytest.raises(Exception, match="agent_memberships_one_owner_idx"):
        migrated.run("UPDATE agent_memberships SET role = 'owner' WHERE user_id = %s", migrated.users["lea"])


def test_every_adjustment_of_a_membership_is_noted(migrated):
    notes = dict.fromkeys(
        (subject, note)
        for subject, note in migrated.rows(
            "SELECT subject, note FROM migration_notes WHERE migration LIKE '005%' ORDER BY note_id"
        )
    )
    text = "\n".join(f"{subject}: {note}" for subject, note in notes)
    for name, said in {
        "dee": "the role 'superuser' is not known and became guest",
        "eve": "the role (none) is not known and became guest",
        "cy": "became admin",
        "gil": "the role admin became blocked",
        "hal": "agent_memberships has guest, the older table had 'admin'",
        "ida": "agent_memberships has owner (revoked)",
        "bob": "this one became admin",
        "jon": "this one became admin",
    }.items():
        assert any(str(migrated.users[name]) in line and said in line for line in text.splitlines()), (
            f"{name}: {said}\n{text}"
        )
    assert text.count("the user or the agent does not exist") == 2
    assert "memberships: 14 rows: 8 copied, 4 present already, 2 without their user or agent" in text
    assert str(migrated.users["lea"]) not in text


def test_labels_and_times_of_memberships_are_kept(migrated):
    assert migrated.rows(
        "SELECT count(*) FROM agent_memberships AS a JOIN legacy_memberships AS m USING (agent_id, user_id)"
        " JOIN legacy_membership_changes AS c USING (agent_id, user_id) WHERE c.role_before IS NULL"
        " AND a.relationship_label = m.relationship_label AND a.created_at = m.created_at",
    ) == [(8,)]


def test_every_remote_is_a_device_that_nobody_can_use_yet(migrated):
    found = migrated.rows(
        "SELECT map.remote_id, d.agent_id, d.handle, d.name, d.scopes, d.metadata, d.needs_enrolment, t.token_hash"
        " FROM remote_device_map AS map JOIN devices AS d USING (device_id)"
        " JOIN legacy_device_tokens AS t USING (device_id)",
    )
    devices = {row[0]: row[1:] for row in found}
    assert devices.keys() == set(migrated.remotes.values())
    assert len({device[1] for device in devices.values()}) == 6, "each has a handle of its own"
    for remote_id, (_, handle, name, scopes, metadata, needs_enrolment, token_hash) in devices.items():
        assert needs_enrolment
        assert name
        assert "_" not in handle
        assert scopes == ["events:write", "presence:write"]
        assert metadata["is_remote"] is True
        assert metadata["migrated_from_remote_id"] == str(remote_id)
        assert metadata["connection_type"] == "network"
        assert token_hash.startswith("unusable:")
        assert str(remote_id) not in token_hash
    assert len({device[-1] for device in devices.values()}) == 6
    assert devices[migrated.remotes["no address"]][4]["address"] is None
    assert devices[migrated.remotes["porch"]][4]["address"] == "10.0.0.5"
    assert devices[migrated.remotes["porch of the cabin"]][0] == migrated.cabin
    notes = [n for (n,) in migrated.rows("SELECT note FROM migration_notes WHERE migration LIKE '007%'")]
    assert sorted(notes) == sorted(
        ["has no address"] * 2
        + ["has no name"] * 2
        + ["shares the name 'Porch' with 1 more"] * 2
        + ["6 remotes became devices"]
    )


def test_old_devices_keep_their_rows_and_events_and_lose_what_was_no_scope(migrated):
    found = migrated.rows(
        "SELECT d.scopes, count(e.event_id), d.needs_enrolment, p.last_heard_at IS NOT NULL FROM devices AS d"
        " JOIN events AS e USING (device_id) JOIN device_presence AS p USING (device_id)"
        " GROUP BY d.device_id, p.device_id ORDER BY d.scopes",
    )
    assert found == [([], 1, True, True)] * 2 + [(["events:write"], 1, True, True)] * 2


def test_action_statuses_are_known_ones_and_an_unreadable_one_does_nothing(migrated):
    found = migrated.rows("SELECT status FROM actions")
    assert sorted(status for (status,) in found) == sorted(
        ["proposed", "unknown", "executed", "failed", "cancelled", "unknown", "unknown"]
    )
    with pytest.raises(Exception, match="does not become Approved"):
        migrated.run("UPDATE actions SET status = 'Approved' WHERE status = 'proposed'")


def test_a_legacy_database_and_a_fresh_one_have_the_same_schema(migrated, fresh):
    assert migrated.shape() == fresh.shape()


def test_migrating_twice_changes_nothing(migrated):
    before = migrated.contents()
    assert migrations.migrate(migrated.url) == []
    assert migrated.contents() == before


def test_a_dry_run_tells_what_would_happen_and_leaves_no_trace(legacy):
    before = legacy.shape(), legacy.contents()
    plan = migrations.plan(legacy.url)
    assert [name[:3] for name in plan.adopt] == ["001", "002", "003", "004"]
    assert plan.apply[0].startswith("005")
    assert any("6 remotes became devices" in note for note in plan.notes)
    assert (legacy.shape(), legacy.contents()) == before
    assert migrations.migrate(legacy.url) == plan.apply
    assert migrations.plan(legacy.url) == migrations.Plan([], [], [])


class TestAdoption:
    """A database without a ledger is compared before it is believed."""

    def test_a_missing_column_is_refused_and_named(self, legacy):
        legacy.run("ALTER TABLE remotes DROP COLUMN address")
        with pytest.raises(migrations.SchemaForeign, match=r"table remotes .* lacks the column address"):
            migrations.migrate(legacy.url)
        assert legacy.rows("SELECT count(*) FROM memberships") == [(14,)]

    def test_another_type_is_refused_and_named(self, legacy):
        legacy.run("ALTER TABLE memberships ALTER COLUMN user_id TYPE text")
        with pytest.raises(migrations.SchemaForeign, match=r"memberships .* user_id is text, not uuid"):
            migrations.migrate(legacy.url)

    def test_somebody_elses_table_of_the_same_name_is_refused(self, empty):
        empty.run("CREATE TABLE devices (id int)")
        with pytest.raises(migrations.SchemaForeign, match="has the table devices and lacks agents"):
            migrations.migrate(empty.url)
        assert [name for (name,) in empty.rows("SELECT tablename FROM pg_tables WHERE tablename = 'agents'")] == []

    def test_other_tables_in_the_database_do_not_matter(self, empty):
        empty.run("CREATE TABLE recipes (id int)")
        assert migrations.migrate(empty.url)

    def test_looser_columns_are_brought_to_the_letter(self, legacy, fresh):
        legacy.run(
            "ALTER TABLE devices ALTER COLUMN capabilities DROP NOT NULL, ALTER COLUMN capabilities DROP DEFAULT;"
            "UPDATE devices SET capabilities = NULL WHERE name = 'Porch';"
            "ALTER TABLE remotes ALTER COLUMN connection_type SET NOT NULL",
        )
        migrations.migrate(legacy.url)
        assert legacy.shape() == fresh.shape()

    def test_a_null_that_has_no_default_stops_it_and_says_where(self, legacy):
        legacy.run("ALTER TABLE spaces ALTER COLUMN name DROP NOT NULL; UPDATE spaces SET name = NULL")
        with pytest.raises(migrations.MigrationFailed, match=r'"name" .*contains null values'):
            migrations.migrate(legacy.url)
        assert migrations.status(legacy.url)[0].state == "pending"

    def test_one_that_ends_before_the_agent_tokens_goes_on_with_them(self, legacy):
        legacy.run("DROP TABLE agent_tokens")
        assert migrations.migrate(legacy.url)[0] == "004_agent_tokens"

    def test_adopting_alone_marks_and_changes_nothing_else(self, legacy):
        before = legacy.contents()
        assert len(migrations.adopt(legacy.url)) == 4
        assert migrations.adopt(legacy.url) == []
        assert legacy.contents() == before
        with pytest.raises(migrations.SchemaOutdated, match="run marvain migrate"):
            migrations.check(legacy.url)
