"""What rows hold: whether all of it is of built-in types, made by the driver's own code.

A migration that goes on with values from the database is analysed as if they were strings and numbers
(:mod:`migrate_ext.execution.spans`). That is true unless a project has changed how the driver or
SQLAlchemy reads a type: so each result is looked at before its rows are read.
"""

from __future__ import annotations

import sys
from typing import Any

# bool, bytea, char, name, int8, int2, int4, text, oid, float4, float8, bpchar, varchar, date, time,
# timestamp, timestamptz, interval, timetz, numeric, uuid, void
_TYPES = frozenset(
    (16, 17, 18, 19, 20, 21, 23, 25, 26, 700, 701, 1042, 1043, 1082, 1083, 1114, 1184, 1186)
) | {1266, 1700, 2950, 2278}


def are_plain(result: Any, connection: Any) -> bool:
    """Whether the rows of one of SQLAlchemy's results hold strings, numbers, dates and the like alone.

    connection: the driver's. (``_metadata._processors`` was read in SQLAlchemy 2.0 and 2.1.)
    """
    if not result.returns_rows:
        return True
    if any(processor is not None for processor in result._metadata._processors):
        return False
    codes = [column[1] for column in result.cursor.description]
    if not _TYPES.issuperset(codes):
        return False
    package = type(connection).__module__.partition(".")[0]
    if package == "psycopg":
        psycopg: Any = sys.modules["psycopg"]
        return connection.row_factory is psycopg.rows.tuple_row and all(
            _is_psycopgs(connection.adapters.get_loader(code, format))
            for code in codes
            for format in psycopg.pq.Format
        )
    if package == "psycopg2":
        return all(_is_psycopg2s(result.cursor, connection, code) for code in codes)
    return False


def _is_psycopgs(loader: Any) -> bool:
    return loader is None or loader.__module__.partition(".")[0] in (
        "psycopg",
        "psycopg_binary",
        "psycopg_c",
    )


def _is_psycopg2s(cursor: Any, connection: Any, code: int) -> bool:
    extension: Any = sys.modules["psycopg2._psycopg"]
    for types in (cursor.string_types, connection.string_types, extension.string_types):
        if types and code in types:
            return any(types[code] is found for found in vars(extension).values())
    return True  # a string
