"""A driver's connection, used without SQLAlchemy: no autobegin, no listeners.

Over the driver's own ``PGconn`` (psycopg, psycopg2), or asyncpg's connection.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from migrate_ext import _core, counters
from migrate_ext.errors import ServerError
from migrate_ext.execution import driver_errors, libpq

_IN_FAILED_TRANSACTION = "25P02"


class RawConnection:
    """A driver's connection, used directly.

    ``status``: ``idle``, ``open`` (in a transaction), ``failed`` (in a transaction that can only be
    rolled back; asyncpg does not report it: ``open``) or ``lost``.
    """

    backend_pid: int
    driver: Any  # the driver's connection; `dbapi` may be SQLAlchemy's adapter around it

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.dbapi: Any = connection.connection.dbapi_connection

    @property
    def status(self) -> str:
        raise NotImplementedError

    @property
    def has_failed(self) -> bool:
        """In a transaction that can only be rolled back."""
        return self.status == "failed"

    @property
    def has_standard_strings(self) -> bool:
        """Whether a backslash in a string is an ordinary character
        (``standard_conforming_strings``).
        """
        raise NotImplementedError

    def ask(self, sql: str) -> list[tuple[str | None, ...]]:
        """Run one statement without the driver, which would begin a transaction. Returns its rows."""
        raise NotImplementedError

    def run(self, sql: str) -> None:
        """Run one statement that returns no rows; it may be one that must not run in a transaction."""
        self.ask(sql)

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    def open(self, sql: str) -> tuple[str | None, ...]:
        """Run one statement through the driver, which begins its transaction. Returns the first
        row.

        Raises what SQLAlchemy would.
        """
        counters.plain_waits += 2  # the driver waits for its BEGIN, too
        return self._open(sql)

    def _open(self, sql: str) -> tuple[str | None, ...]:
        try:
            cursor = self.dbapi.cursor()
            try:
                self._execute(cursor, sql)
                row = cursor.fetchone()
            finally:
                cursor.close()
        except self.connection.dialect.loaded_dbapi.Error as error:
            raise driver_errors.wrapped(self.connection, error, sql) from error
        return tuple(row.values() if isinstance(row, dict) else row)

    def _execute(self, cursor: Any, sql: str) -> None:
        cursor.execute(sql)

    def close(self) -> None:
        """Stop using the connection; the driver keeps it open."""


class LibpqConnection(RawConnection):
    """psycopg 3 (including async connections) and psycopg2: over the driver's own ``PGconn``."""

    def __init__(self, connection: Connection, driver: Any, pointer: int, library: str) -> None:
        super().__init__(connection)
        self.driver = driver
        self.session = _core.Session.borrow(pointer, library, libpq.owner(driver))
        self.backend_pid = self.session.backend_pid

    @property
    def status(self) -> str:
        if self.driver.closed:
            return "lost"
        # PQtransactionStatus, under both drivers' public names: 0 idle, 1 active, 2 in a
        # transaction, 3 in a failed transaction.
        found = int(
            self.driver.get_transaction_status()
            if hasattr(self.driver, "get_transaction_status")
            else self.driver.info.transaction_status
        )
        return {0: "idle", 2: "open", 3: "failed"}.get(found, "lost")

    @property
    def has_standard_strings(self) -> bool:
        return self.session.parameter("standard_conforming_strings") == "on"

    def ask(self, sql: str) -> list[tuple[str | None, ...]]:
        try:
            return self.session.query(sql)
        except ServerError as error:
            raised = driver_errors.error(self.connection, error, sql)
            raise raised from raised.orig

    def _execute(self, cursor: Any, sql: str) -> None:
        if hasattr(self.driver, "prepare_threshold"):
            # A statement that psycopg prepares by name would remain on the pooler's server session.
            # (SQLAlchemy's adapter of the async cursor takes no `prepare=False`.)
            threshold, self.driver.prepare_threshold = self.driver.prepare_threshold, None
            try:
                cursor.execute(sql)
            finally:
                self.driver.prepare_threshold = threshold
        else:
            cursor.execute(sql)

    def close(self) -> None:
        self.session.close()


class AsyncpgConnection(RawConnection):
    """asyncpg, which has no ``PGconn``: over SQLAlchemy's adapter."""

    def __init__(self, connection: Connection, driver: Any) -> None:
        super().__init__(connection)
        self.driver = driver
        self.backend_pid = driver.get_server_pid()

    @property
    def status(self) -> str:
        if self.driver.is_closed():
            return "lost"
        return "open" if self.driver.is_in_transaction() else "idle"

    @property
    def has_standard_strings(self) -> bool:
        return bool(self.driver.get_settings().standard_conforming_strings == "on")

    @property
    def has_failed(self) -> bool:
        try:
            self.ask("SELECT")
        except DBAPIError as error:
            if driver_errors.sqlstate(error) != _IN_FAILED_TRANSACTION:
                raise
            return True
        return False

    def ask(self, sql: str) -> list[tuple[str | None, ...]]:
        async def ask(connection: Any) -> list[Any]:
            if connection.is_in_transaction():
                return await self._fetch(sql)
            # A pooler may route the next message to another session unless a transaction is open.
            await connection.execute("BEGIN")
            try:
                return await self._fetch(sql)
            finally:
                if not connection.is_closed():
                    await connection.execute("END")

        return self._translated(ask, sql)

    def run(self, sql: str) -> None:
        async def run(connection: Any) -> list[Any]:
            await connection.execute(sql)
            return []

        self._translated(run, sql)

    def _open(self, sql: str) -> tuple[str | None, ...]:
        async def ask(connection: Any) -> list[Any]:
            if not connection.is_in_transaction():
                await self.dbapi._start_transaction()
            return await self._fetch(sql)

        return self._translated(ask, sql)[0]

    async def _fetch(self, sql: str) -> list[Any]:
        """Prepares without a name: a named statement would remain on the pooler's server session.
        Also bypasses asyncpg's statement cache, which uses names.
        """
        statement = await self.driver.prepare(sql, name="")
        rows: list[Any] = await statement.fetch()
        return rows

    def _translated(self, ask: Callable[[Any], Any], sql: str) -> list[tuple[str | None, ...]]:
        """Run `ask` in the event loop and return its rows. Raises what SQLAlchemy would."""
        asyncpg = sys.modules["asyncpg"]
        ours = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
        try:
            rows: list[Any] = self.dbapi.run_async(ask)
        except ours as error:  # SQLAlchemy's adapter translates errors of its cursors only
            adapted: Any = self.connection.dialect.loaded_dbapi.OperationalError(str(error))
            adapted.sqlstate = getattr(error, "sqlstate", None)
            raise driver_errors.wrapped(self.connection, adapted, sql) from error
        return [tuple(row) for row in rows]

    def sleep(self, seconds: float) -> None:
        import asyncio  # asyncpg has imported it already

        self.dbapi.run_async(lambda _: asyncio.sleep(seconds))


def raw_connection_of(connection: Connection) -> RawConnection | str:
    """The raw connection under an open connection; a string if there is none: the reason."""
    driver: Any = connection.connection.driver_connection
    # By its base classes: a subclass of a tracer or of the project is fine here.
    bases = {cls.__module__.partition(".")[0] for cls in driver.__class__.__mro__}
    name = next((known for known in ("asyncpg", "psycopg", "psycopg2") if known in bases), "")
    if name == "psycopg2" and driver.__class__ is not type(driver):
        name = ""  # a proxy: C cannot find the mutex of the connection behind it
    if name == "asyncpg":
        return AsyncpgConnection(connection, driver)
    if name == "psycopg":
        found = libpq.of_psycopg(driver)
    elif name == "psycopg2":
        # Unlike libpq.of_driver, with a wait callback, too: the lock's own queries do not use it.
        library = sys.modules["psycopg2._psycopg"].__file__
        found = (driver.pgconn_ptr, library) if library else None
    else:
        return f"the driver {type(driver).__module__.partition('.')[0]}"
    return LibpqConnection(connection, driver, *found) if found else f"this build of {name}"
