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
from migrate_ext.execution import driver_errors
from migrate_ext.execution.executor import Executor, note
from migrate_ext.execution.statement import Statement

_COMMANDS = frozenset(("ALTER", "COMMENT", "CREATE", "DROP", "GRANT", "REVOKE"))
_GIVES_ROWS = frozenset(("DELETE", "SELECT", "UPDATE"))  # of the version table and the lock
_MOST_BYTES = 1_000_000
_SAVEPOINT = "migrate_ext_batch"
_BETWEEN = "\n;\n"
# Fails with 22012 where an event trigger would see the batch.
_NO_EVENT_TRIGGER = "SELECT 1 / (NOT EXISTS (SELECT FROM pg_catalog.pg_event_trigger WHERE evtenabled <> 'D'))::pg_catalog.int4"
_has_event_trigger = re.compile(r"event\s+trigger", re.IGNORECASE).search
_sees_the_batch = re.compile(r"statement_timestamp|current_query", re.IGNORECASE).search
# CREATE TABLE AS and the like run a query (a generated column is taken for one, too); what ALTER computes for
# rows, and a new type's values, which a savepoint would make unsafe to use.
_runs_code = re.compile(
    r"\s*create\s+(?:global\s+|local\s+)?(?:temp|temporary|unlogged|table|materialized)\b.*\bas\b|"
    r"\s*alter\b.*\b(?:default|using|check|add\s+constraint)\b.*\(|\s*(?:create|alter)\s+type\b",
    re.IGNORECASE | re.DOTALL,
).match


class BatchFailed(Exception):
    """Nothing of the batch was kept; its statements are to be sent one by one."""


class StatementFailed(Exception):
    """The statement at `index` of the batch failed, and with it the transaction; `error` is the adapter's."""

    def __init__(self, index: int, error: Exception) -> None:
        super().__init__(index, error)
        self.index = index
        self.error = error


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
        params: tuple[()] = (),
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
        elif _runs_code(sql):
            return "it may run code"
        if "--" in sql or "/*" in sql:
            return "a comment"
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
        tag = str(self._run(parts, undo=bool(texts)))
        self.confirmed += len(texts) + bool(last)
        found = [(text.split(None, 1)[0].upper(), -1) for text in texts]
        if last:
            found.append((tag, int(tag.rpartition(" ")[2])))
        return found

    make_room = wait

    def send_rest(self) -> list[tuple[str, int]]:
        """Nothing: no statement is in flight between two calls of :meth:`wait`."""
        return []

    def _run(self, parts: list[str], *, undo: bool) -> Any:
        sql = _BETWEEN.join(parts)
        asyncpg: Any = sys.modules["asyncpg"]
        try:
            return self.adapter.run_async(lambda connection: connection.execute(sql))
        except asyncpg.InFailedSQLTransactionError as error:
            raise BatchFailed from error  # it had failed before
        except asyncpg.PostgresError as error:
            if self.driver.is_closed():
                self.adapter._handle_exception(error)
            if undo and self._is_undone():
                self._is_watched |= isinstance(error, asyncpg.DivisionByZeroError)
                raise BatchFailed from error
            self._raise_for_statement(parts, error)
        except (OSError, asyncpg.InterfaceError, asyncpg.InternalClientError) as error:
            self.adapter._handle_exception(error)
            raise

    def _raise_for_statement(self, parts: list[str], error: Any) -> None:
        """The server could not parse the text, and has run nothing of it, or it refused the version row.
        Which statement that was follows from the error's position in the text.
        """
        asyncpg: Any = sys.modules["asyncpg"]
        failed, position = len(parts) - 1, int(error.position or 0)
        if isinstance(error, asyncpg.PostgresSyntaxError) and position:
            begins = 0
            for index, part in enumerate(parts):
                if position <= begins + len(part) + len(_BETWEEN):
                    failed, error.position = index, str(position - begins)
                    break
                begins += len(part) + len(_BETWEEN)
        elif position and len(parts) > 1:
            error.position = str(position - sum(len(p) + len(_BETWEEN) for p in parts[:-1]))
        try:
            self.adapter._handle_exception(error)
        except Exception as adapted:
            before = 2 if len(parts) > 1 else 0  # the savepoint, and the question about triggers
            behind = failed > len(parts) - 2 and len(parts) > 1  # the release
            raise StatementFailed(max(failed - before - behind, 0), adapted) from error

    def _is_undone(self) -> bool:
        """Roll back to the savepoint; False where there is none, or none any more."""
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
        except StatementFailed as failure:
            self._fail_as_driver(failure.error, failure.index)
        except self.connection.dialect.loaded_dbapi.Error as error:
            self._fail_as_driver(error, 0)
        except BaseException as error:
            self._fail(error)
        self._confirm(results)

    def _fail_as_driver(self, error: Any, index: int) -> None:
        """The connection was lost, or a statement has failed the transaction; those before it would have
        run.
        """
        failed = [item for item in self._queue if isinstance(item, Statement)][index]
        self._confirm([("", -1)] * index)
        self._queue.clear()
        self._give_back()
        wrapped = driver_errors.wrapped(self.connection, error, failed.rendered)
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
                result = Connection.exec_driver_sql(self.connection, item.rendered)
            except DBAPIError as error:
                note(error, item.place, item.line)
                raise
            if item.rows is not None and result.rowcount != 1:
                raise alembic_util.CommandError(item.rows.replace("{rows}", str(result.rowcount)))
            if item.is_last and item.place is not None:
                self.confirmed = item.place.revision
