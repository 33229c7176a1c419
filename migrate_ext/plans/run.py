"""Runs the migrations of a compiled plan, on a session of our own."""

from __future__ import annotations

from migrate_ext import _core, errors
from migrate_ext.locking.version_table import VersionTable, change_rows
from migrate_ext.plans.key import load
from migrate_ext.project import logs

TYPE_CHECKING = False  # saves the import of typing
if TYPE_CHECKING:
    from migrate_ext.locking.limits import Limits
    from migrate_ext.plans.key import Functions, Items
    from migrate_ext.project.config import Options
    from migrate_ext.project.environment import Settings
    from migrate_ext.project.scripts import Scripts

# Between this and the newest, `compile` finds what SQLAlchemy renders differently.
OLDEST_SERVER = 120000
_EXISTS = "42P07"  # SQLSTATE: a relation of that name
_POSITION = ord("P")  # PG_DIAG_STATEMENT_POSITION
# Statements sent together. "Running upgrade ..." is logged after they have been confirmed.
_SEGMENT = 128


class Step:
    """One migration of a run: its file, its log line, its statements."""

    def __init__(self, scripts: Scripts, index: int, is_upgrade: bool, items: Items) -> None:
        graph = scripts.graph
        self.revision = graph.revision(index)
        self.path = scripts.paths[index]
        self.name = "upgrade" if is_upgrade else "downgrade"
        self.items = items
        down = ", ".join(graph.down_revisions(index))
        ends = (down, self.revision) if is_upgrade else (self.revision, down)
        doc = (scripts.scanned[index][4] or "").strip().split("\n\n", 1)[0]
        self.log = f"Running {self.name} {ends[0]} -> {ends[1]}" + (f", {doc}" if doc else "")


def steps(
    scripts: Scripts, indexes: list[int], is_upgrade: bool, functions: Functions
) -> tuple[list[Step], str | None]:
    """The migrations of a run that are in the plan; and why another one is not, or None."""
    found: list[Step] = []
    reason = None
    hashes = _core.hash_files([scripts.paths[index] for index in indexes])
    for index, now in zip(indexes, hashes, strict=True):
        revision = scripts.graph.revision(index)
        hash_, items = functions.get((revision, is_upgrade), ("", []))
        if hash_ == now:
            found.append(Step(scripts, index, is_upgrade, items))
        else:
            reason = "a revision file was changed" if hash_ else "a migration that is not in it"
    return found, reason


def reason_not_on(session: _core.Session, found: list[Step]) -> str | None:
    """None if the compiled SQL has the same meaning on this connection; else why not."""
    if session.server_version < OLDEST_SERVER:
        return "the server is too old"
    if session.parameter("standard_conforming_strings") != "on":
        return "standard_conforming_strings is off"
    if session.parameter("server_encoding") != "UTF8" and not all(
        sql.isascii() for step in found for _, sql in step.items
    ):
        return "the database's encoding is not UTF8"
    return None


def run(
    options: Options,
    table: VersionTable,
    scripts: Scripts,
    settings: Settings,
    heads: tuple[str, ...],
    indexes: list[int],
    planned: dict[str, Items],
) -> str | None:
    """Run the migrations of `indexes` from the plan; or do nothing, and return why not.

    options: of ``upgrade`` or ``downgrade``. heads: the rows of the version table. planned:
    receives the migrations that are in the plan (path -> statements), in case Alembic does the run.

    Raises :class:`~migrate_ext.errors.ServerError`, with ``statement`` and ``migration_step``, for
    a statement that fails, and :class:`~migrate_ext.errors.CommandError` for unexpected version
    rows.
    """
    from migrate_ext.locking.limits import read

    if "no_plan" in options.flags:
        return "--no-plan"
    functions = load(table.config, settings)
    if isinstance(functions, str):
        return functions
    is_upgrade = options.command == "upgrade"
    found, missing = steps(scripts, indexes, is_upgrade, functions)
    reason = reason_not_on(table.session, found)
    if reason is not None:
        return reason
    # Used if Alembic has to do the run. Without autocommit blocks, which need more than statements.
    planned |= {step.path: step.items for step in found if all(line >= 0 for line, _ in step.items)}
    limits = read(table.config.option)
    if limits.verbose:
        return "statements are timed"
    if limits.ddl_lock_timeout or limits.statement_timeout or limits.retries or limits.repair:
        return "limits of the run"
    if missing is not None:
        return missing
    first = found[0].items
    if any(line < 0 for line, _ in first):
        from migrate_ext.locking import leftovers

        text = " ".join(sql for _, sql in first)
        if leftovers.named(table.session.query, text, table.schema):
            return "an INVALID index was left"
    try:
        operations = scripts.graph.version_operations(heads, [(i, is_upgrade) for i in indexes])
    except errors.Declined as declined:
        return str(declined)
    per_migration = bool(settings.configure.get("transaction_per_migration"))
    several = per_migration or any(line < 0 for step in found for line, _ in step.items)
    return Runner(table, found, operations).run(heads, per_migration, several, limits)


class Runner:
    """Sends the statements of `found`, with their version rows, on the session of `table`."""

    def __init__(
        self,
        table: VersionTable,
        found: list[Step],
        operations: list[_core.VersionOperations],
    ) -> None:
        self.table = table
        self.session = table.session
        self.found = found
        self.operations = operations
        # Not yet sent: (statement, its step, its line, error message unless it affects one row)
        self.waiting: list[tuple[str, Step, int, str | None]] = []
        self.unsaid: list[Step] = []  # steps not yet logged, because earlier ones are not confirmed
        self.rows: set[str] = set()  # of the version table, in the open transaction
        self.stored: set[str] = set()  # of the version table, as last committed
        self.finished: list[str] = []
        self.confirmed = ""  # the last revision whose statements are all confirmed
        self.committed: list[str] = []
        self.half_done: str | None = None  # a revision of which only a part is committed
        self.standing: list[str] = []  # statements that it has committed
        self.key = 0  # of the lock that the session holds between transactions; 0: none
        self.is_committing = self.is_refused = False
        self.hint = ""
        self.added = 0  # number of statements added to batches
        self.before = self.session.sent, self.session.confirmed

    def run(
        self, heads: tuple[str, ...], per_migration: bool, several: bool, limits: Limits
    ) -> str | None:
        """See the function of that name. per_migration: one transaction per migration, else one for
        all. several: there will be more than one transaction, so the session holds the lock.
        """
        from migrate_ext.locking import outcome

        try:
            with outcome.Terminable():
                return self._run(heads, per_migration, several, limits)
        except outcome.Terminated as error:
            self._count(error)
            raise outcome.ended(error, self._outcome()) from error
        except BaseException as error:
            self._count(error)
            outcome.tell(error, self._outcome())
            raise

    def _count(self, error: BaseException) -> None:
        """Record whether `error` is a rejected COMMIT, or one in doubt that was found committed."""
        committed = getattr(error, "committed", None)
        if committed:
            self.committed = self.finished
        self.is_refused = self.is_committing and committed is None

    def _outcome(self) -> str:
        from migrate_ext.locking import outcome

        told = outcome.of_run(
            self.committed, self.half_done, self.standing, refused=self.is_refused
        )
        return f"{told} {self.hint}".strip()

    def _begin(self, step: Step, *, is_exposed: bool = False) -> None:
        """Begin a transaction and move the session's lock to it.

        is_exposed: statements of a migration ran while only the session held the lock.
        """
        from migrate_ext.locking import lock

        self.session.begin()
        if not self.key:
            return
        if not is_exposed:
            sql = f"SELECT 1 WHERE ({lock.promote(self.key)}) IS NOT NULL"
            self._add(sql, step, 0, lock.LOST)
            return
        had = self.session.query(f"SELECT ({lock.promote(self.key)})::text")[0][0]
        if had is None or (had not in lock.YES and set(self._heads() or ()) != self.stored):
            raise errors.CommandError(lock.LOST)

    def _commit(self, step: Step | None, *, half_done: bool = False) -> None:
        """Commit, after a check that no statement was lost: see
        :class:`migrate_ext.execution.statement.Ledger`.

        step: None for the last COMMIT of the run; else the session takes the lock again. half_done:
        this COMMIT is in the middle of `step`.
        """
        from migrate_ext.locking import lock

        if self.key and step is not None:
            self._add(f"SELECT 1 WHERE {lock.retake(self.key)}", step, 0, lock.LOST)
        self.flush()
        sent, confirmed = (
            self.session.sent - self.before[0],
            self.session.confirmed - self.before[1],
        )
        if not self.added == sent == confirmed:
            raise errors.InternalError(
                f"of {self.added} statements of the plan {sent} were sent and {confirmed} confirmed"
            )
        self.is_committing = True
        self.table.commit(frozenset(self.rows), step.revision if step and half_done else None)
        self.is_committing = False
        self.committed, self.stored = list(self.finished), set(self.rows)
        self.half_done = step.revision if step and half_done else None
        self.standing = []

    def _run(
        self, heads: tuple[str, ...], per_migration: bool, several: bool, limits: Limits
    ) -> str | None:
        from migrate_ext.locking import lock

        self.rows, self.stored = set(heads), set(heads)
        if not several and self.table.begin(limits, as_configured=True):
            if limits.lock and self._heads() != heads:
                self.session.rollback()
                return "the heads moved"
            logs.context()
        else:
            if limits.lock:
                key = lock.hold(self.session, self.table.name, self.table.schema, limits)
                if key is None:
                    return "a pooler that shares sessions"
                self.key = key
                if self._heads() != heads:
                    return "the heads moved"
            logs.context()
            self._begin(self.found[0])
        is_open = True
        if not heads:
            self.table.ensure_now()
            if per_migration:
                self._commit(self.found[0])
                is_open = False
        for step, operations in zip(self.found, self.operations, strict=True):
            if not is_open:
                self._begin(step)
            self._step(step, operations)
            is_last = step is self.found[-1]
            if is_last or per_migration:
                self._commit(None if is_last else step)
                is_open = False
        return None

    def _heads(self) -> tuple[str, ...] | None:
        """The heads in the table now; None if its rows are not valid."""
        try:
            return self.table.heads()
        except errors.Declined:
            return None

    def _step(self, step: Step, operations: _core.VersionOperations) -> None:
        self.unsaid.append(step)
        autocommit = False
        for line, sql in step.items:
            if line < 0:
                autocommit = sql == "autocommit"
                if autocommit:
                    self._commit(step, half_done=True)
                else:
                    self._begin(step, is_exposed=True)
            elif autocommit:
                try:
                    self.session.query(sql)
                    self.standing.append(sql)
                except errors.ServerError as error:
                    if error.sqlstate == _EXISTS and not self.finished:
                        self._look_for_index(sql, step)
                    raise _placed(error, sql, step, line) from None
            else:
                self._add(sql, step, line, None)
        for operation in operations:
            sql = self.session.version_sql(operation, self.table.name, self.table.schema)
            self._add(sql, step, 0, _expectation(operation, self.table.name))
        change_rows(self.rows, operations)
        self.finished.append(step.revision)

    def _look_for_index(self, sql: str, step: Step) -> None:
        from migrate_ext.locking import leftovers

        left = leftovers.same_index(self.session.query, sql)
        if left is not None:
            self.hint = leftovers.hint(step.revision, left)

    def _add(self, sql: str, step: Step, line: int, expected: str | None) -> None:
        self.added += 1
        self.waiting.append((sql, step, line, expected))
        if len(self.waiting) >= _SEGMENT:
            self.flush()

    def flush(self) -> None:
        """Send what is waiting, and wait for the results."""

        waiting, self.waiting = self.waiting, []
        try:
            results = self.session.run_batch([sql for sql, _, _, _ in waiting])
        except errors.ServerError as error:
            sql, step, line, _ = waiting[max(error.index, 0)]
            self._say(step)
            if error.sqlstate is None or errors.is_session_end(error.sqlstate):
                last = waiting[-1][1]
                error.migration_step = _unanswered(step, last, self.confirmed)
                raise
            raise _placed(error, sql, step, line) from None
        if waiting:
            self.confirmed = self.finished[-1] if self.finished else ""
        for (_, step, _, expected), (_, rows) in zip(waiting, results, strict=True):
            if expected is not None and rows != 1:
                self._say(step)
                raise errors.CommandError(expected.replace("{rows}", str(rows)))
        self._say(None)

    def _say(self, last: Step | None) -> None:
        """Log the steps not yet logged, up to `last`; None: all."""
        while self.unsaid:
            step = self.unsaid.pop(0)
            logs.info(step.log)
            if step is last:
                return


def _expectation(operation: _core._VersionOperation, table: str) -> str | None:
    if operation[0] == "insert":
        return None
    if operation[0] == "delete":
        what = f"deleting '{operation[1]}'"
    else:
        what = f"updating '{operation[1]}' to '{operation[-1]}'"
    return f"Online migration expected to match one row when {what} in '{table}'; {{rows}} found"


def _unanswered(first: Step, last: Step, confirmed: str) -> str:
    """Which revisions were in flight when the connection was lost."""
    which = first.revision if first is last else f"one of {first.revision} to {last.revision}"
    after = f"; the last one confirmed is {confirmed}" if confirmed else ""
    return f"{first.name} of revision {which}{after}"


def _placed(error: errors.ServerError, sql: str, step: Step, line: int) -> errors.ServerError:
    """`error`, with the statement, the migration, its file and line, as if it had been rendered."""
    error.statement = sql.replace("%", "%%")  # as in SQLAlchemy's errors
    position = error.fields.get(_POSITION)
    error.migration_step = errors.place(step.name, step.revision, step.path, line or None, position)
    return error
