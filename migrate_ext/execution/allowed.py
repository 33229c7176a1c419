"""What a plain migration may name: directives, constructors, attributes, built-ins, modules.

A name that is not listed makes a migration not plain (:mod:`migrate_ext.execution.plain`).
"""

from __future__ import annotations

import builtins
import sys
from collections.abc import Iterable
from types import BuiltinFunctionType, FunctionType, ModuleType, NoneType
from typing import Any

# -------------------------------------------------------------------------------------------------
# What is allowed

# Directives that only send SQL. Everything else of `op` (get_bind, get_context, invoke ...) is not
# plain.
DIRECTIVES = frozenset(
    "add_column alter_column bulk_insert create_check_constraint create_exclude_constraint "
    "create_foreign_key create_index create_primary_key create_table create_table_comment "
    "create_unique_constraint drop_column drop_constraint drop_index drop_table "
    "drop_table_comment execute rename_table".split()
)
OF_OP = DIRECTIVES | {"f", "inline_literal"}
OF_BATCH = frozenset(
    "add_column alter_column create_check_constraint create_exclude_constraint "
    "create_foreign_key create_index create_primary_key create_table_comment "
    "create_unique_constraint drop_column drop_constraint drop_index drop_table_comment f".split()
)
_BUILTINS = {
    name: getattr(builtins, name)
    for name in "abs bool dict enumerate float frozenset int len list max min range reversed set "
    "sorted str sum tuple zip".split()
}
MODULES = frozenset(
    "sqlalchemy sqlalchemy.dialects sqlalchemy.dialects.mssql sqlalchemy.dialects.mysql "
    "sqlalchemy.dialects.oracle sqlalchemy.dialects.postgresql sqlalchemy.dialects.sqlite "
    "sqlalchemy.schema sqlalchemy.sql sqlalchemy.sql.expression sqlalchemy.sql.functions "
    "sqlalchemy.sql.schema sqlalchemy.sql.sqltypes sqlalchemy.types sqlmodel sqlmodel.sql "
    "sqlmodel.sql.sqltypes".split()
)
# Names in those modules. All their types are allowed, too.
_CONSTRUCTORS = frozenset(
    # schema
    "AddConstraint CheckConstraint Column Computed CreateIndex CreateSchema CreateSequence CreateTable "
    "DDL DefaultClause DropConstraint DropIndex DropSchema DropSequence DropTable "
    "ExcludeConstraint FetchedValue ForeignKey ForeignKeyConstraint Identity Index MetaData "
    "PrimaryKeyConstraint Sequence Table "
    "UniqueConstraint conv quoted_name "
    # expressions
    "aggregate_order_by all_ and_ any_ array array_agg asc between bindparam case cast collate column "
    "delete desc distinct except_ except_all exists extract false func hstore insert intersect "
    "intersect_all join lateral literal literal_column not_ null nulls_first nulls_last nullsfirst "
    "nullslast or_ outerjoin over select table text true try_cast tuple_ type_coerce union union_all "
    "update values".split()
)
# Attributes that may be used on a value: of SQLAlchemy's constructs, strings, and containers. None
# of them changes the value, except MUTATORS, which change lists and dictionaries.
ATTRIBUTES = frozenset(
    # constructs
    "alias any as_boolean as_integer as_scalar as_string asc astext between bindparams bool_op c cast "
    "collate columns concat contained_by contains correlate cte delete desc distinct endswith "
    "excluded exists from_select group_by has_all has_any has_key having icontains iendswith ilike "
    "in_ insert intersect is_ is_distinct_from is_not is_not_distinct_from isnot isnot_distinct_from "
    "istartswith join key label lateral like limit match name not_ilike not_in not_like notilike "
    "notin_ notlike nulls_first nulls_last nullsfirst nullslast offset on_conflict_do_nothing "
    "on_conflict_do_update op order_by outerjoin over overlaps params regexp_match regexp_replace "
    "returning scalar_subquery select select_from startswith subquery table type union union_all "
    "update values where with_variant within_group NULL "
    # functions of `func` that many migrations use; the tree allows any
    "array_agg coalesce concat count current_date current_timestamp gen_random_uuid greatest "
    "json_build_object jsonb_build_object jsonb_set least length lower max md5 min now nullif random "
    "replace string_agg substr substring sum timezone to_tsvector upper uuid_generate_v4 "
    # strings and containers
    "capitalize count format get index items join keys lower lstrip removeprefix removesuffix replace "
    "rstrip split splitlines strip title upper values".split()
)
MUTATORS = frozenset(("insert", "update"))
_CONSTANTS = (str, int, float, bool, bytes, complex, NoneType, type(Ellipsis))
COLUMNS = ("c", "columns", "excluded")  # collections whose attributes have any name
_DEEPEST = 5  # levels of nested containers that are checked


def _is_modules_own(value: Any) -> bool:
    """Whether a class or function is the one that SQLAlchemy's module has under its name."""
    # Never isinstance(), which may call the value's own `__class__`.
    if not issubclass(type(value), (type, FunctionType, BuiltinFunctionType)):
        return False
    module = value.__module__ or ""
    if module.partition(".")[0] not in ("sqlalchemy", "sqlmodel"):
        return False
    if type(value) is FunctionType:  # no wrapper of others, which would look the same
        inside = str(value.__globals__.get("__name__")).partition(".")[0]
        if inside not in ("sqlalchemy", "sqlmodel"):
            return False
    return vars(sys.modules.get(module, builtins)).get(value.__name__) is value


class _Listed:
    """The listed objects of the loaded modules, compared by identity."""

    def __init__(self) -> None:
        self.imported = 0  # len(sys.modules) when `objects` was built
        self.objects: dict[int, Any] = {}

    def __contains__(self, value: object) -> bool:
        if len(sys.modules) != self.imported:
            self.imported = len(sys.modules)
            self.objects = {
                id(found): found
                for name in MODULES & sys.modules.keys()
                for constructor in _CONSTRUCTORS
                if (found := vars(sys.modules[name]).get(constructor)) is not None
                and (_is_modules_own(found) or _is_modules_own(type(found)))
            }
        return id(value) in self.objects


_listed = _Listed()


def is_module(value: Any) -> bool:
    return (
        type(value) is ModuleType
        and value.__name__ in MODULES
        and sys.modules.get(value.__name__) is value
    )


def is_op(value: Any) -> bool:
    return type(value) is ModuleType and value is sys.modules.get("alembic.op")


def is_allowed(value: Any, depth: int = 0) -> bool:
    """Whether a plain function may use `value`, the value of a global or of a module's attribute."""
    kind = type(value)
    if kind in _CONSTANTS:
        return True
    if kind in (tuple, list, set, frozenset, dict):
        items: Iterable[Any] = value
        if kind is dict:
            items = [*value.keys(), *value.values()]
        return depth < _DEEPEST and all(is_allowed(item, depth + 1) for item in items)
    if kind is ModuleType:
        return is_op(value) or is_module(value)
    if value in _listed:
        return True
    sql = sys.modules.get("sqlalchemy.sql.elements")
    schema = sys.modules.get("sqlalchemy.sql.schema")
    types = sys.modules.get("sqlalchemy.sql.sqltypes")
    if sql is None or schema is None or types is None:
        return False
    if issubclass(kind, type):
        return issubclass(value, types.TypeEngine) and _is_modules_own(value)
    described = (sql.ClauseElement, schema.SchemaItem, types.TypeEngine)
    return (
        _is_modules_own(kind)
        and issubclass(kind, described)
        and not _is_listened_to(value)
        and _is_all_own(value)
    )


def _is_all_own(value: Any) -> bool:
    """Whether all that one of SQLAlchemy's objects is made of is SQLAlchemy's: rendering it would call what
    is not.
    """
    schema: Any = sys.modules["sqlalchemy.sql.schema"]
    types: Any = sys.modules["sqlalchemy.sql.sqltypes"]
    selectable: Any = sys.modules["sqlalchemy.sql.selectable"]
    elements: Any = sys.modules["sqlalchemy.sql.elements"]
    kind = type(value)
    if issubclass(kind, types.TypeEngine):
        return _is_own_type(value)
    if kind is schema.MetaData:
        convention = value.naming_convention
        is_own = all(type(found) is str for pair in convention.items() for found in pair)
        return is_own and not value.tables
    if kind is schema.Column:
        default = value.server_default
        is_text = default is None or (
            type(default) is schema.DefaultClause and _is_text(default.arg)
        )
        rest = (value.default, value.onupdate, value.computed, value.identity, value.table)
        texts = (value.name, value.comment)
        return (
            _is_own_type(value.type)
            and is_text
            and rest == (None,) * 5
            and not (value.constraints or value.foreign_keys or value.info)
            and all(map(_is_name, texts))
        )
    if kind is elements.TextClause:
        return _is_text(value)
    columns = [value]
    if kind is selectable.TableClause:
        columns = [*value.columns]
        if not (_is_name(value.name) and _is_name(value.schema)):
            return False
    elif kind is not elements.ColumnClause:
        return False
    return all(
        type(column) is elements.ColumnClause
        and _is_name(column.name)
        and _is_own_type(column.type)
        for column in columns
    )


def _is_name(value: Any) -> bool:
    elements: Any = sys.modules["sqlalchemy.sql.elements"]
    return value is None or type(value) in (str, elements.quoted_name, elements.conv)


def _is_text(value: Any) -> bool:
    elements: Any = sys.modules["sqlalchemy.sql.elements"]
    return type(value) is str or (
        type(value) is elements.TextClause and type(value.text) is str and not value._bindparams
    )


def _is_own_type(value: Any, depth: int = 0) -> bool:
    """Whether a type, and each type in it, is one of SQLAlchemy's."""
    if value is None:
        return True
    if not _is_modules_own(type(value)) or depth > _DEEPEST:
        return False
    inner = [getattr(value, name, None) for name in ("item_type", "impl", "_default_type")]
    inner += getattr(value, "_variant_mapping", {}).values()
    types: Any = sys.modules["sqlalchemy.sql.sqltypes"]
    return all(
        _is_own_type(found, depth + 1)
        for found in inner
        if isinstance(found, types.TypeEngine) and found is not value
    )


def _is_listened_to(value: Any) -> bool:
    """Whether one of SQLAlchemy's objects has event listeners.

    (``_event_names`` of its dispatchers was read in SQLAlchemy 2.0 and 2.1.)
    """
    events = vars(value).get("dispatch")
    return events is not None and any(list(getattr(events, name)) for name in events._event_names)


def is_attribute(module: Any, name: str) -> bool:
    """Whether a plain function may use the attribute `name` of a listed module, or of `op`."""
    found = vars(module).get(name)
    known = _known_attributes.get((module.__name__, name))
    if known is not None and known[0] is found:
        return known[1]
    if name[:1] == "_":
        allowed = False
    elif is_op(module):
        allowed = name in OF_OP or (found is None and name in ATTRIBUTES)
    else:
        allowed = is_allowed(found) if found is not None else name in ATTRIBUTES
    _known_attributes[module.__name__, name] = (found, allowed)
    return allowed


# (module, name) -> (its value, whether it is allowed); checked again when the value is replaced
_known_attributes: dict[tuple[str, str], tuple[Any, bool]] = {}


def is_builtin(name: str) -> bool:
    known = _BUILTINS.get(name)
    return (
        known is not None
        and vars(builtins).get(name) is known
        and type(known) in (type, BuiltinFunctionType)
    )
