"""The SQLModel classes say what the database says: both ways, column by column."""

import re
from pathlib import Path

import pytest
from procrastinate.schema import SchemaManager
from sqlalchemy import MetaData, NullPool, Table, UniqueConstraint, create_engine
from sqlalchemy.dialects.postgresql import dialect
from sqlmodel import SQLModel

from hub import tables
from hub.database import normalise_url

# The books of the runner and of the job queue, which no code of ours reads as rows.
LEDGERS = {
    "_yoyo_log",
    "_yoyo_migration",
    "_yoyo_version",
    "schema_checksums",
    "procrastinate_events",
    "procrastinate_jobs",
    "procrastinate_periodic_defers",
    "procrastinate_workers",
}
CLASSES = {getattr(tables, name).__tablename__: getattr(tables, name) for name in tables.__all__}


@pytest.fixture(scope="module")
def real(migrated_url):
    engine = create_engine(normalise_url(migrated_url), poolclass=NullPool)
    metadata = MetaData()
    metadata.reflect(engine)
    return metadata.tables


def kind(column):
    text = column.type.compile(dialect())
    return {"VARCHAR": "TEXT", "FLOAT": "DOUBLE PRECISION"}.get(text, text)


def columns(table: Table):
    return {
        column.name: (kind(column), column.nullable, column.server_default is not None or column.identity is not None)
        for column in table.columns
    }


def keys(table: Table):
    return {
        "primary": {column.name for column in table.primary_key},
        "unique": {
            frozenset(column.name for column in constraint.columns)
            for constraint in table.constraints
            if isinstance(constraint, UniqueConstraint)
        },
        "foreign": {(key.parent.name, key.target_fullname, key.ondelete) for key in table.foreign_keys},
    }


def test_every_table_has_its_class_and_every_class_its_table(real):
    assert set(real) - LEDGERS == set(CLASSES) == set(SQLModel.metadata.tables)


def test_the_job_queue_has_the_schema_of_its_own_package(sql_folder):
    ours = Path(sql_folder, "033_procrastinate.sql").read_text(encoding="utf-8")
    assert ours.partition("\n\n")[2].strip() == SchemaManager.get_schema().strip()


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_columns_types_and_nullability_agree(real, name):
    assert columns(CLASSES[name].__table__) == columns(real[name])


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_keys_agree(real, name):
    assert keys(CLASSES[name].__table__) == keys(real[name])


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_attributes_bear_the_names_of_the_columns(name):
    renamed = {attribute.key: attribute.columns[0].name for attribute in CLASSES[name].__mapper__.column_attrs}
    assert {key: value for key, value in renamed.items() if key != value} in ({}, {"metadata_": "metadata"})


def test_nothing_creates_tables_from_the_classes(sql_folder):
    for folder in ("hub", "web", "broker", "marvain"):
        for path in Path(sql_folder.parent, folder).rglob("*.py"):
            assert not re.search(r"\.create_all\(", path.read_text(encoding="utf-8")), path
