"""Which migrations are *plain*: nothing but directives, so that Python may run ahead of the server.

A function is plain when its syntax tree shows nothing but ``op`` directives, SQLAlchemy's
constructors, literals and pure built-ins. Whatever else it does (a ``bind``, a loop over the
unknown, a file, a helper of the project) could look at the database or at the world in the middle,
and there each statement must be waited for, as under Alembic. Doubt is a no.
"""

from __future__ import annotations

import ast
import builtins
import sys
from opcode import opmap
from types import BuiltinFunctionType, CodeType, FunctionType, ModuleType, NoneType
from typing import Any

# Directives that only send SQL. Everything else of `op` (get_bind, get_context, invoke ...) is not
# plain.
DIRECTIVES = frozenset(
    "add_column alter_column bulk_insert create_check_constraint create_exclude_constraint "
    "create_foreign_key create_index create_primary_key create_table create_table_comment "
    "create_unique_constraint drop_column drop_constraint drop_index drop_table "
    "drop_table_comment execute rename_table".split()
)
_BATCH_DIRECTIVES = frozenset(
    "add_column alter_column create_check_constraint create_exclude_constraint "
    "create_foreign_key create_index create_primary_key create_table_comment "
    "create_unique_constraint drop_column drop_constraint drop_index drop_table_comment".split()
)
_BUILTINS = frozenset(
    "abs bool dict enumerate float frozenset int len list max min range reversed set sorted str sum "
    "tuple zip".split()
)
_CONSTANT_METHODS = frozenset("format join lower upper strip rstrip lstrip replace".split())
# Parts of SQLAlchemy, and the types that SQLModel adds, which only describe SQL; ORM and engines are not among them.
_DESCRIPTIVE = (
    "sqlalchemy.dialects",
    "sqlalchemy.schema",
    "sqlalchemy.sql",
    "sqlalchemy.types",
    "sqlmodel.sql.sqltypes",
)
# What `import sqlalchemy` and `import sqlmodel` give beside them.
_NOT_DESCRIPTIVE = frozenset(
    "create_engine create_mock_engine create_pool_from_url engine engine_from_config event ext "
    "inspect inspection log main orm pool testing util Session SQLModel".split()
)


def _is_descriptive(module: str) -> bool:
    return module in ("sqlalchemy", "sqlmodel") or any(
        module == name or module.startswith(name + ".") for name in _DESCRIPTIVE
    )


def looks_plain(function: Any) -> bool:
    """Whether a function of an executed revision file is plain, seen from its code alone.

    A yes is as good as :func:`reason_not_plain`'s, at a hundredth of the cost: no name that the
    code uses, as a global or as an attribute, leads to more than directives, SQLAlchemy's
    constructors, constants and pure built-ins, and no block could catch an error. A no only means
    that the syntax tree must be looked at. Loops and conditions over such are allowed here: all
    they can do is to send directives in their order.
    """
    if type(function) is not FunctionType:
        return False
    code = function.__code__
    if code.co_argcount or code.co_kwonlyargcount or code.co_flags & _NOT_PLAIN_FLAGS:
        return False
    if code.co_freevars or code.co_cellvars or _has_blocks(code):
        return False
    if any(type(constant) is CodeType for constant in code.co_consts):
        return False
    names, unsafe = function.__globals__, _unsafe_names()
    for name in code.co_names:
        if name[0] == "_" or name in unsafe:
            return False
        if name in names:
            if not _is_quiet(names[name]):
                return False
        elif hasattr(builtins, name) and name not in _BUILTINS:
            return False
    return True


# Generators, coroutines, *args and **keywords (CO_*, see the inspect module).
_NOT_PLAIN_FLAGS = 0x04 | 0x08 | 0x20 | 0x80 | 0x200
_BLOCKS = frozenset(  # before Python 3.11
    opmap[name] for name in ("SETUP_FINALLY", "SETUP_WITH", "SETUP_ASYNC_WITH") if name in opmap
)
# Methods of SQLAlchemy's objects that reach a database, or might.
_READERS = frozenset(
    "all connect create create_all create_engine drop drop_all execute first inspect one reflect "
    "scalar scalars".split()
)
_UNSAFE = _NOT_DESCRIPTIVE | (_READERS - DIRECTIVES)
_known_unsafe: tuple[int, frozenset[str]] = (0, frozenset())


def _unsafe_names() -> frozenset[str]:
    """With what ``alembic.op`` offers beside directives, to which projects may add."""
    global _known_unsafe
    offered = vars(sys.modules["alembic.op"])
    if _known_unsafe[0] != len(offered):
        quiet = DIRECTIVES | {"f", "inline_literal"}
        _known_unsafe = (len(offered), _UNSAFE | (frozenset(offered) - quiet))
    return _known_unsafe[1]


def _has_blocks(code: CodeType) -> bool:
    table = getattr(code, "co_exceptiontable", None)
    return bool(table) if table is not None else not _BLOCKS.isdisjoint(code.co_code[::2])


def _is_quiet(value: Any) -> bool:
    """Whether the value of a global is a constant, or a part of SQLAlchemy that describes SQL."""
    kind = type(value)
    if kind in _CONSTANTS:
        return True
    if kind is ModuleType:
        return value is sys.modules["alembic.op"] or _is_descriptive(value.__name__)
    if kind in (tuple, list, set, frozenset):
        return all(type(item) in _CONSTANTS for item in value)
    if kind is dict:
        return all(type(k) in _CONSTANTS and type(v) in _CONSTANTS for k, v in value.items())
    if isinstance(value, (type, FunctionType, BuiltinFunctionType)):
        return value.__name__ not in _UNSAFE and _is_descriptive(value.__module__ or "")
    return _is_descriptive(kind.__module__)


_CONSTANTS = (str, int, float, bool, bytes, NoneType)


def reason_not_plain(
    source: str | bytes, function: str, walker: type[Checker] | None = None
) -> str | None:
    """None when `function` (``upgrade``, ``downgrade``) of a revision file is plain, else why not.

    source: the whole file. walker: what decides, where it is to refuse more. Cost: one parse and one
    walk of the tree.
    """
    tree = ast.parse(source)
    checker = (walker or Checker)()
    checker.module(tree)
    target = checker.functions.get(function)
    if target is None:
        return f"no function {function} at the top of the file"
    checker.function(target)
    return checker.reason


def reason_not_plain_in(path: str, function: str) -> str | None:
    """As :func:`reason_not_plain` for a file; without the line, to be counted."""
    try:
        with open(path, "rb") as file:
            reason = reason_not_plain(file.read(), function)
    except (OSError, SyntaxError, ValueError):
        return "its source cannot be read"
    return reason and reason.partition(": ")[2]


class Checker:
    """Walks one file. ``reason`` is the first thing that is not plain, with its line."""

    def __init__(self) -> None:
        self.reason: str | None = None
        self.functions: dict[str, ast.FunctionDef] = {}
        # What names mean: "op", "sa" (a module or an attribute of SQLAlchemy's), "value" (a
        # literal or SQLAlchemy's object), "batch", "bind" (of `op.get_bind()`).
        self.names: dict[str, str] = {}

    def refuse(self, node: ast.AST, what: str) -> None:
        if self.reason is None:
            self.reason = f"line {getattr(node, 'lineno', 0)}: {what}"

    # the file

    def module(self, tree: ast.Module) -> None:
        """Learn what names at the top mean. Unknown ones make their users not plain."""
        for statement in tree.body:
            self.module_statement(statement)
        for node in ast.walk(tree):
            if isinstance(node, ast.Global):
                for name in node.names:
                    self._learn(name, "unknown")
            elif isinstance(node, ast.NamedExpr):
                self._forget(node.target)

    def module_statement(self, node: ast.stmt) -> None:
        if isinstance(node, ast.FunctionDef) and not node.decorator_list:
            self.names.pop(node.name, None)
            self.functions[node.name] = node
        elif isinstance(node, ast.Import):
            for alias in node.names:
                name = alias.asname or alias.name.split(".")[0]
                self._learn(name, "sa" if _is_descriptive(alias.name) else "unknown")
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                if alias.name == "*":
                    self.refuse(node, "a star import")
                self._learn(alias.asname or alias.name, self._imported(node, alias.name))
        elif isinstance(node, (ast.Assign, ast.AnnAssign)) and node.value is not None:
            kind = "value" if self._is_quietly_value(node.value) else "unknown"
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                if isinstance(target, ast.Name):
                    self._learn(target.id, kind)
                else:
                    self._forget(target)
        else:
            self._forget(node)

    def _learn(self, name: str, kind: str) -> None:
        self.functions.pop(name, None)
        self.names[name] = kind

    def _forget(self, node: ast.AST) -> None:
        """Whatever `node` may bind or change means something unknown from here on."""
        for part in ast.walk(node):
            if isinstance(part, ast.Name) and not isinstance(node, ast.Expr):
                self._learn(part.id, "unknown")
            # What else binds: functions, classes, imports, except clauses, patterns.
            for name in (getattr(part, field, None) for field in ("name", "asname", "rest")):
                if isinstance(name, str):
                    self._learn(name.split(".")[0], "unknown")

    @staticmethod
    def _imported(node: ast.ImportFrom, name: str) -> str:
        if node.level:
            return "unknown"
        if node.module == "alembic" and name == "op":
            return "op"
        if node.module and _is_descriptive(node.module) and name not in _NOT_DESCRIPTIVE:
            return "sa"
        return "unknown"

    def _is_quietly_value(self, node: ast.expr) -> bool:
        before, self.reason = self.reason, None
        self.expression(node)
        plain, self.reason = self.reason is None, before
        return plain

    # the function

    def function(self, node: ast.FunctionDef) -> None:
        arguments = node.args
        if arguments.args or arguments.kwonlyargs or arguments.vararg or arguments.kwarg:
            self.refuse(node, "takes arguments")
        self.body(node.body)

    def body(self, statements: list[ast.stmt]) -> None:
        for statement in statements:
            self.statement(statement)

    def statement(self, node: ast.stmt) -> None:
        if isinstance(node, ast.Pass):
            return
        if isinstance(node, ast.Expr):
            if isinstance(node.value, ast.Call) and (
                self._directive(node.value) or self._thrown_away(node.value)
            ):
                return
            if isinstance(node.value, ast.Constant):
                return
            self.expression(node.value)
        elif isinstance(node, ast.Assign):
            self._assign(node.targets, node.value)
        elif isinstance(node, ast.AnnAssign) and node.value is not None:
            self._assign([node.target], node.value)
        elif isinstance(node, ast.For) and not node.orelse:
            self.expression(node.iter)
            self._bind(node.target)
            self.body(node.body)
        elif isinstance(node, ast.With):
            self._with(node)
        else:
            self.refuse(node, f"a {type(node).__name__} statement")

    def _assign(self, targets: list[ast.expr], value: ast.expr) -> None:
        if isinstance(value, ast.Call) and self._directive(value):
            pass  # `table = op.create_table(...)`: a Table
        elif self._is_get_bind(value) and len(targets) == 1 and isinstance(targets[0], ast.Name):
            self.names[targets[0].id] = "bind"
            return
        else:
            self.expression(value)
        for target in targets:
            self._bind(target)

    def _is_get_bind(self, node: ast.expr) -> bool:
        """``op.get_bind()``"""
        return (
            isinstance(node, ast.Call)
            and self._is_op(node.func, "get_bind")
            and not (node.args or node.keywords)
        )

    def _thrown_away(self, call: ast.Call) -> bool:
        """``bind.execute(one)`` as a statement: nobody looks at what it gives."""
        function = call.func
        if not (
            isinstance(function, ast.Attribute)
            and function.attr == "execute"
            and len(call.args) == 1
            and not call.keywords
        ):
            return False
        bind = function.value
        if not self._is_get_bind(bind) and not (
            isinstance(bind, ast.Name) and self.names.get(bind.id) == "bind"
        ):
            return False
        self._arguments(call)
        return True

    def _bind(self, target: ast.expr) -> None:
        if isinstance(target, ast.Name):
            self.names[target.id] = "value"
        elif isinstance(target, (ast.Tuple, ast.List)):
            for element in target.elts:
                self._bind(element)
        else:
            self.refuse(target, "an assignment to something else than a name")

    def _with(self, node: ast.With) -> None:
        """``with op.batch_alter_table("t") as batch:`` is the one block that is plain."""
        item = node.items[0]
        call = item.context_expr
        if (
            len(node.items) == 1
            and isinstance(call, ast.Call)
            and self._is_op(call.func, "batch_alter_table")
            and isinstance(item.optional_vars, ast.Name)
        ):
            self._arguments(call)
            name = item.optional_vars.id
            self.names[name] = "batch"
            self.body(node.body)
            self.names[name] = "unknown"
        else:
            self.refuse(node, "a with block")

    # expressions

    def _is_op(self, node: ast.expr, attribute: str, kinds: tuple[str, ...] = ("op",)) -> bool:
        return (
            isinstance(node, ast.Attribute)
            and node.attr == attribute
            and isinstance(node.value, ast.Name)
            and self.names.get(node.value.id) in kinds
        )

    def _directive(self, call: ast.Call) -> bool:
        function = call.func
        if isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name):
            kind = self.names.get(function.value.id)
            allowed = {"op": DIRECTIVES, "batch": _BATCH_DIRECTIVES}.get(kind or "", frozenset())
            if function.attr in allowed:
                self._arguments(call)
                return True
        return False

    def _arguments(self, call: ast.Call) -> None:
        for argument in call.args:
            self.expression(argument)
        for keyword in call.keywords:
            self.expression(keyword.value)

    def expression(self, node: ast.expr) -> None:
        """Refuse what is not a literal, SQLAlchemy's, or a pure function of such."""
        if isinstance(node, ast.Constant):
            return
        if isinstance(node, ast.Name):
            if self.names.get(node.id) not in ("sa", "value"):
                self.refuse(node, f"the name {node.id}")
        elif isinstance(node, (ast.Tuple, ast.List, ast.Set)):
            for element in node.elts:
                self.expression(element)
        elif isinstance(node, ast.Dict):
            for part in [*node.keys, *node.values]:
                if part is not None:
                    self.expression(part)
        elif isinstance(node, ast.Starred):
            self.expression(node.value)
        elif isinstance(node, ast.JoinedStr):
            for value in node.values:
                self.expression(value)
        elif isinstance(node, ast.FormattedValue):
            self.expression(node.value)
            if node.format_spec is not None:
                self.expression(node.format_spec)
        elif isinstance(node, (ast.UnaryOp, ast.BinOp, ast.Compare, ast.BoolOp, ast.Subscript)):
            for child in ast.iter_child_nodes(node):
                if isinstance(child, ast.expr):
                    self.expression(child)
        elif isinstance(node, ast.Slice):
            for part in (node.lower, node.upper, node.step):
                if part is not None:
                    self.expression(part)
        elif isinstance(node, ast.Attribute):
            if node.attr.startswith("_") or node.attr in _NOT_DESCRIPTIVE:
                self.refuse(node, f"the attribute {node.attr}")
            self.expression(node.value)
        elif isinstance(node, ast.Call):
            self._call(node)
        else:
            self.refuse(node, f"a {type(node).__name__} expression")

    def _call(self, node: ast.Call) -> None:
        function = node.func
        if isinstance(function, ast.Name) and function.id in _BUILTINS:
            if function.id in self.names or function.id in self.functions:
                self.refuse(node, f"{function.id} is not the built-in")
        elif self._is_op(function, "f", ("op", "batch")) or self._is_op(function, "inline_literal"):
            pass
        elif isinstance(function, ast.Attribute) and isinstance(function.value, ast.Constant):
            if function.attr not in _CONSTANT_METHODS:
                self.refuse(node, f"a call of .{function.attr}()")
        elif isinstance(function, ast.Attribute) and self._is_reader(function.attr):
            self.refuse(node, f"a call of .{function.attr}()")
        else:
            self.expression(function)
        self._arguments(node)

    @staticmethod
    def _is_reader(attribute: str) -> bool:
        return attribute in _READERS
