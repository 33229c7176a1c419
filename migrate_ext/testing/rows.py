"""Inserts rows into tables in their form at some revision."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from migrate_ext.testing.databases import Database

Row = Mapping[str, Any]
#: ``{"table": [row, ...]}``; or rows that name their table under ``"__tablename__"``; or one such row; or a function
#: that takes the database.
Data = Mapping[str, Any] | Sequence[Row] | Callable[["Database"], object]


def insert(connection: Connection, data: Data, table: str | None = None) -> None:
    """Insert rows into tables, which are reflected.

    table: for rows that name none; ``schema.table`` if it is not in the search path. Raises ValueError for a row
    without a table.
    """
    import sqlalchemy

    known: dict[str, sqlalchemy.Table] = {}
    for name, row in _rows(data, table):
        if name not in known:
            schema, _, bare = name.rpartition(".")
            known[name] = sqlalchemy.Table(
                bare, sqlalchemy.MetaData(), schema=schema or None, autoload_with=connection
            )
        connection.execute(known[name].insert().values(dict(row)))


def _rows(data: Any, table: str | None) -> Iterator[tuple[str, Row]]:
    if isinstance(data, Mapping):
        if table is None and "__tablename__" not in data:
            for name, rows in data.items():
                yield from _rows(rows, name)
            return
        data = [data]
    for row in data:
        name = row.get("__tablename__", table)
        if name is None:
            raise ValueError(
                "a row without a table: give the table, or its name under '__tablename__' in the row"
            )
        yield name, {column: value for column, value in row.items() if column != "__tablename__"}
