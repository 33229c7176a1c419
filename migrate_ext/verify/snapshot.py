"""Reads the contents of a database: its catalogue as lines, and for each table hashes of its rows."""

from __future__ import annotations

from typing import NamedTuple

import psycopg
from psycopg import sql

from migrate_ext.testing import catalogue

# In addition to testing/catalogue.py, which leaves these out.
_MORE = r"""
SELECT format('-- columns of %s: %s', c.oid::regclass,
  string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum))
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = c.oid
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'c') AND a.attnum > 0 AND NOT a.attisdropped
  AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' GROUP BY c.oid
UNION ALL SELECT format('-- owner of %s: %s', c.oid::regclass, c.relowner::regrole)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
UNION ALL SELECT format('-- ALTER %s SET %s', CASE s.setrole WHEN 0 THEN 'DATABASE' ELSE s.setrole::regrole::text END,
  unnest(s.setconfig))
FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase WHERE d.datname = current_database()
UNION ALL SELECT format('-- comment on the database: %s', shobj_description(oid, 'pg_database'))
FROM pg_database WHERE datname = current_database() AND shobj_description(oid, 'pg_database') IS NOT NULL
UNION ALL SELECT format('-- large objects: %s', count(*)) FROM pg_largeobject_metadata
"""
_TABLES = r"""
SELECT n.nspname::text, c.relname::text, CASE c.relkind WHEN 'S' THEN '{last_value,is_called}' ELSE
  coalesce(array_agg(a.attname::text ORDER BY a.attnum) FILTER (WHERE a.attnum > 0 AND NOT a.attisdropped), '{}') END
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = c.oid
WHERE (c.relkind IN ('r', 'S') OR c.relkind = 'm' AND c.relispopulated)
  AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
GROUP BY n.nspname, c.relname, c.relkind ORDER BY 1, 2
"""


class Rows(NamedTuple):
    """The rows of a table: their number, and the sums of hashes of whole rows and of each column's values.

    The sums do not depend on the order of the rows. ``columns``: sums by column; ``*``: whole rows. ``unreadable``: why
    the rows cannot be read, or empty.
    """

    number: int
    columns: dict[str, int]
    unreadable: str = ""


class Snapshot(NamedTuple):
    """One database at one moment: lines of its catalogue, sorted; rows by table."""

    lines: tuple[str, ...]
    tables: dict[str, Rows]


def take(dsn: str) -> Snapshot:
    """Read a database. dsn: as libpq accepts it."""
    lines = [line for owned in catalogue.read(dsn).values() for line in owned]
    with psycopg.connect(dsn, autocommit=True, prepare_threshold=None) as connection:
        connection.execute(
            "SET search_path TO pg_catalog; SET jit TO off; SET row_security TO off;"
            "SET timezone TO 'UTC'; SET datestyle TO 'ISO'; SET intervalstyle TO 'postgres'"
        )
        lines += [line for (line,) in connection.execute(_MORE)]
        tables = {
            f"{schema}.{name}": _rows(connection, schema, name, columns)
            for schema, name, columns in connection.execute(_TABLES).fetchall()
        }
    return Snapshot(tuple(sorted(lines)), tables)


def _rows(
    connection: psycopg.Connection[tuple[object, ...]], schema: str, name: str, columns: list[str]
) -> Rows:
    parts = [sql.SQL("migrate_ext_row.*"), *(sql.Identifier(column) for column in columns)]
    if columns == ["last_value", "is_called"]:
        # A sequence's third column, log_cnt, is WAL bookkeeping, not part of its value.
        parts[0] = sql.SQL("last_value, is_called")
    whole = sql.SQL("ROW({})::text").format(parts[0])
    texts = [whole, *(sql.SQL("{}::text").format(part) for part in parts[1:])]
    hashes = [
        sql.SQL("coalesce(sum(hashtextextended({}, 0)::numeric), 0)::text").format(text)
        for text in texts
    ]
    query = sql.SQL("SELECT count(*), {} FROM ONLY {} AS migrate_ext_row").format(
        sql.SQL(", ").join(hashes), sql.Identifier(schema, name)
    )
    try:
        count, *sums = connection.execute(query).fetchall()[0]
    except psycopg.Error as error:
        return Rows(-1, {}, f"{error.sqlstate}: {error.diag.message_primary}")
    return Rows(
        int(str(count)), {key: int(str(n)) for key, n in zip(["*", *columns], sums, strict=True)}
    )
