"""Statements with parameters, as the driver would send them.

psycopg sends parameters beside the text, psycopg2 writes them into it. Both do so with adapters that a
project may replace; only the drivers' own are called here, for values of built-in types: neither runs
code of the project's. For all else the answer is None, and the driver executes the statement.
"""

from __future__ import annotations

import datetime
import decimal
import sys
import uuid
from collections.abc import Mapping
from typing import Any, TypeAlias

# Types, values and formats, as libpq takes them.
Parameters: TypeAlias = tuple[tuple[int, ...], tuple[bytes | None, ...], tuple[int, ...]]

# How a timedelta and bytes are written depends on settings of the session, which may be about to change.
_SCALARS = frozenset(
    (
        *(bool, float, int, str, type(None)),
        *(datetime.date, datetime.datetime, datetime.time),
        *(decimal.Decimal, uuid.UUID),
    )
)
_OWN = ("psycopg", "psycopg_binary", "psycopg_c", "psycopg2", "sqlalchemy")


def are_plain(values: Any) -> bool:
    """Whether these are parameters by name, of built-in types that call nobody's code."""
    return type(values) is dict and all(
        type(name) is str and type(value) in _SCALARS and _has_plain_zone(value)
        for name, value in values.items()
    )


def _has_plain_zone(value: Any) -> bool:
    if type(value) not in (datetime.datetime, datetime.time) or value.tzinfo is None:
        return True
    zoneinfo: Any = sys.modules.get("zoneinfo")
    known = (datetime.timezone, zoneinfo.ZoneInfo if zoneinfo is not None else datetime.timezone)
    return type(value.tzinfo) in known


def for_psycopg(
    connection: Any, sql: str, values: Mapping[str, Any]
) -> tuple[str, Parameters] | None:
    """The text and the parameters that a cursor of psycopg's sends for this call of ``execute``.

    connection: psycopg's. sql: with placeholders as psycopg takes them. (Private names were read in
    psycopg 3.1 to 3.3.)
    """
    psycopg: Any = sys.modules["psycopg"]
    if connection.cursor_factory not in (psycopg.Cursor, psycopg.AsyncCursor):
        return None  # it may write the parameters into the text
    auto = psycopg.adapt.PyFormat.AUTO
    for value in values.values():
        if value is not None and not _is_own(connection.adapters.get_dumper(type(value), auto)):
            return None
    query = psycopg._queries.PostgresQuery(psycopg.adapt.Transformer(connection))
    query.convert(sql, values)
    if query.params is None:
        return query.query.decode(), ((), (), ())
    given = tuple(None if value is None else bytes(value) for value in query.params)
    return query.query.decode(), (tuple(query.types), given, tuple(map(int, query.formats)))


def for_psycopg2(connection: Any, sql: str, values: Mapping[str, Any]) -> str | None:
    """The text that a cursor of psycopg2's sends for this call of ``execute``."""
    extensions: Any = sys.modules["psycopg2.extensions"]
    for value in values.values():
        adapter = extensions.adapters.get((type(value), extensions.ISQLQuote))
        if adapter is None or not _is_own(adapter):
            return None
    cursor = connection.cursor()
    try:
        return str(cursor.mogrify(sql, values).decode())
    finally:
        cursor.close()


def _is_own(adapter: Any) -> bool:
    return str(adapter.__module__).partition(".")[0] in _OWN
