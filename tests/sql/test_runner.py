"""The runner: closed door first."""

import shutil
import threading

import psycopg
import pytest
from sqlalchemy import make_url

from hub import migrations
from hub.errors import Invalid
from hub.migrations.files import read_files

FILES = read_files()


@pytest.fixture
def folder(tmp_path, sql_folder):
    """A copy of the migrations that a test may change."""
    return shutil.copytree(sql_folder, tmp_path / "sql", ignore=shutil.ignore_patterns("__pycache__"))


def add(folder, name, apply, rollback="SELECT 1;"):
    (folder / f"{name}.sql").write_text(apply, encoding="utf-8")
    (folder / f"{name}.rollback.sql").write_text(rollback, encoding="utf-8")


LAST = f"{len(FILES):03}"
NEXT = f"{len(FILES) + 1:03}_next"


class TestRefusals:
    def test_an_edited_file_is_refused_by_name_everywhere(self, fresh, folder):
        path = folder / "003_remotes.sql"
        path.write_text(path.read_text(encoding="utf-8") + "-- a harmless remark\n", encoding="utf-8")
        add(folder, NEXT, "CREATE TABLE never (x int);")
        for refused in (
            migrations.check,
            migrations.migrate,
            migrations.plan,
            lambda url, sql_dir: migrations.rollback(url, "010", sql_dir),
        ):
            with pytest.raises(migrations.SchemaEdited, match=r"003_remotes\.sql was changed"):
                refused(fresh.url, sql_dir=folder)
        assert [s.id for s in migrations.status(fresh.url, folder) if s.state == "edited"] == ["003_remotes"]
        migrations.check(fresh.url)

    def test_line_ends_and_a_byte_order_mark_are_no_edit(self, fresh, folder):
        for path in folder.glob("*.sql"):
            path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
        migrations.check(fresh.url, folder)

    def test_an_empty_database_is_outdated_and_stays_untouched(self, empty):
        with pytest.raises(
            migrations.SchemaOutdated, match=r"lacks the migration 001_init and \d+ more: run marvain migrate"
        ):
            migrations.check(empty.url)
        assert {state.state for state in migrations.status(empty.url)} == {"pending"}
        assert empty.shape() == []

    def test_one_missing_migration_is_outdated(self, fresh, folder):
        add(folder, NEXT, "SELECT 1;")
        with pytest.raises(migrations.SchemaOutdated, match=f"lacks the migration {NEXT}: run marvain migrate"):
            migrations.check(fresh.url, folder)

    def test_a_newer_database_is_refused(self, fresh, folder):
        add(folder, NEXT, "SELECT 1;")
        migrations.migrate(fresh.url, folder)
        for refused in (migrations.check, migrations.migrate):
            with pytest.raises(migrations.SchemaAhead, match=NEXT):
                refused(fresh.url)

    def test_a_file_that_fails_leaves_nothing_and_says_where(self, fresh, folder):
        add(
            folder,
            NEXT,
            "CREATE TABLE half (x int);\n\nINSERT INTO half VALUES (1);\nSELECT no_such_column FROM half;\n",
        )
        before = fresh.shape()
        for refused in (migrations.migrate, migrations.plan):
            with pytest.raises(
                migrations.MigrationFailed, match=rf'{NEXT}\.sql, line 4: column "no_such_column" does not exist'
            ):
                refused(fresh.url, folder)
        assert fresh.shape() == before
        add(folder, NEXT, "CREATE TABLE whole (x int);")
        assert migrations.migrate(fresh.url, folder) == [NEXT]

    def test_what_a_file_raises_itself_is_told(self, fresh, folder):
        add(folder, NEXT, "DO $$ BEGIN RAISE EXCEPTION 'three are lost; %', 3; END $$;")
        with pytest.raises(migrations.MigrationFailed, match="three are lost; 3; nothing of this file was kept"):
            migrations.migrate(fresh.url, folder)

    def test_a_rollback_that_fails_leaves_the_mark(self, fresh, folder):
        add(folder, NEXT, "CREATE TABLE whole (x int);", "DROP TABLE whole; DROP TABLE no_such_table;")
        migrations.migrate(fresh.url, folder)
        with pytest.raises(migrations.MigrationFailed, match=rf"{NEXT}\.rollback\.sql: .*no_such_table"):
            migrations.rollback(fresh.url, LAST, folder)
        migrations.check(fresh.url, folder)
        assert fresh.rows("SELECT count(*) FROM whole") == [(0,)]

    @pytest.mark.parametrize("url", ["", "mysql://a:b@c/d", "not a url", "postgresql+asyncpg://a@b/c", "sqlite://"])
    def test_a_url_that_is_none_is_invalid_and_not_repeated(self, url):
        with pytest.raises(Invalid) as refused:
            migrations.migrate(url)
        assert refused.value.field == "url"
        assert "a:b" not in refused.value.message

    def test_a_database_that_is_away_says_so(self):
        with pytest.raises(psycopg.OperationalError):
            migrations.check("postgresql://nobody@127.0.0.1:1/none")


class TestFiles:
    def test_every_migration_has_a_rollback_and_no_transaction_of_its_own(self, sql_folder):
        for file in FILES:
            for script in (file.apply, file.rollback):
                assert script.strip()
                words = {line.split(";")[0].strip().upper() for line in script.splitlines()}
                assert not words & {"COMMIT", "ROLLBACK", "START TRANSACTION", "BEGIN TRANSACTION"}, file.id
        assert len(list(sql_folder.glob("*.sql"))) == 2 * len(FILES)

    def test_a_missing_rollback_is_refused(self, folder):
        (folder / "007_remotes_to_devices.rollback.sql").unlink()
        with pytest.raises(migrations.SchemaError, match=r"007_remotes_to_devices\.sql has no 007.*\.rollback\.sql"):
            read_files(folder)

    def test_a_rollback_alone_is_refused(self, folder):
        (folder / f"{NEXT}.rollback.sql").write_text("SELECT 1;", encoding="utf-8")
        with pytest.raises(migrations.SchemaError, match="has no migration"):
            read_files(folder)

    @pytest.mark.parametrize("name", [f"{LAST}_again", "099_gap", f"{NEXT[1:3]}_short", f"{NEXT}-dash", "x_name"])
    def test_a_number_used_twice_or_skipped_and_an_odd_name_are_refused(self, folder, name):
        add(folder, name, "SELECT 1;")
        with pytest.raises(migrations.SchemaError, match=r"stands where number \d+ should|is named NNN_name\.sql"):
            read_files(folder)

    def test_bytes_that_are_no_text_are_refused(self, folder):
        add(folder, NEXT, "")
        (folder / f"{NEXT}.sql").write_bytes(b"SELECT '\xff';")
        with pytest.raises(migrations.SchemaError, match=rf"{NEXT}\.sql is not UTF-8 \(byte 8\)"):
            read_files(folder)

    def test_an_empty_folder_is_refused(self, tmp_path):
        with pytest.raises(migrations.SchemaError, match="no migrations in"):
            read_files(tmp_path)


def test_dollar_quotes_percent_signs_and_other_letters_survive(fresh, folder):
    text = """
    -- a semicolon; in a comment, and a quote's end
    CREATE TABLE odd (x text);
    CREATE FUNCTION odd_one() RETURNS trigger LANGUAGE plpgsql AS $body$
    DECLARE
        n int := 0;
    BEGIN
        IF TG_OP = 'INSERT' THEN n := n + 1; END IF;
        CASE WHEN n = 1 THEN NEW.x := NEW.x || '; $$ %s %(x)s :name — Grüße'; ELSE NULL; END CASE;
        RETURN NEW;
    END
    $body$;
    CREATE TRIGGER odd_one BEFORE INSERT ON odd FOR EACH ROW EXECUTE FUNCTION odd_one();
    DO $$ BEGIN INSERT INTO odd VALUES ('a'); BEGIN PERFORM 1; EXCEPTION WHEN OTHERS THEN NULL; END; END $$;
    """
    add(folder, NEXT, text, "DROP TABLE odd; DROP FUNCTION odd_one();")
    assert migrations.migrate(fresh.url, folder) == [NEXT]
    assert fresh.rows("SELECT x FROM odd") == [("a; $$ %s %(x)s :name — Grüße",)]
    assert migrations.rollback(fresh.url, LAST.lstrip("0"), folder) == [NEXT]


@pytest.mark.parametrize("table", [None, "recipes"])
def test_the_vector_extension_is_brought_where_it_is_missing(make_database, postgres, table):
    """`template0` is bare: on a server of one's own nobody has prepared anything."""
    url = make_database("template0")
    name = make_url(url).database
    # pgvector 0.8 may be brought by superusers alone.
    superuser = make_url(postgres[1]).set(database=name).render_as_string(hide_password=False)
    if table:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(f"CREATE TABLE {table} (x int)".encode())
    assert len(migrations.plan(superuser).apply) == len(FILES)
    assert len(migrations.migrate(superuser)) == len(FILES)


def test_a_role_that_may_not_bring_the_extension_is_told_so(make_database):
    url = make_database("template0")
    with psycopg.connect(url) as connection:
        if connection.execute("SELECT rolsuper FROM pg_roles WHERE rolname = current_user").fetchone() == (True,):
            pytest.skip("this server was given with a superuser")
    with pytest.raises(migrations.MigrationFailed, match="Must be superuser to create this extension"):
        migrations.migrate(url)


def at_once(count, work):
    results, threads = [], []
    gate = threading.Barrier(count)

    def one():
        gate.wait()
        try:
            results.append(work())
        except BaseException as error:  # noqa: BLE001 - told to the test
            results.append(error)

    for _ in range(count):
        threads.append(threading.Thread(target=one))
        threads[-1].start()
    for thread in threads:
        thread.join()
    return results


def test_several_runners_at_once_all_succeed_and_one_does_the_work(empty):
    results = at_once(4, lambda: migrations.migrate(empty.url))
    assert sorted(results, key=len) == [[], [], [], [file.id for file in FILES]]
    migrations.check(empty.url)


def test_several_adopt_one_legacy_database_at_once(legacy):
    results = at_once(3, lambda: migrations.migrate(legacy.url))
    assert sorted(results, key=len) == [[], [], [file.id for file in FILES[4:]]]


def test_a_runner_that_is_killed_leaves_no_lock_and_no_half_file(fresh, folder):
    add(folder, NEXT, "CREATE TABLE slow (x int); SELECT pg_sleep(60);")
    results = []
    thread = threading.Thread(target=lambda: results.extend(at_once(1, lambda: migrations.migrate(fresh.url, folder))))
    thread.start()
    while not (
        asleep := fresh.rows(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'"
        )
    ):
        pass
    fresh.run("SELECT pg_terminate_backend(%s)", asleep[0][0])
    thread.join()
    assert isinstance(results[0], migrations.MigrationFailed | psycopg.OperationalError)
    add(folder, NEXT, "CREATE TABLE slow (x int);")
    assert migrations.migrate(fresh.url, folder) == [NEXT]


def test_status_tells_when_each_was_applied(fresh):
    states = migrations.status(fresh.url)
    assert [state.id for state in states] == [file.id for file in FILES]
    assert all(state.state == "applied" and state.applied_at is not None for state in states)


def test_the_ledger_is_yoyos(fresh):
    assert fresh.rows("SELECT migration_id FROM _yoyo_migration ORDER BY 1") == [(file.id,) for file in FILES]
    assert fresh.rows("SELECT count(*) FROM _yoyo_log WHERE operation = 'apply'") == [(len(FILES),)]
