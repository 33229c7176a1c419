"""The run of migrations in Alembic's loop: plain ones are rendered ahead, and sent in batches.

Hooked methods and private names were read in Alembic 1.13 and 1.20.1, SQLAlchemy 2.0 and 2.1.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import CodeType, SimpleNamespace
from typing import Any, TypeAlias
from weakref import WeakKeyDictionary

import sqlalchemy
from alembic.runtime.migration import (
    HeadMaintainer,
    MigrationContext,
    MigrationStep,
    _ProxyTransaction,
)
from sqlalchemy.engine import Connection, Dialect

from migrate_ext import counters, errors
from migrate_ext.dropin import foreign, transactions
from migrate_ext.dropin.lease import ConnectionLease
from migrate_ext.dropin.marked_calls import UNMARKED, MarkedCalls
from migrate_ext.dropin.originals import originals
from migrate_ext.execution import drivers, parameters, plain, plain_bytecode, source
from migrate_ext.execution.executor import Executor, note
from migrate_ext.execution.marks import LOUD, Spans
from migrate_ext.execution.statement import SourceLocation
from migrate_ext.execution.timing import Times

# Characters. A longer text is sent as Alembic sends it: it is a script of many statements, which
# cannot be batched, and SQLAlchemy needs a second per 50 MB to scan it.
_LONG_TEXT = 1_000_000
_WithValues: TypeAlias = tuple[str, dict[str, Any]]  # a text, and its parameters by name


# The last snapshot of `_Run.look`, in any run, and its result.
_looked_at: tuple[tuple[object, ...], str | None] = ((), None)


class _Run(MarkedCalls):
    """One ``run_migrations`` of a context, whose statements go through `executor`."""

    def __init__(
        self, context: MigrationContext, executor: Executor, lease: ConnectionLease
    ) -> None:
        assert context._migrations_fn is not None and context.connection is not None
        super().__init__(executor)
        self.context = context
        self.lease = lease
        self.connection = context.connection
        self.find_steps = context._migrations_fn
        self.exec = context.impl._exec
        self.overridden: str | None = None
        self.look()  # before `_exec` of the impl is replaced
        self.code: CodeType | None = None  # of the plain function that is running
        self.was_plain = False  # the last migration was: its version rows are batched, too
        self.versions: dict[str, str | None] = {}
        self.compiled: tuple[Any, Any] = (
            None,
            None,
        )  # the last DDL, and what SQLAlchemy made of it
        self.is_watched = not context.impl.transactional_ddl or bool(
            context.on_version_apply_callbacks
        )
        run_lock = transactions.run_lock_of(context)
        if run_lock is not None and run_lock.limits.verbose:
            executor.times = Times()
            self.is_watched = True
        executor.gathers = self.is_watched or context._transaction_per_migration

    def look(self) -> None:
        """Update ``overridden``: each migration may replace what directives call."""
        global _looked_at
        now = foreign.way_of_directives(self.context)
        if now != _looked_at[0]:
            _looked_at = now, foreign.overridden(self.context)
        self.overridden = _looked_at[1]

    def steps(self, *arguments: Any) -> Iterable[Any]:
        """The steps to run, each with its function wrapped."""
        found = self.find_steps(*arguments)
        steps = iter(found)
        while True:
            if not self._are_there(found):  # a generator of the project runs between the migrations
                self.executor.sync()
            step = next(steps, None)
            if step is None:
                return
            function = step.migration_fn
            step.migration_fn = self._migration(step, function)
            try:
                yield step
            finally:
                step.migration_fn = function

    def _are_there(self, steps: Iterable[Any]) -> bool:
        run_lock = transactions.run_lock_of(self.context)
        return isinstance(steps, (list, tuple)) or (run_lock is not None and run_lock.plan_is_there)

    def _migration(self, step: MigrationStep, function: Callable[..., Any]) -> Callable[..., Any]:
        def migrate(**kw: Any) -> None:
            self.was_plain = False
            revision = getattr(step, "revision", None)
            if revision is None:  # a stamp
                function(**kw)
                return
            own = getattr(function, "migrate_ext_body", function)
            place = SourceLocation(function.__name__, revision.revision, revision.path)
            self.executor.place = place
            reason, spans = self._reason_to_wait(own, revision.path)
            try:
                if reason is None:
                    self.code = own.__code__
                else:
                    counters.plain(f"migration: {reason}")
                    if spans is None or spans.entry == LOUD:
                        self.executor.sync()
                with self.marked(spans):
                    function(**kw)
                if self.executor.driver.notices_are_heard:
                    self.executor.sync()
                self.was_plain = reason is None
            except Exception as error:
                # An error of an earlier statement comes first, as under Alembic.
                self.executor.sync()
                note(error, place, errors.line_in(revision.path, error))
                raise
            except BaseException:
                self.executor.abandon()
                raise
            finally:
                self.code = None

        migrate.__name__ = function.__name__
        migrate.__doc__ = function.__doc__
        return migrate

    def refusal(self) -> str | None:
        """Why the driver must execute statements now, or None."""
        return (
            self.overridden
            or foreign.refusal(self.connection)
            or drivers.foreign(self.executor.driver.connection)
        )

    def _reason_to_wait(
        self, function: Callable[..., Any], path: str
    ) -> tuple[str | None, Spans | None]:
        """Why a function is not plain, and then its spans, if it has any."""
        self.look()
        reason = self.refusal()
        if reason is not None or plain_bytecode.looks_plain(function):
            return reason, None
        code = getattr(function, "__code__", None)
        if code is None or code.co_filename != path:
            return "not the file's own function", None
        node = source.tree_of(path, function)  # type: ignore[arg-type]
        if isinstance(node, str):
            return node, None
        reason = plain.reason_not_plain_of(function, node)  # type: ignore[arg-type]
        if reason is None:
            return None, None
        from migrate_ext.execution.spans import spans_of  # many histories need none

        spans = spans_of(function, node)  # type: ignore[arg-type]
        if not isinstance(spans, Spans):
            return reason, None
        for end in spans.reasons:
            counters.span_end(*end)
        return reason, spans

    def exec_directive(self, construct: Any, *args: Any, **kw: Any) -> Any:
        """Replaces the impl's ``_exec``."""
        ledger = self.executor.ledger
        ledger.rendered += 1
        mark, is_block = self.mark, False
        if mark is None and self.spans is not None:
            mark = self.mark_of_block(sys._getframe(1))
            is_block = mark is not None
        may_wait = self.code is not None or mark not in (None, UNMARKED)
        if may_wait and not any(args) and not kw:
            if self.renders_own:  # it may ask the database, which checks the ledger
                self.executor.sync()
                ledger.rendered -= 1
            rendered = self._rendered(construct)
            ledger.rendered += self.renders_own
            line = self._line() if self.code is not None else self.line
            if self._submit(rendered, line):
                if isinstance(construct, sqlalchemy.schema.DDLElement):
                    self.executor.driver.ddl_was_rendered(self.connection.dialect)
                if (is_block and mark == LOUD) or (self.renders_own and self._is_changed()):
                    self.executor.sync()
                return None
        ledger.by_driver += 1
        self.executor.sync()  # before SQLAlchemy renders it, which may call code of others
        with self._rendered_once(construct):
            return self.exec(construct, *args, **kw)

    def execute(self, statement: Any, *args: Any, **kw: Any) -> Any:
        """Replaces the connection's ``execute``.

        A plain function does not use the result (:mod:`migrate_ext.execution.plain` has checked
        that), so its statements can be batched, too, and so can those that have a mark. It calls
        ``execute`` directly, not through other functions.
        """
        caller = sys._getframe(1)
        may_wait, mark = self.code is not None and caller.f_code is self.code, None
        if self.spans is not None:
            mark = self.mark_of_execute(caller)
            may_wait = mark is not None
            if not kw.get("execution_options"):  # as a session gives them
                kw.pop("execution_options", None)
        ledger = self.executor.ledger
        ledger.rendered += 1
        if may_wait and len(args) < 2 and not kw and not isinstance(statement, str):
            given = args[0] if args else None
            is_empty = type(given) is dict and not given  # likewise
            rendered = self._rendered(statement, None if is_empty else given)
            line = self._line() if self.code is not None else self.line
            if self._submit(rendered, line):
                if mark == LOUD:
                    self.executor.sync()
                return None
        ledger.by_driver += 1
        self.executor.sync()
        with self._rendered_once(statement):
            return Connection.execute(self.connection, statement, *args, **kw)

    def _submit(self, rendered: str | _WithValues | None, line: int | None) -> bool:
        if isinstance(rendered, str):
            return self.executor.submit(rendered, line)
        return rendered is not None and self.executor.submit_with_values(
            rendered[0], line, rendered[1]
        )

    def _rendered(self, construct: Any, given: Any = None) -> str | _WithValues | None:
        """A construct as SQLAlchemy would pass it to the driver, with its parameters if it has any; None if
        it may not be sent without the driver. given: parameters by name.
        """
        text = getattr(construct, "text", construct)
        if isinstance(text, str) and len(text) > _LONG_TEXT:
            counters.plain("statement: a long text")
            return None
        if isinstance(construct, str):
            construct = sqlalchemy.text(construct)
        if isinstance(construct, sqlalchemy.TextClause):
            if construct._bindparams:
                return self._with_values(construct, {} if given is None else given)
        elif isinstance(construct, (sqlalchemy.Update, sqlalchemy.Delete, sqlalchemy.Insert)):
            return self._with_values(construct, {} if given is None else given)
        elif not isinstance(construct, sqlalchemy.schema.DDLElement):
            counters.plain("statement: SQLAlchemy reads its result")
            return None
        if given is not None:
            counters.plain("statement: parameters that it does not name")
            return None
        if construct._execution_options:
            counters.plain("statement: execution options")
            return None
        compiled = construct.compile(dialect=self.connection.dialect)
        if isinstance(construct, sqlalchemy.schema.DDLElement):
            self.compiled = construct, compiled
        return str(compiled)

    @contextmanager
    def _rendered_once(self, construct: Any) -> Iterator[None]:
        """Within this block SQLAlchemy does not render `construct` again if that was done for a batch: it
        would warn twice, and call a project's types twice.
        """
        of, compiled = self.compiled
        self.compiled = None, None
        if of is None or of is not construct:
            yield
            return
        vars(construct)["compile"] = lambda **_: compiled
        try:
            yield
        finally:
            del vars(construct)["compile"]

    def _with_values(self, construct: Any, given: Any) -> _WithValues | None:
        """A statement with parameters. Of those that change rows, only of a table that is no more than names:
        others may have defaults, and give keys back.
        """
        dialect: Any = self.connection.dialect
        is_text = isinstance(construct, sqlalchemy.TextClause)
        found = None
        if (
            parameters.are_plain(given)
            and not construct._execution_options
            and (is_text or type(construct.table) is sqlalchemy.TableClause)
            and (is_text or not construct._returning)
            and getattr(dialect, "_json_serializer", None) is None
        ):
            found = self.lease.captured(construct, given)
        if found is None or not parameters.are_plain(found[1]):
            counters.plain("statement: with parameters")
            return None
        return found if type(found[0]) is str else None

    def _line(self) -> int | None:
        """The current line of the plain function."""
        frame = sys._getframe(2)
        while frame is not None and frame.f_code is not self.code:
            frame = frame.f_back  # type: ignore[assignment]
        return frame and frame.f_lineno

    # the version table

    def write_version(self, maintainer: HeadMaintainer, method: str, *versions: str) -> bool:
        """Queue what a method of the maintainer would send; False: the method must do it itself."""
        if not self.was_plain and self.refusal():
            return False
        if not all(map(_is_quiet_name, versions)):
            return False
        if method not in self.versions:
            self.versions[method] = self._known_version_statement(method, len(versions))
        rendered = self.versions[method]
        if rendered is None:
            return False
        table = self.context.version_table
        rows = None
        if method == "_delete_version":
            rows = f"deleting '{versions[0]}' in '{table}'"
        elif method == "_update_version":
            rows = f"updating '{versions[0]}' to '{versions[1]}' in '{table}'"
        if rows is not None:
            rows = f"Online migration expected to match one row when {rows}; {{rows}} found"
        for name, version in zip(_STAND_INS, versions, strict=False):
            rendered = rendered.replace(name, version)
        self.executor.ledger.rendered += 1
        taken = self.executor.submit(rendered, None, rows, is_last=True)
        self.executor.ledger.rendered -= not taken  # exec_directive() counts it
        return taken

    def _known_version_statement(self, method: str, count: int) -> str | None:
        """:meth:`_version_statement`, rendered once for all runs with the same table on an engine."""
        table = self.context._version
        named = (table.schema, table, *table.columns)
        names = [getattr(found, "name", found) for found in named]
        key = (
            *(originals[HeadMaintainer, method], *map(type, named)),
            *(names, [getattr(name, "quote", None) for name in names]),
        )
        known = _version_statements.setdefault(self.connection.dialect, {})
        if known.get(method, ((), None))[0] != key:
            known[method] = (key, self._version_statement(method, count))
        return known[method][1]

    def _version_statement(self, method: str, count: int) -> str | None:
        """The statement that Alembic's method sends, with placeholders for the versions; None if it
        is not a single statement with each of them once.
        """
        original = originals[HeadMaintainer, method]
        if original.__module__ != "alembic.runtime.migration":
            return None
        sent: list[Any] = []
        context = SimpleNamespace(
            as_sql=True,
            impl=SimpleNamespace(_exec=sent.append),
            _version=self.context._version,
        )
        versions = _STAND_INS[:count]
        heads = () if method == "_insert_version" else versions[:1]
        original(HeadMaintainer(context, heads), *versions)  # type: ignore[arg-type]
        compiled = sent[0].compile(dialect=self.connection.dialect, column_keys=[])
        rendered = str(compiled)
        plain = len(sent) == 1 and not compiled.binds
        return rendered if plain and all(rendered.count(v) == 1 for v in versions) else None

    def after_step(self) -> None:
        """After a step and its version rows: sync if other code may look at the database now.

        If each step has its own transaction, its COMMIT syncs.
        """
        if self.is_watched or self.executor.driver.notices_are_heard:
            self.executor.sync()


foreign.stand_ins.add(_Run)

# Per dialect, that is, per engine: method -> (what it was rendered for, the statement).
_version_statements: WeakKeyDictionary[Dialect, dict[str, tuple[Any, str | None]]]
_version_statements = WeakKeyDictionary()

_STAND_INS = ("migrate_ext_stand_in_1", "migrate_ext_stand_in_2")
_is_quiet_name = re.compile(r"[A-Za-z0-9_.-]+").fullmatch


def _executor_for(context: MigrationContext) -> tuple[ConnectionLease, Executor] | None:
    """An executor for `context`; None (counted, with the reason) if Alembic must run unchanged."""
    connection = context.connection
    if context.as_sql or connection is None:
        return None
    found = foreign.refusal(connection)
    if found is None and "_execute_context" in connection.__dict__:
        found = "connection: in use by another run"
    if found is None:
        borrowed = drivers.borrow(connection.connection.dbapi_connection)
        if not isinstance(borrowed, str):
            lease = ConnectionLease(connection)
            kind = Executor
            if isinstance(borrowed, drivers.Asyncpg):
                from migrate_ext.execution.savepoints import SavepointExecutor as kind
            lease.executor = kind(connection, borrowed, lease)
            return lease, lease.executor
        found = borrowed
    counters.plain(found)
    return None


def _run_migrations(self: MigrationContext, **kw: Any) -> None:
    transactions.run(self, lambda: _run_batched(self, **kw))


def _begin_transaction(self: MigrationContext, _per_migration: bool = False) -> Any:
    original = originals[MigrationContext, "begin_transaction"]
    return transactions.begin_transaction(original, self, _per_migration)


@contextmanager
def _autocommit_block(self: MigrationContext) -> Iterator[None]:
    run: _Run | None = getattr(self.impl, "_migrate_ext", None)
    isolation = run.executor.driver.isolation() if run and not run.refusal() else None
    original = originals[MigrationContext, "autocommit_block"]
    with transactions.autocommit_block(original, self, isolation):
        yield
    if run is not None:
        run.left_autocommit_block(sys._getframe(1))


def _end_transaction(self: _ProxyTransaction, type_: Any, value: Any, traceback: Any) -> None:
    original = originals[_ProxyTransaction, "__exit__"]
    transactions.end_transaction(original, self, type_, value, traceback)


def _run_batched(self: MigrationContext, **kw: Any) -> None:
    run_migrations = originals[MigrationContext, "run_migrations"]
    found = _executor_for(self)
    if found is None:
        run_migrations(self, **kw)
        return
    lease, executor = found
    lease.run_lock = transactions.run_lock_of(self)
    run, impl = _Run(self, executor, lease), self.impl
    lease.execute, lease.has_read = run.execute, run.has_read
    with lease, executor, transactions.lock_in_batches(self, executor.submit_for_lock):
        self._migrations_fn = run.steps
        impl._exec = run.exec_directive  # type: ignore[method-assign]
        impl._migrate_ext = run  # type: ignore[attr-defined]
        try:
            run_migrations(self, **kw)
        finally:
            if executor.times is not None:
                executor.times.show()
            self._migrations_fn = run.find_steps
            del impl._exec, impl._migrate_ext  # type: ignore[attr-defined]


def _run_of(maintainer: HeadMaintainer) -> _Run | None:
    return getattr(maintainer.context.impl, "_migrate_ext", None)


def _insert_version(self: HeadMaintainer, version: str) -> None:
    run = _run_of(self)
    if run and version not in self.heads and run.write_version(self, "_insert_version", version):
        self.heads.add(version)
    else:
        originals[HeadMaintainer, "_insert_version"](self, version)


def _delete_version(self: HeadMaintainer, version: str) -> None:
    run = _run_of(self)
    if run and version in self.heads and run.write_version(self, "_delete_version", version):
        self.heads.remove(version)
    else:
        originals[HeadMaintainer, "_delete_version"](self, version)


def _update_version(self: HeadMaintainer, from_: str, to_: str) -> None:
    run = _run_of(self)
    known = from_ in self.heads and to_ not in self.heads
    if run and known and run.write_version(self, "_update_version", from_, to_):
        self.heads.remove(from_)
        self.heads.add(to_)
    else:
        originals[HeadMaintainer, "_update_version"](self, from_, to_)


def _update_to_step(self: HeadMaintainer, step: MigrationStep) -> None:
    originals[HeadMaintainer, "update_to_step"](self, step)
    transactions.update_to_step(self)
    run = _run_of(self)
    if run is not None:
        run.after_step()


# SQLAlchemy's warnings are about the first frame that belongs neither to it nor to Alembic, by this name: the
# migration's, not one of ours in between. What is defined above keeps its own module's name.
__name__ = "sqlalchemy.migrate_ext"
