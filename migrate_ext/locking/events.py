"""SQLAlchemy's events of one connection, passed on to a watcher."""

from __future__ import annotations

from typing import Any, Protocol

from sqlalchemy import event
from sqlalchemy.engine import Connection


class Watcher(Protocol):
    """Methods that are called for a connection's events."""

    def at_begin(self) -> None: ...

    def at_commit(self) -> None: ...

    def at_rollback(self) -> None: ...

    def before_statement(self, statement: Any) -> None: ...

    def after_statement(self, statement: Any) -> None: ...


class Events:
    """Passes SQLAlchemy's events of one connection on to the lock of the current run.

    Registered once per connection, because that takes as long as a query. The run enables and
    disables them with the connection's ``_has_events``.
    """

    def __init__(self, connection: Connection) -> None:
        self.watcher: Watcher | None = None
        event.listen(connection, "begin", self._begin)
        event.listen(connection, "commit", self._commit)
        event.listen(connection, "rollback", self._rollback)
        event.listen(connection, "before_cursor_execute", self._before_cursor_execute, retval=True)
        event.listen(connection, "after_cursor_execute", self._after_cursor_execute)

    @classmethod
    def of(cls, connection: Connection) -> Events:
        found: Events | None = vars(connection).get("_migrate_ext_events")
        if found is None:
            listened = connection._has_events
            found = vars(connection)["_migrate_ext_events"] = cls(connection)
            connection._has_events = listened
        return found

    def _begin(self, _: Connection) -> None:
        if self.watcher is not None:
            self.watcher.at_begin()

    def _commit(self, _: Connection) -> None:
        if self.watcher is not None:
            self.watcher.at_commit()

    def _rollback(self, _: Connection) -> None:
        if self.watcher is not None:
            self.watcher.at_rollback()

    def _before_cursor_execute(
        self, _: Connection, cursor: Any, statement: Any, parameters: Any, context: Any, many: bool
    ) -> tuple[Any, Any]:
        if self.watcher is not None:
            self.watcher.before_statement(statement)
        return statement, parameters

    def _after_cursor_execute(
        self, _: Connection, cursor: Any, statement: Any, parameters: Any, context: Any, many: bool
    ) -> None:
        if self.watcher is not None:
            self.watcher.after_statement(statement)
