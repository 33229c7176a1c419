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
from migrate_ext.execution import drivers, libpq

_IN_FAILED_TRANSACTION = "25P02"


class RawConnection:
    """One driver's connection, past SQLAlchemy.

    ``status``: ``idle``, ``open`` (in a transaction), ``failed`` (in one that can only be rolled
    back; ``open`` with asyncpg, which does not tell) or ``lost``.
    """

    backend_pid: int
    driver: Any  # its own connection

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
        """A backslash in a string means nothing (``standard_conforming_strings``)."""
        raise NotImplementedError

    def ask(self, sql: str) -> list[tuple[str | None, ...]]:
        """Run one statement outside the driver's notion of a transaction."""
        raise NotImplementedError

    def run(self, sql: str) -> None:
        """Run one statement that gives no rows, and may want to be in no transaction."""
        self.ask(sql)

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    def open(self, sql: str) -> tuple[str | None, ...]:
        """Run one statement the driver's way, which begins its transaction; its first row.

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
            raise drivers.wrapped(self.connection, error, sql) from error
        return tuple(row.values() if isinstance(row, dict) else row)

    def _execute(self, cursor: Any, sql: str) -> None:
        cursor.execute(sql)

    def close(self) -> None:
        """Give the connection back to the driver alone."""


class LibpqConnection(RawConnection):
    """psycopg 3 (its async connections, too) and psycopg2: over the driver's own ``PGconn``."""

    def __init__(self, connection: Connection, driver: Any, pointer: int, library: str) -> None:
        super().__init__(connection)
        self.driver = driver
        self.session = _core.Session.borrow(pointer, library, libpq.owner(driver))
        self.backend_pid = self.session.backend_pid

    @property
    def status(self) -> str:
        if self.driver.closed:
            return "lost"
        # PQtransactionStatus by both drivers' public names: idle, active, in a transaction, failed.
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
            raised = drivers.error(self.connection, error, sql)
            raise raised from raised.orig

    def _execute(self, cursor: Any, sql: str) -> None:
        if hasattr(self.driver, "prepare_threshold"):
            # A name of psycopg's would stay behind a pooler. (SQLAlchemy's adapter of its async
            # cursor takes no `prepare=False`.)
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
            if drivers.sqlstate(error) != _IN_FAILED_TRANSACTION:
                raise
            return True
        return False

    def ask(self, sql: str) -> list[tuple[str | None, ...]]:
        async def ask(connection: Any) -> list[Any]:
            if connection.is_in_transaction():
                return await self._fetch(sql)
            # A pooler may give the next message to another session, unless a transaction is open.
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
        """Without a name, which would stay behind a pooler, nor from a cache of names."""
        statement = await self.driver.prepare(sql, name="")
        rows: list[Any] = await statement.fetch()
        return rows

    def _translated(self, ask: Callable[[Any], Any], sql: str) -> list[tuple[str | None, ...]]:
        """What `ask` gives in the event loop. Raises what SQLAlchemy would."""
        asyncpg = sys.modules["asyncpg"]
        ours = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
        try:
            rows: list[Any] = self.dbapi.run_async(ask)
        except ours as error:  # SQLAlchemy's adapter translates what goes through its cursors only
            adapted: Any = self.connection.dialect.loaded_dbapi.OperationalError(str(error))
            adapted.sqlstate = getattr(error, "sqlstate", None)
            raise drivers.wrapped(self.connection, adapted, sql) from error
        return [tuple(row) for row in rows]

    def sleep(self, seconds: float) -> None:
        import asyncio  # imported already, where asyncpg is

        self.dbapi.run_async(lambda _: asyncio.sleep(seconds))


def raw_connection_of(connection: Connection) -> RawConnection | str:
    """The raw connection of an open connection; a text says why there is none."""
    driver: Any = connection.connection.driver_connection
    # By its classes: a tracer's, or the project's own, is a driver's all the same.
    bases = {cls.__module__.partition(".")[0] for cls in driver.__class__.__mro__}
    name = next((known for known in ("asyncpg", "psycopg", "psycopg2") if known in bases), "")
    if name == "psycopg2" and driver.__class__ is not type(driver):
        name = ""  # a proxy: the lock of its connection cannot be found
    if name == "asyncpg":
        return AsyncpgConnection(connection, driver)
    if name == "psycopg":
        found = libpq.of_psycopg(driver)
    elif name == "psycopg2":
        # Not as libpq.of_driver: a wait callback is no hindrance to the lock's own questions.
        library = sys.modules["psycopg2._psycopg"].__file__
        found = (driver.pgconn_ptr, library) if library else None
    else:
        return f"the driver {type(driver).__module__.partition('.')[0]}"
    return LibpqConnection(connection, driver, *found) if found else f"this build of {name}"
