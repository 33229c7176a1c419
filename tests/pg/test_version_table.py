"""The version table says what Alembic's would, row by row."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from alembic.runtime.migration import HeadMaintainer, MigrationContext
from alembic.util import CommandError as AlembicError
from sqlalchemy import create_engine
from sqlalchemy.engine import make_url
from sqlalchemy.pool import NullPool

from migrate_ext import _core
from migrate_ext._core import Session
from migrate_ext.errors import CommandError, ServerError
from migrate_ext.execution import libpq

TABLES = [
    ("alembic_version", None),
    ('My version\'s "%s" table', None),
    ("user", "other"),
    ("v$1", "Ünï schema"),
]


@pytest.fixture
def session(database_url: str) -> Iterator[Session]:
    opened = Session.connect(_core.parse_url(database_url), libpq.find())
    opened.query('CREATE SCHEMA other; CREATE SCHEMA "Ünï schema"')
    opened.notices()
    yield opened
    opened.close()


def alembic_context(url: str, table: str, schema: str | None, **opts: Any) -> MigrationContext:
    parsed = make_url(url).set(drivername="postgresql+psycopg")
    engine = create_engine(parsed, poolclass=NullPool)
    return MigrationContext.configure(
        engine.connect(), opts={"version_table": table, "version_table_schema": schema, **opts}
    )


DESCRIBE = """
SELECT n.nspname, c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, k.conname
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
LEFT JOIN pg_constraint k ON k.conrelid = c.oid AND k.contype = 'p'
WHERE c.relkind = 'r' AND n.nspname !~ '^pg_|information_schema'
"""


@pytest.mark.parametrize("primary_key", [True, False])
@pytest.mark.parametrize(("table", "schema"), TABLES)
def test_the_table_is_the_one_that_alembic_makes(
    session: Session, database_url: str, table: str, schema: str | None, primary_key: bool
) -> None:
    assert session.version_heads(table, schema) is None
    session.version_create(table, schema, primary_key)
    ours = session.query(DESCRIBE)
    context = alembic_context(database_url, table, schema, version_table_pk=primary_key)
    assert context._has_version_table()
    assert context.get_current_heads() == session.version_heads(table, schema) == ()
    assert context.connection is not None
    context._version.drop(context.connection)
    context._ensure_version_table()
    context.connection.commit()
    context.connection.close()
    assert session.query(DESCRIBE) == ours


@pytest.mark.parametrize(("table", "schema"), TABLES)
def test_rows_move_as_they_are_told(session: Session, table: str, schema: str | None) -> None:
    session.begin()
    session.version_create(table, schema)
    session.version_apply(
        [("insert", "a"), ("insert", "it's \\ %s"), ("update", "a", "b")], table, schema
    )
    assert sorted(filter(None, session.version_heads(table, schema) or ())) == ["b", "it's \\ %s"]
    session.version_apply([("delete", "it's \\ %s")], table, schema)
    assert session.version_heads(table, schema) == ("b",)
    session.version_purge(table, schema)
    assert session.version_heads(table, schema) == ()
    session.rollback()
    assert session.version_heads(table, schema) is None


def test_reading_the_heads_waits_for_the_server_twice_at_most(session: Session) -> None:
    session.version_create("alembic_version")
    before = _core.counters()["waits"]
    session.version_heads("alembic_version")
    assert _core.counters()["waits"] - before <= 2


@pytest.mark.parametrize("rows", [0, 2])
@pytest.mark.parametrize("action", ["update", "delete"])
def test_a_missing_or_doubled_row_is_told_in_alembics_words(
    session: Session, database_url: str, rows: int, action: str
) -> None:
    table = "my_version"
    session.version_create(table, primary_key=False)
    if rows:
        session.query("INSERT INTO my_version VALUES ('a'), ('a')")
    context = alembic_context(database_url, table, None)
    maintainer = HeadMaintainer(context, ("a",))
    with pytest.raises(AlembicError) as theirs:
        if action == "update":
            maintainer._update_version("a", "b")
        else:
            maintainer._delete_version("a")
    assert context.connection is not None
    context.connection.rollback()
    context.connection.close()
    session.begin()
    operation = ("update", "a", "b") if action == "update" else ("delete", "a")
    with pytest.raises(CommandError) as ours:
        session.version_apply([operation], table)
    assert str(ours.value) == str(theirs.value)
    session.rollback()


def test_version_rows_are_refused_outside_a_transaction(session: Session) -> None:
    session.version_create("alembic_version")
    with pytest.raises(ValueError, match="not in a transaction"):
        session.version_apply([("insert", "a")], "alembic_version")
    assert session.version_heads("alembic_version") == ()


def test_version_rows_ride_on_the_drivers_connection(session: Session, database_url: str) -> None:
    session.version_create("alembic_version")
    with psycopg.connect(database_url) as connection:
        connection.execute("SELECT 1")
        lent = libpq.of_driver(connection)
        assert lent is not None
        borrowed = Session.borrow(*lent, libpq.owner(connection))
        assert borrowed.version_heads("alembic_version") == ()
        borrowed.version_apply([("insert", "a")], "alembic_version")
        connection.rollback()
    assert session.version_heads("alembic_version") == ()


def test_a_role_without_rights_gets_the_servers_error(session: Session) -> None:
    session.query("CREATE TABLE alembic_version (version_num varchar(32))")
    session.query(
        "DO $$ BEGIN CREATE ROLE pq_nobody; EXCEPTION WHEN duplicate_object THEN NULL; END $$"
    )
    session.query("SET ROLE pq_nobody")
    with pytest.raises(ServerError) as caught:
        session.version_heads("alembic_version")
    assert caught.value.sqlstate == "42501"
    session.query("RESET ROLE")
    session.query("DROP OWNED BY pq_nobody; DROP ROLE pq_nobody")


def test_a_malformed_version_operation_is_refused(session: Session) -> None:
    for operation in (("insert", "a", "b"), ("update", "a"), ("drop", "a")):
        with pytest.raises(ValueError):
            session.version_apply([operation], "t")
