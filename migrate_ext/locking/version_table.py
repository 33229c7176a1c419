"""The version table on a session of our own: its rows, and the transactions that change them."""

from __future__ import annotations

from migrate_ext import _core, errors
from migrate_ext.execution import libpq

TYPE_CHECKING = False  # saves the import of typing
if TYPE_CHECKING:
    from migrate_ext.locking.limits import Limits
    from migrate_ext.project.config import Config
    from migrate_ext.project.environment import Settings


class VersionTable:
    """The version table of a session, with the names that ``env.py`` configured.

    params: the connection parameters of the session.
    """

    def __init__(
        self,
        session: _core.Session,
        settings: Settings,
        config: Config,
        params: dict[str, str],
    ) -> None:
        self.session = session
        self.params = params
        self.config = config
        self.name: str = settings.configure.get("version_table", "alembic_version")
        self.schema: str | None = settings.configure.get("version_table_schema")
        self.primary_key: bool = settings.configure.get("version_table_pk", True)
        self._exists = False

    def heads(self) -> tuple[str, ...]:
        """The revisions in it; empty if the table does not exist.

        Raises :class:`~migrate_ext.errors.Declined` for rows that are left to Alembic (one is NULL,
        or occurs twice), :class:`~migrate_ext.errors.CommandError` if the table has no column
        ``version_num``.
        """
        try:
            found = self.session.version_heads(self.name, self.schema)
        except errors.ServerError as error:
            if error.sqlstate != "42703":  # undefined column
                raise
            name = f"{self.schema}.{self.name}" if self.schema else self.name
            raise errors.CommandError(
                errors.no_version_table(name, "has no version_num")
            ) from error
        self._exists = found is not None
        rows = found or ()
        if None in rows or len(set(rows)) != len(rows):
            raise errors.Declined("version rows that no run leaves")
        return tuple(head for head in rows if head is not None)

    def begin(self, limits: Limits | None = None, *, as_configured: bool = False) -> bool:
        """Begin a transaction that holds the lock until it ends: see
        :func:`migrate_ext.locking.lock.begin`.

        limits: those of the run, if they have already been read.
        """
        from migrate_ext.locking import limits as limiting  # only commands that write need it
        from migrate_ext.locking import lock

        limits = limits or limiting.read(self.config.option)
        return lock.begin(self.session, self.name, self.schema, limits, as_configured=as_configured)

    def commit(self, rows: frozenset[str | None], half_done: str | None = None) -> None:
        """Commit. If the result is lost, check on a new session whether COMMIT was done, and set
        ``committed`` of the raised error to the answer.

        rows: the version rows if it was. half_done: see
        :func:`migrate_ext.locking.outcome.in_doubt`.
        """
        try:
            self.session.commit()
        except (errors.ServerError, KeyboardInterrupt) as error:
            from migrate_ext.locking import outcome

            state = getattr(error, "sqlstate", None)
            if state is None or errors.is_session_end(state):
                self.session.close()  # it may still hold the lock
                text, committed = outcome.in_doubt(error, rows, self._rows_after, half_done)
                outcome.tell(error, text)
                error.__dict__["committed"] = committed
            raise

    def _rows_after(self) -> frozenset[str | None]:
        """The version rows after a COMMIT in doubt, read on a new session."""
        from migrate_ext.locking import outcome

        session = _core.Session.connect(self.params, libpq.find())
        try:
            outcome.wait_for_end(session.query, self.name, self.schema)
            return frozenset(session.version_heads(self.name, self.schema) or ())
        finally:
            session.close()

    def ensure(self) -> None:
        """Create it, in a transaction of its own, unless :meth:`heads` has found it."""
        if not self._exists:
            self.begin()
            self.ensure_now()
            self.session.commit()

    def ensure_now(self) -> None:
        """Create it in the open transaction, unless it exists."""
        if not self._exists and self.session.version_heads(self.name, self.schema) is None:
            self.session.version_create(self.name, self.schema, self.primary_key)
        self._exists = True

    @property
    def missing(self) -> bool:
        """Whether :meth:`heads` has found no such table."""
        return not self._exists

    def purge(self) -> None:
        self.session.version_purge(self.name, self.schema)

    def apply(self, operations: _core.VersionOperations) -> None:
        self.session.version_apply(operations, self.name, self.schema)


def change_rows(rows: set[str], operations: _core.VersionOperations) -> None:
    """Apply `operations`, which change the table's rows, to the set `rows`."""
    for operation in operations:
        if operation[0] != "insert":
            rows.discard(operation[1])
        if operation[0] != "delete":
            rows.add(operation[-1])
