"""Holds the lock around one run of Alembic's loop, on the connection that the project opened.

Between transactions the session holds the lock, inside one the transaction does. So the server
releases it at COMMIT and ROLLBACK, wherever the project issues them, and when this process dies; a
connection cannot take it back to its pool. The lock's statements bypass SQLAlchemy (its autobegin,
its listeners): while no transaction is open they run on the ``PGconn`` or asyncpg's connection. The
first statement of a transaction goes through the driver's cursor, because the driver sends BEGIN.

Behind a pooler that shares sessions (detected by the server's process id, see ``csrc/pq/lock.h``),
each transaction takes the lock for itself, and the heads are read again.

Longer than other files: each method of the one class reads and writes the state of the one lock.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from weakref import WeakSet

from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import DBAPIError

from migrate_ext import _core
from migrate_ext.errors import CommandError, first_line, is_session_end
from migrate_ext.execution import driver_errors
from migrate_ext.execution.raw_connection import RawConnection
from migrate_ext.locking import leftovers, lock, outcome
from migrate_ext.locking.events import Events
from migrate_ext.locking.limits import Limits

# SQLSTATEs after which a transaction can be repeated: lock_timeout, serialization failure,
# deadlock.
_REPEATABLE = frozenset(("55P03", "40001", "40P01"))
_EXISTS = "42P07"  # a relation of that name
_LONGEST_PAUSE = 4.0  # seconds between two tries of a migration


_FUNCTIONS = (
    "hashtextextended(text, bigint)",
    "pg_try_advisory_lock(bigint)",
    "pg_try_advisory_xact_lock(bigint)",
    "pg_advisory_unlock(bigint)",
)
_may_lock: WeakSet[Engine] = WeakSet()  # engines whose role may execute _FUNCTIONS


class Moved(Exception):
    """Another run has changed the version rows meanwhile: determine the steps again."""


class Unlocked(Exception):
    """A command that was not known to run steps is about to run one without the lock."""


class Repair(Exception):
    """An index must be dropped, outside a transaction, before the next step."""


class RunLock:
    """The lock and the limits of one run, and what it has committed.

    connection: the one that the run uses. make_heads_sql: returns the query for the version rows.
    """

    def __init__(
        self,
        connection: Connection,
        raw: RawConnection,
        limits: Limits,
        table: str,
        schema: str | None,
        make_heads_sql: Callable[[], str],
    ) -> None:
        self.connection = connection
        self.events = Events.of(connection)
        self.raw = raw
        self.limits = limits
        self.table = table
        self.schema = schema
        self.make_heads_sql = make_heads_sql
        self.held = ""  # "", "session" or "transaction"
        self.pooled = limits.pooler == "transaction"
        self.key = 0
        self.started = False
        self.is_first = True  # the next step is the first of the run
        self.to_drop: list[str] = []
        self.restore = ""
        self.planned: frozenset[str | None] | None = None  # expected version rows
        self.step: Any = None
        self.in_body = False
        self.plan_is_there = False  # none of the project's code runs between two steps
        self.done: list[str] = []  # revisions whose step is finished
        self.committing: list[str] | None = None  # those that the COMMIT in flight commits
        self.committed: list[str] = []
        # A revision that has committed part of its work, but not its version row.
        self.half_done: str | None = None
        self.standing: list[str] = []  # statements that it has committed
        self.is_refused = False  # the server rejected the last COMMIT
        self.unseen: str | None = None  # a revision that has ended its transaction past SQLAlchemy
        self.ending = ""  # how the statement in flight ends the transaction, if it does
        self.is_mixed = False  # the string in flight has more statements than a COMMIT
        # Sends (sql, error message unless it returns one row) in a batch with the statements of
        # migrations, in the transaction that SQLAlchemy has open; False if it cannot.
        self.submit: Callable[[str, str], bool] | None = None
        self.is_retaken = False  # a batch takes the lock for the session, besides the transaction
        self.held_here: lock.HeldHere | None = None  # this program has the lock: run nothing

    @functools.cached_property
    def heads_sql(self) -> str:
        return self.make_heads_sql()

    # the run

    def start(self) -> None:
        """Take the lock, before the heads are read."""
        self.events.watcher = self
        self.connection._has_events = True
        self.started = True
        try:
            self._take()
        except lock.HeldHere as error:
            self.events.watcher = None
            self.started, self.held_here = False, error

    def again(self) -> None:
        """Start the run again after a rollback: take the lock again if it is not held."""
        self.planned, self.is_refused = None, False
        self.done = list(self.committed)
        if not self.held:
            self._take()

    def _take(self) -> None:
        if not self.limits.lock:
            self._drop("CONCURRENTLY ")
            self.opened()
            return
        waiting = lock.Waiting(self.limits, self.raw.ask, self.raw.sleep)
        if self.raw.status == "open":
            self._join(waiting)
            return
        try:
            self._take_between(waiting)
        except DBAPIError as error:
            if driver_errors.sqlstate(error) != lock.NOT_ALLOWED or self.held:
                raise
            self._refused(first_line(error.orig or error))

    def _refused(self, reason: str) -> None:
        """The role may not take the lock: continue without it, or raise CommandError."""
        if self.raw.has_failed:
            self.raw.dbapi.rollback()  # the transaction was begun for the query that failed
        lock.refused(self.limits, reason)
        self._drop("CONCURRENTLY ")
        self.opened()

    def _take_between(self, waiting: lock.Waiting) -> None:
        """Take the lock while no transaction is open."""
        if self._commits_itself:
            self._take_for_session(waiting)
            if self.pooled:
                raise CommandError(
                    "the connection commits each statement by itself, and leads to a pooler that "
                    "shares sessions: no lock could hold. Give the server's own URL, or --no-lock"
                )
            self._limit()
        elif self.pooled or self.to_drop or not self._take_at_once(waiting):
            if not self.pooled:
                self._take_for_session(waiting)
            self._drop("CONCURRENTLY ")
            self.opened()

    def opened(self, in_batch: bool = False) -> None:
        """At the beginning of a transaction of the run: move the lock to the transaction.

        in_batch: in a batch with the first statements, if possible.
        """
        if not self.started or self.held == "transaction" or self._commits_itself:
            return
        if not self.limits.lock:
            if self.limits.ddl_lock_timeout or self.limits.statement_timeout:
                self.raw.open("SELECT ''" + self._limits("true"))
            return
        if self.pooled:
            self._take_for_transaction()
            return
        promote, limits = f"({lock.promote(self.key)})", self._limits("true")
        if not (
            in_batch
            and self.submit is not None
            # If the lock was lost and another run has used it, the version row will not match.
            and self.submit(f"SELECT 1{limits} WHERE {promote} IS NOT NULL", lock.LOST)
        ):
            had, *_ = self.raw.open(f"SELECT {promote}::text{limits}")
            if had is None:
                raise CommandError(lock.LOST)
            if had not in lock.YES:
                self._check_heads()
        self.held = "transaction"
        self._keep()

    def _check_heads(self) -> None:
        """The lock was lost for a while: check that no other run has changed the version rows."""
        if self.planned is None:
            return
        rows = frozenset(row[0] for row in self.raw.ask(self.heads_sql))
        if rows != self.planned:
            raise CommandError(lock.LOST) if self.in_body else Moved

    def _keep(self, backend_pid: int | None = None) -> None:
        """Record which session holds the lock. (Not behind a pooler: it serves other clients soon.)"""
        if self.pooled:
            return
        lock.keep(backend_pid or self.raw.backend_pid, self.raw.driver)

    @property
    def _commits_itself(self) -> bool:
        return getattr(self.raw.dbapi, "autocommit", False) is True

    def needs_session(self, what: str) -> None:
        """`what` will end the transaction: raise CommandError if the session cannot hold the lock."""
        if self.pooled and self.limits.lock:
            raise CommandError(
                f"{what} behind a pooler that shares sessions: no lock could hold. "
                "Give the server's own URL (DIRECT_DATABASE_URL with a thin env.py), or --no-lock"
            )

    def finish(self) -> None:
        """End the run. A transaction that stays open keeps the lock until it ends."""
        if not self.started:
            return
        try:
            self._finish()
        except Exception:
            if self.raw.status != "lost":
                raise
            # The session's end released the lock; another error gives the reason.

    def _finish(self) -> None:
        self.events.watcher = None
        self.started = False
        status = self.raw.status
        if self.restore and status in ("idle", "open"):
            self.raw.ask(self.restore)
        if self.is_retaken:  # interrupted: it is unknown whether the session holds the lock
            self.connection.invalidate()
        elif self.held == "session" and status != "lost":
            if status != "idle" and self.raw.has_failed:
                self.connection.invalidate()  # the session's lock would survive the ROLLBACK
            elif status == "open" and not self._commits_itself:
                self.opened_again()
            else:
                self.raw.ask(f"SELECT pg_catalog.pg_advisory_unlock({self.key})::text")
        self.held = ""

    def opened_again(self) -> None:
        """Move the lock from the session to the open transaction."""
        self.raw.ask(f"SELECT pg_catalog.pg_try_advisory_xact_lock({self.key})::text")
        self.raw.ask(f"SELECT pg_catalog.pg_advisory_unlock({self.key})::text")

    # taking the lock

    def _take_at_once(self, waiting: lock.Waiting) -> bool:
        """Take it in the first statement of a new transaction. If the isolation is not READ
        COMMITTED, roll back and return False: the snapshot would be older than the lock.
        """
        sql = (
            f"SELECT tried.*, pg_catalog.pg_backend_pid()::text{self._limits('true')} FROM ("
            f"{_core.lock_sql_try(self.table, self.schema, False)}) tried(key, had, isolation, kind)"
        )
        while True:
            row = self.raw.open(sql)
            tried = lock.tried(row, self.table, self.schema)
            self.key = tried.key
            if self.limits.pooler == "auto":
                self.pooled = row[4] != str(self.raw.backend_pid)
            if tried.had and tried.isolation == "read committed":
                self.held = "transaction"
                self._keep()
                return True
            self.raw.dbapi.rollback()
            if tried.had:
                return False
            waiting.again(tried.key)

    def _take_for_session(self, waiting: lock.Waiting) -> None:
        pid = 0 if self.limits.pooler == "none" else self.raw.backend_pid
        while True:
            tried = lock.try_lock(
                self.raw.ask, self.table, self.schema, for_session=True, backend_pid=pid
            )
            self.key = tried.key
            if tried.had is None:
                self.pooled = True
                return
            if tried.had:
                self.held = "session"
                self._keep()
                return
            waiting.again(tried.key)

    def _take_for_transaction(self) -> None:
        """Behind a pooler: take the lock in a new transaction of the driver."""
        waiting = lock.Waiting(self.limits, self.raw.ask, self.raw.sleep)
        while True:
            if self.key == 0:  # gets the key; outside a transaction the lock is released at once
                tried = lock.try_lock(self.raw.ask, self.table, self.schema, for_session=False)
                self.key = tried.key
            take = f"SELECT pg_catalog.pg_try_advisory_xact_lock({self.key})::text"
            if self.raw.open(take + self._limits("true"))[0] in lock.YES:
                break
            self.raw.dbapi.rollback()  # a waiting run must not occupy a session of the pool
            waiting.again(self.key)
        self.held = "transaction"
        self._check_heads()

    def _join(self, waiting: lock.Waiting) -> None:
        """Take the lock in the transaction that the project has already begun."""
        if not self._may_lock():
            self._refused("permission denied for PostgreSQL's advisory lock functions")
            return
        while True:
            tried = lock.try_lock(self.raw.ask, self.table, self.schema, for_session=False)
            self.key = tried.key
            if tried.had:
                self.held = "transaction"
                which = "SELECT pg_catalog.pg_backend_pid()::text"
                pid = int(self.raw.ask(which + self._limits("true"))[0][0] or 0)
                if self.limits.pooler == "auto":
                    self.pooled = pid != self.raw.backend_pid
                self._keep(pid)
                return
            if tried.isolation != "read committed":
                raise CommandError(
                    "another run of migrations has the lock of this database, and the open "
                    f"transaction is {tried.isolation}: it would not see what that run does. "
                    "Run the command again, or begin no transaction before context.configure"
                )
            waiting.again(tried.key)

    def _may_lock(self) -> bool:
        """Whether the role may take the lock, queried once per engine: a try could abort a
        transaction.
        """
        engine = self.connection.engine
        if engine not in _may_lock:
            tests = " AND ".join(
                f"pg_catalog.has_function_privilege('pg_catalog.{function}', 'EXECUTE')"
                for function in _FUNCTIONS
            )
            if self.raw.ask(f"SELECT ({tests})::text")[0][0] not in lock.YES:
                return False
            _may_lock.add(engine)
        return True

    # limits

    @property
    def _timeouts(self) -> dict[str, str]:
        """The timeouts that the settings give, by PostgreSQL's names."""
        given = {
            "lock_timeout": self.limits.ddl_lock_timeout,
            "statement_timeout": self.limits.statement_timeout,
        }
        return {name: value for name, value in given.items() if value is not None}

    def _limits(self, local: str) -> str:
        """``, set_config(...)`` for each limit. local: ``true``: for the transaction only."""
        made = [
            f", pg_catalog.set_config('{name}', '{value}', {local})"
            for name, value in self._timeouts.items()
        ]
        made.append(f", {lock.end_with_us(local)}")
        return "".join(made)

    def _limit(self) -> None:
        """Set the limits for the session, until :meth:`finish`."""
        names = (*self._timeouts, "client_connection_check_interval", *lock.KEEPALIVES)
        before = ", ".join(f"pg_catalog.current_setting('{name}', true)" for name in names)
        (values,) = self.raw.ask(
            f"WITH before AS MATERIALIZED (SELECT {before}) "
            f"SELECT before.*{self._limits('false')} FROM before"
        )
        self.restore = "SELECT " + ", ".join(
            f"pg_catalog.set_config('{name}', '{value}', false)"
            for name, value in zip(names, values, strict=False)
            if value is not None  # a setting of a newer server
        )

    def unlimited(self) -> None:
        """At the end of an autocommit block: restore the session's settings."""
        if self.restore and self.raw.status == "idle":
            self.raw.ask(self.restore)
            self.restore = ""

    def limit_session(self) -> None:
        """At the beginning of an autocommit block: set the limits for the session."""
        self._all_is_committed()
        if self.started and not self.restore and self.raw.status == "idle":
            self._limit()

    # events of SQLAlchemy

    def at_commit(self) -> None:
        if self.in_body:
            self.needs_session("a COMMIT of its own")
        if self.is_retaken:
            self.held, self.is_retaken = "session", False
        else:
            self._retake()
        if self.held == "transaction":
            self.held = ""
        self.committing = list(self.done)

    def confirmed(self) -> None:
        """The COMMIT in flight, if there is one, was done."""
        if self.committing is not None:
            self.committed, self.committing = self.committing, None
            half_done = self.step_name if self.in_body else None
            if half_done is None or half_done != self.half_done:
                self.standing = []
            self.half_done = half_done

    def commit(self) -> None:
        """Replaces the connection's ``_commit_impl``: an error that the server returns means that
        it has rolled back.
        """
        try:
            Connection._commit_impl(self.connection)
        except DBAPIError as error:
            if not error.connection_invalidated and not is_session_end(
                driver_errors.sqlstate(error)
            ):
                self.is_refused, self.committing = True, None
            raise

    def _all_is_committed(self) -> None:
        self.committing = list(self.done)
        self.confirmed()

    def at_begin(self) -> None:
        self.confirmed()

    def before_statement(self, statement: Any) -> None:
        """The driver will execute a statement, which may be a COMMIT unknown to SQLAlchemy."""
        if self.held == "transaction" and self.raw.status == "idle":
            self._ended_unseen()
        text = statement if isinstance(statement, str) else ""
        if self.limits.repair and self.raw.status == "idle":
            left = leftovers.same_index(self.raw.ask, text) if self._may_be_left else None
            if left is not None:
                self.raw.run(f"DROP INDEX CONCURRENTLY {left}")
                lock.say("warning", f"Dropped the index {left}, which an earlier run had made")
        standard = "\\" not in text or self.raw.has_standard_strings
        self.ending = _core.transaction_end(text, standard)
        self.committing, self.is_mixed = None, False  # may be left from a COMMIT that failed
        if self.ending:
            self.needs_session(f"a {self.ending.upper()} of its own")
            if not self.raw.has_failed:
                self._retake()
                if self.ending == "commit" and self.raw.status == "open":
                    self.committing = list(self.done)
                    self.is_mixed = _core.statement_kind(statement, standard)[0] != "one"

    def after_statement(self, statement: Any) -> None:
        if self.ending:
            self._retake()  # not possible before the statement if the transaction had failed
            if self.committing is None:
                self.done = list(self.committed)
            self.confirmed()
        elif self.raw.status == "idle":  # the statement was committed on its own
            self._all_is_committed()
            if self.half_done is not None and isinstance(statement, str):
                self.standing.append(statement)

    @property
    def _may_be_left(self) -> bool:
        """Whether an earlier run may have begun the current step."""
        return self.in_body and not self.done

    def hint(self, error: BaseException) -> str:
        """A text for the user if `error` is about an index that an earlier run created; else empty."""
        statement = getattr(error, "statement", None)
        if driver_errors.sqlstate(error) != _EXISTS or self.raw.status != "idle" or not statement:
            return ""
        if not self._may_be_left:
            return ""
        left = leftovers.same_index(self.raw.ask, statement)
        return leftovers.hint(self.step_name, left) if left is not None else ""

    def _ended_unseen(self) -> None:
        """The project has ended the transaction past SQLAlchemy (a raw cursor); how is unknown."""
        self.unseen = self.step_name
        self.needs_session("a COMMIT of its own")
        self._retake()

    def _retake(self) -> None:
        """Take the lock for the session, when the transaction is about to release it or just has."""
        if self._must_retake() and self.raw.status in ("idle", "open"):
            retake = f"SELECT {lock.retake(self.key)}::text"
            if self.raw.ask(retake)[0][0] not in lock.YES:
                raise CommandError(lock.LOST)
            self.held = "session"

    def _must_retake(self) -> bool:
        return self.held == "transaction" and not self.pooled

    def retake_in_batch(self) -> None:
        """Before a COMMIT: the last statement of the batch takes the lock for the session."""
        if self._must_retake() and self.submit is not None:
            retake = f"SELECT 1 WHERE {lock.retake(self.key)}"
            self.is_retaken = self.submit(retake, lock.LOST)

    def at_rollback(self) -> None:
        self.committing = None
        if self.held == "transaction":
            self.held = ""

    # steps

    def steps(self, find: Callable[..., Iterable[Any]]) -> Callable[..., Iterator[Any]]:
        """Wraps `find`, which returns Alembic's steps, to track the current step."""

        def found(heads: Any, context: Any) -> Iterator[Any]:
            self.planned = frozenset(heads)
            steps = find(heads, context)
            self.plan_is_there = isinstance(steps, (list, tuple))
            for step in steps:
                if not self.started:
                    raise self.held_here or Unlocked
                if self._commits_itself:
                    self._look_for_lock()
                self.step, self.in_body = step, False
                if self.is_first:
                    self.is_first = False
                    self._look_for_what_is_left(step)
                step.migration_fn = self._body(step.migration_fn)
                yield step

        return found

    def _look_for_lock(self) -> None:
        """In autocommit mode: check that the session still holds the lock."""
        if self.held != "session" or self.is_first:
            return
        rows = self.raw.ask(_core.lock_sql_holders(self.key))
        if str(self.raw.backend_pid) not in {row[0] for row in rows}:
            if self.raw.ask(f"SELECT {lock.retake(self.key)}::text")[0][0] not in lock.YES:
                raise CommandError(lock.LOST)
            self._check_heads()

    def _look_for_what_is_left(self, step: Any) -> None:
        """Check whether an interrupted run has left the first step of this run half done.

        Raises :class:`Repair`, or CommandError if `step` could mistake an INVALID index for its
        own.
        """
        path = getattr(getattr(step, "revision", None), "path", None)
        if path is None:
            return
        left = leftovers.of_file(
            self.raw.ask, path, "upgrade" if step.is_upgrade else "downgrade", self.schema
        )
        if not left.indexes:
            return
        which = ", ".join(f"{name} of {table}" for name, table in left.indexes)
        text = f"{_name(step)} was interrupted before: it left the INVALID index {which}"
        if self.limits.repair:
            lock.say("warning", f"{text}, which is dropped first")
            self.to_drop = [name for name, _ in left.indexes]
            raise Repair
        if left.is_handled:
            lock.say("warning", f"{text}; --repair drops it")
            return
        raise CommandError(
            f"{text}. Nothing was run. To have it dropped first: --repair, or "
            "MIGRATE_EXT_REPAIR=true under alembic"
        )

    def drop_here(self) -> None:
        """Drop what :class:`Repair` requires, in the transaction that the project has open."""
        self._drop("")

    def _drop(self, how: str) -> None:
        """Drop what :class:`Repair` requires. how: ``CONCURRENTLY``, or empty in a transaction."""
        names, self.to_drop = self.to_drop, []
        for name in names:
            self.raw.run(f"DROP INDEX {how}IF EXISTS {name}")
            lock.say("warning", f"Dropped the INVALID index {name}")

    def _body(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def migrate(**kw: Any) -> None:
            self.in_body = True  # stays True after a failure, until the next step
            function(**kw)
            self.in_body = False
            self.done.append(_name(self.step))

        migrate.migrate_ext_body = function  # type: ignore[attr-defined]  # for the executor
        return migrate

    def stepped(self, heads: Iterable[str]) -> None:
        """Record the version rows after a step has written its own."""
        self.planned = frozenset(heads)

    # failures

    def may_repeat(self, error: BaseException) -> bool:
        """Whether `error` ended a transaction that can be repeated as a whole."""
        return (
            driver_errors.sqlstate(error) in _REPEATABLE
            and (self.half_done or self.unseen) is None
            and self.raw.status != "lost"
        )

    def pause(self, tries: int) -> None:
        """Sleep between two tries: exponential backoff with jitter."""
        self.raw.sleep(min(0.1 * 2.0**tries, _LONGEST_PAUSE) * random.uniform(0.5, 1.0))

    @property
    def step_name(self) -> str:
        """The revision of the current step."""
        return _name(self.step)

    def outcome(self) -> str:
        """What a failed run has committed, and what to do; empty if it committed nothing."""
        if self.unseen is not None:
            return (
                f"{self.unseen} ended its transaction by itself: 'current' tells what is committed."
            )
        return outcome.of_run(
            self.committed, self.half_done, self.standing, refused=self.is_refused
        )


def _name(step: Any) -> str:
    revision = getattr(step, "revision", None)
    return str(getattr(revision, "revision", None) or step)
