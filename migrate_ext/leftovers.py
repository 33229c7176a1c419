"""What an interrupted migration left behind: INVALID indexes of CREATE INDEX CONCURRENTLY.

The database is asked only where the file of a migration may have made one, and by the names in that
file: ``pg_index`` has no index on ``indisvalid``.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from migrate_ext import _core, lock

# Of a file that may leave one: it says so, or has imported what may do it.
_MAY_LEAVE = re.compile(
    r"concurrently|autocommit"
    r"|^\s*(?:import|from)\s+(?!(?:alembic|sqlalchemy|typing|collections|datetime|__future__)\b)",
    re.IGNORECASE | re.MULTILINE,
)
_DROPS = re.compile(r"drop_?\s*index|reindex", re.IGNORECASE)


class Left(NamedTuple):
    """``indexes``: (name as SQL, its table's name). ``is_handled``: the migration drops indexes or
    builds them anew itself, so that it may know what to do with one.
    """

    indexes: list[tuple[str, str]]
    is_handled: bool = False


def of_file(ask: lock.Ask, path: str, function: str, schema: str | None) -> Left:
    """What is left of the migration in the file at `path`.

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
    """The source of a function of a module; "" where it has none of that name."""
    import ast  # few migrations leave something

    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef) and node.name == function:
            return ast.get_source_segment(source, node) or ""
    return ""
