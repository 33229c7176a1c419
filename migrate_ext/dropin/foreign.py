"""Finds code other than Alembic's and SQLAlchemy's that would see or change a directive or a statement.

Private names of both are read here (Alembic 1.13 and 1.20.1, SQLAlchemy 2.0 and 2.1).
"""

from __future__ import annotations

import operator
import os
from collections.abc import Collection, Iterator
from typing import Any

import sqlalchemy
from alembic import op as alembic_op
from alembic.ddl.impl import DefaultImpl
from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from sqlalchemy.dialects import postgresql
from sqlalchemy.engine import Connection, Dialect, Engine
from sqlalchemy.event import registry
from sqlalchemy.pool import Pool
from sqlalchemy.schema import SchemaItem
from sqlalchemy.sql import functions
from sqlalchemy.sql.visitors import Visitable

from migrate_ext.execution import allowed, drivers
from migrate_ext.locking.events import Events
from migrate_ext.locking.run_lock import RunLock

stand_ins: set[type] = {RunLock}  # our classes whose methods replace methods on an instance


def with_standard_strings(dialect: Dialect) -> Dialect:
    """Have `dialect` render for a server with ``standard_conforming_strings`` on. Until it connects
    to one, SQLAlchemy 2.0 doubles backslashes.
    """
    dialect._backslash_escapes = False  # type: ignore[attr-defined]
    return dialect


def foreign_rendering() -> str | None:
    """Why directives may render other SQL than with Alembic and SQLAlchemy alone (a listener on all
    tables, a ``@compiles``, a replaced directive), or None.
    """
    listener = _foreign_listener(SchemaItem, Engine, Connection, Dialect, Pool)
    if listener is not None:
        return listener
    for cls in _subclasses(Visitable):
        if not _is_compiled_by_sqlalchemy(cls):
            return f"a @compiles for {cls.__name__}"
    for key, function in Operations._to_impl._registry.items():
        if callable(function) and not _is_ours(getattr(function, "__module__", "")):
            return f"a replaced operation, {key[0].__name__ if isinstance(key, tuple) else key}"
    impl: type = DefaultImpl.get_by_dialect(postgresql.dialect())  # type: ignore[no-untyped-call]
    if not all(_is_ours(cls.__module__) for cls in impl.__mro__[:-1]):
        return f"an implementation of its own, {impl.__name__}"
    return None


def _foreign_listener(*classes: type, only: Collection[str] | None = None) -> str | None:
    """A listener for all objects of a class that is not SQLAlchemy's own, as a reason, or None.

    only: names of the events to check; None: all.
    """
    for cls in _subclasses(*classes):
        events = getattr(cls, "dispatch", None)
        for name in getattr(events, "_event_names", ()):
            if only is not None and name not in only:
                continue
            for listener in getattr(getattr(events, name), "_clslevel", {}).get(cls, ()):
                # sqlalchemy.sql.naming has SQLAlchemy's own; other listeners are wrapped elsewhere.
                if listener.__module__ != "sqlalchemy.sql.naming":
                    return f"a listener for {name} on all of {cls.__name__}"
    return None


def _is_ours(module: str) -> bool:
    return module.partition(".")[0] in ("alembic", "sqlalchemy", "migrate_ext")


def _subclasses(*classes: type) -> Iterator[type]:
    for cls in classes:
        yield cls
        yield from _subclasses(*cls.__subclasses__())


def refusal(connection: Connection) -> str | None:
    """Why the driver must execute the statements on `connection` in its present state, or None."""
    if type(connection) is not Connection:
        return "connection: not SQLAlchemy's own class"
    if connection.dialect.name != "postgresql":
        return f"database: {connection.dialect.name}"
    if connection._has_events or connection.engine._has_events:
        dispatch = connection.dispatch
        listeners = [listener for name in _EVENTS for listener in getattr(dispatch, name)]
        if any(getattr(listener, "__module__", "") != Events.__module__ for listener in listeners):
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


# Events that can change or observe a statement. (The lock listens, too, when the driver executes.)
_EVENTS = ("before_execute", "after_execute", "before_cursor_execute", "after_cursor_execute")

# Methods through which statements pass from a connection to the driver.
_EXECUTING = (
    "execute exec_driver_sql _execute_clauseelement _execute_ddl _execute_context "
    "_exec_single_context _cursor_execute"
).split()
_DIALECTS = (
    "do_execute do_execute_no_params do_executemany do_begin execution_ctx_cls get_isolation_level"
).split()
_FOLDER = os.path.dirname(sqlalchemy.__file__)


def _replaced(connection: Connection) -> str | None:
    """A method that statements pass through and that is not SQLAlchemy's own, as a reason, or None."""
    global _own_methods
    dialect, on_connection = connection.dialect, vars(connection)
    for name in _EXECUTING_NAMES & on_connection.keys():  # our own run may replace them
        if type(getattr(on_connection[name], "__self__", None)) not in stand_ins:
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
_own_methods: tuple[Any, ...] = ()  # the methods last found to be SQLAlchemy's own


# Execution options that do not change what is sent.
_QUIET_OPTIONS = frozenset(["isolation_level", "compiled_cache"])

# Methods of an impl that send, or decide what is sent.
_SENDING = (
    "_exec execute alter_column add_column drop_column add_constraint drop_constraint rename_table "
    "create_table drop_table create_index create_table_comment drop_table_comment "
    "create_column_comment bulk_insert"
).split()
_SENDING_NAMES = frozenset(_SENDING)
_methods_that_send = operator.attrgetter(*_SENDING)


# Listeners for these events receive the connection, in the middle of a directive.
_DDL_EVENTS = ("before_create", "after_create", "before_drop", "after_drop")
_DIRECTIVES = sorted(allowed.DIRECTIVES)


def way_of_directives(context: MigrationContext) -> tuple[object, ...]:
    """All that :func:`overridden` checks. Comparing two of these is much faster than checking."""
    impl = context.impl
    return (
        [*map(vars(alembic_op).get, _DIRECTIVES), *map(vars(Operations).get, _DIRECTIVES)],
        Operations.invoke,
        _methods_that_send(type(impl)),
        _patches(impl),
        [*Operations._to_impl._registry.values()],
        [
            (name, *names["_compiler_dispatcher"].specs.items())
            for name, names in _NAMES_OF_CONSTRUCTS
            if "_compiler_dispatcher" in names
        ],
        len(functions._registry["_default"]),
        context.opts.get("target_metadata"),
        len(registry._key_to_collection),
    )


def _is_compiled_by_sqlalchemy(cls: type) -> bool:
    """Whether no ``@compiles`` of the project's renders a construct for PostgreSQL."""
    specs = getattr(vars(cls).get("_compiler_dispatcher"), "specs", {})
    functions = (specs.get(name) for name in ("postgresql", "default"))
    return all(function is None or _is_ours(function.__module__) for function in functions)


# What directives are rendered from.
_CONSTRUCTS = [
    (name, cls)
    for module in (sqlalchemy.schema, sqlalchemy.types, sqlalchemy.sql.expression, postgresql)
    for name, cls in vars(module).items()
    if isinstance(cls, type) and issubclass(cls, Visitable)
]


_NAMES_OF_CONSTRUCTS = [(name, vars(cls)) for name, cls in _CONSTRUCTS]  # which stay up to date


def _foreign_compiler() -> str | None:
    """What renders one of SQLAlchemy's own constructs that is not SQLAlchemy."""
    for name, cls in _CONSTRUCTS:
        if not _is_compiled_by_sqlalchemy(cls):
            return f"a @compiles for {name}"
    for name, cls in functions._registry["_default"].items():
        if not _is_ours(cls.__module__):
            return f"a function of the project's, {name}"
    return None


def _foreign_names(context: MigrationContext) -> str | None:
    """Whether a function of the project's names constraints."""
    metadata = context.opts.get("target_metadata")
    for found in metadata if isinstance(metadata, (list, tuple)) else [metadata]:
        if any(map(callable, (getattr(found, "naming_convention", None) or {}).values())):
            return "a naming convention with functions"
    return None


def _patches(impl: DefaultImpl) -> dict[str, Any]:
    """Attributes of an impl instance that replace methods that send. Where our own run has replaced
    ``_exec``, the ``_exec`` before that counts.
    """
    found = {name: vars(impl)[name] for name in vars(impl).keys() & _SENDING_NAMES}
    run: Any = getattr(found.get("_exec"), "__self__", None)
    if type(run) in stand_ins:
        found["_exec"] = run.exec
        if getattr(run.exec, "__func__", None) is type(impl)._exec:
            del found["_exec"]
    return found


def overridden(context: MigrationContext) -> str | None:
    """Code other than Alembic's that would see directives, as a reason; None if there is none."""
    patches = _patches(context.impl)
    for name in _SENDING:
        method = getattr(type(context.impl), name)
        if not all(_is_ours(m.__module__) for m in (method, patches.get(name, method))):
            return f"impl: {name} is overridden"
    for owner in alembic_op, Operations:
        for name in _DIRECTIVES:
            if not _is_alembics(vars(owner).get(name)):
                return f"op: {name} is replaced"
    if not _is_ours(Operations.invoke.__module__):
        return "op: invoke is replaced"
    found = _foreign_listener(SchemaItem) or _foreign_compiler() or _foreign_names(context)
    if found is not None:
        return found
    for (target, _), function in Operations._to_impl._registry.items():
        if target.__module__ == "alembic.operations.ops" and not function.__module__.startswith(
            "alembic."
        ):
            return f"operation: {target.__name__} is replaced"
    return None


def _is_alembics(function: Any) -> bool:
    """Whether a directive is Alembic's own function; Alembic creates them with ``exec``."""
    if function is None:  # a directive of another Alembic version
        return True
    names = getattr(function, "__globals__", {})
    operation = names.get("op_cls", Operations)
    return str(names.get("__name__")).startswith("alembic.") and str(
        operation.__module__
    ).startswith("alembic.")
