"""The transactions of Alembic's ``MigrationContext``: where the lock is taken and released, what is
repeated, and what is reported of a failed run.

Touches private names of ``alembic/runtime/migration.py`` (read in 1.13 and 1.20.1).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakSet

import alembic.util
import sqlalchemy
from alembic.runtime.migration import HeadMaintainer, MigrationContext, _ProxyTransaction
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.util import await_only

from migrate_ext.errors import CommandError, first_line, is_session_end
from migrate_ext.execution import driver_errors
from migrate_ext.execution.raw_connection import RawConnection, raw_connection_of
from migrate_ext.locking import limits as limiting
from migrate_ext.locking import lock, outcome, uncommitted
from migrate_ext.locking import run_lock as run_locks
from migrate_ext.locking.run_lock import RunLock

# asyncpg's message after the server has ended the session; it does not give the reason.
_ASYNCPG_ENDED = "cannot switch to state"
_READING = ("check", "history", "show")  # functions of alembic.command
_said: set[str] = set()


def run(context: MigrationContext, migrate: Callable[[], None]) -> None:
    """Call `migrate`, Alembic's loop in `context`, under the lock and within the limits."""
    run_lock = _run_lock_for(context)
    if run_lock is None:
        migrate()
        return
    find = context._migrations_fn
    assert find is not None
    if _only_reads(context):
        context.opts = {**context.opts, "dont_mutate": True}  # create no version table
    listeners = has_listeners(context)
    context._migrations_fn = run_lock.steps(find)
    context._migrate_ext_listeners = listeners  # type: ignore[attr-defined]
    context._migrate_ext_run_lock = run_lock  # type: ignore[attr-defined]
    try:
        with (
            _terminable(run_lock.connection),
            _unseen(run_lock.connection, listeners or run_lock.connection.engine._has_events),
            _seen(run_lock),
        ):
            _repeat(context, run_lock, migrate)
        (_at_head.discard if run_lock.done else _at_head.add)(run_lock.connection.engine)
        _watch(context, run_lock)
    except outcome.Terminated as error:
        _look_for_commit(run_lock, error)
        raise outcome.ended(error, run_lock.outcome()) from error
    except lock.HeldHere as error:
        raise alembic.util.CommandError(str(error)) from error
    except CommandError as error:
        told = alembic.util.CommandError(str(error))
        run_lock.confirmed()
        outcome.tell(told, run_lock.outcome())
        raise told from error
    except BaseException as error:
        _look_for_commit(run_lock, error)
        outcome.tell(
            error, f"{_hidden_reason(error)}{run_lock.outcome()} {run_lock.hint(error)}".strip()
        )
        raise
    finally:
        context._migrations_fn = find
        try:
            run_lock.finish()
        finally:
            run_lock.raw.close()
            run_lock.connection._has_events = listeners
            del context._migrate_ext_listeners  # type: ignore[attr-defined]


@contextmanager
def _terminable(connection: Connection) -> Iterator[None]:
    """Like :class:`outcome.Terminable`. In an event loop SIGTERM cancels the task, as Ctrl-C does:
    an exception that a signal handler raises in the loop itself does not always reach this task.
    """
    if not connection.dialect.is_async:
        with outcome.Terminable():
            yield
        return
    import asyncio  # imported already where this runs

    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    terminable = outcome.Terminable(lambda: loop.call_soon_threadsafe(task.cancel))
    try:
        with terminable:
            yield
            if terminable.came:
                await_only(asyncio.sleep(0))  # raises CancelledError here, not at some later wait
    except asyncio.CancelledError as error:
        if not terminable.came:
            raise
        raised = terminable.raised()
        raised.__dict__.update(error.__dict__)  # what outcome.tell() has attached
        raise raised from error


@contextmanager
def _unseen(connection: Connection, listeners: bool) -> Iterator[None]:
    """Within this block the lock's listeners do not change error messages: if there is any
    listener, SQLAlchemy drops empty parameters, which some of its messages quote.
    """
    if listeners:
        yield
        return
    invoke = Connection._invoke_before_exec_event

    def before_execute(element: Any, parameters: Any, options: Any) -> tuple[Any, ...]:
        element, _, *others = invoke(connection, element, parameters, options)
        return (element, parameters, *others)

    connection.__dict__["_invoke_before_exec_event"] = before_execute
    try:
        yield
    finally:
        del connection.__dict__["_invoke_before_exec_event"]


def _watch(context: MigrationContext, run_lock: RunLock) -> None:
    """After a run whose transaction is still open: warn if it is closed uncommitted."""
    if run_lock.raw.status == "open":
        is_env_pys = context._in_external_transaction
        cause = uncommitted.BY_ENV_PY if is_env_pys else uncommitted.BY_A_MIGRATION
        left = [revision for revision in run_lock.done if revision not in run_lock.committed]
        uncommitted.watch(run_lock.connection, left, cause)


@contextmanager
def _seen(run_lock: RunLock) -> Iterator[None]:
    """Within this block `run_lock` observes the result of each COMMIT."""
    run_lock.connection.__dict__["_commit_impl"] = run_lock.commit
    try:
        yield
    finally:
        del run_lock.connection.__dict__["_commit_impl"]


def _hidden_reason(error: BaseException) -> str:
    """Why the connection was lost, if `error` does not say it; else empty."""
    # Messages of the project's own exceptions are not inspected.
    package = type(error).__module__.partition(".")[0]
    if package in ("asyncpg", "sqlalchemy") and _ASYNCPG_ENDED in str(error):
        return "The server closed the connection. "
    lost = error.__context__
    # Alembic's autocommit_block sets an option of the lost connection when it ends.
    if isinstance(error, sqlalchemy.exc.PendingRollbackError) and lost is not None:
        reason = first_line(getattr(lost, "orig", None) or lost).strip()
        return f"The connection was lost: {reason}. "
    return ""


def has_listeners(context: MigrationContext) -> bool:
    """Whether the project listens to events of the connection; our own listeners do not count."""
    found: bool = getattr(
        context,
        "_migrate_ext_listeners",
        context.connection._has_events,  # type: ignore[union-attr]
    )
    return found


def _run_lock_for(context: MigrationContext) -> RunLock | None:
    connection = context.connection
    if context.as_sql or not isinstance(connection, Connection):
        return None
    try:
        limits = limiting.read(_option_of(context))
    except CommandError as error:
        raise alembic.util.CommandError(str(error)) from error
    raw: RawConnection | str
    if connection.dialect.name != "postgresql":
        raw = connection.dialect.name
    else:
        raw = raw_connection_of(connection)
    if isinstance(raw, str):
        if limits.lock and _runs_steps(context) and raw not in _said:
            _said.add(raw)
            lock.say("info", f"No lock against other runs on {raw}.")
        return None

    def heads_sql() -> str:
        heads = sqlalchemy.select(context._version.c.version_num)
        return str(heads.compile(dialect=connection.dialect))

    return RunLock(
        connection,
        raw,
        limits,
        context.version_table,
        context.version_table_schema,
        heads_sql,
    )


def _runs_steps(context: MigrationContext) -> bool:
    """Whether the command runs migrations or stamps: not ``current``, ``history``, ``show``,
    ``check`` or autogenerate. A program's own function may, so the answer for it is True.
    """
    opts = context.opts
    if "destination_rev" in opts:
        return True
    looks = opts.get("dont_mutate") or opts.get("revision_context") is not None
    return not looks and getattr(opts.get("fn"), "__module__", None) != "alembic.command"


def _only_reads(context: MigrationContext) -> bool:
    """Whether the command is ``check``, ``history -i`` or ``show current``. (Alembic itself sets
    ``dont_mutate`` for ``current`` only.)
    """
    function = context.opts.get("fn")
    name: str = getattr(function, "__qualname__", "").partition(".")[0]
    return getattr(function, "__module__", None) == "alembic.command" and name in _READING


def _option_of(context: MigrationContext) -> Callable[[str], str | None]:
    config = getattr(context.environment_context, "config", None)
    if config is None:
        return lambda _: None
    get = getattr(config, "get_alembic_option", config.get_main_option)

    def option(key: str) -> str | None:
        value = get(key)
        return None if value is None else str(value)

    return option


def _repeat(context: MigrationContext, run_lock: RunLock, migrate: Callable[[], None]) -> None:
    tries = 0
    if _runs_steps(context):
        if _has_nothing_to_do(context, run_lock, migrate):
            return
        _start(context, run_lock)
    while True:
        try:
            migrate()
            return
        except run_locks.Unlocked:
            _start(context, run_lock)
            continue
        except run_locks.Repair:
            if not context._in_external_transaction:
                _rewind(context)
                run_lock.again()
            else:
                run_lock.drop_here()
            continue
        except run_locks.Moved:
            lock.say(
                "info",
                "Another run has changed the database meanwhile: determining the steps again.",
            )
            _rewind(context)
        except sqlalchemy.exc.DBAPIError as error:
            repeatable = not context._in_external_transaction and run_lock.may_repeat(error)
            if tries >= run_lock.limits.retries or not repeatable:
                raise
            _rewind(context)
            tries += 1
            what = str(error.orig).strip().splitlines()[0]
            lock.say("warning", f"{what}. Repeating, {tries} of {run_lock.limits.retries}.")
            run_lock.pause(tries)
        run_lock.again()


# Engines whose last run had nothing to do. A program that runs once per tenant first looks without
# the lock, and takes it only if there is something to do.
_at_head: WeakSet[Engine] = WeakSet()


def _has_nothing_to_do(
    context: MigrationContext, run_lock: RunLock, migrate: Callable[[], None]
) -> bool:
    """Call `migrate` without the lock if there may be nothing to do. False: there was, and no step
    ran.
    """
    engine, opts = run_lock.connection.engine, context.opts
    if engine not in _at_head:
        return False
    context.opts = {**opts, "dont_mutate": True}
    try:
        migrate()
    except run_locks.Unlocked:
        if not context._in_external_transaction:
            _rewind(context)  # its snapshot is from before the lock
        return False
    finally:
        context.opts = opts
    return bool(run_lock.planned)  # else the version table may have to be created


def _start(context: MigrationContext, run_lock: RunLock) -> None:
    run_lock.start()
    if run_lock.held_here is not None:
        # This run may only continue if it has nothing to do; creating the version table is
        # something.
        context.opts = {**context.opts, "dont_mutate": True}


def _rewind(context: MigrationContext) -> None:
    """Roll the open transaction back, and begin the next one in the same way as the project did."""
    connection = context.connection
    assert connection is not None
    outer = context._transaction is not None and not context._transaction_per_migration
    if context._transaction is not None:
        if context._transaction.is_active:  # else its COMMIT failed, and rolled it back
            context._transaction.rollback()
        context._transaction = None
    elif connection.in_transaction():
        connection.rollback()
    if outer:
        context._transaction = connection.begin()


def run_lock_of(context: MigrationContext) -> RunLock | None:
    """The lock of the run in `context`, if there is one."""
    found: RunLock | None = getattr(context, "_migrate_ext_run_lock", None)
    return found


# -------------------------------------------------------------------------------------------------
# Hooks; `original` is Alembic's own


def begin_transaction(
    original: Callable[..., Any], context: MigrationContext, per_migration: bool
) -> Any:
    transaction = original(context, per_migration)
    run_lock = run_lock_of(context)
    if run_lock is not None and per_migration and isinstance(transaction, _ProxyTransaction):
        run_lock.opened(in_batch=True)
    return transaction


@contextmanager
def lock_in_batches(
    context: MigrationContext, submit: Callable[[str, str], bool]
) -> Iterator[None]:
    """Within this block the lock's queries may be sent in batches with the statements of
    migrations.

    submit: see :attr:`migrate_ext.locking.run_lock.RunLock.submit`.
    """
    run_lock = run_lock_of(context)
    if run_lock is None:
        yield
        return
    run_lock.submit = submit
    try:
        yield
    finally:
        run_lock.submit = None


@contextmanager
def lock_retaken(run_lock: RunLock | None) -> Iterator[None]:
    """Around the batch that precedes a COMMIT: its last statement takes the lock for the session
    again.
    """
    if run_lock is not None:
        run_lock.retake_in_batch()
    try:
        yield
    except sqlalchemy.exc.DBAPIError:  # the server skips all statements after an error
        if run_lock is not None:
            run_lock.is_retaken = False
        raise


@contextmanager
def autocommit_block(
    original: Callable[..., Any], context: MigrationContext, isolation: str | None
) -> Iterator[None]:
    """isolation: what the connection would answer when Alembic asks for its isolation level; None:
    the server must be asked.
    """
    run_lock = run_lock_of(context)
    if run_lock is None or not run_lock.started:
        with original(context):
            yield
        return
    run_lock.needs_session("an autocommit block")
    connection = run_lock.connection
    if isolation is not None:
        connection.__dict__["get_isolation_level"] = lambda: isolation
    try:
        with original(context):
            connection.__dict__.pop("get_isolation_level", None)
            run_lock.limit_session()
            try:
                yield
            finally:
                run_lock.unlimited()
    finally:
        connection.__dict__.pop("get_isolation_level", None)
    run_lock.opened(in_batch=True)


def update_to_step(maintainer: HeadMaintainer) -> None:
    """Runs after Alembic's own method of this name."""
    run_lock = run_lock_of(maintainer.context)
    if run_lock is not None:
        run_lock.stepped(maintainer.heads)


def end_transaction(
    original: Callable[..., Any], proxy: _ProxyTransaction, type_: Any, value: Any, traceback: Any
) -> None:
    """``_ProxyTransaction.__exit__``. If the result of COMMIT is lost, checks whether it was done."""
    run_lock = run_lock_of(proxy.migration_context)
    if type_ is None and run_lock is not None and run_lock.done and not run_lock.started:
        run_lock.committing = list(run_lock.done)  # the run is over, except for this COMMIT
    if run_lock is None:
        original(proxy, type_, value, traceback)
        return
    try:
        with _terminable(run_lock.connection):
            original(proxy, type_, value, traceback)
    except BaseException as error:
        _look_for_commit(run_lock, error)
        if isinstance(error, outcome.Terminated) and not run_lock.started:
            raise outcome.ended(error, run_lock.outcome()) from error
        if run_lock.is_refused and not run_lock.started:
            outcome.tell(error, run_lock.outcome())
        raise
    run_lock.confirmed()


def _look_for_commit(run_lock: RunLock, error: BaseException) -> None:
    """If a COMMIT was in flight when `error` was raised, determine its outcome and report it."""
    if run_lock.committing is None:
        return
    lost = isinstance(error, sqlalchemy.exc.DBAPIError) and (
        error.connection_invalidated
        or run_lock.raw.status == "lost"
        or is_session_end(driver_errors.sqlstate(error))
    )
    in_doubt = lost or not isinstance(error, Exception)  # or interrupted, or cancelled
    if in_doubt or run_lock.is_mixed:
        if not run_lock.connection.closed:
            run_lock.connection.invalidate()  # its session may still hold the lock
        expected = run_lock.planned or frozenset()
        text, committed = outcome.in_doubt(
            error,
            expected,
            lambda: _heads_after(run_lock),
            run_lock.step_name if run_lock.in_body else None,
            "" if in_doubt else "A COMMIT was among the statements of the string that failed",
        )
        outcome.tell(error, text)
        if committed:
            run_lock.confirmed()
    elif isinstance(error, sqlalchemy.exc.DBAPIError):
        run_lock.is_refused = True
    else:
        run_lock.confirmed()
    run_lock.committing = None


def _heads_after(run_lock: RunLock) -> frozenset[Any]:
    with run_lock.connection.engine.connect() as connection:
        raw = raw_connection_of(connection)
        assert not isinstance(raw, str)
        try:
            exists = outcome.wait_for_end(raw.ask, run_lock.table, run_lock.schema)
            return (
                frozenset(row[0] for row in raw.ask(run_lock.heads_sql)) if exists else frozenset()
            )
        finally:
            raw.close()
