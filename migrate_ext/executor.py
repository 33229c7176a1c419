"""Collects the SQL of plain migrations and sends it in batches, on the connection that the project
opened.

From the first directive of a plain migration until its version row is written, statements are
queued; then they go to the server together, in libpq's pipeline mode, inside the driver's own
transaction. SQLAlchemy does everything it does otherwise (autobegin, compilation, logging): its
``do_execute`` event is the point where a statement is taken. Whatever else reaches the driver (a
``bind.execute``, a reflection, a statement with parameters) first sends what is waiting. Any other
migration runs as under Alembic, statement by statement.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any

import sqlalchemy
from alembic.runtime.migration import MigrationStep
from sqlalchemy import event
from sqlalchemy.engine import Connection, Engine

from migrate_ext import _core, counters, drivers, errors, plain

# Statements that change the session or the transaction: the driver must see them go.
_NOT_IN_A_BATCH = frozenset(
    "ABORT BEGIN CALL CHECKPOINT CLOSE CLUSTER COMMIT COPY DEALLOCATE DECLARE DISCARD END EXECUTE "
    "EXPLAIN FETCH LISTEN LOAD MOVE NOTIFY PREPARE RELEASE RESET ROLLBACK SAVEPOINT SELECT SET "
    "SHOW START TABLE UNLISTEN VACUUM VALUES WITH".split()
)
_DISCARDS_PLANS = ("ALTER", "DROP")


class Statement:
    """One statement that waits: its text as the driver would send it, and where it comes from.

    ``rows``: what the command must have affected, with the error to raise otherwise; None where
    nobody asks.
    """

    __slots__ = ("line", "rendered", "rows", "sql")

    def __init__(self, sql: str, rendered: str, line: int | None) -> None:
        self.sql = sql
        self.rendered = rendered
        self.line = line
        self.rows: str | None = None


class Executor:
    """The queue of one run on one connection; the module's text says when it waits and sends.

    connection: in use by Alembic. pointer, library: the driver's ``PGconn`` and its libpq, see
    :mod:`migrate_ext.drivers`.
    """

    def __init__(self, connection: Connection, pointer: int, library: str) -> None:
        self.connection = connection
        self.engine: Engine = connection.engine
        self.session = _core.Session.borrow(
            pointer, library, connection.connection.dbapi_connection
        )
        self.waiting: list[Statement] = []
        self.collecting = False  # inside a plain migration
        self.taking = False  # inside an execution that may be queued
        self.step: MigrationStep | None = None
        self.path: str | None = None

    # while Alembic runs its loop

    def __enter__(self) -> Executor:
        for name, listener in self._listeners():
            event.listen(self.engine, name, listener)
        return self

    def __exit__(self, *_: object) -> None:
        for name, listener in self._listeners():
            event.remove(self.engine, name, listener)
        self.waiting.clear()
        self.session.close()

    def _listeners(self) -> tuple[tuple[str, Callable[..., Any]], ...]:
        return (
            ("do_execute", self._do_execute),
            ("do_execute_no_params", self._do_execute_no_params),
            ("do_executemany", self._do_executemany),
        )

    def migration(self, step: MigrationStep, function: Callable[..., Any]) -> Callable[..., Any]:
        """`function`, which carries out `step`, with its statements waiting if it is plain."""

        @functools.wraps(function)
        def migrate(**kw: Any) -> None:
            revision = getattr(step, "revision", None)
            if revision is None:  # a stamp
                function(**kw)
                return
            self.step, self.path = step, revision.path
            reason = _reason_not_plain(revision.path, function.__name__)
            self.collecting = reason is None
            if reason is not None:
                counters.plain(f"migration: {reason}")
            try:
                function(**kw)
            except Exception as error:
                # What was sent before Python failed comes first, as it would have under Alembic.
                self.settle()
                self._note(error, errors.line_in(revision.path, error))
                raise

        return migrate

    def settle(self) -> None:
        """The end of a migration and its version row: send what waits, collect no more."""
        self.collecting = False
        self.flush()

    # statements

    def take(self, execute: Callable[[], Any]) -> Any:
        """What `execute`, which runs a construct whose result nobody reads, gives; None: queued."""
        queued = len(self.waiting)
        self.taking = True
        try:
            result = execute()
        finally:
            self.taking = False
        return None if len(self.waiting) > queued else result

    def _do_execute(
        self, cursor: Any, statement: str, parameters: Any, context: Any
    ) -> bool | None:
        if self.taking and not parameters and self._queue(statement, context.compiled):
            return True
        self._plain()
        return None

    def _do_execute_no_params(self, cursor: Any, statement: str, context: Any) -> None:
        self._plain()

    def _do_executemany(self, cursor: Any, statement: str, parameters: Any, context: Any) -> None:
        self._plain()

    def _plain(self) -> None:
        """A statement goes the driver's way: after those that wait."""
        self.flush()
        counters.plain_statements += 1
        counters.plain_waits += 1

    def _queue(self, rendered: str, compiled: Any) -> bool:
        if compiled is None or getattr(compiled, "effective_returning", None):
            counters.plain("statement: SQLAlchemy reads its result")
            return False
        # SQLAlchemy doubles percent signs for the driver, which undoes it. A single one is none of
        # SQLAlchemy's.
        sql = rendered.replace("%%", "%")
        if sql.count("%") * 2 != rendered.count("%"):
            counters.plain("statement: a single percent sign")
            return False
        kind, keyword = _core.statement_kind(sql)
        if kind != "one" or keyword in _NOT_IN_A_BATCH:
            counters.plain(f"statement: {keyword if kind == 'one' else kind}")
            return False
        if not self.session.in_transaction:
            counters.plain("statement: the first of a transaction")
            return False
        self.waiting.append(Statement(sql, rendered, self._line()))
        return True

    def _line(self) -> int | None:
        """The line of the migration file that is being executed."""
        frame = sys._getframe(1)
        while frame is not None:
            if frame.f_code.co_filename == self.path:
                return frame.f_lineno
            frame = frame.f_back  # type: ignore[assignment]
        return None

    def expect_one_row(self, message: str) -> None:
        """If the version row's statement waits: it must affect one row, else `message; n found`."""
        if self.waiting:
            self.waiting[-1].rows = message

    def flush(self) -> None:
        """Send what waits, in one batch, and wait for its results.

        Raises what the driver would have raised for the first statement that failed.
        """
        if not self.waiting:
            return
        waiting, self.waiting = self.waiting, []
        try:
            results = self.session.run_batch([statement.sql for statement in waiting])
        except errors.ServerError as error:
            failed = waiting[max(error.index, 0)]
            wrapped = self._driver_error(error, failed)
            self._note(wrapped, failed.line)
            if wrapped.connection_invalidated:
                # As SQLAlchemy does: a rollback on the lost connection would raise, and hide this.
                self.session.close()
                self.connection.invalidate(wrapped)
            raise wrapped from None
        if any(tag.startswith(_DISCARDS_PLANS) for tag, _ in results):
            drivers.forget_prepared_statements(self.connection.connection.dbapi_connection)
        for statement, (_, rows) in zip(waiting, results, strict=True):
            if statement.rows is not None and rows != 1:
                raise errors.CommandError(f"{statement.rows}; {rows} found")

    # errors

    def _driver_error(
        self, error: errors.ServerError, statement: Statement
    ) -> sqlalchemy.exc.DBAPIError:
        """The exception that SQLAlchemy would have raised around the driver's own."""
        dialect = self.connection.dialect
        driver = dialect.loaded_dbapi
        original: Any = drivers.error(driver, error)
        wrapped: sqlalchemy.exc.DBAPIError = sqlalchemy.exc.DBAPIError.instance(
            statement.rendered,
            {},
            original,
            driver.Error,
            hide_parameters=self.engine.hide_parameters,
            connection_invalidated=dialect.is_disconnect(
                original, self.connection.connection.dbapi_connection, None
            ),
            dialect=dialect,
        )
        return wrapped

    def _note(self, error: BaseException, line: int | None) -> None:
        """Attach to `error` which revision, file and line it belongs to."""
        if self.step is None or hasattr(error, "migration_step"):
            return
        revision = self.step.revision.revision  # type: ignore[attr-defined]
        where = f"{self.path}, line {line}" if line else self.path
        step = f"{self.step.name} of revision {revision} ({where})"
        error.__dict__["migration_step"] = step
        if sys.version_info >= (3, 11):
            error.add_note(f"[migrate_ext: in {step}]")


def _reason_not_plain(path: str, function: str) -> str | None:
    """As :func:`migrate_ext.plain.reason_not_plain` for a file; without the line, to be counted."""
    try:
        with open(path, "rb") as file:
            reason = plain.reason_not_plain(file.read(), function)
    except (OSError, SyntaxError, ValueError):
        return "its source cannot be read"
    return reason and reason.partition(": ")[2]
