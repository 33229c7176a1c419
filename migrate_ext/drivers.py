"""The PostgreSQL drivers from inside: their ``PGconn``, their libpq, their exceptions.

Read in psycopg 3.3 and psycopg2 2.9. A driver that is not known here keeps Alembic's own path.
"""

from __future__ import annotations

from typing import Any

from migrate_ext import errors, libpq


def connection_pointer(connection: Any) -> tuple[int, str] | str:
    """A DBAPI connection's ``PGconn`` and the file to find its libpq by; a text says why not."""
    name = type(connection).__module__.partition(".")[0]
    if name not in ("psycopg", "psycopg2"):
        return f"driver: not psycopg or psycopg2 but {name}"
    if name == "psycopg2":
        from psycopg2 import extensions

        if connection.async_ or extensions.get_wait_callback() is not None:
            return "driver: psycopg2 with a wait callback"
    return libpq.of_driver(connection) or f"driver: this build of {name}"


def error(driver: Any, failed: errors.ServerError) -> BaseException:
    """What `driver` (its DBAPI module) would have raised for what the server answered."""
    state, text = failed.sqlstate, str(failed)
    cls = driver.errors.lookup(state) if state else driver.OperationalError
    # Both drivers leave the severity out of the message; psycopg drops the last newline, too.
    message = text[8:] if text[:8] in ("ERROR:  ", "FATAL:  ", "PANIC:  ") else text
    if driver.__name__ == "psycopg":
        fields = {code: value.encode() for code, value in failed.fields.items()}
        return cls(message.rstrip("\n"), info=fields)  # type: ignore[no-any-return]
    raised = cls(message)
    raised.__setstate__({"pgcode": state, "pgerror": text})
    return raised  # type: ignore[no-any-return]


def forget_prepared_statements(connection: Any) -> None:
    """After ALTER or DROP in a batch: what psycopg does itself when it sees such a command pass."""
    if type(connection).__module__.split(".")[0] == "psycopg":
        connection._prepared.clear()
