"""Lease of the driver's connection: other code cannot use it while statements are in flight."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import sqlalchemy
from sqlalchemy.engine import Connection

from migrate_ext import counters
from migrate_ext.dropin import foreign, transactions
from migrate_ext.execution.executor import Executor
from migrate_ext.locking.run_lock import RunLock


class ConnectionLease:
    """Keeps other code from using the driver's connection while statements are in flight on it.

    Every use of the driver through SQLAlchemy's connection reads its ``_dbapi_connection``, and
    calls ``_revalidate_connection`` if that is None. This class also counts statements.
    """

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.proxied = connection.connection
        self.executor: Executor | None = None
        self.run_lock: RunLock | None = None
        self.execute: Callable[..., Any] | None = None
        self.has_read: Callable[[Any], None] = lambda result: None
        self.captures = False  # SQLAlchemy is only asked what it would give to the driver

    def __enter__(self) -> None:
        if self.execute is not None and "execute" not in self.connection.__dict__:
            self.connection.__dict__["execute"] = self.execute
        self.commit = self.connection.__dict__.get("_commit_impl")  # set by the lock, or None
        self.connection.__dict__.update(
            _revalidate_connection=self._revalidate,
            _execute_context=self._execute_context,
            _commit_impl=self._commit,
        )

    def __exit__(self, *_: object) -> None:
        for name in ("_revalidate_connection", "_execute_context", "_commit_impl"):
            del self.connection.__dict__[name]
        if self.commit is not None:
            self.connection.__dict__["_commit_impl"] = self.commit
        if self.connection.__dict__.get("execute") == self.execute:
            self.connection.__dict__.pop("execute", None)

    def take(self) -> None:
        self.connection._dbapi_connection = None

    def give_back(self) -> None:
        self.connection._dbapi_connection = self.proxied

    def is_open(self) -> bool:
        connection = self.connection
        transaction = connection._transaction
        return (
            connection._dbapi_connection is self.proxied
            and transaction is not None
            and transaction.is_active
            and connection._nested_transaction is None
        )

    def _sync(self) -> bool:
        if self.executor is None or not self.executor.pending:
            return False
        self.executor.sync()
        return True

    def _revalidate(self) -> Any:
        if self._sync():
            return self.proxied
        return Connection._revalidate_connection(self.connection)

    def captured(self, construct: Any, given: dict[str, Any]) -> tuple[str, dict[str, Any]] | None:
        """The text and the parameters that SQLAlchemy would give to the driver's cursor; None if it would
        do anything else, or fail. Sends nothing.
        """
        connection = self.connection
        options: Any = sqlalchemy.util.immutabledict()
        has_events, connection._has_events = connection._has_events, False
        self.captures = True
        try:
            # (text, parameters), from _capture
            found: Any = Connection._execute_clauseelement(
                connection, construct, [given] if given else [], options
            )
            return found  # type: ignore[no-any-return]
        except Exception:  # which the driver's way will raise in its place
            return None
        finally:
            self.captures = False
            connection._has_events = has_events

    def _capture(
        self,
        dialect: Any,
        constructor: Any,
        statement: Any,
        parameters: Any,
        options: Any,
        *args: Any,
        **kw: Any,
    ) -> tuple[str, dict[str, Any]] | None:
        context = constructor(dialect, self.connection, self.proxied, options, *args, **kw)
        try:
            if context.executemany or context.no_parameters or len(context.parameters) != 1:
                return None
            if context.compiled.effective_returning:
                return None
            context.pre_exec()
            return context.statement, context.parameters[0]
        finally:
            context.cursor.close()

    def _execute_context(self, *args: Any, **kw: Any) -> Any:
        if self.captures:
            return self._capture(*args, **kw)
        executor = self.executor
        if executor is not None:
            executor.sync_for_commit()  # the statement may be a COMMIT
        counters.plain_statements += 1
        # The driver sends its BEGIN first, and waits for the result.
        begins = executor is not None and not executor.session.in_transaction
        counters.plain_waits += 2 if begins and not self._is_autocommit() else 1
        if executor is None or executor.times is None:
            result = Connection._execute_context(self.connection, *args, **kw)
            self.has_read(result)
            return result
        began = time.perf_counter()
        result = Connection._execute_context(self.connection, *args, **kw)
        self.has_read(result)
        place = executor.place
        executor.times.add(
            time.perf_counter() - began,
            str(result.context.statement),
            place.note(None, None) if place is not None else "",
        )
        return result

    def _commit(self) -> None:
        if self.executor is not None:
            try:
                in_flight = self.executor.pending
                with transactions.lock_retaken(self.run_lock) if in_flight else nullcontext():
                    self.executor.sync_for_commit()
            except Exception:
                # SQLAlchemy assumes that a failed COMMIT ended the transaction.
                Connection._rollback_impl(self.connection)
                raise
        counters.plain_waits += 1
        if self.commit is not None:
            self.commit()
        else:
            Connection._commit_impl(self.connection)

    def _is_autocommit(self) -> bool:
        return bool(getattr(self.proxied.dbapi_connection, "autocommit", False))


foreign.stand_ins.add(ConnectionLease)


# As in run.py: SQLAlchemy's warnings are about the migration's line.
__name__ = "sqlalchemy.migrate_ext"
