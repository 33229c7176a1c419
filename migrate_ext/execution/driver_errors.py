"""The errors of a batch, as SQLAlchemy and the driver would raise them."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import sqlalchemy
from sqlalchemy.engine import Connection

from migrate_ext import errors

# psycopg2's class of an SQLSTATE that has none of its own, by its first characters.
_PSYCOPG2_CLASSES = {
    "0A": "NotSupportedError",
    "20": "ProgrammingError",
    "21": "ProgrammingError",
    "22": "DataError",
    "23": "IntegrityError",
    "24": "InternalError",
    "25": "InternalError",
    "26": "OperationalError",
    "27": "OperationalError",
    "28": "OperationalError",
    "2B": "InternalError",
    "2D": "InternalError",
    "2F": "InternalError",
    "34": "OperationalError",
    "38": "InternalError",
    "39": "InternalError",
    "3B": "InternalError",
    "3D": "ProgrammingError",
    "3F": "ProgrammingError",
    "40": "OperationalError",
    "42": "ProgrammingError",
    "44": "ProgrammingError",
    "5": "OperationalError",
    "F": "InternalError",
    "H": "OperationalError",
    "P": "InternalError",
    "X": "InternalError",
}

# psycopg2's names of libpq's diagnostic fields (PG_DIAG_*).
_DIAGNOSTICS = {
    "severity": ord("S"),
    "severity_nonlocalized": ord("V"),
    "sqlstate": ord("C"),
    "message_primary": ord("M"),
    "message_detail": ord("D"),
    "message_hint": ord("H"),
    "statement_position": ord("P"),
    "internal_position": ord("p"),
    "internal_query": ord("q"),
    "context": ord("W"),
    "schema_name": ord("s"),
    "table_name": ord("t"),
    "column_name": ord("c"),
    "datatype_name": ord("d"),
    "constraint_name": ord("n"),
    "source_file": ord("F"),
    "source_line": ord("L"),
    "source_function": ord("R"),
}
# psycopg2's exceptions for SQLSTATEs that have no class of their own, by the SQLSTATE's first
# characters (base_exception_from_sqlstate in psycopg/pqpath.c).


def error(
    connection: Connection,
    failed: errors.ServerError,
    statement: str,
    values: Mapping[str, Any] | None = None,
) -> sqlalchemy.exc.DBAPIError:
    """What SQLAlchemy would raise if the driver had received the error; see :func:`wrapped`."""
    failed = _decoded(failed, _codec(connection))
    if connection.dialect.driver != "psycopg2":
        return wrapped(connection, _psycopg_error(failed), statement, values)
    if failed.sqlstate is None and connection.connection.dbapi_connection.closed:  # type: ignore[union-attr]
        import psycopg2

        closed = psycopg2.InterfaceError("connection already closed")
        return wrapped(connection, closed, statement, values)
    return wrapped(connection, _psycopg2_error(failed), statement, values)


def _codec(connection: Connection) -> str:
    """The codec with which the driver decodes the server's messages on this connection now."""
    driver: Any = connection.connection.driver_connection
    if connection.dialect.driver != "psycopg2":
        return "utf-8" if driver.closed else str(driver.info.encoding)
    from psycopg2 import extensions

    return str(extensions.encodings.get(driver.encoding, "utf-8"))


def _decoded(failed: errors.ServerError, codec: str) -> errors.ServerError:
    """`failed` with its texts decoded by `codec`; before, surrogates replace bytes that are not UTF-8."""

    def read(text: str) -> str:
        return text.encode("utf-8", "surrogateescape").decode(codec, "replace")

    found = errors.ServerError(read(str(failed)))
    found.sqlstate = failed.sqlstate
    found.fields = {code: read(text) for code, text in failed.fields.items()}
    found.index, found.partial = failed.index, failed.partial
    return found


def wrapped(
    connection: Connection,
    original: Any,
    statement: str | None,
    values: Mapping[str, Any] | None = None,
) -> sqlalchemy.exc.DBAPIError:
    """What SQLAlchemy raises around a driver's exception. values: the statement's parameters. Like SQLAlchemy, it invalidates a lost
    connection: a rollback on it would raise, and hide this error.
    """
    dialect = connection.dialect
    raised: sqlalchemy.exc.DBAPIError = sqlalchemy.exc.DBAPIError.instance(
        statement,
        values or (() if dialect.positional else {}),
        original,
        dialect.loaded_dbapi.Error,
        hide_parameters=connection.engine.hide_parameters,
        connection_invalidated=dialect.is_disconnect(
            original, connection.connection.dbapi_connection, None
        ),
        dialect=dialect,
    )
    if raised.connection_invalidated:
        connection.invalidate(raised)
    return raised


def _psycopg_error(failed: errors.ServerError) -> Exception:
    from psycopg import errors as classes

    cls: Any = classes.OperationalError
    if failed.sqlstate is not None:
        cls = classes._class_for_state(failed.sqlstate)
    fields = {code: value.encode() for code, value in failed.fields.items()}
    return cls(_message(failed), info=fields)  # type: ignore[no-any-return]


def _psycopg2_error(failed: errors.ServerError) -> Exception:
    import psycopg2

    cls: Any = psycopg2.OperationalError
    if failed.sqlstate is not None:
        try:
            cls = psycopg2.errors.lookup(failed.sqlstate)
        except KeyError:
            name = _PSYCOPG2_CLASSES.get(failed.sqlstate[:2])
            name = name or _PSYCOPG2_CLASSES.get(failed.sqlstate[:1], "DatabaseError")
            cls = getattr(psycopg2, name)
    # psycopg2's `diag` reads a PGresult that only the driver can create; a subclass replaces it.
    fields = {name: failed.fields.get(code) for name, code in _DIAGNOSTICS.items()}
    diag = SimpleNamespace(**fields)
    own = type(cls.__name__, (cls,), {"diag": diag, "__module__": cls.__module__})
    raised: Any = own(_message(failed) + "\n")  # psycopg2 keeps libpq's newline
    if failed.sqlstate:
        raised.__setstate__({"pgcode": failed.sqlstate, "pgerror": f"{failed}\n"})
    return raised  # type: ignore[no-any-return]


def sqlstate(error: BaseException) -> str | None:
    """The SQLSTATE of `error`, the driver's or SQLAlchemy's; None if it has none."""
    original = getattr(error, "orig", error)
    found = getattr(original, "sqlstate", None) or getattr(original, "pgcode", None)
    return str(found) if found else None


def position(error: BaseException) -> str | None:
    """The position of a driver's error in its statement, in characters, from 1; None if unknown."""
    diag = getattr(error, "diag", None)
    found = getattr(diag, "statement_position", None)
    return str(found) if found else None


def _message(failed: errors.ServerError) -> str:
    """The message without the severity, which both drivers leave out."""
    text = str(failed)
    return text[8:] if text[:8] in ("ERROR:  ", "FATAL:  ", "PANIC:  ") else text
