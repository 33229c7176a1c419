"""The seam to Alembic and SQLAlchemy: the only file that touches their private names.

Read in Alembic 1.13 and 1.20.1, SQLAlchemy 2.0 and 2.1. Alembic's own commands run here, with its
own classes over our scanned files, and with the executor on the connection that the project opened.
Importing this module imports Alembic and SQLAlchemy.
"""

from __future__ import annotations

import importlib
import importlib.util
import operator
import os
import pkgutil
import re
import sys
import time
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from types import CodeType, ModuleType, SimpleNamespace
from typing import Any
from weakref import WeakKeyDictionary

import sqlalchemy
from alembic import context as alembic_context
from alembic import op as alembic_op
from alembic import util as alembic_util
from alembic.ddl.impl import DefaultImpl
from alembic.operations import Operations
from alembic.runtime.migration import (
    HeadMaintainer,
    MigrationContext,
    MigrationStep,
    _ProxyTransaction,
)
from alembic.script import Script as AlembicScript
from alembic.script import ScriptDirectory as AlembicScriptDirectory
from sqlalchemy.dialects import postgresql
from sqlalchemy.engine import Connection, Dialect, Engine, make_url
from sqlalchemy.event import registry
from sqlalchemy.pool import NullPool, Pool
from sqlalchemy.schema import SchemaItem
from sqlalchemy.sql.visitors import Visitable

from migrate_ext import counters, errors
from migrate_ext.direct.database import Run
from migrate_ext.dropin import hooks
from migrate_ext.dropin import script as revision
from migrate_ext.dropin import stand_in as planned
from migrate_ext.dropin import transactions as runs
from migrate_ext.execution import drivers, libpq, plain
from migrate_ext.execution.executor import Executor, Place, note
from migrate_ext.execution.timing import Times
from migrate_ext.locking.run_lock import Guard
from migrate_ext.project import database_url, scripts
from migrate_ext.project.environment import Settings

# -------------------------------------------------------------------------------------------------
# env.py


@contextmanager
def instead_of_files(run: Run, settings: Settings) -> Iterator[None]:
    """Within this block Alembic has what a direct command has read, and runs no ``env.py``.

    run: the command, whose ``env.py`` is executing. settings: what that ``env.py`` named.
    """

    class Script(revision.Script):
        module = planned.LazyModule(scripts.load, run.options.command, run.planned)

    class ScriptDirectory(revision.ScriptDirectory):
        """The project's, with the files that the command has read already."""

        def _load_revisions(self) -> Iterator[AlembicScript]:
            if run.scripts is None:
                yield from super()._load_revisions()
                return
            paths, scanned = tuple(run.scripts.paths), run.scripts.scanned
            for index, script in enumerate(revision.new_scripts(Script, "", paths, scanned)):
                assert script is not None
                if index in run.scripts.modules:
                    script.module = run.scripts.modules[index]
                yield script

        def _upgrade_revs(self, destination: str, current_rev: Any) -> list[Any]:
            return _settled(super()._upgrade_revs(destination, current_rev))

        def _downgrade_revs(self, destination: str, current_rev: Any) -> list[Any]:
            return _settled(super()._downgrade_revs(destination, current_rev))

        def run_env(self) -> None:
            _run_environment(settings)

    def _settled(steps: list[Any]) -> list[Any]:
        return planned.settled(steps, foreign_rendering() if run.planned else None)

    from_config = AlembicScriptDirectory.from_config
    AlembicScriptDirectory.from_config = ScriptDirectory.from_config  # type: ignore[method-assign]
    try:
        yield
    finally:
        AlembicScriptDirectory.from_config = from_config  # type: ignore[method-assign]


def run_environment(settings: Settings) -> None:
    """What a thin ``env.py`` does when Alembic runs it: see :func:`migrate_ext.environment`."""
    try:
        _run_environment(settings)
    except errors.CommandError as error:
        raise alembic_util.CommandError(str(error)) from error


def _run_environment(settings: Settings) -> None:
    config = alembic_context.config
    if config.config_file_name is not None and config.file_config.has_section("loggers"):
        from logging.config import fileConfig

        fileConfig(config.config_file_name, disable_existing_loggers=False)
    # Not only autogenerate looks at the models: a naming convention or a listener there changes the
    # SQL of directives.
    configure = {"target_metadata": metadata(settings), **settings.configure}
    if alembic_context.is_offline_mode():
        alembic_context.configure(
            dialect_name="postgresql",
            literal_binds=True,
            dialect_opts={"paramstyle": "named"},
            **configure,
        )
        with alembic_context.begin_transaction():
            alembic_context.run_migrations()
        return
    url = _engine_url(settings)
    if url.get_dialect().is_async:
        import asyncio  # few need it, and it is slow to import

        asyncio.run(_run_async(url, configure))
        return
    try:
        engine = sqlalchemy.create_engine(
            url, poolclass=NullPool, connect_args=_connection_defaults(url)
        )
    except ImportError as error:
        raise errors.CommandError(_no_driver(settings, url, error)) from error
    with engine.connect() as connection:
        _run_online(connection, configure)


def _connection_defaults(url: sqlalchemy.URL) -> dict[str, str]:
    """Of :data:`libpq.CONNECTION`, what the URL does not say itself, for drivers over libpq."""
    if not url.get_driver_name().startswith("psycopg"):
        return {}
    return {key: value for key, value in libpq.CONNECTION.items() if key not in url.query}


def _no_driver(settings: Settings, url: sqlalchemy.URL, error: ImportError) -> str:
    return (
        f"{settings.url_variable} asks for the driver {url.get_driver_name()}, which cannot be "
        f"imported ({error}); install it, or write postgresql:// for one that is installed"
    )


async def _run_async(url: sqlalchemy.URL, configure: dict[str, Any]) -> None:
    from sqlalchemy.ext.asyncio import create_async_engine

    try:
        engine = create_async_engine(
            url, poolclass=NullPool, connect_args=_connection_defaults(url)
        )
        async with engine.connect() as connection:
            await connection.run_sync(_run_online, configure)
    except ImportError as error:
        if errors.blamed_line(error) != (None, None):
            raise  # a migration's own
        raise errors.CommandError(
            f"the driver {url.get_driver_name()} cannot be used ({error}); "
            "pip install 'sqlalchemy[asyncio]' and the driver"
        ) from error


def _run_online(connection: Connection, configure: dict[str, Any]) -> None:
    alembic_context.configure(connection=connection, **configure)
    with alembic_context.begin_transaction():
        alembic_context.run_migrations()


def _engine_url(settings: Settings) -> sqlalchemy.URL:
    """The URL for ``create_engine``; without a driver in it, one that is installed."""
    name = settings.url_variable
    try:
        url = make_url(database_url.read(settings))
    except (sqlalchemy.exc.ArgumentError, ValueError) as error:
        # SQLAlchemy's text may quote the URL, and with it the password.
        raise errors.CommandError(f"{name} is not a URL; expected {errors.URL_FORM}") from error
    if url.get_backend_name() != "postgresql":
        raise errors.CommandError(
            f"{name} is for {url.get_backend_name()}; this environment needs PostgreSQL: "
            f"{errors.URL_FORM}"
        )
    drivername = database_url.with_driver(f"{url.drivername}://", url.get_driver_name())
    if drivername is None:
        raise errors.CommandError(
            "no PostgreSQL driver is installed; pip install 'psycopg[binary]'"
        )
    return url.set(drivername=drivername.removesuffix("://"))


def metadata(settings: Settings) -> sqlalchemy.MetaData:
    """Import the models and give the metadata that ``env.py`` named."""
    module_name, _, path = settings.metadata.partition(":")
    if not path:
        raise errors.CommandError(
            f"env.py names the metadata {settings.metadata!r}; expected "
            "'package.module:attribute', for example 'lib.database:Base.metadata'"
        )
    if settings.models is not None:
        models = _import(settings.models, "models package")
        _warn_of_unimported(models)
    found: Any = _import(module_name, "metadata module")
    for attribute in path.split("."):
        try:
            found = getattr(found, attribute)
        except AttributeError:
            raise errors.CommandError(
                f"env.py names the metadata {settings.metadata!r}, "
                f"but {module_name} has no {path!r}"
            ) from None
    return found  # type: ignore[no-any-return]


def _import(name: str, what: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except Exception as error:
        raise errors.BrokenModule(name, what, error) from error


def _warn_of_unimported(models: ModuleType) -> None:
    """Autogenerate would drop the tables of a module that nobody imports."""
    proxy = getattr(alembic_context, "_proxy", None)
    if proxy is None or proxy.context_opts.get("revision_context") is None:
        return
    missing = ", ".join(_unimported(models))
    if missing:
        warnings.warn_explicit(
            f"{models.__name__} does not import {missing}: autogenerate does not see the tables "
            "there, and would drop them; import it here",
            UserWarning,
            models.__file__ or models.__name__,
            1,
        )


def _unimported(package: ModuleType) -> Iterator[str]:
    """Modules in the folders of `package` that are not imported. Imports none itself."""
    for module in pkgutil.iter_modules(getattr(package, "__path__", ()), package.__name__ + "."):
        imported = sys.modules.get(module.name)
        if imported is None:
            yield module.name
        elif module.ispkg:
            yield from _unimported(imported)


# -------------------------------------------------------------------------------------------------
# What else renders


def with_standard_strings(dialect: Dialect) -> Dialect:
    """Let `dialect` render for a server with ``standard_conforming_strings`` on; SQLAlchemy 2.0
    doubles backslashes until it has connected to one.
    """
    dialect._backslash_escapes = False  # type: ignore[attr-defined]
    return dialect


def foreign_rendering() -> str | None:
    """Why directives may not render what Alembic and SQLAlchemy alone would: a listener on all
    tables, a ``@compiles``, a replaced directive; None where there is no such thing.
    """
    listener = _foreign_listener(SchemaItem, Engine, Connection, Dialect, Pool)
    if listener is not None:
        return listener
    for cls in _subclasses(Visitable):
        compilers = cls.__dict__.get("_compiler_dispatcher")
        for function in getattr(compilers, "specs", {}).values():
            if not _is_ours(function.__module__):
                return f"a @compiles for {cls.__name__}"
    for key, function in Operations._to_impl._registry.items():
        if callable(function) and not _is_ours(getattr(function, "__module__", "")):
            return f"a replaced operation, {key[0].__name__ if isinstance(key, tuple) else key}"
    impl: type = DefaultImpl.get_by_dialect(postgresql.dialect())  # type: ignore[no-untyped-call]
    if not all(_is_ours(cls.__module__) for cls in impl.__mro__[:-1]):
        return f"an implementation of its own, {impl.__name__}"
    return None


def _foreign_listener(*classes: type, only: Collection[str] | None = None) -> str | None:
    """Which listener there is on all objects of a class, beside SQLAlchemy's. only: these events."""
    for cls in _subclasses(*classes):
        events = getattr(cls, "dispatch", None)
        for name in getattr(events, "_event_names", ()):
            if only is not None and name not in only:
                continue
            for listener in getattr(getattr(events, name), "_clslevel", {}).get(cls, ()):
                # SQLAlchemy's own; it wraps those of others in functions of other modules.
                if listener.__module__ != "sqlalchemy.sql.naming":
                    return f"a listener for {name} on all of {cls.__name__}"
    return None


def _is_ours(module: str) -> bool:
    return module.partition(".")[0] in ("alembic", "sqlalchemy", "migrate_ext")


def _subclasses(*classes: type) -> Iterator[type]:
    for cls in classes:
        yield cls
        yield from _subclasses(*cls.__subclasses__())


# -------------------------------------------------------------------------------------------------
# The executor's hooks


def _refusal(connection: Connection) -> str | None:
    """Why statements must go the driver's way on a connection, as it is now."""
    if type(connection) is not Connection:
        return "connection: not SQLAlchemy's own class"
    if connection.dialect.name != "postgresql":
        return f"database: {connection.dialect.name}"
    if connection._has_events or connection.engine._has_events:
        dispatch = connection.dispatch
        listeners = [listener for name in _EVENTS for listener in getattr(dispatch, name)]
        if any(getattr(listener, "__module__", "") != Guard.__module__ for listener in listeners):
            return "connection: event listeners"
    if connection.dialect._has_events:
        return "dialect: event listeners"
    replaced = _replaced(connection)
    if replaced is not None:
        return replaced
    if connection._echo:
        return "connection: echo"
    if not _QUIET_OPTIONS.issuperset(connection._execution_options):
        return "connection: execution options"
    return None


# Events that could change a statement, or look at it. (The lock does, for what goes the driver's way.)
_EVENTS = ("before_execute", "after_execute", "before_cursor_execute", "after_cursor_execute")

# Methods through which statements go from a connection to the driver.
_EXECUTING = (
    "execute exec_driver_sql _execute_clauseelement _execute_ddl _execute_context "
    "_exec_single_context _cursor_execute"
).split()
_DIALECTS = "do_execute do_execute_no_params do_executemany do_begin execution_ctx_cls".split()
_FOLDER = os.path.dirname(sqlalchemy.__file__)


def _replaced(connection: Connection) -> str | None:
    """Which method that a statement goes through is not SQLAlchemy's own."""
    global _own_methods
    dialect, on_connection = connection.dialect, vars(connection)
    for name in _EXECUTING_NAMES & on_connection.keys():  # save by what a run of ours puts there
        if type(getattr(on_connection[name], "__self__", None)) not in (_Lending, _Run, Guard):
            return f"connection: {name} is replaced"
    for name in _DIALECTS_NAMES & vars(dialect).keys():
        return f"dialect: {name} is replaced"
    methods = (*map(vars(Connection).get, _EXECUTING), *_of_dialect(type(dialect)))
    if _own_methods and all(map(operator.is_, methods, _own_methods)):
        return None
    for name, method in zip(_EXECUTING, methods, strict=False):
        if not drivers.is_own(method, _FOLDER):
            return f"connection: {name} is replaced"
    for name, method in zip(_DIALECTS, methods[len(_EXECUTING) :], strict=True):
        is_own = isinstance(method, type) or drivers.is_own(method, _FOLDER)
        if not is_own or not method.__module__.startswith("sqlalchemy."):
            return f"dialect: {name} is replaced"
    _own_methods = methods
    return None


_EXECUTING_NAMES, _DIALECTS_NAMES = frozenset(_EXECUTING), frozenset(_DIALECTS)
_of_dialect = operator.attrgetter(*_DIALECTS)
_own_methods: tuple[Any, ...] = ()  # those that were found to be SQLAlchemy's own last


# Execution options that change nothing of what is sent.
_QUIET_OPTIONS = frozenset(["isolation_level", "compiled_cache"])

# Methods of an impl that send, or decide what is sent.
_SENDING = (
    "_exec execute alter_column add_column drop_column add_constraint drop_constraint rename_table "
    "create_table drop_table create_index create_table_comment drop_table_comment "
    "create_column_comment bulk_insert"
).split()
_SENDING_NAMES = frozenset(_SENDING)
_methods_that_send = operator.attrgetter(*_SENDING)


# Listeners for these are called with the connection, in the middle of a directive.
_DDL_EVENTS = ("before_create", "after_create", "before_drop", "after_drop")
_DIRECTIVES = sorted(plain.DIRECTIVES)


def _way_of_directives(context: MigrationContext) -> tuple[object, ...]:
    """All that :func:`_overridden` looks at, to be compared: it is quick, and that is not."""
    impl = context.impl
    return (
        [*map(vars(alembic_op).get, _DIRECTIVES), *map(vars(Operations).get, _DIRECTIVES)],
        _methods_that_send(type(impl)),
        _patches(impl),
        [*Operations._to_impl._registry.values()],
        len(registry._key_to_collection),
    )


def _patches(impl: DefaultImpl) -> dict[str, Any]:
    """What stands on an impl itself in the place of methods that send; what a run of ours puts there hides
    what was there before.
    """
    found = {name: vars(impl)[name] for name in vars(impl).keys() & _SENDING_NAMES}
    run = getattr(found.get("_exec"), "__self__", None)
    if type(run) is _Run:
        found["_exec"] = run.exec
        if getattr(run.exec, "__func__", None) is type(impl)._exec:
            del found["_exec"]
    return found


def _overridden(context: MigrationContext) -> str | None:
    """Whose code would see a directive pass, if it is not all Alembic's own."""
    patches = _patches(context.impl)
    for name in _SENDING:
        method = getattr(type(context.impl), name)
        if not all(_is_ours(m.__module__) for m in (method, patches.get(name, method))):
            return f"impl: {name} is overridden"
    for owner in alembic_op, Operations:
        for name in _DIRECTIVES:
            if not _is_alembics(vars(owner).get(name)):
                return f"op: {name} is replaced"
    listener = _foreign_listener(SchemaItem, only=_DDL_EVENTS)
    if listener is not None:
        return listener
    for (target, _), function in Operations._to_impl._registry.items():
        if target.__module__ == "alembic.operations.ops" and not function.__module__.startswith(
            "alembic."
        ):
            return f"operation: {target.__name__} is replaced"
    return None


def _is_alembics(function: Any) -> bool:
    """Whether a directive is as Alembic made it; it makes them with ``exec``."""
    if function is None:  # of a newer or an older Alembic
        return True
    names = getattr(function, "__globals__", {})
    operation = names.get("op_cls", Operations)
    return str(names.get("__name__")).startswith("alembic.") and str(
        operation.__module__
    ).startswith("alembic.")


class _Lending:
    """Keeps others from the driver's connection while statements are in flight on it.

    All that reaches the driver through SQLAlchemy's connection looks at its ``_dbapi_connection``,
    and asks ``_revalidate_connection`` when there is none. Statements are counted here, too.
    """

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.proxied = connection.connection
        self.executor: Executor | None = None
        self.guard: Guard | None = None
        self.execute: Callable[..., Any] | None = None

    def __enter__(self) -> None:
        if self.execute is not None and "execute" not in self.connection.__dict__:
            self.connection.__dict__["execute"] = self.execute
        self.commit = self.connection.__dict__.get("_commit_impl")  # the lock's
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

    def _settle(self) -> bool:
        if self.executor is None or not self.executor.unsettled:
            return False
        self.executor.settle()
        return True

    def _revalidate(self) -> Any:
        if self._settle():
            return self.proxied
        return Connection._revalidate_connection(self.connection)

    def _execute_context(self, *args: Any, **kw: Any) -> Any:
        executor = self.executor
        if executor is not None:
            executor.settle_for_commit()  # the statement may be one
        counters.plain_statements += 1
        # The driver sends its BEGIN first, and waits for it.
        begins = executor is not None and not executor.session.in_transaction
        counters.plain_waits += 2 if begins and not self._is_autocommit() else 1
        if executor is None or executor.times is None:
            return Connection._execute_context(self.connection, *args, **kw)
        began = time.perf_counter()
        result = Connection._execute_context(self.connection, *args, **kw)
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
                in_flight = self.executor.unsettled
                with runs.lock_retaken(self.guard) if in_flight else nullcontext():
                    self.executor.settle_for_commit()
            except Exception:
                # SQLAlchemy takes a COMMIT that failed for an end of the transaction.
                Connection._rollback_impl(self.connection)
                raise
        counters.plain_waits += 1
        if self.commit is not None:
            self.commit()
        else:
            Connection._commit_impl(self.connection)

    def _is_autocommit(self) -> bool:
        return bool(getattr(self.proxied.dbapi_connection, "autocommit", False))


# Characters of a text that is sent as Alembic sends it: a script of many statements, which no batch takes, and
# which SQLAlchemy takes a second to look through for each 50 MB.
_LONG_TEXT = 1_000_000


# What `_Run.look` saw last, of any run, and what it makes of that.
_looked_at: tuple[tuple[object, ...], str | None] = ((), None)


class _Run:
    """One ``run_migrations`` of a context, with its statements on their way through `executor`."""

    def __init__(self, context: MigrationContext, executor: Executor) -> None:
        assert context._migrations_fn is not None and context.connection is not None
        self.context = context
        self.connection = context.connection
        self.executor = executor
        self.find_steps = context._migrations_fn
        self.exec = context.impl._exec
        self.overridden: str | None = None
        self.look()  # before the impl has our own
        self.code: CodeType | None = None  # of the plain function that is running
        self.was_plain = False  # so was the one that ran last: its version rows go as it went
        self.versions: dict[str, str | None] = {}
        self.is_watched = not context.impl.transactional_ddl or bool(
            context.on_version_apply_callbacks
        )
        guard = runs.guard_of(context)
        if guard is not None and guard.limits.verbose:
            executor.times = Times()
            self.is_watched = True
        executor.gathers = self.is_watched or context._transaction_per_migration

    def look(self) -> None:
        """Learn whether somebody's code sees directives pass: that may change with each migration."""
        global _looked_at
        now = _way_of_directives(self.context)
        if now != _looked_at[0]:
            _looked_at = now, _overridden(self.context)
        self.overridden = _looked_at[1]

    def steps(self, *arguments: Any) -> Iterable[Any]:
        """The steps to run, each with its function wrapped."""
        found = self.find_steps(*arguments)
        steps = iter(found)
        while True:
            if not self._are_there(found):  # somebody's code runs between the migrations
                self.executor.settle()
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
        guard = runs.guard_of(self.context)
        return isinstance(steps, (list, tuple)) or (guard is not None and guard.plan_is_there)

    def _migration(self, step: MigrationStep, function: Callable[..., Any]) -> Callable[..., Any]:
        def migrate(**kw: Any) -> None:
            self.was_plain = False
            revision = getattr(step, "revision", None)
            if revision is None:  # a stamp
                function(**kw)
                return
            own = getattr(function, "migrate_ext_body", function)
            place = Place(function.__name__, revision.revision, revision.path)
            self.executor.place = place
            reason = self._reason_to_wait(own, revision.path)
            try:
                if reason is not None:
                    counters.plain(f"migration: {reason}")
                    self.executor.settle()
                else:
                    self.code = own.__code__
                function(**kw)
                if self.executor.driver.notices_are_heard:
                    self.executor.settle()
                self.was_plain = reason is None
            except Exception as error:
                # What was sent before Python failed comes first, as it would have under Alembic.
                self.executor.settle()
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

    def _refusal(self) -> str | None:
        """Why statements must go the driver's way, as things are now."""
        return (
            self.overridden
            or _refusal(self.connection)
            or drivers.foreign(self.executor.driver.connection)
        )

    def _reason_to_wait(self, function: Callable[..., Any], path: str) -> str | None:
        self.look()
        reason = self._refusal()
        if reason is None and not plain.looks_plain(function):
            code = getattr(function, "__code__", None)
            if code is None or code.co_filename != path:
                return "not the file's own function"
            reason = plain.reason_not_plain_in(path, function)  # type: ignore[arg-type]
        return reason

    def exec_directive(self, construct: Any, *args: Any, **kw: Any) -> Any:
        """Takes the place of the impl's ``_exec``."""
        ledger = self.executor.ledger
        ledger.rendered += 1
        if self.code is not None and not any(args) and not kw:
            rendered = self._rendered(construct)
            if rendered is not None and self.executor.submit(rendered, self._line()):
                return None
        ledger.by_driver += 1
        return self.exec(construct, *args, **kw)

    def execute(self, statement: Any, *args: Any, **kw: Any) -> Any:
        """Takes the place of the connection's ``execute``.

        A plain function throws away what it gives (:mod:`migrate_ext.execution.plain` has seen that), so its
        statements may wait, too. It is not called through other functions.
        """
        is_its_own = self.code is not None and sys._getframe(1).f_code is self.code
        ledger = self.executor.ledger
        ledger.rendered += 1
        if is_its_own and not args and not kw and not isinstance(statement, str):
            rendered = self._rendered(statement)
            if rendered is not None and self.executor.submit(rendered, self._line()):
                return None
        ledger.by_driver += 1
        return Connection.execute(self.connection, statement, *args, **kw)

    def _rendered(self, construct: Any) -> str | None:
        """A construct as SQLAlchemy would hand it to the driver; None where it sends more than text."""
        text = getattr(construct, "text", construct)
        if isinstance(text, str) and len(text) > _LONG_TEXT:
            counters.plain("statement: a long text")
            return None
        if isinstance(construct, str):
            construct = sqlalchemy.text(construct)
        if isinstance(construct, sqlalchemy.TextClause):
            if construct._bindparams:
                counters.plain("statement: with parameters")
                return None
        elif not isinstance(construct, sqlalchemy.schema.DDLElement):
            counters.plain("statement: SQLAlchemy reads its result")
            return None
        if construct._execution_options:
            counters.plain("statement: execution options")
            return None
        return str(construct.compile(dialect=self.connection.dialect))

    def _line(self) -> int | None:
        """The line that the plain function is at."""
        frame = sys._getframe(2)
        while frame is not None and frame.f_code is not self.code:
            frame = frame.f_back  # type: ignore[assignment]
        return frame and frame.f_lineno

    # the version table

    def write_version(self, maintainer: HeadMaintainer, method: str, *versions: str) -> bool:
        """Queue what a method of the maintainer would send; False: it must do that itself."""
        if not self.was_plain and self._refusal():
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
        taken = self.executor.submit(rendered, None, rows, is_last=True)
        self.executor.ledger.rendered += taken  # else it comes back as a directive
        return taken

    def _known_version_statement(self, method: str, count: int) -> str | None:
        """As :meth:`_version_statement`, rendered once for all runs on an engine with such a table."""
        table = self.context._version
        named = (table.schema, table, *table.columns)
        names = [getattr(found, "name", found) for found in named]
        key = (
            *(hooks.originals[HeadMaintainer, method], *map(type, named)),
            *(names, [getattr(name, "quote", None) for name in names]),
        )
        known = _version_statements.setdefault(self.connection.dialect, {})
        if known.get(method, ((), None))[0] != key:
            known[method] = (key, self._version_statement(method, count))
        return known[method][1]

    def _version_statement(self, method: str, count: int) -> str | None:
        """What Alembic's method sends, with stand-ins for the versions; None if that is not plain."""
        original = hooks.originals[HeadMaintainer, method]
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
        """A step and its version rows are done: settle where somebody is about to look.

        A transaction of its own is settled by its COMMIT.
        """
        if self.is_watched or self.executor.driver.notices_are_heard:
            self.executor.settle()


# Of each dialect, so of each engine: by method, what it was rendered for, and the statement.
_version_statements: WeakKeyDictionary[Dialect, dict[str, tuple[Any, str | None]]]
_version_statements = WeakKeyDictionary()

_STAND_INS = ("migrate_ext_stand_in_1", "migrate_ext_stand_in_2")
_is_quiet_name = re.compile(r"[A-Za-z0-9_.-]+").fullmatch


def _executor_for(context: MigrationContext) -> tuple[_Lending, Executor] | None:
    """An executor for `context`; None (counted, with the reason) where Alembic's path must do."""
    connection = context.connection
    if context.as_sql or connection is None:
        return None
    found = _refusal(connection)
    if found is None and "_execute_context" in connection.__dict__:
        found = "connection: in use by another run"
    if found is None:
        lent = drivers.lend(connection.connection.dbapi_connection)
        if not isinstance(lent, str):
            lending = _Lending(connection)
            lending.executor = Executor(connection, lent, lending)
            return lending, lending.executor
        found = lent
    counters.plain(found)
    return None


def _run_migrations(self: MigrationContext, **kw: Any) -> None:
    runs.run(self, lambda: _run_batched(self, **kw))


def _begin_transaction(self: MigrationContext, _per_migration: bool = False) -> Any:
    original = hooks.originals[MigrationContext, "begin_transaction"]
    return runs.begin_transaction(original, self, _per_migration)


def _autocommit_block(self: MigrationContext) -> Any:
    return runs.autocommit_block(hooks.originals[MigrationContext, "autocommit_block"], self)


def _end_transaction(self: _ProxyTransaction, type_: Any, value: Any, traceback: Any) -> None:
    original = hooks.originals[_ProxyTransaction, "__exit__"]
    runs.end_transaction(original, self, type_, value, traceback)


def _run_batched(self: MigrationContext, **kw: Any) -> None:
    run_migrations = hooks.originals[MigrationContext, "run_migrations"]
    found = _executor_for(self)
    if found is None:
        run_migrations(self, **kw)
        return
    lending, executor = found
    lending.guard = runs.guard_of(self)
    run, impl = _Run(self, executor), self.impl
    lending.execute = run.execute
    with lending, executor, runs.lock_in_batches(self, executor.submit_for_lock):
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
        hooks.originals[HeadMaintainer, "_insert_version"](self, version)


def _delete_version(self: HeadMaintainer, version: str) -> None:
    run = _run_of(self)
    if run and version in self.heads and run.write_version(self, "_delete_version", version):
        self.heads.remove(version)
    else:
        hooks.originals[HeadMaintainer, "_delete_version"](self, version)


def _update_version(self: HeadMaintainer, from_: str, to_: str) -> None:
    run = _run_of(self)
    known = from_ in self.heads and to_ not in self.heads
    if run and known and run.write_version(self, "_update_version", from_, to_):
        self.heads.remove(from_)
        self.heads.add(to_)
    else:
        hooks.originals[HeadMaintainer, "_update_version"](self, from_, to_)


def _update_to_step(self: HeadMaintainer, step: MigrationStep) -> None:
    hooks.originals[HeadMaintainer, "update_to_step"](self, step)
    runs.update_to_step(self)
    run = _run_of(self)
    if run is not None:
        run.after_step()
