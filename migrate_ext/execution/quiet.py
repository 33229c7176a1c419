"""What is quiet between two directives, beyond what a plain migration may use (:mod:`~migrate_ext.execution.allowed`).

What is not listed is loud.
"""

from __future__ import annotations

import sys
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any

from migrate_ext.execution import allowed

# What a value is, where that says what may be asked of it. A value of no kind is made of constants and of
# SQLAlchemy's constructs.
OP, BIND, CONTEXT, DIALECT = "op", "bind", "context", "dialect"
ENGINE = "engine"  # only what is asked of it is quiet: it could connect
FRESH = "a container made here"
SCALAR = "a string or a number"
BATCH = "batch"
TABLE = "a table that is only names"
# What a query gives (migrate_ext.execution.results looks at its values when it runs), and an ORM session on
# the migration's connection.
RESULT, ROWS, ROW, SCALARS = "a result", "rows", "a row", "strings or numbers of rows"
SESSION = "session"
READS = frozenset((BIND, SESSION))  # what `execute`, `scalar` and `scalars` are asked of
# A column whose type is a class of the project's: rendering it calls that class.
OWN_COLUMN, OWN_COLUMNS = "a column with a type of the project's", "a tuple of such columns"
# Kinds that nobody can change, or of which it does not matter.
UNCHANGING = frozenset((OP, BIND, CONTEXT, DIALECT, SCALAR, BATCH, ROW, OWN_COLUMN, OWN_COLUMNS))
# What a call of a method gives, by the kind of the object.
GIVES: dict[Any, dict[str, str]] = {
    **dict.fromkeys(READS, {"execute": RESULT, "scalar": SCALAR, "scalars": SCALARS}),
    RESULT: {
        **dict.fromkeys(("all", "fetchall"), ROWS),
        **dict.fromkeys(("fetchone", "first", "one", "one_or_none"), ROW),
        **dict.fromkeys(("scalar", "scalar_one", "scalar_one_or_none"), SCALAR),
        "mappings": RESULT,
        "scalars": SCALARS,
    },
    SCALARS: {
        **dict.fromkeys(("all", "fetchall"), SCALARS),
        **dict.fromkeys(("first", "one", "one_or_none"), SCALAR),
    },
}
# What comes out of an iteration or a subscript, by the kind of what is iterated.
ITEMS: dict[Any, str] = {
    RESULT: ROW,
    ROWS: ROW,
    SCALARS: SCALAR,
    ROW: SCALAR,
    OWN_COLUMNS: OWN_COLUMN,
}

# Attributes by kind, each with the kind of its value.
OF_KIND: dict[str, dict[str, str | None]] = {
    BIND: {"dialect": DIALECT, "engine": ENGINE},
    CONTEXT: {
        "dialect": DIALECT,
        "bind": BIND,
        "connection": BIND,
        "as_sql": SCALAR,
        "autocommit_block": None,  # what it gives does nothing before `with`
    },
    RESULT: dict.fromkeys((*GIVES[RESULT], "rowcount")),
    SCALARS: dict.fromkeys(GIVES[SCALARS]),
    SESSION: dict.fromkeys("close commit flush".split()),
    ENGINE: {"dialect": DIALECT, "name": SCALAR, "driver": SCALAR},
    DIALECT: {"name": SCALAR, "driver": SCALAR, "server_version_info": None},
}
# Of containers that were made in the function, and of which nobody else knows.
OF_FRESH = frozenset("add append clear copy discard extend pop remove reverse setdefault".split())
# Beyond allowed.ATTRIBUTES, of values: dates, identifiers, strings.
OF_VALUES = frozenset(
    "date days encode decode endswith fromisoformat hex hour int isoformat isdigit minute month now "
    "strftime time timestamp today total_seconds tzinfo utc utcnow year zfill".split()
)
# Pure functions and types of the standard library.
_STANDARD = {
    "datetime": "date datetime time timedelta timezone UTC",
    "decimal": "Decimal",
    "posixpath": "abspath basename dirname join",
    "textwrap": "dedent indent",
    "uuid": "UUID uuid1 uuid3 uuid4 uuid5 NAMESPACE_DNS NAMESPACE_URL",
}
_STANDARD_MODULES = {"datetime", "decimal", "os.path", "posixpath", "textwrap", "uuid"}


def is_standard(value: Any) -> bool:
    """Whether a value is a listed function, type or module of the standard library."""
    kind = type(value)
    if kind is ModuleType:
        return value.__name__ in _STANDARD_MODULES and sys.modules.get(value.__name__) is value
    if kind not in (type, FunctionType, BuiltinFunctionType):
        return False
    module = sys.modules.get(str(value.__module__))
    name = value.__name__
    if name not in _STANDARD.get(value.__module__, "").split() or module is None:
        return False
    # No wrapper, and no patch: it is written in the module's own file.
    is_own = kind is not FunctionType or (
        value.__globals__ is vars(module)
        and value.__code__.co_filename
        in (getattr(module, "__file__", None), f"<frozen {module.__name__}>")
        and not hasattr(value, "__wrapped__")
    )
    return is_own and vars(module).get(name) is value


def is_scalar(value: Any, depth: int = 0) -> bool:
    """Whether a value is a string or a number, or a container of such and of tuples of such."""
    if type(value) in ((tuple, frozenset) if depth else (tuple, list, frozenset, set)):
        return depth < 5 and all(is_scalar(item, depth + 1) for item in value)
    return type(value) in (str, int, float, bool, bytes, type(None))


def is_own_type(value: Any) -> bool:
    """Whether a value is a class of the project's for types, of which SQLAlchemy calls public methods
    alone, and only while it renders a type.
    """
    types: Any = sys.modules.get("sqlalchemy.sql.sqltypes")
    if type(value) is not type or types is None or not issubclass(value, types.TypeEngine):
        return False
    own = [cls for cls in value.__mro__ if cls.__module__.partition(".")[0] not in _THEIRS]
    is_schema_type = any(
        base in value.__mro__ for base in (types.SchemaType, types.Enum, types.Boolean)
    )
    return (
        value in own
        and not is_schema_type
        and all(name[:1] != "_" or name in _OF_CLASSES for cls in own for name in vars(cls))
    )


def is_made_quietly(cls: Any) -> bool:
    """Whether an instance of such a class, and a column with it, is made by SQLAlchemy's code alone."""
    for base in cls.__mro__:
        if base.__module__.partition(".")[0] in _THEIRS:
            continue
        if "__init__" in vars(base) or not allowed.is_allowed(vars(base).get("impl")):
            return False
        if any(name not in _OF_CLASSES and name not in _ASKED_LATER for name in vars(base)):
            return False
    return True


_THEIRS = ("sqlalchemy", "typing", "builtins")
# What SQLAlchemy asks of a type only when it renders it, or a statement with it.
_ASKED_LATER = frozenset(
    "bind_expression bind_processor cache_ok coerce_compared_value column_expression comparator_factory "
    "compare_values get_col_spec impl literal_processor load_dialect_impl process_bind_param "
    "process_literal_param process_result_value python_type result_processor".split()
)
_OF_CLASSES = frozenset(
    "__module__ __qualname__ __doc__ __init__ __repr__ __annotations__ __firstlineno__ "
    "__static_attributes__ __orig_bases__ __parameters__ __visit_name__ __dict__ __weakref__".split()
)


def constant_of_class(cls: Any, name: str) -> tuple[Any, list[tuple[type, Any]]] | None:
    """The string or number that reading ``cls.name`` gives, and what each class on the way to it has under
    that name; None where reading it gives anything else, or calls code.
    """
    kind: Any = type(cls)
    if not issubclass(kind, type):
        return None
    for meta in kind.__mro__:
        if meta in (type, object):
            continue
        if meta.__module__.partition(".")[0] not in ("abc", "sqlalchemy", "typing"):
            return None
        if name in vars(meta) or {"__getattr__", "__getattribute__"} & vars(meta).keys():
            return None
    if name in vars(type):
        return None
    passed: list[tuple[type, Any]] = []
    for base in cls.__mro__:
        value = vars(base).get(name)
        passed.append((base, value))
        if name in vars(base):
            return (value, passed) if type(value) in (str, int, float, bool, bytes) else None
    return None


def is_session_class(value: Any) -> bool:
    """Whether a value is ``sqlalchemy.orm.Session``, and nobody listens to all sessions or has replaced
    their methods.
    """
    module: Any = sys.modules.get("sqlalchemy.orm.session")
    if module is None or value is not module.Session:
        return False
    events = value.dispatch
    return not any(getattr(events, n)._clslevel.get(value) for n in events._event_names) and all(
        type(method) is FunctionType and method.__globals__ is vars(module)
        for method in (getattr(value, name) for name in _OF_SESSIONS)
    )


_OF_SESSIONS = (
    "__init__ _connection_for_bind _execute_internal close commit execute flush get_bind scalar scalars"
).split()


def is_context(value: Any) -> bool:
    return type(value) is ModuleType and value is sys.modules.get("alembic.context")


QUIET_BUILTINS = (bytes, isinstance, any, all, repr)


def builtins_of(function: Any) -> Any:
    return function.__builtins__
