"""Warns of migrations that finished but were not committed.

Alembic commits only a transaction that it has begun. If ``env.py`` has begun it, by executing
something before ``context.configure()``, or if a migration has called ``commit()``, the run ends
with exit code 0, and closing the connection rolls it back.
"""

from __future__ import annotations

import atexit
import sys
from weakref import WeakSet

from sqlalchemy.engine import Connection, RootTransaction

from migrate_ext.locking import lock, outcome

BY_ENV_PY = (
    "env.py has begun the transaction before context.configure(), so that its COMMIT is left to "
    "env.py. Call connection.commit() after context.run_migrations(), or execute nothing before "
    "context.configure()"
)
BY_A_MIGRATION = (
    "a migration has ended Alembic's transaction with a commit() or rollback() of its own, and "
    "nobody commits the one that came after it. Use op.get_context().autocommit_block() there"
)


def watch(connection: Connection, revisions: list[str], cause: str) -> None:
    """Warn if `connection` is closed while the transaction that is open now is still open.

    revisions: those that ran in it. cause: one of the two texts above.
    """
    transaction = connection.get_transaction()
    if not revisions or transaction is None or not transaction.is_active:
        return
    found = connection.__dict__.get("close")
    before = getattr(found, "__self__", None)
    if isinstance(before, _Watch) and before.transaction is transaction:
        before.revisions += revisions
        return
    made = _Watch(connection, transaction, revisions, cause)
    connection.__dict__["close"] = made.close
    if not _watched:
        atexit.register(_at_exit)
    _watched.add(made)


class _Watch:
    def __init__(
        self, connection: Connection, transaction: RootTransaction, revisions: list[str], cause: str
    ) -> None:
        self.connection = connection
        self.transaction = transaction
        self.revisions = revisions
        self.cause = cause

    def close(self) -> None:
        """Replaces the connection's method."""
        is_open = self.is_open()
        del self.connection.__dict__["close"]
        self.connection.close()
        if is_open and sys.exc_info()[0] is None:  # else the program reports an error
            self.warn()

    def is_open(self) -> bool:
        return self.connection.get_transaction() is self.transaction and self.transaction.is_active

    def warn(self) -> None:
        which = outcome.some(self.revisions)
        lock.say("warning", f"Rolled back, and not committed: {which}, because {self.cause}.")


_watched: WeakSet[_Watch] = WeakSet()  # each is kept alive by its connection's attribute `close`


def _at_exit() -> None:
    for found in list(_watched):
        if found.connection.__dict__.get("close") == found.close and found.is_open():
            found.warn()
