"""The seam to the transactions of Alembic's ``MigrationContext``: where the lock is taken and given
back, what is repeated, and what is told of a run that failed.

Touches private names of ``alembic/runtime/migration.py`` (read in 1.13 and 1.20.1).
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import alembic.util
import sqlalchemy
from alembic.runtime.migration import HeadMaintainer, MigrationContext, _ProxyTransaction
from sqlalchemy.engine import Connection

from migrate_ext import guard as guards
from migrate_ext import limits as limiting
from migrate_ext import lock
from migrate_ext.errors import CommandError
from migrate_ext.guard import Guard

_CHECK_SECONDS = 10.0  # for the end of a transaction whose COMMIT is in doubt
_said: set[str] = set()


def run(context: MigrationContext, migrate: Callable[[], None]) -> None:
    """Do `migrate`, which is Alembic's loop in `context`, under the lock and within the limits."""
    guard = _guard_for(context)
    if guard is None:
        migrate()
        return
    find = context._migrations_fn
    assert find is not None
    listeners = has_listeners(context)
    context._migrations_fn = guard.steps(find)
    context._migrate_ext_listeners = listeners  # type: ignore[attr-defined]
    context._migrate_ext_guard = guard  # type: ignore[attr-defined]
    try:
        with _terminable():
            _repeat(context, guard, migrate)
    except Terminated as error:
        ended = SystemExit(128 + signal.SIGTERM)
        text = "Terminated by SIGTERM: the open transaction is rolled back. "
        _tell(ended, text + guard.outcome())
        raise ended from error
    except CommandError as error:
        told = alembic.util.CommandError(str(error))
        _tell(told, guard.outcome())
        raise told from error
    except BaseException as error:
        _tell(error, guard.outcome())
        raise
    finally:
        context._migrations_fn = find
        try:
            guard.finish()
        finally:
            guard.line.close()
            guard.connection._has_events = listeners
            del context._migrate_ext_listeners  # type: ignore[attr-defined]


class Terminated(KeyboardInterrupt):
    """SIGTERM; as for Ctrl-C, drivers cancel the running statement on the server."""


@contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM unwinds the run, so that the server stops working for it, and is not fatal at once."""
    mine = threading.current_thread() is threading.main_thread()
    if not mine or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return

    def terminate(*_: Any) -> None:
        raise Terminated

    signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def has_listeners(context: MigrationContext) -> bool:
    """Whether the project listens to events of the connection; our own listeners do not count."""
    found: bool = getattr(
        context,
        "_migrate_ext_listeners",
        context.connection._has_events,  # type: ignore[union-attr]
    )
    return found


def _guard_for(context: MigrationContext) -> Guard | None:
    connection = context.connection
    if context.as_sql or not isinstance(connection, Connection):
        return None
    try:
        limits = limiting.read(_option_of(context))
    except CommandError as error:
        raise alembic.util.CommandError(str(error)) from error
    line: guards.Line | str
    if connection.dialect.name != "postgresql":
        line = connection.dialect.name
    else:
        line = guards.line_of(connection)
    if isinstance(line, str):
        if limits.lock and _runs_steps(context) and line not in _said:
            _said.add(line)
            lock.say("info", f"No lock against other runs on {line}.")
        return None
    heads = sqlalchemy.select(context._version.c.version_num)
    return Guard(
        connection,
        line,
        limits,
        context.version_table,
        context.version_table_schema,
        str(heads.compile(dialect=connection.dialect)),
    )


def _runs_steps(context: MigrationContext) -> bool:
    """Whether the command is one that runs migrations or stamps: not ``current``, ``history``,
    ``show``, ``check`` or autogenerate. A program's own function may be; it is not asked.
    """
    opts = context.opts
    if "destination_rev" in opts:
        return True
    looks = opts.get("dont_mutate") or opts.get("revision_context") is not None
    return not looks and getattr(opts.get("fn"), "__module__", None) != "alembic.command"


def _option_of(context: MigrationContext) -> Callable[[str], str | None]:
    config = getattr(context.environment_context, "config", None)
    if config is None:
        return lambda _: None
    get = getattr(config, "get_alembic_option", config.get_main_option)

    def option(key: str) -> str | None:
        value = get(key)
        return None if value is None else str(value)

    return option


def _repeat(context: MigrationContext, guard: Guard, migrate: Callable[[], None]) -> None:
    tries = 0
    if _runs_steps(context):
        guard.start()
    while True:
        try:
            migrate()
            return
        except guards.Unlocked:
            guard.start()
            continue
        except guards.Repair:
            if not context._in_external_transaction:
                _rewind(context)
                guard.again()
            else:
                guard.drop_here()
            continue
        except guards.Moved:
            lock.say("info", "The database has moved meanwhile: planning again.")
            _rewind(context)
        except sqlalchemy.exc.DBAPIError as error:
            repeatable = not context._in_external_transaction and guard.may_repeat(error)
            if tries >= guard.limits.retries or not repeatable:
                raise
            _rewind(context)
            tries += 1
            what = str(error.orig).strip().splitlines()[0]
            lock.say("warning", f"{what}. Repeating, {tries} of {guard.limits.retries}.")
            guard.pause(tries)
        guard.again()


def _rewind(context: MigrationContext) -> None:
    """Roll the open transaction back, and begin the next as the project had begun it."""
    connection = context.connection
    assert connection is not None
    outer = context._transaction is not None and not context._transaction_per_migration
    if context._transaction is not None:
        context._transaction.rollback()
        context._transaction = None
    elif connection.in_transaction():
        connection.rollback()
    if outer:
        context._transaction = connection.begin()


def guard_of(context: MigrationContext) -> Guard | None:
    """What holds the lock around the run in `context`, if anything does."""
    found: Guard | None = getattr(context, "_migrate_ext_guard", None)
    return found


# -------------------------------------------------------------------------------------------------
# Hooks; `original` is Alembic's own


def begin_transaction(
    original: Callable[..., Any], context: MigrationContext, per_migration: bool
) -> Any:
    transaction = original(context, per_migration)
    guard = guard_of(context)
    if guard is not None and per_migration and isinstance(transaction, _ProxyTransaction):
        guard.opened(in_batch=True)
    return transaction


@contextmanager
def lock_in_batches(
    context: MigrationContext, submit: Callable[[str, str], bool]
) -> Iterator[None]:
    """Within this block the lock's questions may ride with the statements of migrations.

    submit: see :attr:`migrate_ext.guard.Guard.submit`.
    """
    guard = guard_of(context)
    if guard is None:
        yield
        return
    guard.submit = submit
    try:
        yield
    finally:
        guard.submit = None


@contextmanager
def lock_retaken(guard: Guard | None) -> Iterator[None]:
    """Around the sending of what precedes a COMMIT: the session takes the lock again at its end."""
    if guard is not None:
        guard.retake_in_batch()
    try:
        yield
    except Exception:
        if guard is not None:
            guard.is_retaken = False
        raise


@contextmanager
def autocommit_block(original: Callable[..., Any], context: MigrationContext) -> Iterator[None]:
    guard = guard_of(context)
    if guard is None or not guard.started:
        with original(context):
            yield
        return
    guard.autocommit()
    with original(context):
        guard.limit_session()
        try:
            yield
        finally:
            guard.unlimited()
    guard.opened()


def update_to_step(maintainer: HeadMaintainer) -> None:
    """After Alembic's own of this name."""
    guard = guard_of(maintainer.context)
    if guard is not None:
        guard.stepped(maintainer.heads)


def end_transaction(
    original: Callable[..., Any], proxy: _ProxyTransaction, type_: Any, value: Any, traceback: Any
) -> None:
    """``_ProxyTransaction.__exit__``: a COMMIT whose answer was lost is looked for."""
    try:
        original(proxy, type_, value, traceback)
    except Exception as error:
        guard = guard_of(proxy.migration_context)
        if type_ is None and guard is not None and _is_lost(error):
            _tell(error, _in_doubt(guard))
        raise


def _is_lost(error: BaseException) -> bool:
    return isinstance(error, sqlalchemy.exc.DBAPIError) and error.connection_invalidated


def _in_doubt(guard: Guard) -> str:
    """What became of a COMMIT that was sent and not answered."""
    said = "The connection was lost while COMMIT was on its way, so its outcome is in doubt. "
    expected = guard.planned or frozenset()
    try:
        rows = _heads_after(guard)
    except Exception as error:
        reason = str(getattr(error, "orig", error)).strip().splitlines()[0]
        return (
            said + f"It could not be checked ({reason}): 'current' tells, once it can be reached."
        )
    place = ", ".join(sorted(str(row) for row in rows)) or "base"
    if rows == expected:
        return said + f"Checked on a new connection: it was committed; the database is at {place}."
    return (
        said + f"Checked on a new connection: it was not committed; the database is at {place}. "
        "The same command goes on from there."
    )


def _heads_after(guard: Guard) -> frozenset[Any]:
    """The version rows, once the transaction in doubt is over: it has the lock until then."""
    limits = limiting.Limits()
    limits.lock_timeout = _CHECK_SECONDS
    with guard.connection.engine.connect() as connection:
        line = guards.line_of(connection)
        assert not isinstance(line, str)
        try:
            waiting = lock.Waiting(limits, line.ask, line.sleep)
            while True:
                tried = lock.try_lock(line.ask, guard.table, guard.schema, for_session=False)
                if tried.had:
                    break
                waiting.again(tried.key)
            rows = line.ask(guard.heads_sql) if tried.exists else []
            return frozenset(row[0] for row in rows)
        finally:
            line.close()


def _tell(error: BaseException, text: str) -> None:
    """Log what is to be known of a failed run, and note it at the error."""
    if not text:
        return
    lock.say("error", text)
    error.__dict__["migration_outcome"] = text
    if sys.version_info >= (3, 11):
        error.add_note(f"[migrate_ext: {text}]")
