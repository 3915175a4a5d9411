"""A fresh database."""

from hub import migrations


def test_an_empty_database_gets_everything_once(empty_database_url):
    first = migrations.migrate(empty_database_url)
    assert [name[:3] for name in first] == [f"{n:03}" for n in range(1, len(first) + 1)]
    assert migrations.migrate(empty_database_url) == []
    migrations.check(empty_database_url)
