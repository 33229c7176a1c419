"""The PostgreSQL drivers from inside: their ``PGconn``, their libpq, their exceptions.

Read in psycopg 3.3 and psycopg2 2.9. A driver that is not known here keeps Alembic's own path.
"""

from __future__ import annotations

import sys
from typing import Any

from migrate_ext import errors, libpq


def connection_pointer(connection: Any) -> tuple[str, int] | str:
    """The libpq of a DBAPI connection, as the file to search it from, and the address of its ``PGconn``.

    A text says why there is none: another driver, an asynchronous connection, a wait callback.
    """
    module = type(connection).__module__.split(".")[0]
    if module == "psycopg":
        found = libpq.psycopg_library()
        return found if isinstance(found, str) else (found[0], connection.pgconn.pgconn_ptr)
    if module in ("psycopg2", "psycopg2_binary"):
        from psycopg2 import extensions

        if connection.async_ or extensions.get_wait_callback() is not None:
            return "driver: psycopg2 with a wait callback"
        return libpq.psycopg2_library(), connection.pgconn_ptr
    return f"driver: {module}"


def error(driver: Any, failed: errors.ServerError) -> BaseException:
    """The exception that `driver` (its DBAPI module) would have raised for what the server answered."""
    state = failed.sqlstate
    if driver.__name__ == "psycopg":
        cls = driver.errors.lookup(state) if state else driver.OperationalError
        fields = {code: text.encode() for code, text in failed.fields.items()}
        return cls(str(failed), info=fields)  # type: ignore[no-any-return]
    cls = driver.errors.lookup(state) if state else driver.OperationalError
    raised = cls(str(failed))
    raised.__setstate__({"pgcode": state, "pgerror": str(failed)})
    return raised  # type: ignore[no-any-return]


def forget_prepared_statements(connection: Any) -> None:
    """After ALTER or DROP in a batch: what psycopg does itself when it sees such a command pass."""
    if type(connection).__module__.split(".")[0] == "psycopg":
        connection._prepared.clear()
