"""Sends the SQL of plain migrations in batches, on the connection that the project opened.

Python runs ahead of the server through consecutive plain migrations: a statement is rendered,
queued, and sent as soon as the server is idle, in libpq's pipeline mode, inside the driver's own
transaction; the next one is rendered meanwhile. Version rows are sent the same way. Visible effects
keep their order: "Running upgrade a -> b" is held until all earlier statements are confirmed;
before a warning is shown, or the driver's connection is used, the executor waits for them. Before
any other migration the queue is empty, and it runs as under Alembic, statement by statement.

Private names of Alembic and SQLAlchemy belong to ``dropin``, which passes what this module needs.
"""

from __future__ import annotations

import gc
import logging
import sys
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable
from typing import Any, NoReturn, Protocol, TypeAlias

from alembic import util as alembic_util
from sqlalchemy.engine import Connection
from sqlalchemy.util import await_only

from migrate_ext import _core, counters, errors
from migrate_ext.execution import driver_errors, drivers
from migrate_ext.execution.parameters import Parameters
from migrate_ext.execution.statement import Ledger, SourceLocation, Statement
from migrate_ext.execution.timing import Times

# Allocations between two garbage collections during a run. Its modules and tables are hundreds of
# thousands of objects; with Python's default of 700, collections would take a tenth of the time.
_COLLECT_AFTER = 20_000
_DRAIN_SECONDS = 10.0  # how long to wait for a cancelled statement to end (as MIG_DRAIN_MS)
_IDLE_TOO_LONG = ("25P03", "57P05")  # SQLSTATEs of idle timeouts: in a transaction, and outside
_DISCARDS_PLANS = ("ALTER", "DROP")
_LOGGER = logging.getLogger("alembic.runtime.migration")


class Lease(Protocol):
    """Keeps other code from using a connection while statements are in flight on it."""

    def take(self) -> None:
        """From here on, any use of the driver's connection first calls :meth:`Executor.sync`."""

    def give_back(self) -> None:
        """Allow direct use of the driver's connection again."""

    def is_open(self) -> bool:
        """SQLAlchemy is in a transaction, without a savepoint, and the connection is not taken."""


class Executor(logging.Filter):
    """The statements in flight of one run on one connection.

    connection: Alembic's. borrowed: from :func:`migrate_ext.execution.drivers.borrow`. lease: see
    :class:`Lease`.
    """

    def __init__(
        self,
        connection: Connection,
        borrowed: drivers.BorrowedConnection | drivers.Asyncpg,
        lease: Lease,
    ) -> None:
        super().__init__()
        self.connection = connection
        self.driver = borrowed
        self.lease = lease
        self.session: Any = self._session_on(borrowed)
        self.ledger = Ledger()
        self.place: SourceLocation | None = None
        # True: send nothing before sync(). A run that waits for each migration then needs one wait
        # for it instead of two.
        self.gathers = False
        self.times: Times | None = None  # set if statements are timed
        self._clock = 0.0  # time of the server's last result
        self._last_contact = time.monotonic()  # when the last confirmed statement was made
        self.task = _task()
        # Unconfirmed statements, and log records held until the statements before them are confirmed.
        self._queue: deque[Statement | logging.LogRecord] = deque()
        self._pending = 0
        self._pending_of_migrations = 0
        self._discards_plans = False
        self._emitting = False
        self.confirmed = ""  # the last revision whose statements are all confirmed
        self._announces = _LOGGER.isEnabledFor(logging.INFO)

    def _session_on(self, borrowed: Any) -> Any:
        return _core.Session.borrow(borrowed.pointer, borrowed.library, borrowed.owner)

    # while Alembic runs its loop

    def __enter__(self) -> Executor:
        _LOGGER.filters.insert(0, self)
        _watch_warnings(self)
        self._thresholds = gc.get_threshold()
        if 0 < self._thresholds[0] < _COLLECT_AFTER:
            gc.set_threshold(_COLLECT_AFTER, *self._thresholds[1:])
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        try:
            if error is None:
                self.sync_for_commit()
            else:
                self.abandon()
        finally:
            if gc.get_threshold() == (_COLLECT_AFTER, *self._thresholds[1:]):
                gc.set_threshold(*self._thresholds)
            _LOGGER.removeFilter(self)
            _watch_warnings(None)
            self.session.close()

    def filter(self, record: logging.LogRecord) -> bool:
        """Hold this task's log records while earlier statements are not confirmed."""
        if not self._pending_of_migrations or self._emitting or _task() != self.task:
            return True
        self._queue.append(record)
        return False

    # statements

    @property
    def pending(self) -> bool:
        """Whether statements are in flight or waiting to be sent."""
        return self._pending > 0

    def submit(
        self, rendered: str, line: int | None, rows: str | None = None, is_last: bool = False
    ) -> bool:
        """Queue one statement; False (counted, with the reason) if the driver must execute it.

        rendered: as SQLAlchemy would pass it to the driver. line: in the migration's file. rows,
        is_last: see :class:`Statement`; only version rows have them. Raises what the driver would have
        raised for an earlier statement. The caller counts the statement in :attr:`ledger`.
        """
        # SQLAlchemy doubles percent signs, and the driver halves them. A single one does not come
        # from SQLAlchemy.
        sql = rendered
        if "%" in rendered and self.driver.doubles_percent_signs:
            sql = rendered.replace("%%", "%")
            if sql.count("%") * 2 != rendered.count("%"):
                counters.plain("statement: a single percent sign")
                return False
        return self._submit(Statement(rendered, self.place, line, rows, is_last), sql)

    def submit_with_values(self, rendered: str, line: int | None, values: dict[str, Any]) -> bool:
        """As :meth:`submit`, for a statement with parameters, as SQLAlchemy would pass both to the driver."""
        bound = self.driver.bound(rendered, values)
        if bound is None:
            counters.plain("statement: with parameters")
            return False
        statement = Statement(rendered, self.place, line, values=values)
        return self._submit(statement, bound[0], params=bound[1])

    def submit_for_lock(self, sql: str, lost: str) -> bool:
        """Queue a query of the lock, which must return one row. lost: the error message otherwise.

        Returns and raises as :meth:`submit` does.
        """
        self.ledger.rendered += 1
        # It goes with the next statement, or with the wait before the COMMIT.
        taken = self._submit(Statement(sql, None, None, lost), sql, send=False)
        self.ledger.rendered -= not taken
        return taken

    def _submit(
        self,
        statement: Statement,
        sql: str,
        *,
        send: bool = True,
        params: Parameters | None = None,
    ) -> bool:
        if not self.driver.sends_as_utf8(sql):
            counters.plain("statement: the driver's encoding is not UTF8")
            return False
        begin = None
        if not self._pending:
            if not self.lease.is_open():
                counters.plain("statement: not in SQLAlchemy's transaction")
                return False
            if not self.session.in_transaction:
                begin = self.driver.begin()
                if begin is None:
                    counters.plain("statement: the first of a transaction")
                    return False
        prompt = self.times is not None or (statement.is_last and self._announces)
        changes_nothing = statement.rows is not None or statement.is_last
        try:
            answer = self.session.submit(
                sql, begin, send and not self.gathers, prompt, changes_nothing, params or ()
            )
        except BaseException as error:
            self._append(statement, begin)
            self._fail(error)
        if isinstance(answer, str):
            counters.plain(f"statement: {answer}")
            return False
        if answer is None:  # an earlier statement may change a setting that affects this one
            self.sync()
            return self._submit(statement, sql, send=send, params=params)
        self._append(statement, begin)
        self._confirm(answer)
        if self.session.full:
            self._wait(self.session.make_room, lambda: self.session.full)
        return True

    def _append(self, statement: Statement, begin: str | None = None) -> None:
        if begin is not None:
            self.ledger.rendered += 1
            self._append(Statement(begin, statement.place, None))
        if not self._pending:
            self.lease.take()
        self._pending += 1
        self._pending_of_migrations += statement.place is not None
        self._queue.append(statement)

    def sync(self) -> None:
        """Wait for all submitted statements. Raises what the driver would have raised for them."""
        self._clock = time.perf_counter()
        if self.session.pending:
            self._advance(self.session.send_rest)
        while self.session.pending:  # held log records are emitted as results come
            self._wait(self.session.wait, lambda: self.session.pending > 0)

    def sync_for_commit(self) -> None:
        """:meth:`sync` before a commit.

        If a statement was lost, raises :class:`~migrate_ext.errors.InternalError` and closes the
        connection, so that nothing can be committed on it.
        """
        self.sync()
        try:
            self.ledger.check(self.session)
        except errors.InternalError as error:
            self._break(error)

    def _wait(self, step: Callable[[], list[tuple[str, int]]], more: Callable[[], bool]) -> None:
        """Block in `step` once. On an async connection, wait in the event loop until not `more()`."""
        if not self.driver.is_async:
            self._advance(step)
            return
        self._advance(self.session.poll)
        if more():
            counters.plain_waits += 1
        while more():
            try:
                await_only(_readable(self.session.socket, self.session.writing))
            except BaseException:
                self._abandon_in_loop()
                raise
            self._advance(self.session.poll)

    def _abandon_in_loop(self) -> None:
        """:meth:`abandon` for a cancelled task, without blocking the event loop."""
        try:
            await_only(_drained(self.session))
        finally:
            self.session.drain(True)  # does nothing, unless draining was interrupted, too
            self._clear()

    def abandon(self) -> None:
        """Cancel and forget what is in flight, because an exception is being raised."""
        self._queue.clear()
        if self._pending:
            self.session.abandon()
        self._clear()

    def _advance(self, step: Callable[[], list[tuple[str, int]]]) -> None:
        try:
            results = step()
        except BaseException as error:
            self._fail(error)
        self._confirm(results)

    def _confirm(self, results: list[tuple[str, int]] | tuple[tuple[str, int], ...]) -> None:
        """Take the results of the first statements; emit the log records held behind them."""
        queue = self._queue
        for tag, rows in results:
            statement = queue.popleft() if queue else None
            if not isinstance(statement, Statement):
                self._pending += 1  # so that abandon() acts: the connection is not given back yet
                self._break(errors.InternalError("a result came that belongs to no statement"))
            self.ledger.seen += 1
            self._last_contact = statement.at
            if statement.is_last and statement.place is not None:
                self.confirmed = statement.place.revision
            if self.times is not None:
                self._time(statement)
            self._pending -= 1
            self._pending_of_migrations -= statement.place is not None
            if tag.startswith(_DISCARDS_PLANS):
                self._discards_plans = True
            if statement.rows is not None and rows != 1:
                self._abandon_here()
                raise alembic_util.CommandError(statement.rows.replace("{rows}", str(rows)))
            while queue and isinstance(queue[0], logging.LogRecord):
                try:
                    self._emit(queue.popleft())
                except BaseException:  # raised by a log handler
                    self._abandon_here()
                    raise
        if results and not self._pending:
            self._give_back()
            self._tell_driver()

    def _time(self, statement: Statement) -> None:
        now = time.perf_counter()
        if self.times is not None and statement.place is not None:
            where = statement.place.note(statement.line, None)
            self.times.add(now - self._clock, statement.rendered, where)
        self._clock = now

    def _abandon_here(self) -> None:
        """:meth:`abandon` while results are processed: the connection is not given back yet."""
        self._pending += 1
        self.abandon()

    def _emit(self, record: Any) -> None:
        record.created = time.time()
        record.msecs = int(record.created * 1000) % 1000
        self._emitting = True
        try:
            _LOGGER.handle(record)
        finally:
            self._emitting = False

    def _clear(self) -> None:
        """Reset after the session has dropped what was in flight, before an exception is raised."""
        self._queue.clear()
        if self._pending:
            self._give_back()
            self._tell_driver(failed=True)

    def _give_back(self) -> None:
        self._pending = self._pending_of_migrations = 0
        self.lease.give_back()

    def _tell_driver(self, *, failed: bool = False) -> None:
        """Have the driver do what a batch requires. failed: an exception is already being raised.

        If the driver finds that the connection is lost, raises what SQLAlchemy would.
        """
        discards_plans, self._discards_plans = self._discards_plans, False
        try:
            self.driver.after_batch(discards_plans)
        except self.connection.dialect.loaded_dbapi.Error as error:
            wrapped = driver_errors.wrapped(self.connection, error, None)
            if not failed:  # else the error that is being raised gives the cause
                note(wrapped, self.place, None, self.confirmed)
                raise wrapped from error

    # errors

    def _fail(self, error: BaseException) -> NoReturn:
        """Handle an `error` of the session: raise what the project would have got without batches."""
        if isinstance(error, errors.InternalError):
            self._break(error)
        if not isinstance(error, errors.ServerError):
            self.abandon()
            raise error
        self._confirm(error.partial)
        left = [item for item in self._queue if isinstance(item, Statement)]
        failed = left[0]
        if error.sqlstate in _IDLE_TOO_LONG:
            # The session ended in the longest pause, before the first statement behind it.
            made = [self._last_contact, *(statement.at for statement in left)]
            failed = left[max(range(len(left)), key=lambda n: made[n + 1] - made[n])]
        self._queue.clear()
        self._give_back()
        wrapped = driver_errors.error(self.connection, error, failed.rendered, failed.values)
        if not wrapped.connection_invalidated:
            self._tell_driver(failed=True)
        lost = wrapped.connection_invalidated or errors.is_session_end(error.sqlstate)
        note(wrapped, failed.place, failed.line, self.confirmed if lost else "")
        if wrapped.connection_invalidated:
            self.session.close()
        raise wrapped from wrapped.orig

    def _break(self, error: errors.InternalError) -> NoReturn:
        """Raise `error`, and close the connection, so that nothing can be committed on it."""
        self.abandon()
        self.connection.invalidate()
        raise error


def note(
    error: BaseException, place: SourceLocation | None, line: int | None, confirmed: str = ""
) -> None:
    """Attach to `error` the revision, file, line and position that it belongs to. confirmed: if the
    connection was lost, the last revision whose statements were all confirmed.
    """
    if place is None or hasattr(error, "migration_step"):
        return
    step = place.note(line, driver_errors.position(getattr(error, "orig", error)))
    step += f"; the last one confirmed is {confirmed}" if confirmed else ""
    error.__dict__["migration_step"] = step
    if sys.version_info >= (3, 11):
        error.add_note(f"[migrate_ext: in {step}]")


async def _readable(socket: int, writing: bool) -> None:
    """Wait until the socket is readable or, if `writing`, writable."""
    import asyncio  # imported already where this runs

    loop = asyncio.get_running_loop()
    ready = loop.create_future()

    def wake() -> None:
        if not ready.done():
            ready.set_result(None)

    loop.add_reader(socket, wake)
    if writing:
        loop.add_writer(socket, wake)
    try:
        await ready
    finally:
        loop.remove_reader(socket)
        if writing:
            loop.remove_writer(socket)


async def _drained(session: _core.Session) -> None:
    """Cancel what is in flight and wait until it has ended, at most ``_DRAIN_SECONDS``."""
    import asyncio

    loop = asyncio.get_running_loop()
    await loop.run_in_executor(None, session.cancel)  # opens a connection to the server, and blocks
    until = loop.time() + _DRAIN_SECONDS
    while session.drain():
        left = max(until - loop.time(), 0)
        try:
            await asyncio.wait_for(_readable(session.socket, session.writing), left)
        except asyncio.TimeoutError:
            return


def _task() -> tuple[int, int]:
    """Identifies the caller: its thread and, under asyncio, its greenlet."""
    greenlet = sys.modules.get("greenlet")
    return threading.get_ident(), id(greenlet.getcurrent()) if greenlet is not None else 0


# A warning is printed at once, but held log records belong before it. So wait for them first.
_Show: TypeAlias = Callable[..., None]
_watchers: dict[tuple[int, int], Executor] = {}
_watchers_lock = threading.Lock()
_show_before: _Show | None = None


def _show_warning(*arguments: Any, **keywords: Any) -> None:
    executor = _watchers.get(_task())
    if executor is not None:
        executor.sync()
    assert _show_before is not None
    _show_before(*arguments, **keywords)


def _watch_warnings(executor: Executor | None) -> None:
    """Have `executor` sync before this task's warnings are shown; None: stop that."""
    global _show_before
    with _watchers_lock:
        if executor is not None:
            _watchers[_task()] = executor
            if warnings.showwarning is not _show_warning:
                _show_before = warnings.showwarning
                warnings.showwarning = _show_warning
        else:
            _watchers.pop(_task(), None)
            if not _watchers and warnings.showwarning is _show_warning:
                assert _show_before is not None
                warnings.showwarning = _show_before
