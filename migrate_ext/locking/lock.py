"""The lock of a run of migrations: an advisory lock of PostgreSQL, polled, never waited for inside
the server.

The questions are C's (``csrc/pq/lock.h`` says how the key is made); here is when they are asked.
:mod:`migrate_ext.locking.run_lock` holds the lock around Alembic's run, :func:`begin` in a transaction of our
own session.
"""

from __future__ import annotations

import _thread
import random
import sys
import time
from _weakref import ref  # weakref costs its import
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

_FIRST_WAIT, _LONGEST_WAIT = 0.02, 0.4  # seconds between two questions
_SAY_AGAIN = 30.0  # seconds until a waiter says again for whom it waits


class Tried(NamedTuple):
    """The answer to a try. ``had``: None where a pooler shares the session with others.

    ``exists``: the version table does.
    """

    key: int
    had: bool | None
    isolation: str
    exists: bool


def try_lock(
    ask: Ask, table: str, schema: str | None, *, for_session: bool, backend_pid: int = 0
) -> Tried:
    """Try once. ask: runs one statement and gives its rows as texts. backend_pid: see lock.h.

    Raises :class:`~migrate_ext.errors.CommandError` when what has the version table's name cannot
    be one.
    """
    return tried(ask(_core.lock_sql_try(table, schema, for_session, backend_pid))[0], table, schema)


def tried(row: tuple[str | None, ...], table: str, schema: str | None) -> Tried:
    """What the first values of a row say, which is the answer. Raises CommandError as above."""
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
    """An expression that makes the session's lock the open transaction's. Its value: true; false
    where the session had lost it, and nobody else had it; NULL where another has it.
    """
    return (
        f"CASE WHEN pg_catalog.pg_try_advisory_xact_lock({key}) "
        f"THEN pg_catalog.pg_advisory_unlock({key}) END"
    )


def retake(key: int) -> str:
    """An expression that gives the session the lock that the transaction has: true."""
    return f"pg_catalog.pg_try_advisory_lock({key})"


def refused(limits: Limits, reason: str) -> None:
    """The role may not take the lock: go on without, unless the settings ask for one.

    reason: what the server said. Raises CommandError.
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
# The locks of this process. A transaction that keeps one after the run may be its own program's, so
# that a wait for it would be for ever.


class HeldHere(CommandError):
    """Another connection of this thread has the lock."""


_kept: dict[int, tuple[tuple[int, int], ref[object]]] = {}


def keep(backend_pid: int, connection: object) -> None:
    """The driver's `connection` has a lock; to be forgotten with it."""
    _kept[backend_pid] = _who(), ref(connection)


def _is_kept_here(backend_pid: int) -> bool:
    who, connection = _kept.get(backend_pid, (None, lambda: None))
    found: Any = connection()
    if found is None or who != _who():
        return False
    return not (found.is_closed() if hasattr(found, "is_closed") else found.closed)


def _who() -> tuple[int, int]:
    """The thread, and the asyncio task, that runs: what would have to go on to end a transaction."""
    asyncio, task = sys.modules.get("asyncio"), None
    if asyncio is not None:
        try:
            task = asyncio.current_task()
        except RuntimeError:  # no event loop runs
            pass
    return _thread.get_ident(), id(task)


class Waiting:
    """A wait for another run: says for whom, once and then rarely, and gives up when told to.

    ask: as above, asked for the holders. sleep: what waits that many seconds.
    """

    def __init__(self, limits: Limits, ask: Ask, sleep: Callable[[float], None] = time.sleep):
        self.limits = limits
        self.ask = ask
        self.sleep = sleep
        self.started = time.monotonic()
        self.said: float | None = None
        self.pause = _FIRST_WAIT

    def again(self, key: int) -> None:
        """Until the next try. Raises CommandError when ``lock_timeout`` is over, and
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
    """Begin a transaction of our own session that has the lock until it ends; its isolation is READ
    COMMITTED, for a snapshot from before the lock would show rows that are no more.

    as_configured: or, where the database or the role says otherwise, begin none and return False.
    Raises CommandError as :func:`try_lock` and :class:`Waiting` do.
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
        session.rollback()  # nothing of ours may be open while we wait
        waiting.again(tried.key)


def hold(session: _core.Session, table: str, schema: str | None, limits: Limits) -> int | None:
    """Take the lock for our own session; its key, 0 where the role may have none, None behind a
    pooler that shares the session.

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


# The server is to ask a silent client as we ask it, where it would ask more rarely.
KEEPALIVES = {
    f"tcp_{name}": value
    for name, value in libpq.CONNECTION.items()
    if name.startswith("keepalives_")
}


def end_with_us(local: str) -> str:
    """An expression that lets a server on Linux end, some seconds after our death, what it does for
    us (PostgreSQL 14 and newer), and, a minute after our line went silent, a transaction in which it
    waits for us. local: ``true`` for the transaction only.
    """
    keep = ", ".join(
        f"pg_catalog.set_config('{name}', '{value}', {local})" for name, value in KEEPALIVES.items()
    )
    return (
        "CASE WHEN pg_catalog.version() ~ 'linux' THEN pg_catalog.concat("
        "CASE WHEN pg_catalog.current_setting('client_connection_check_interval', true) = '0' "
        f"THEN pg_catalog.set_config('client_connection_check_interval', '5000', {local}) END, "
        # The server says what is in force; 0 is no TCP.
        "CASE WHEN pg_catalog.current_setting('tcp_keepalives_idle')::int "
        f"> {KEEPALIVES['tcp_keepalives_idle']} THEN pg_catalog.concat({keep}) END) END"
    )


def say(level: str, text: str) -> None:
    """Log where Alembic logs; on stderr where nobody has set logging up, for nobody would see it.

    level: ``info``, ``warning`` or ``error``; an ``info`` is not worth stderr.
    """
    import logging  # few runs have anything to say

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
