"""The lock of a run of migrations: a PostgreSQL advisory lock, polled by the client, so that no
session waits inside the server.

The queries are built in C (``csrc/pq/lock.h`` describes the key); this module decides when to send
them. :mod:`migrate_ext.locking.run_lock` holds the lock around Alembic's run, :func:`begin` in a
transaction of our own session.
"""

from __future__ import annotations

import _thread
import random
import sys
import time
from _weakref import ref  # saves the import of weakref
from collections.abc import Callable
from typing import Any, NamedTuple

from migrate_ext import _core
from migrate_ext.errors import CommandError, ServerError, no_version_table, primary_message
from migrate_ext.execution import libpq
from migrate_ext.locking.limits import Limits

Ask = Callable[[str], list[tuple[str | None, ...]]]

LOST = "the lock of this run was lost, and another run has changed the database or is about to; "
LOST += "nothing more was done"
NOT_ALLOWED = "42501"  # SQLSTATE: no EXECUTE on the functions
YES = ("t", "true")

_FIRST_WAIT, _LONGEST_WAIT = 0.02, 0.4  # seconds between two tries
_SAY_AGAIN = 30.0  # seconds until a waiting run logs the holder again


class Tried(NamedTuple):
    """The result of a try. ``had``: whether the lock was taken. ``exists``: the version table does.

    ``had`` is None if the lock was not tried, because a pooler shares the session.
    """

    key: int
    had: bool | None
    isolation: str
    exists: bool


def try_lock(
    ask: Ask, table: str, schema: str | None, *, for_session: bool, backend_pid: int = 0
) -> Tried:
    """Try once. ask: runs one statement and returns its rows as texts. backend_pid: see lock.h.

    Raises :class:`~migrate_ext.errors.CommandError` if the relation with the version table's name
    cannot be a version table.
    """
    return tried(ask(_core.lock_sql_try(table, schema, for_session, backend_pid))[0], table, schema)


def tried(row: tuple[str | None, ...], table: str, schema: str | None) -> Tried:
    """The result in the first columns of a row. Raises as :func:`try_lock` does."""
    key, had, isolation, kind, *_ = row
    if kind not in ("table", "missing"):
        name = f"{schema}.{table}" if schema else table
        raise CommandError(no_version_table(name, f"has {kind}"))
    return Tried(
        int(key or 0),
        None if had is None else had in YES,
        isolation or "",
        kind == "table",
    )


def promote(key: int) -> str:
    """An SQL expression that moves the lock from the session to the open transaction. Its value:
    true; false if the session had lost the lock and no other session held it; NULL if another one
    holds it.
    """
    return (
        f"CASE WHEN pg_catalog.pg_try_advisory_xact_lock({key}) "
        f"THEN pg_catalog.pg_advisory_unlock({key}) END"
    )


def retake(key: int) -> str:
    """An SQL expression, true, that takes the transaction's lock for the session, too."""
    return f"pg_catalog.pg_try_advisory_lock({key})"


def refused(limits: Limits, reason: str) -> None:
    """The role may not take the lock: continue without it, and log that once.

    reason: the server's message. Raises CommandError if the settings require the lock.
    """
    if limits.lock_is_required:
        raise CommandError(
            f"no lock against other runs: {reason}. GRANT EXECUTE on PostgreSQL's advisory lock "
            "functions, or give no migrate_ext_lock (MIGRATE_EXT_LOCK)"
        )
    limits.lock = False
    if not _said_refused:
        _said_refused.append(reason)
        say("warning", f"No lock against other runs: {reason}.")


_said_refused: list[str] = []


# -------------------------------------------------------------------------------------------------
# Locks held by this process. A transaction may keep one after its run. If the code that would end
# that transaction is the code that waits for the lock, it would wait forever.


class HeldHere(CommandError):
    """Another connection of this thread holds the lock."""


_kept: dict[int, tuple[tuple[int, int], ref[object]]] = {}


def keep(backend_pid: int, connection: object) -> None:
    """Record that the driver's `connection` holds a lock, by a weak reference."""
    _kept[backend_pid] = _who(), ref(connection)


def _is_kept_here(backend_pid: int) -> bool:
    who, connection = _kept.get(backend_pid, (None, lambda: None))
    found: Any = connection()
    if found is None or who != _who():
        return False
    return not (found.is_closed() if hasattr(found, "is_closed") else found.closed)


def _who() -> tuple[int, int]:
    """The current thread and asyncio task, which cannot end a transaction while they wait."""
    asyncio, task = sys.modules.get("asyncio"), None
    if asyncio is not None:
        try:
            task = asyncio.current_task()
        except RuntimeError:  # no event loop runs
            pass
    return _thread.get_ident(), id(task)


class Waiting:
    """Waits for another run: logs which session holds the lock, at first and then rarely, and gives
    up after ``lock_timeout``.

    ask: as for :func:`try_lock`; it queries the holders. sleep: waits a number of seconds.
    """

    def __init__(self, limits: Limits, ask: Ask, sleep: Callable[[float], None] = time.sleep):
        self.limits = limits
        self.ask = ask
        self.sleep = sleep
        self.started = time.monotonic()
        self.said: float | None = None
        self.pause = _FIRST_WAIT

    def again(self, key: int) -> None:
        """Wait until the next try. Raises CommandError after ``lock_timeout``, and
        :class:`HeldHere`.
        """
        waited = time.monotonic() - self.started
        timeout = self.limits.lock_timeout
        if timeout is not None and waited >= timeout:
            raise CommandError(
                f"another run of migrations has the lock of this database: {self._holders(key)}. "
                f"Gave up after {waited:.1f} s (lock_timeout); nothing was changed"
            )
        if self.said is None or waited - self.said >= _SAY_AGAIN:
            holders = self._holders(key)
            if holders:
                say("warning", f"Waiting for another run of migrations: {holders}")
                self.said = waited
        pause = self.pause * random.uniform(0.5, 1.0)
        self.sleep(pause if timeout is None else min(pause, max(timeout - waited, 0.001)))
        self.pause = min(self.pause * 1.5, _LONGEST_WAIT)

    def _holders(self, key: int) -> str:
        rows = self.ask(_core.lock_sql_holders(key))
        for pid, *_ in rows:
            if _is_kept_here(int(pid or 0)):
                raise HeldHere(
                    "this program has the lock of this database itself, in a transaction that is "
                    f"open on another connection (pid {pid}), and would wait for itself. Commit "
                    "it first, or run on that connection, too"
                )
        return "; ".join(
            f"pid {pid}"
            + (f", application {name!r}" if name else "")
            + (f", since {since}" if since else "")
            for pid, name, since in rows
        )


def begin(
    session: _core.Session,
    table: str,
    schema: str | None,
    limits: Limits,
    *,
    as_configured: bool = False,
) -> bool:
    """Begin a transaction of our own session that holds the lock until it ends. Its isolation is
    READ COMMITTED: a snapshot that is older than the lock could show outdated rows.

    as_configured: do not set the isolation; if the default is another one, begin no transaction and
    return False. Raises CommandError as :func:`try_lock` and :class:`Waiting` do.
    """
    fresh = "" if as_configured else "SET TRANSACTION ISOLATION LEVEL READ COMMITTED; "
    fresh += f"SELECT {end_with_us('true')}; "
    waiting = Waiting(limits, session.query)
    while True:
        session.begin()
        if not limits.lock:
            return True
        try:
            tried = try_lock(
                lambda sql: session.query(fresh + sql), table, schema, for_session=False
            )
        except ServerError as error:
            if error.sqlstate != NOT_ALLOWED:
                raise
            session.rollback()
            refused(limits, primary_message(error))
            continue
        if as_configured and tried.isolation != "read committed":
            session.rollback()
            return False
        if tried.had:
            return True
        session.rollback()  # leave no transaction open while waiting
        waiting.again(tried.key)


def hold(session: _core.Session, table: str, schema: str | None, limits: Limits) -> int | None:
    """Take the lock for our own session. Returns its key; 0 if the role may not take it; None
    behind a pooler that shares the session.

    Raises CommandError as :func:`try_lock` and :class:`Waiting` do.
    """
    waiting = Waiting(limits, session.query)
    while True:
        pid = session.backend_pid
        try:
            tried = try_lock(session.query, table, schema, for_session=True, backend_pid=pid)
        except ServerError as error:
            if error.sqlstate != NOT_ALLOWED:
                raise
            refused(limits, primary_message(error))
            return 0
        if tried.had:
            session.query(f"SELECT {end_with_us('false')}")
        if tried.had is not False:
            return tried.key if tried.had else None
        waiting.again(tried.key)


# Keepalive settings for the server: those of the client, if the server's own are less frequent.
KEEPALIVES = {
    f"tcp_{name}": value
    for name, value in libpq.CONNECTION.items()
    if name.startswith("keepalives_")
}


def end_with_us(local: str) -> str:
    """An SQL expression that makes a server on Linux notice that this client is gone: some seconds
    after its death, while a statement runs (PostgreSQL 14 and newer); a minute after the network
    connection went silent, while a transaction is idle. local: ``true``: for the transaction only.
    """
    keep = ", ".join(
        f"pg_catalog.set_config('{name}', '{value}', {local})" for name, value in KEEPALIVES.items()
    )
    return (
        "CASE WHEN pg_catalog.version() ~ 'linux' THEN pg_catalog.concat("
        "CASE WHEN pg_catalog.current_setting('client_connection_check_interval', true) = '0' "
        f"THEN pg_catalog.set_config('client_connection_check_interval', '5000', {local}) END, "
        # current_setting gives the value in effect; 0: the connection is not TCP.
        "CASE WHEN pg_catalog.current_setting('tcp_keepalives_idle')::int "
        f"> {KEEPALIVES['tcp_keepalives_idle']} THEN pg_catalog.concat({keep}) END) END"
    )


def say(level: str, text: str) -> None:
    """Log to Alembic's logger; if it has no handler, print on stderr, so that the text is not lost.

    level: ``info``, ``warning`` or ``error``; an ``info`` is not printed on stderr.
    """
    import logging  # few runs log here

    from migrate_ext.project import logs

    logs.in_full()
    logger: logging.Logger | None = logging.getLogger("alembic.runtime.migration")
    assert logger is not None
    getattr(logger, level)("%s", text)
    while logger is not None:
        if any(not isinstance(handler, logging.NullHandler) for handler in logger.handlers):
            return
        logger = logger.parent if logger.propagate else None
    if level != "info" and sys.stderr is not None:
        print(text, file=sys.stderr, flush=True)
