"""Batches for asyncpg, which has no ``PGconn`` to send a pipeline on.

DDL that may wait is sent as one simple query: a savepoint, the statements, the savepoint's release. A
stock run asks the server to prepare each statement and then to execute it, and waits for both.

An error of such a query does not say which statement failed, and its position is one in the whole text.
So the savepoint is rolled back, and the same statements go the driver's way one by one, which raises
what a stock run raises. Only statements of which nobody can tell are sent so:

- their command is on a list (:data:`_COMMANDS`), and they are one statement each, and no query;
- they do not name ``statement_timestamp()`` or ``current_query()``, which would be the batch's;
- no event trigger is enabled, whose function could: the query itself looks, and fails if there is one;
- nobody listens to asyncpg's log or its queries (:class:`migrate_ext.execution.drivers.Asyncpg`).

Version rows end a batch, behind the release: the tag of the last command gives their row count.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Callable
from typing import Any

from alembic import util as alembic_util
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from migrate_ext import _core, counters
from migrate_ext.execution import drivers
from migrate_ext.execution.executor import Executor, note
from migrate_ext.execution.statement import Statement

_COMMANDS = frozenset(("ALTER", "COMMENT", "CREATE", "DROP", "GRANT", "REVOKE"))
_GIVES_ROWS = frozenset(("DELETE", "SELECT", "UPDATE"))  # of the version table and the lock
_MOST_BYTES = 1_000_000
_SAVEPOINT = "migrate_ext_batch"
# Fails with 22012 where an event trigger would see the batch.
_NO_EVENT_TRIGGER = "SELECT 1 / (NOT EXISTS (SELECT FROM pg_catalog.pg_event_trigger WHERE evtenabled <> 'D'))::pg_catalog.int4"
_has_event_trigger = re.compile(r"event\s+trigger", re.IGNORECASE).search
_sees_the_batch = re.compile(r"statement_timestamp|current_query", re.IGNORECASE).search
_begins_with_create = re.compile(r"\s*create\b", re.IGNORECASE).match  # not behind a comment
# CREATE TABLE AS and the like run a query. (A generated column is taken for one, too.)
_is_query = re.compile(
    r"\s*create\s+(?:global\s+|local\s+)?(?:temp|temporary|unlogged|table|materialized)\b.*\bas\b",
    re.IGNORECASE | re.DOTALL,
).match


class BatchFailed(Exception):
    """Nothing of the batch was kept; its statements are to be sent one by one."""


class SavepointSession:
    """What :class:`~migrate_ext.execution.executor.Executor` uses of ``_core.Session``, over asyncpg.

    adapter: SQLAlchemy's, of an open connection. Methods that wait do so in the event loop.
    """

    def __init__(self, adapter: Any) -> None:
        self.adapter = adapter
        self.driver = adapter.driver_connection
        self.sent = self.confirmed = 0
        self._texts: list[str] = []
        self._last = ""  # a statement behind the release
        self._bytes = 0
        self._is_watched = False  # by an event trigger

    @property
    def in_transaction(self) -> bool:
        return not self.driver.is_closed() and bool(self.driver.is_in_transaction())

    @property
    def pending(self) -> int:
        return len(self._texts) + bool(self._last)

    @property
    def full(self) -> bool:
        return bool(self._last) or self._bytes > _MOST_BYTES

    def submit(
        self,
        sql: str,
        begin: str | None = None,
        send: bool = True,
        prompt: bool = False,
        changes_nothing: bool = False,
    ) -> list[tuple[str, int]] | str:
        """Keep a statement for the next :meth:`wait`; a text says why it cannot be in a batch."""
        kind, command = _core.statement_kind(sql, True)
        if kind != "one":
            return kind
        if "\\" in sql and self.driver.get_settings().standard_conforming_strings != "on":
            return "a backslash"
        if not self.in_transaction:
            return "not in a transaction"
        if "\0" in sql or not sql.isascii() and not _is_text(sql):
            return "not a text"
        if _has_event_trigger(sql):
            self._is_watched = True
        if changes_nothing:
            if command in _GIVES_ROWS:
                self._last = sql
                return []
        elif command not in _COMMANDS:
            return command or "no command"
        elif _is_query(sql) or (command == "CREATE" and not _begins_with_create(sql)):
            return "a query"
        if self._is_watched:
            return "an event trigger"
        if _sees_the_batch(sql):
            return "it can see the batch"
        self._texts.append(sql)
        self._bytes += len(sql)
        return []

    def wait(self) -> list[tuple[str, int]]:
        """Send what was submitted, and wait for it. Raises :class:`BatchFailed`, and what SQLAlchemy's
        adapter raises where the connection is lost, or for a version row.
        """
        texts, last = self._texts, self._last
        self._texts, self._last, self._bytes = [], "", 0
        if not (texts or last):
            return []
        parts = [*texts, last] if last else texts
        if texts:
            begin = (f"SAVEPOINT {_SAVEPOINT}", _NO_EVENT_TRIGGER)
            parts = [*begin, *texts, f"RELEASE SAVEPOINT {_SAVEPOINT}", *([last] if last else [])]
        self.sent += len(texts) + bool(last)
        counters.plain_waits += 1
        counters.batches += 1
        counters.statements += len(texts) + bool(last)
        tag = str(self._run("\n;\n".join(parts), undo=bool(texts)))
        self.confirmed += len(texts) + bool(last)
        found = [(text.split(None, 1)[0].upper(), -1) for text in texts]
        if last:
            found.append((tag, int(tag.rpartition(" ")[2])))
        return found

    make_room = wait

    def _run(self, sql: str, *, undo: bool) -> Any:
        asyncpg: Any = sys.modules["asyncpg"]
        try:
            return self.adapter.run_async(lambda connection: connection.execute(sql))
        except asyncpg.InFailedSQLTransactionError as error:
            raise BatchFailed from error  # it had failed before
        except asyncpg.PostgresError as error:
            if undo and not self.driver.is_closed() and self._is_undone():
                self._is_watched |= isinstance(error, asyncpg.DivisionByZeroError)
                raise BatchFailed from error
            self.adapter._handle_exception(error)
        except (OSError, asyncpg.InterfaceError, asyncpg.InternalClientError) as error:
            self.adapter._handle_exception(error)
            raise

    def _is_undone(self) -> bool:
        """Roll back to the savepoint; False where it was released: the version row failed."""
        asyncpg: Any = sys.modules["asyncpg"]
        undo = f"ROLLBACK TO SAVEPOINT {_SAVEPOINT}; RELEASE SAVEPOINT {_SAVEPOINT}"
        try:
            self.adapter.run_async(lambda connection: connection.execute(undo))
        except asyncpg.InvalidSavepointSpecificationError:
            return False
        return True

    def taken_back(self, count: int) -> None:
        """So many statements that were sent are to go the driver's way."""
        self.sent -= count

    def abandon(self) -> None:
        """Forget what was not sent; nothing is in flight."""
        self._texts, self._last, self._bytes = [], "", 0

    def close(self) -> None:
        self.abandon()


def _is_text(sql: str) -> bool:
    try:
        sql.encode()
    except UnicodeEncodeError:
        return False
    return True


class SavepointExecutor(Executor):
    """Sends a batch's statements one by one where the batch failed."""

    def _session_on(self, borrowed: Any) -> Any:
        return SavepointSession(borrowed.adapter)

    def _advance(self, step: Callable[[], list[tuple[str, int]]]) -> None:
        try:
            results = step()
        except BatchFailed:
            self._replay()
            return
        except self.connection.dialect.loaded_dbapi.Error as error:
            self._fail_as_driver(error)
        except BaseException as error:
            self._fail(error)
        self._confirm(results)

    def _fail_as_driver(self, error: Any) -> None:
        """The connection was lost, or the version row was refused."""
        left = [item for item in self._queue if isinstance(item, Statement)]
        failed = left[0]
        if not self.session.driver.is_closed():
            failed = left[-1]
            self._confirm([("", -1)] * (len(left) - 1))
        self._queue.clear()
        self._give_back()
        wrapped = drivers.wrapped(self.connection, error, failed.rendered)
        lost = wrapped.connection_invalidated
        note(wrapped, failed.place, failed.line, self.confirmed if lost else "")
        raise wrapped from error

    def _replay(self) -> None:
        """Send all that waits through the driver, and raise what it raises for the one that fails."""
        items = [*self._queue]
        count = sum(isinstance(item, Statement) for item in items)
        self._queue.clear()
        self._give_back()
        self.ledger.by_driver += count
        self.session.taken_back(count)
        counters.plain("batch: sent again, one by one")
        for item in items:
            if isinstance(item, logging.LogRecord):
                self._emit(item)
                continue
            try:
                self.connection.dialect._invalidate_schema_cache()  # type: ignore[attr-defined]
                result = Connection.exec_driver_sql(self.connection, item.rendered)
            except DBAPIError as error:
                note(error, item.place, item.line)
                raise
            if item.rows is not None and result.rowcount != 1:
                raise alembic_util.CommandError(item.rows.replace("{rows}", str(result.rowcount)))
            if item.is_last and item.place is not None:
                self.confirmed = item.place.revision
