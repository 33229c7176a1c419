"""What is quiet between two directives, beyond what a plain migration may use (:mod:`~migrate_ext.execution.allowed`).

What is not listed is loud.
"""

from __future__ import annotations

import builtins
import sys
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any

from migrate_ext.execution import allowed

# SQLAlchemy's constructs and what the database gave.
OP, BIND, CONTEXT, DIALECT, INSPECTOR = "op", "bind", "context", "dialect", "inspector"
ENGINE = "engine"  # only what is asked of it is quiet: it could connect
RESULT, ROWS, ROW = "result", "rows", "row"
FRESH = "a container made here"
SCALAR = "a string or a number"

# Attributes by kind, each with the kind of its value, or of what calling it gives.
OF_KIND: dict[str, dict[str, str | None]] = {
    BIND: {
        **{"dialect": DIALECT, "engine": ENGINE, "execute": RESULT, "exec_driver_sql": RESULT},
        **{"scalar": None, "scalars": RESULT},
    },
    CONTEXT: {"dialect": DIALECT, "bind": BIND, "connection": BIND, "as_sql": None},
    ENGINE: {"dialect": DIALECT, "name": None, "driver": None},
    DIALECT: {"name": None, "driver": None, "server_version_info": None},
    INSPECTOR: dict.fromkeys(
        "default_schema_name get_check_constraints get_columns get_enums get_foreign_keys get_indexes "
        "get_pk_constraint get_schema_names get_sequence_names get_table_comment get_table_names "
        "get_unique_constraints get_view_names has_index has_schema has_sequence has_table".split()
    ),
    RESULT: {
        **dict.fromkeys(("all", "fetchall", "fetchmany"), ROWS),
        **dict.fromkeys(("fetchone", "first", "one", "one_or_none"), ROW),
        **dict.fromkeys(("mappings", "scalars", "unique"), RESULT),
        **dict.fromkeys(("keys", "rowcount", "scalar", "scalar_one", "scalar_one_or_none")),
    },
    ROWS: {},
    ROW: {"_mapping": ROW, "_asdict": None},
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
    "json": "dumps loads",
    "posixpath": "abspath basename dirname join",
    "textwrap": "dedent indent",
    "uuid": "UUID uuid1 uuid3 uuid4 uuid5 NAMESPACE_DNS NAMESPACE_URL",
}
_STANDARD_MODULES = {"datetime", "decimal", "json", "os.path", "posixpath", "textwrap", "uuid"}
# Packages whose types render themselves from constants.
_TYPE_PACKAGES = ("sqlalchemy_utils", "pgvector", "fastapi_users_db_sqlalchemy")
# What a type of the project's may define: nothing of it is called when DDL is rendered.
_OF_OWN_TYPES = frozenset(
    "cache_ok coerce_compared_value comparator_factory impl process_bind_param process_result_value "
    "python_type should_evaluate_none sort_key_function "
    "__abstractmethods__ __annotations__ __annotate__ __annotate_func__ __annotations_cache__ "
    "__doc__ __dict__ __firstlineno__ __module__ __orig_bases__ __parameters__ __qualname__ "
    "__static_attributes__ __weakref__ _abc_impl".split()
)


def is_standard(value: Any) -> bool:
    """Whether a value is a listed function, type or module of the standard library, or of such a type."""
    kind = type(value)
    if kind is ModuleType:
        return value.__name__ in _STANDARD_MODULES and sys.modules.get(value.__name__) is value
    if kind not in (type, FunctionType, BuiltinFunctionType):
        return kind is not type and kind.__module__ in _STANDARD and is_standard(kind)
    name = value.__name__
    return (
        name in _STANDARD.get(value.__module__, "").split()
        and vars(sys.modules.get(value.__module__, builtins)).get(name) is value
    )


def is_quiet_type(value: Any) -> bool:
    """Whether a value is a class of types whose rendering is SQLAlchemy's alone."""
    types = sys.modules.get("sqlalchemy.sql.sqltypes")
    if (
        types is None
        or not issubclass(type(value), type)
        or not issubclass(value, types.TypeEngine)
    ):
        return False
    if type(value).__module__.partition(".")[0] not in ("builtins", "sqlalchemy"):
        return False
    for cls in value.__mro__:
        package = cls.__module__.partition(".")[0]
        if package in ("sqlalchemy", "builtins", "typing", *_TYPE_PACKAGES):
            continue
        names = {
            name
            for name, found in vars(cls).items()
            if name not in _OF_OWN_TYPES and not isinstance(found, (str, int, type(None)))
        }
        if names or not _is_quiet_impl(vars(cls).get("impl", types.Integer)):
            return False
    return True


def _is_quiet_impl(value: Any) -> bool:
    return allowed.is_allowed(value) or is_quiet_type(value)


def is_context(value: Any) -> bool:
    return type(value) is ModuleType and value is sys.modules.get("alembic.context")


QUIET_BUILTINS = (bytes, isinstance, any, all, repr, next, iter)


def builtins_of(function: Any) -> Any:
    return function.__builtins__
