"""Internals of the PostgreSQL drivers: their ``PGconn``, libpq, BEGIN and exceptions.

Read in psycopg 3.3 and psycopg2 2.9. With a driver that is not known here, Alembic runs unchanged.
"""

from __future__ import annotations

import logging
import operator
import os
import sys
from collections.abc import Iterable, Mapping
from types import FunctionType
from typing import Any

import sqlalchemy
from sqlalchemy.util import await_only

from migrate_ext import counters
from migrate_ext.execution import libpq, parameters

_IN_TRANSACTION = 2  # PQTRANS_INTRANS


class BorrowedConnection:
    """A driver's open connection as the executor uses it.

    ``connection``: the DBAPI connection. ``pointer``, ``library``: its ``PGconn``, and the file by
    which its libpq is found. ``owner``: the object whose attribute ``pgconn_ptr`` is the
    ``PGconn``, until the connection is closed. ``notices_are_heard``: the server's notices are
    logged or handled, so that Python must wait at the end of each migration. ``is_async``: the
    event loop does the waiting.
    """

    is_async = False
    doubles_percent_signs = True  # SQLAlchemy does, for the driver, which undoes it

    def __init__(self, connection: Any, pointer: int, library: str) -> None:
        self.connection = connection
        self.owner = libpq.owner(connection)
        self.pointer = pointer
        self.library = library
        self.notices_are_heard = False

    def sends_as_utf8(self, sql: str) -> bool:
        """Whether the driver would send `sql` in UTF-8 if the connection's client_encoding is UTF8."""
        return True

    def begin(self) -> str | None:
        """The BEGIN that the driver would send now; None if the driver must send it itself."""
        return None

    def bound(
        self, sql: str, values: Mapping[str, Any]
    ) -> tuple[str, parameters.Parameters | None] | None:
        """The text and the parameters that the driver would send for ``cursor.execute(sql, values)``;
        None if it must send them itself.
        """
        return None

    def isolation(self) -> str | None:
        """The isolation level that the driver gives its next transaction, as SQLAlchemy names it;
        None if that is the session's default, which only the server knows.
        """
        return None

    def ddl_was_rendered(self, dialect: Any) -> None:
        """A construct of SQLAlchemy's for DDL is about to be sent."""

    def after_batch(self, discards_plans: bool) -> None:
        """Do what the driver would have done after the statements of a batch.

        discards_plans: an ALTER or DROP was among them.
        """


class Psycopg(BorrowedConnection):
    """psycopg 3. It keeps no transaction state of its own, so its BEGIN can be sent in a batch."""

    def __init__(self, connection: Any, pointer: int, library: str) -> None:
        super().__init__(connection, pointer, library)
        # SQLAlchemy's dialect adds a handler to every connection, which logs at INFO.
        handlers = [h for h in connection._notice_handlers if not _is_sqlalchemys(h)]
        self.notices_are_heard = bool(handlers) or _sqlalchemy_logs_notices()

    def begin(self) -> str | None:
        connection = self.connection
        if connection.autocommit or connection._num_transactions or connection._tpc:
            return None
        return connection._get_tx_start_command().decode()  # type: ignore[no-any-return]

    def bound(
        self, sql: str, values: Mapping[str, Any]
    ) -> tuple[str, parameters.Parameters | None] | None:
        return parameters.for_psycopg(self.connection, sql, values)

    def isolation(self) -> str | None:
        level = None if self.connection.autocommit else self.connection.isolation_level
        return None if level is None else str(level.name).replace("_", " ")

    def after_batch(self, discards_plans: bool) -> None:
        """As psycopg's cursor does: forget the prepared statements, and deallocate them on the
        server before the next one is prepared.
        """
        connection = self.connection
        if not discards_plans or connection.closed or not connection._prepared._names:
            return
        connection._prepared.clear()
        if connection.info.transaction_status == _IN_TRANSACTION:  # else psycopg's ROLLBACK does it
            counters.plain_waits += 1
            self._wait(self._maintain())

    def _maintain(self) -> Any:
        """What psycopg does after each of its statements, as a generator for ``connection.wait``."""
        connection = self.connection
        if hasattr(connection._prepared, "maintain_gen"):
            yield from connection._prepared.maintain_gen(connection)
        else:  # before 3.2
            for command in connection._prepared.get_maintenance_commands():
                yield from connection._exec_command(command)

    def _wait(self, generator: Any) -> None:
        with self.connection.lock:
            self.connection.wait(generator)


class PsycopgAsync(Psycopg):
    """psycopg's async connection, behind SQLAlchemy's adapter."""

    is_async = True

    def _wait(self, generator: Any) -> None:
        async def wait() -> None:
            async with self.connection.lock:
                await self.connection.wait(generator)

        await_only(wait())


_PSYCOPG2_LEVELS = {
    1: "READ COMMITTED",
    2: "REPEATABLE READ",
    3: "SERIALIZABLE",
    4: "READ UNCOMMITTED",
}


class Psycopg2(BorrowedConnection):
    """psycopg2. It skips COMMIT unless it has sent BEGIN itself, with its first statement. It does
    not notice when a statement changes client_encoding.
    """

    def sends_as_utf8(self, sql: str) -> bool:
        return sql.isascii() or self.connection.encoding == "UTF8"

    def bound(
        self, sql: str, values: Mapping[str, Any]
    ) -> tuple[str, parameters.Parameters | None] | None:
        text = parameters.for_psycopg2(self.connection, sql, values)
        return None if text is None else (text, None)

    def isolation(self) -> str | None:
        level = None if self.connection.autocommit else self.connection.isolation_level
        return None if level is None else _PSYCOPG2_LEVELS.get(level)

    def after_batch(self, discards_plans: bool) -> None:
        if not self.connection.closed and self.connection.info.status == 0:  # CONNECTION_OK
            # poll() moves notices to the list, without waiting. After each statement SQLAlchemy's
            # dialect logs them at INFO (if it does, borrow() declines the connection) and empties
            # the list.
            self.connection.poll()
            self.connection.notices.clear()


class Asyncpg:
    """asyncpg's connection, behind SQLAlchemy's adapter: as :class:`BorrowedConnection`, without a
    ``PGconn``. Waits are those of :class:`~migrate_ext.execution.savepoints.SavepointSession`.
    """

    is_async = False
    doubles_percent_signs = False
    notices_are_heard = False

    def __init__(self, adapter: Any) -> None:
        self.adapter = adapter
        self.connection = adapter.driver_connection

    def sends_as_utf8(self, sql: str) -> bool:
        return True

    def begin(self) -> str | None:
        return None

    def bound(self, sql: str, values: Mapping[str, Any]) -> None:
        return None

    def isolation(self) -> str | None:
        level = self.adapter._isolation_setting
        return None if level in (None, "autocommit") else level.upper().replace("_", " ")

    def ddl_was_rendered(self, dialect: Any) -> None:
        """As SQLAlchemy's execution does for such a construct: prepared statements may be stale."""
        dialect._invalidate_schema_cache()

    def after_batch(self, discards_plans: bool) -> None:
        """There is nothing to catch up with."""


# Methods of connections and cursors (and of their bases) that statements pass through.
_SENDING = frozenset(
    "_commit_gen _exec_command _execute_gen _execute_send _executemany_gen_no_pipeline "
    "_executemany_gen_pipeline _get_tx_start_command _maybe_prepare_gen _rollback_gen _start_copy_gen "
    "_start_query _stream_send_gen commit cursor execute executemany rollback stream wait "
    "_do_execute _execute _get_statement _prepare fetch fetchrow fetchval prepare run_async".split()
)


def foreign(connection: Any) -> str | None:
    """Code other than the driver's that would see statements on its connection, as a reason; None
    if there is none.

    The driver's own are its default classes with their original methods: no subclasses, no
    factories, no patches on a class or an object.
    """
    kind = type(connection)
    driver: Any = sys.modules[kind.__module__.partition(".")[0]]
    if driver.__name__ == "psycopg2":  # it is C, and cannot be patched
        own = sys.modules["psycopg2._psycopg"]
        if kind is not own.connection:
            return f"driver: connections are {kind.__qualname__}"
        cursor = connection.cursor_factory
        return None if cursor in (None, own.cursor) else f"driver: cursors are {cursor!r:.60}"
    if driver.__name__ == "asyncpg":
        return _foreign_to_asyncpg(connection, driver)
    if kind not in (driver.Connection, driver.AsyncConnection):
        return f"driver: connections are {kind.__qualname__}"
    cursor = connection.cursor_factory
    cursors = (driver.Cursor, driver.ClientCursor, driver.AsyncCursor, driver.AsyncClientCursor)
    if cursor not in cursors or type(connection.pgconn) is not driver.pq.PGconn:
        return f"driver: cursors are {cursor!r:.60}"
    if not _SENDING.isdisjoint(vars(connection)):
        return "driver: a connection is patched"
    reason = _replaced(_bases(kind, cursor), driver)
    if reason is None and kind is driver.AsyncConnection:
        adapters = sys.modules[_ADAPTERS]
        classes = (adapters.AsyncAdapt_psycopg_connection, adapters.AsyncAdapt_psycopg_cursor)
        reason = _replaced(_bases(*classes), sqlalchemy)
    return reason


def _foreign_to_asyncpg(connection: Any, driver: Any) -> str | None:
    if type(connection) is not driver.Connection:
        return f"driver: connections are {type(connection).__qualname__}"
    if connection._log_listeners or getattr(connection, "_query_loggers", ()):
        return "driver: asyncpg with listeners"
    adapters = sys.modules[_ASYNCPG_ADAPTERS]
    classes = (adapters.AsyncAdapt_asyncpg_connection, adapters.AsyncAdapt_asyncpg_cursor)
    return _replaced(_bases(type(connection)), driver) or _replaced(_bases(*classes), sqlalchemy)


_ASYNCPG_ADAPTERS = "sqlalchemy.dialects.postgresql.asyncpg"
# The module of SQLAlchemy's adapters for psycopg's async connections and cursors.
_ADAPTERS = "sqlalchemy.dialects.postgresql.psycopg"


def _bases(*classes: type) -> list[type]:
    """The classes and their bases, except those of Python's ``builtins``, ``typing`` and ``abc``."""
    if classes not in _known_bases:
        bases = [base for cls in classes for base in cls.__mro__]
        own = [base for base in bases if base.__module__ not in ("builtins", "typing", "abc")]
        _known_bases[classes] = own
    return _known_bases[classes]


_known_bases: dict[tuple[type, ...], list[type]] = {}


def _replaced(classes: Iterable[type], package: Any) -> str | None:
    """A method of `classes` in ``_SENDING`` that is not defined in `package`, as a reason, or None."""
    for cls in classes:
        now = tuple(map(vars(cls).get, _SENDING))
        # Not `==`: a tracer's wrapper compares equal to the function it wraps.
        if cls in _own and all(map(operator.is_, now, _own[cls])):
            continue
        folder = os.path.dirname(package.__file__)
        for name in _SENDING & vars(cls).keys():
            if not is_own(vars(cls)[name], folder):
                return f"driver: {cls.__name__}.{name} is replaced"
        _own[cls] = now
    return None


_own: dict[type, tuple[Any, ...]] = {}  # checked classes, with the methods they had then


def is_own(function: Any, folder: str) -> bool:
    """Whether `function` is a plain function, not a wrapper, defined in a file below `folder`."""
    return type(function) is FunctionType and function.__code__.co_filename.startswith(folder)


def borrow(connection: Any) -> BorrowedConnection | Asyncpg | str:
    """An open DBAPI connection as the executor uses it; a string if it cannot: the reason."""
    name = type(connection).__module__.partition(".")[0]
    if name == "sqlalchemy":  # an adapter around an async driver's connection
        dbapi: Any = connection
        adapter, connection = type(dbapi), dbapi.driver_connection
        name = type(connection).__module__.partition(".")[0]
        if name == "asyncpg":
            known = sys.modules[_ASYNCPG_ADAPTERS].AsyncAdapt_asyncpg_connection
            cursors = [
                getattr(found, "_cursor_cls", None) for found in (dbapi, known)
            ]  # not in 2.0.0
            if adapter is not known or cursors[0] is not cursors[1]:
                return "driver: an adapter around asyncpg that is not SQLAlchemy's"
            return foreign(connection) or Asyncpg(dbapi)
        if name != "psycopg" or (
            adapter is not sys.modules[_ADAPTERS].AsyncAdapt_psycopg_connection
        ):
            return f"driver: {name} through asyncio"
        found = libpq.of_psycopg(connection)
        if found is None:
            return f"driver: this build of {name}"
        return foreign(connection) or PsycopgAsync(connection, *found)
    if name not in ("psycopg", "psycopg2"):
        return f"driver: not psycopg or psycopg2 but {name}"
    reason = foreign(connection)
    if reason is not None:
        return reason
    if name == "psycopg2":
        from psycopg2 import extensions

        if connection.async_ or extensions.get_wait_callback() is not None:
            return "driver: psycopg2 with a wait callback"
        if type(connection.notices) is not list or _sqlalchemy_logs_notices():
            return "driver: psycopg2 with notices that are heard"
    found = libpq.of_driver(connection)
    if found is None:
        return f"driver: this build of {name}"
    return (Psycopg if name == "psycopg" else Psycopg2)(connection, *found)


def _is_sqlalchemys(handler: Any) -> bool:
    return getattr(handler, "__module__", "").startswith("sqlalchemy.")


def _sqlalchemy_logs_notices() -> bool:
    if "sqlalchemy.dialects.postgresql" not in sys.modules:
        return False
    return logging.getLogger("sqlalchemy.dialects.postgresql").isEnabledFor(logging.INFO)
