"""Which migrations are *plain*: nothing but directives, so that Python may run ahead of the server.

A function is plain when all that it can reach is on the lists below: ``op`` directives, SQLAlchemy's
constructors and what is asked of their values, constants, pure built-ins. Whatever else it does (a
read, a file, a helper of the project) could look at the database or at the world in the middle, and
there each statement must be waited for, as under Alembic. What is not listed is a no.

There are two readings. :func:`looks_plain` takes the byte code of straight-line code, which costs a few
microseconds; its yes is never more than that of the syntax tree (:func:`reason_not_plain_in`), which knows
conditions, loops, blocks, ``bind.execute(...)`` and what hangs on a table's columns, too.
"""

from __future__ import annotations

import ast
import builtins
import importlib
import sys
from collections.abc import Iterable, Mapping
from opcode import opmap
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
_OF_OP = DIRECTIVES | {"f", "inline_literal"}
_OF_BATCH = frozenset(
    "add_column alter_column create_check_constraint create_exclude_constraint "
    "create_foreign_key create_index create_primary_key create_table_comment "
    "create_unique_constraint drop_column drop_constraint drop_index drop_table_comment f".split()
)
_BUILTINS = {
    name: getattr(builtins, name)
    for name in "abs bool dict enumerate float frozenset int len list max min range reversed set "
    "sorted str sum tuple zip".split()
}
_MODULES = frozenset(
    "sqlalchemy sqlalchemy.dialects sqlalchemy.dialects.mssql sqlalchemy.dialects.mysql "
    "sqlalchemy.dialects.oracle sqlalchemy.dialects.postgresql sqlalchemy.dialects.sqlite "
    "sqlalchemy.schema sqlalchemy.sql sqlalchemy.sql.expression sqlalchemy.sql.functions "
    "sqlalchemy.sql.schema sqlalchemy.sql.sqltypes sqlalchemy.types sqlmodel sqlmodel.sql "
    "sqlmodel.sql.sqltypes".split()
)
# Names in those modules; beside them all their types.
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
# What may be asked of a value: of SQLAlchemy's constructs, strings, and containers. None of it changes
# what it is asked of, but for _MUTATORS of lists and dictionaries.
_ATTRIBUTES = frozenset(
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
    # functions of `func` that many histories name; the tree allows any
    "array_agg coalesce concat count current_date current_timestamp gen_random_uuid greatest "
    "json_build_object jsonb_build_object jsonb_set least length lower max md5 min now nullif random "
    "replace string_agg substr substring sum timezone to_tsvector upper uuid_generate_v4 "
    # strings and containers
    "capitalize count format get index items join keys lower lstrip removeprefix removesuffix replace "
    "rstrip split splitlines strip title upper values".split()
)
_MUTATORS = frozenset(("insert", "update"))
_CONSTANTS = (str, int, float, bool, bytes, complex, NoneType, type(Ellipsis))
_COLUMNS = ("c", "columns", "excluded")  # collections whose attributes have any name
_DEEPEST = 5  # level of nested containers that is looked at


def _is_modules_own(value: Any) -> bool:
    """Whether a class or function is what it says: of this name, in that module of SQLAlchemy's."""
    if not isinstance(value, (type, FunctionType, BuiltinFunctionType)):
        return False
    module = value.__module__ or ""
    if module.partition(".")[0] not in ("sqlalchemy", "sqlmodel"):
        return False
    return vars(sys.modules.get(module, builtins)).get(value.__name__) is value


class _Listed:
    """The listed objects of the modules that are loaded, by identity."""

    def __init__(self) -> None:
        self.imported = 0  # modules of any kind, when the listed ones were looked through
        self.objects: dict[int, Any] = {}

    def __contains__(self, value: object) -> bool:
        if len(sys.modules) != self.imported:
            self.imported = len(sys.modules)
            self.objects = {
                id(found): found
                for name in _MODULES & sys.modules.keys()
                for constructor in _CONSTRUCTORS
                if (found := vars(sys.modules[name]).get(constructor)) is not None
                and (_is_modules_own(found) or _is_modules_own(type(found)))
            }
        return id(value) in self.objects


_listed = _Listed()


def _is_module(value: Any) -> bool:
    return (
        type(value) is ModuleType
        and value.__name__ in _MODULES
        and sys.modules.get(value.__name__) is value
    )


def _is_op(value: Any) -> bool:
    return type(value) is ModuleType and value is sys.modules.get("alembic.op")


def _is_allowed(value: Any, depth: int = 0) -> bool:
    """Whether a function that is plain may have `value` by the name of a global, or of a module's
    attribute.
    """
    kind = type(value)
    if kind in _CONSTANTS:
        return True
    if kind in (tuple, list, set, frozenset, dict):
        items: Iterable[Any] = value
        if kind is dict:
            items = [*value.keys(), *value.values()]
        return depth < _DEEPEST and all(_is_allowed(item, depth + 1) for item in items)
    if kind is ModuleType:
        return _is_op(value) or _is_module(value)
    if value in _listed:
        return True
    sql = sys.modules.get("sqlalchemy.sql.elements")
    schema = sys.modules.get("sqlalchemy.sql.schema")
    types = sys.modules.get("sqlalchemy.sql.sqltypes")
    if sql is None or schema is None or types is None:
        return False
    if isinstance(value, type):
        return issubclass(value, types.TypeEngine) and _is_modules_own(value)
    described = (sql.ClauseElement, schema.SchemaItem, types.TypeEngine)
    return _is_modules_own(kind) and isinstance(value, described) and not _is_listened_to(value)


def _is_listened_to(value: Any) -> bool:
    """Whether code of others runs when something is done to one of SQLAlchemy's objects.

    (``_event_names`` of its dispatchers was read in SQLAlchemy 2.0 and 2.1.)
    """
    events = vars(value).get("dispatch")
    return events is not None and any(list(getattr(events, name)) for name in events._event_names)


def _is_attribute(module: Any, name: str) -> bool:
    """Whether the attribute `name` may be asked of a listed module, or of `op`."""
    found = vars(module).get(name)
    known = _known_attributes.get((module.__name__, name))
    if known is not None and known[0] is found:
        return known[1]
    if name[:1] == "_":
        allowed = False
    elif _is_op(module):
        allowed = name in _OF_OP or (found is None and name in _ATTRIBUTES)
    else:
        allowed = _is_allowed(found) if found is not None else name in _ATTRIBUTES
    _known_attributes[module.__name__, name] = (found, allowed)
    return allowed


# (module, name) -> (what it was, whether it may be asked for)
_known_attributes: dict[tuple[str, str], tuple[Any, bool]] = {}


def _is_builtin(name: str) -> bool:
    known = _BUILTINS.get(name)
    return (
        known is not None
        and vars(builtins).get(name) is known
        and type(known) in (type, BuiltinFunctionType)
    )


# -------------------------------------------------------------------------------------------------
# The byte code

# Instructions of straight-line code without blocks, stores to anything but locals, functions made
# and calls with stars. A version of Python that is not here takes the tree.
_COMMON = (
    "NOP POP_TOP EXTENDED_ARG LOAD_CONST LOAD_FAST STORE_FAST LOAD_GLOBAL LOAD_ATTR RETURN_VALUE "
    "BUILD_TUPLE BUILD_LIST BUILD_SET BUILD_MAP BUILD_STRING BUILD_SLICE LIST_EXTEND SET_UPDATE "
    "UNPACK_SEQUENCE COMPARE_OP IS_OP CONTAINS_OP UNARY_NEGATIVE UNARY_NOT UNARY_INVERT "
)
_SINCE_3_11 = "CACHE RESUME CALL PUSH_NULL BINARY_OP COPY SWAP "
_SINCE_3_13 = (
    "CALL_KW FORMAT_SIMPLE FORMAT_WITH_SPEC CONVERT_VALUE BINARY_SLICE LOAD_FAST_CHECK "
    "LOAD_FAST_LOAD_FAST STORE_FAST_LOAD_FAST STORE_FAST_STORE_FAST TO_BOOL "
)
_INSTRUCTIONS = {
    (3, 10): _COMMON
    + "UNARY_POSITIVE BUILD_CONST_KEY_MAP LOAD_METHOD CALL_METHOD CALL_FUNCTION CALL_FUNCTION_KW "
    "FORMAT_VALUE BINARY_ADD BINARY_AND BINARY_FLOOR_DIVIDE BINARY_LSHIFT BINARY_MATRIX_MULTIPLY "
    "BINARY_MODULO BINARY_MULTIPLY BINARY_OR BINARY_POWER BINARY_RSHIFT BINARY_SUBSCR "
    "BINARY_SUBTRACT BINARY_TRUE_DIVIDE BINARY_XOR DUP_TOP ROT_TWO ROT_THREE ROT_FOUR",
    (3, 11): _COMMON
    + _SINCE_3_11
    + "UNARY_POSITIVE BUILD_CONST_KEY_MAP LOAD_METHOD PRECALL KW_NAMES FORMAT_VALUE BINARY_SUBSCR",
    (3, 12): _COMMON
    + _SINCE_3_11
    + "BUILD_CONST_KEY_MAP KW_NAMES FORMAT_VALUE BINARY_SUBSCR BINARY_SLICE RETURN_CONST LOAD_FAST_CHECK",
    (3, 13): _COMMON + _SINCE_3_11 + _SINCE_3_13 + "BUILD_CONST_KEY_MAP BINARY_SUBSCR RETURN_CONST",
    (3, 14): _COMMON
    + _SINCE_3_11
    + _SINCE_3_13
    + "LOAD_FAST_BORROW LOAD_FAST_BORROW_LOAD_FAST_BORROW LOAD_SMALL_INT",
}
_VERSION = sys.version_info[:2]
_ALLOWED = bytes(opmap[name] for name in _INSTRUCTIONS.get(_VERSION, "").split())
_EXTENDED_ARG = opmap["EXTENDED_ARG"]
# Kinds of instructions that are looked at further: those with a name, and operators. The index of a name is
# shifted by one where its lowest bit says more; _IS_ATTRIBUTE + 1 is such a LOAD_ATTR.
_IS_GLOBAL, _IS_OPERATOR, _IS_ATTRIBUTE = 1, 2, 3
_GLOBAL_SHIFT = int(_VERSION >= (3, 11))
_KINDS_BY_NAME = {
    "LOAD_GLOBAL": _IS_GLOBAL,
    "BINARY_OP": _IS_OPERATOR,
    "LOAD_ATTR": _IS_ATTRIBUTE + int(_VERSION >= (3, 12)),
    "LOAD_METHOD": _IS_ATTRIBUTE,
}
_KINDS = bytearray(256)
for _name, _kind in _KINDS_BY_NAME.items():
    if opmap.get(_name, 256) < 256:  # others are the compiler's own
        _KINDS[opmap[_name]] = _kind
_OPERATORS = frozenset(range(13)) | ({26} if _VERSION >= (3, 14) else set())  # NB_*; not in place
# Generators, coroutines, *args and **keywords (CO_*, see the inspect module).
_NOT_PLAIN_FLAGS = 0x04 | 0x08 | 0x20 | 0x80 | 0x200


def looks_plain(function: Any) -> bool:
    """Whether a function of an executed revision file is plain, seen from its code alone.

    A yes is as good as the tree's, at a hundredth of the cost. A no only means that the tree must be
    looked at.
    """
    if type(function) is not FunctionType or _VERSION not in _INSTRUCTIONS:
        return False
    code = function.__code__
    if code.co_argcount or code.co_kwonlyargcount or code.co_flags & _NOT_PLAIN_FLAGS:
        return False
    if code.co_freevars or code.co_cellvars:
        return False
    arguments = code.co_code
    opcodes = arguments[::2]
    if opcodes.translate(None, _ALLOWED) or getattr(code, "co_exceptiontable", b""):
        return False
    names = code.co_names
    globals_, attributes = set(), set()
    for kind, argument in _uses(opcodes, arguments[1::2]):
        if kind == _IS_GLOBAL:
            globals_.add(names[argument >> _GLOBAL_SHIFT])
        elif kind == _IS_OPERATOR:
            if argument not in _OPERATORS:
                return False
        elif kind:
            attributes.add(names[argument >> (kind - _IS_ATTRIBUTE)])
    return _are_plain(function, globals_, attributes)


def _uses(opcodes: bytes, arguments: bytes) -> set[tuple[int, int]]:
    """What kinds of instructions there are, each with its arguments; 0 is any other kind."""
    kinds = opcodes.translate(_KINDS)
    if _EXTENDED_ARG not in opcodes:
        return set(zip(kinds, arguments, strict=True))
    found, extended = set(), 0
    for opcode, kind, argument in zip(opcodes, kinds, arguments, strict=True):
        argument |= extended << 8
        extended = argument if opcode == _EXTENDED_ARG else 0
        found.add((kind, argument))
    return found


def _are_plain(function: Any, globals_: set[str], attributes: set[str]) -> bool:
    names = function.__globals__
    if function.__builtins__ is not vars(builtins):
        return False
    modules = {"alembic.op": sys.modules["alembic.op"]}
    changes = not _MUTATORS.isdisjoint(attributes)
    for name in globals_:
        if name not in names:
            if not _is_builtin(name):
                return False
            continue
        value = names[name]
        if not _is_allowed(value) or (changes and type(value) in (list, dict, set)):
            return False
        if type(value) is ModuleType:
            modules[value.__name__] = value
    left = [*modules.values()]
    for module in left:  # it grows: modules are attributes of modules
        for name in attributes:
            found = vars(module).get(name)
            if type(found) is ModuleType and found.__name__ not in modules:
                modules[found.__name__] = found
                left.append(found)
    return all(_may_be_asked(name, modules) for name in attributes)


def _may_be_asked(name: str, modules: dict[str, ModuleType]) -> bool:
    known = name in _ATTRIBUTES or name in _OF_OP
    for module in modules.values():
        if name in vars(module):
            if not _is_attribute(module, name):
                return False
            known = True
    return known


# -------------------------------------------------------------------------------------------------
# The tree


def reason_not_plain(
    source: str | bytes, function: str, walker: type[Checker] | None = None
) -> str | None:
    """None when `function` (``upgrade``, ``downgrade``) of a revision file is plain, else why not.

    source: the whole file, which is not run: what its names mean is read from its top. walker: what
    decides, where it is to refuse more. Cost: one parse and one walk of the tree.
    """
    tree = ast.parse(source)
    checker = (walker or Checker)()
    checker.module(tree)
    target = checker.functions.get(function)
    if target is None:
        return f"no function {function} at the top of the file"
    checker.function(target)
    return checker.reason


def reason_not_plain_in(path: str, function: FunctionType) -> str | None:
    """As :func:`reason_not_plain` for a function that was executed from the file at `path`, without
    the line, to be counted. What its names mean is what they are.
    """
    try:
        with open(path, "rb") as file:
            source = file.read()
        tree = ast.parse(source)
        compiled = compile(tree, path, "exec", dont_inherit=True)
    except (OSError, SyntaxError, ValueError):
        return "its source cannot be read"
    code = function.__code__
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.FunctionDef)
            and (node.name, node.lineno) == (code.co_name, code.co_firstlineno)
            and not node.decorator_list
            and code in compiled.co_consts  # else the file, or the function, is another one by now
        ):
            checker = Checker(function.__globals__)
            checker.function(node)
            return checker.reason and checker.reason.partition(": ")[2]
    return "its source is not what runs"


def _module(name: str) -> ModuleType | None:
    """A listed module, or ``alembic.op``; None for any other, and for one that is not installed."""
    if name not in _MODULES and name != "alembic.op":
        return None
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        return None


def _truth(node: ast.expr) -> bool | None:
    """What the compiler knows of a condition: it leaves out what is never reached."""
    code = compile(ast.Expression(node), "<condition>", "eval", dont_inherit=True)
    return bool(eval(code)) if not code.co_code[::2].translate(None, _CONSTANT) else None


def _reachable(statements: list[ast.stmt]) -> tuple[list[ast.stmt], bool]:
    """`statements` without what the compiler leaves out, and whether they always return."""
    found: list[ast.stmt] = []
    for node in statements:
        inner, ended = [node], isinstance(node, ast.Return)
        if isinstance(node, (ast.If, ast.While)):
            truth = _truth(node.test)
            body, body_ended = _reachable(node.body)
            orelse, orelse_ended = _reachable(node.orelse)
            if truth is False:
                inner, ended = orelse, orelse_ended
            elif isinstance(node, ast.If) and truth is True:
                inner, ended = body, body_ended
            elif isinstance(node, ast.If):
                inner = [ast.copy_location(ast.If(node.test, body, orelse), node)]
                ended = body_ended and orelse_ended
        elif isinstance(node, ast.Assert) and _truth(node.test) is True:
            inner = []
        found += inner
        if ended:
            return found, True
    return found, False


_CONSTANT = bytes(
    opmap[name]
    for name in (
        "CACHE",
        "RESUME",
        "NOP",
        "LOAD_CONST",
        "LOAD_SMALL_INT",
        "RETURN_VALUE",
        "RETURN_CONST",
    )
    if name in opmap
)
# Expressions that are as plain as their parts.
_TRANSPARENT = (
    ast.Tuple,
    ast.List,
    ast.Set,
    ast.Dict,
    ast.Starred,
    ast.JoinedStr,
    ast.FormattedValue,
    ast.UnaryOp,
    ast.BinOp,
    ast.Compare,
    ast.Subscript,
    ast.Slice,
)
_UNKNOWN, _VALUE = object(), object()  # what a name at the top of a file may mean, beside an object


class Checker:
    """Walks one function. ``reason`` is the first thing that is not plain, with its line.

    names: the function's globals, where it was executed; None: :meth:`module` reads them.
    """

    def __init__(self, names: Mapping[str, Any] | None = None) -> None:
        self.reason: str | None = None
        self.functions: dict[str, ast.FunctionDef] = {}
        self.names: dict[str, Any] = {} if names is None else dict(names)
        self.locals: set[str] = set()
        self.globals: set[str] = set()  # declared so
        self.binds: set[str] = set()  # locals that are `op.get_bind()`, and never anything else
        self.batches: set[str] = set()  # those of `with op.batch_alter_table(...) as`, likewise
        self.open: set[str] = set()  # of these, those whose block we are in
        self.changes = False  # lists and dictionaries may be changed: see _MUTATORS

    def refuse(self, node: ast.AST, what: str) -> None:
        if self.reason is None:
            self.reason = f"line {getattr(node, 'lineno', 0)}: {what}"

    # the file

    def module(self, tree: ast.Module) -> None:
        """Learn what names at the top mean. Unknown ones make their users not plain."""
        for statement in tree.body:
            self._module_statement(statement)
        for node in ast.walk(tree):
            if isinstance(node, ast.Global):
                for name in node.names:
                    self._learn(name, _UNKNOWN)
            elif isinstance(node, ast.NamedExpr):
                self._forget(node.target)

    def _module_statement(self, node: ast.stmt) -> None:
        if isinstance(node, ast.FunctionDef) and not node.decorator_list:
            self._learn(node.name, _UNKNOWN)
            self.functions[node.name] = node
        elif isinstance(node, ast.Import):
            for alias in node.names:
                name = alias.name if alias.asname else alias.name.partition(".")[0]
                known = _module(name) if _module(alias.name) is not None else None
                self._learn(alias.asname or name, known or _UNKNOWN)
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                if alias.name == "*":
                    self.refuse(node, "a star import")
                self._learn(alias.asname or alias.name, self._imported(node, alias.name))
        elif isinstance(node, (ast.Assign, ast.AnnAssign)) and node.value is not None:
            meaning = _VALUE if self._is_quietly_plain(node.value) else _UNKNOWN
            if isinstance(node.value, (ast.Constant, ast.JoinedStr)) and meaning is _VALUE:
                meaning = ""
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                if isinstance(target, ast.Name):
                    self._learn(target.id, meaning)
                else:
                    self._forget(target)
        else:
            self._forget(node)

    def _learn(self, name: str, meaning: Any) -> None:
        self.functions.pop(name, None)
        self.names[name] = meaning

    def _forget(self, node: ast.AST) -> None:
        """Whatever `node` may bind or change means something unknown from here on."""
        for part in ast.walk(node):
            if isinstance(part, ast.Name) and not isinstance(node, ast.Expr):
                self._learn(part.id, _UNKNOWN)
            # What else binds: functions, classes, imports, except clauses, patterns.
            for name in (getattr(part, field, None) for field in ("name", "asname", "rest")):
                if isinstance(name, str):
                    self._learn(name.split(".")[0], _UNKNOWN)

    @staticmethod
    def _imported(node: ast.ImportFrom, name: str) -> Any:
        if node.level or node.module is None:
            return _UNKNOWN
        if node.module == "alembic":
            return _module(f"alembic.{name}") or _UNKNOWN
        found = _module(f"{node.module}.{name}")
        if found is None and (module := _module(node.module)) is not None:
            found = getattr(module, name, None)
        return found if found is not None and _is_allowed(found) else _UNKNOWN

    def _is_quietly_plain(self, node: ast.expr) -> bool:
        before, self.reason = self.reason, None
        self.expression(node)
        plain, self.reason = self.reason is None, before
        return plain

    # the function

    def function(self, node: ast.FunctionDef) -> None:
        arguments = node.args
        if arguments.posonlyargs or arguments.args or arguments.kwonlyargs:
            self.refuse(node, "takes arguments")
        if arguments.vararg or arguments.kwarg:
            self.refuse(node, "takes arguments")
        for part in ast.walk(node):
            if isinstance(part, ast.Global):
                self.globals.update(part.names)
            elif isinstance(part, ast.Name) and not isinstance(part.ctx, ast.Load):
                self.locals.add(part.id)
        self.locals -= self.globals
        body, _ = _reachable(node.body)
        self._uses(body)
        self.body(body)

    def _uses(self, body: list[ast.stmt]) -> None:
        """Which locals only ever hold a bind or a batch, and whether a container may be changed."""
        binds: set[ast.expr] = set()  # the nodes that bind them
        batches: set[ast.expr | None] = set()
        parts = [part for statement in body for part in ast.walk(statement)]
        for part in parts:
            if isinstance(part, ast.Attribute) and part.attr in _MUTATORS:
                self.changes = True
            elif isinstance(part, ast.Assign) and self._is_get_bind(part.value):
                binds.update(part.targets[:1] if len(part.targets) == 1 else ())
            elif isinstance(part, ast.With) and self._is_batch(part):
                batches.add(part.items[0].optional_vars)
        others = set()
        for part in parts:
            if isinstance(part, ast.Name) and not isinstance(part.ctx, ast.Load):
                if part in binds:
                    self.binds.add(part.id)
                elif part in batches:
                    self.batches.add(part.id)
                else:
                    others.add(part.id)
        mixed = others | self.globals | (self.binds & self.batches)
        self.binds -= mixed
        self.batches -= mixed

    def body(self, statements: list[ast.stmt]) -> None:
        for statement in statements:
            self.statement(statement)

    def statement(self, node: ast.stmt) -> None:
        if isinstance(node, ast.Expr):
            if not (isinstance(node.value, ast.Call) and self._is_thrown_away(node.value)):
                self.expression(node.value)
        elif isinstance(node, ast.Return):
            if node.value is not None:
                self.expression(node.value)
        elif isinstance(node, ast.Assign):
            if not (self._is_get_bind(node.value) and _name_of(node.targets[0]) in self.binds):
                self.expression(node.value)
            for target in node.targets:
                self._bind(target)
        elif isinstance(node, ast.AnnAssign):
            if node.value is not None:
                self.expression(node.value)
                self._bind(node.target)
            elif not isinstance(node.target, ast.Name):
                self._parts(node.target)
        elif isinstance(node, ast.If):
            self.expression(node.test)
            self.body(node.body)
            self.body(node.orelse)
        elif isinstance(node, ast.For) and not node.orelse:
            self.expression(node.iter)
            self._bind(node.target)
            self.body(node.body)
        elif isinstance(node, ast.With):
            self._with(node)
        elif not isinstance(node, (ast.Pass, ast.Global)):
            self.refuse(node, f"a {type(node).__name__} statement")

    def _is_get_bind(self, node: ast.expr) -> bool:
        """``op.get_bind()``"""
        return (
            isinstance(node, ast.Call)
            and self._is_of_op(node.func, "get_bind")
            and not (node.args or node.keywords)
        )

    def _is_batch(self, node: ast.With) -> bool:
        """``with op.batch_alter_table("t") as batch:``"""
        call = node.items[0].context_expr
        return (
            len(node.items) == 1
            and isinstance(call, ast.Call)
            and self._is_of_op(call.func, "batch_alter_table")
            and isinstance(node.items[0].optional_vars, ast.Name)
        )

    def _is_thrown_away(self, call: ast.Call) -> bool:
        """``bind.execute(one)`` as a statement: nobody looks at what it gives."""
        function = call.func
        if not (
            isinstance(function, ast.Attribute)
            and function.attr == "execute"
            and len(call.args) == 1
            and not isinstance(call.args[0], ast.Starred)
            and not call.keywords
        ):
            return False
        bind = function.value
        if not self._is_get_bind(bind) and _name_of(bind) not in self.binds:
            return False
        self._arguments(call)
        return True

    def _bind(self, target: ast.expr) -> None:
        if isinstance(target, ast.Name):
            if target.id in self.globals:
                self.refuse(target, f"the global {target.id} is set")
        elif isinstance(target, (ast.Tuple, ast.List)):
            for element in target.elts:
                self._bind(element)
        else:
            self.refuse(target, "an assignment to something else than a name")

    def _with(self, node: ast.With) -> None:
        """The one block that is plain is that of ``op.batch_alter_table``."""
        call = node.items[0].context_expr
        name = _name_of(node.items[0].optional_vars)
        if not (self._is_batch(node) and isinstance(call, ast.Call) and name in self.batches):
            self.refuse(node, "a with block")
            return
        self._arguments(call)
        was_open = name in self.open
        self.open.add(name)
        self.body(node.body)
        if not was_open:
            self.open.discard(name)

    # expressions

    def expression(self, node: ast.expr) -> None:
        """Refuse what is not a literal, listed, or made of such."""
        if isinstance(node, ast.Constant):
            return
        if isinstance(node, ast.Name):
            self._name(node)
        elif isinstance(node, ast.Attribute):
            self._attribute(node)
        elif isinstance(node, ast.Call):
            self._call(node)
        elif isinstance(node, ast.NamedExpr):
            self.expression(node.value)
            self._bind(node.target)
        elif isinstance(node, ast.IfExp):
            self.expression(node.test)
            for branch, never in ((node.body, False), (node.orelse, True)):
                if _truth(node.test) is not never:
                    self.expression(branch)
        elif isinstance(node, ast.BoolOp):
            for value in node.values:
                self.expression(value)
                if _truth(value) is isinstance(node.op, ast.Or):
                    return
        elif isinstance(node, _TRANSPARENT):
            self._parts(node)
        else:
            self.refuse(node, f"a {type(node).__name__} expression")

    def _parts(self, node: ast.expr) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.expr):
                self.expression(child)

    def _name(self, node: ast.Name) -> None:
        name = node.id
        if name in self.locals:
            allowed = name not in self.binds and name not in self.batches
        elif name in self.names:
            value = self.names[name]
            allowed = value is _VALUE or (value is not _UNKNOWN and _is_allowed(value))
            if self.changes and (value is _VALUE or type(value) in (list, dict, set)):
                allowed = False
        else:
            allowed = _is_builtin(name) or name == "__debug__"
        if not allowed:
            self.refuse(node, f"the name {name}")

    def is_value(self, name: str) -> bool:
        """A local, or a global of the file's own."""
        if name in self.locals:
            return name not in self.open
        found = self.names.get(name, _UNKNOWN)
        return found is not _UNKNOWN and type(found) is not ModuleType

    def _meaning(self, node: ast.expr) -> Any:
        """The object that a dotted name stands for; None where that is not known."""
        if isinstance(node, ast.Name) and node.id not in self.locals:
            found = self.names.get(node.id)
            return None if found is _UNKNOWN or found is _VALUE else found
        if isinstance(node, ast.Attribute):
            module = self._meaning(node.value)
            return vars(module).get(node.attr) if type(module) is ModuleType else None
        return None

    def _is_of_op(self, node: ast.expr, attribute: str) -> bool:
        return (
            isinstance(node, ast.Attribute)
            and node.attr == attribute
            and _is_op(self._meaning(node.value))
        )

    def _attribute(self, node: ast.Attribute) -> None:
        base, name = node.value, node.attr
        if _name_of(base) in self.open:
            allowed = name in _OF_BATCH
        else:
            self.expression(base)
            meaning = self._meaning(base)
            if type(meaning) is ModuleType:
                allowed = _is_attribute(meaning, name)
            else:
                allowed = name in _ATTRIBUTES or name in _OF_OP
                if name[:1] != "_":
                    allowed |= isinstance(base, ast.Attribute) and base.attr in _COLUMNS
                    allowed |= meaning is not None and meaning is _func()
        if not allowed:
            self.refuse(node, f"the attribute {name}")

    def _call(self, node: ast.Call) -> None:
        self.expression(node.func)
        self._arguments(node)

    def _arguments(self, call: ast.Call) -> None:
        for argument in call.args:
            self.expression(argument)
        for keyword in call.keywords:
            self.expression(keyword.value)


def _name_of(node: ast.AST | None) -> str:
    return node.id if isinstance(node, ast.Name) else ""


def _func() -> Any:
    """``sqlalchemy.func``, which makes a function of SQL's of any name."""
    return vars(sys.modules["sqlalchemy"]).get("func")
