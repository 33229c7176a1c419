"""Indexes that an interrupted CREATE INDEX CONCURRENTLY of a migration left, INVALID or VALID.

The database is queried only if the file of a migration may have created one, and only for names in
that file, because ``pg_index`` has no index on ``indisvalid``.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from migrate_ext import _core
from migrate_ext.locking import lock

# Matches a file that may leave an index: by its own text, or because it imports code that may.
_MAY_LEAVE = re.compile(
    r"concurrently|autocommit"
    r"|^\s*(?:import|from)\s+(?!(?:alembic|sqlalchemy|typing|collections|datetime|__future__)\b)",
    re.IGNORECASE | re.MULTILINE,
)
_DROPS = re.compile(r"drop_?\s*index|reindex", re.IGNORECASE)


class Left(NamedTuple):
    """``indexes``: (name as SQL, its table's name). ``is_handled``: the migration drops or rebuilds
    indexes itself, so it may handle one that was left.
    """

    indexes: list[tuple[str, str]]
    is_handled: bool = False


def of_file(ask: lock.Ask, path: str, function: str, schema: str | None) -> Left:
    """What the migration in the file at `path` has left.

    function: the one that will run, ``upgrade`` or ``downgrade``. schema: of the version table.
    """
    if not path.endswith(".py"):
        return Left([])
    with open(path, encoding="utf-8", errors="replace") as file:
        source = file.read()
    if not _MAY_LEAVE.search(source):
        return Left([])
    indexes = named(ask, source, schema)
    return Left(indexes, bool(indexes) and bool(_DROPS.search(_text_of(source, function))))


def named(ask: lock.Ask, text: str, schema: str | None) -> list[tuple[str, str]]:
    """The INVALID indexes whose names are words of `text`."""
    words = {*re.split(r"[^\w$]+", text), *re.split(r"\W+", text), schema or ""} - {""}
    rows = ask(_core.lock_sql_invalid(" ".join(sorted(words))))
    return [(str(name), str(table)) for name, table in rows]


def _text_of(source: str, function: str) -> str:
    """The source of a function of a module; "" if there is no such function."""
    import ast  # few migrations leave an index

    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef) and node.name == function:
            return ast.get_source_segment(source, node) or ""
    return ""


_MAKES = re.compile(
    r'\s*CREATE\s+(UNIQUE\s+)?INDEX\s+CONCURRENTLY\s+("(?:[^"]|"")+"|[\w$]+)\s+ON\s+(?:ONLY\s+)?'
    r'((?:(?:"(?:[^"]|"")+"|[\w$]+)\.)?(?:"(?:[^"]|"")+"|[\w$]+))([\s(].*?);?\s*',
    re.IGNORECASE | re.DOTALL,
)


def same_index(ask: lock.Ask, statement: str) -> str | None:
    """The existing index, as SQL, that is VALID and exactly the one that `statement` would create;
    None if there is none, or `statement` is no CREATE INDEX CONCURRENTLY.

    Compares it with an index that PostgreSQL creates from `statement` on an empty temporary table.
    Must be called outside a transaction.
    """
    found = _MAKES.fullmatch(statement)
    if found is None:
        return None
    unique, name, table, rest = found.groups()
    quoted = _tag(statement)
    bare = name[1:-1].replace('""', '"') if name.startswith('"') else name.lower()
    body = f"""
DECLARE
    there oid := (SELECT i.indexrelid FROM pg_catalog.pg_index i
        JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
        WHERE i.indrelid = pg_catalog.to_regclass({_literal(table)}) AND i.indisvalid
        AND c.relname = {_literal(bare)});
    probe oid;
    known text[];
BEGIN
    PERFORM pg_catalog.set_config('migrate_ext.same', '', false);
    IF there IS NULL THEN RETURN; END IF;
    CREATE TEMP TABLE migrate_ext_probe (LIKE {table});
    EXECUTE {_literal(f"CREATE {unique or ''}INDEX migrate_ext_probe_index ON migrate_ext_probe {rest}")};
    probe := 'pg_temp.migrate_ext_probe_index'::regclass;
    known := ARRAY(SELECT pg_catalog.regexp_replace(pg_catalog.pg_get_indexdef(i.indexrelid),
        '^(CREATE.* INDEX ).*? ON .*? (USING )', '\\1\\2') || i.indisunique
        FROM pg_catalog.pg_index i WHERE i.indexrelid IN (there, probe));
    IF known[1] = known[2] THEN
        PERFORM pg_catalog.set_config('migrate_ext.same', there::regclass::text, false);
    END IF;
    DROP TABLE pg_temp.migrate_ext_probe;
END"""
    ask(f"DO {quoted}{body}{quoted}")
    return ask("SELECT nullif(pg_catalog.current_setting('migrate_ext.same'), '')")[0][0]


def hint(revision: str, index: str) -> str:
    """A text for the user about an index that :func:`same_index` has found."""
    return (
        f"{revision} was interrupted before: it left the index {index}, which is the one that it "
        "makes. To have it dropped first: --repair, or MIGRATE_EXT_REPAIR=true under alembic."
    )


def _literal(text: str) -> str:
    return "E'" + text.replace("\\", "\\\\").replace("'", "''") + "'"


def _tag(text: str) -> str:
    """A dollar quote that does not occur in `text`."""
    tag = "$migrate_ext$"
    while tag in text:
        tag = tag[:-1] + "_$"
    return tag
