"""Which migrations are *plain*: nothing but directives, so that Python may run ahead of the server.

A function is plain if everything it can reach is listed in :mod:`migrate_ext.execution.allowed`:
``op`` directives, SQLAlchemy's constructors and the attributes of their values, constants, pure
built-ins. Anything else (a query, a file, a helper of the project) could observe the database or
the outside world between two statements; then each statement must be awaited, as under Alembic.

There are two checks. :func:`migrate_ext.execution.plain_bytecode.looks_plain` reads the byte code
of straight-line code, in a few microseconds. It accepts nothing that the check of the syntax tree
(:func:`reason_not_plain_in`) does not accept; the latter also handles conditions, loops, blocks,
``bind.execute(...)`` and attributes of a table's columns.
"""

from __future__ import annotations

import ast
import importlib
import sys
from collections.abc import Mapping
from opcode import opmap
from types import FunctionType, ModuleType
from typing import Any

from migrate_ext.execution import allowed
from migrate_ext.execution.source import tree_of

# -------------------------------------------------------------------------------------------------
# The tree


def reason_not_plain(
    source: str | bytes, function: str, walker: type[Checker] | None = None
) -> str | None:
    """None if `function` (``upgrade``, ``downgrade``) of a revision file is plain, else why not.

    source: the whole file. It is not executed: its top-level statements tell what its names mean.
    walker: a stricter subclass of :class:`Checker`. Cost: one parse and one walk of the tree.
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
    """Like :func:`reason_not_plain`, for a function of the executed file at `path`; its names are
    looked up in its globals. The reason has no line, so that equal reasons can be counted.
    """
    node = tree_of(path, function)
    return node if isinstance(node, str) else reason_not_plain_of(function, node)


def reason_not_plain_of(function: FunctionType, node: ast.FunctionDef) -> str | None:
    """As :func:`reason_not_plain_in`, with the function's tree."""
    checker = Checker(function.__globals__)
    checker.function(node)
    return checker.reason and checker.reason.partition(": ")[2]


def _module(name: str) -> ModuleType | None:
    """A listed module, or ``alembic.op``; None for any other, or if it is not installed."""
    if name not in allowed.MODULES and name != "alembic.op":
        return None
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        return None


def _truth(node: ast.expr) -> bool | None:
    """The value of a condition if the compiler knows it (it then drops the dead branch), or None."""
    inner = node.operand if isinstance(node, ast.UnaryOp) else node
    if isinstance(inner, (ast.Attribute, ast.Call, ast.Compare)):
        return None  # it never does
    code = compile(ast.Expression(node), "<condition>", "eval", dont_inherit=True)
    return bool(eval(code)) if not code.co_code[::2].translate(None, _CONSTANT) else None


def _reachable(statements: list[ast.stmt]) -> tuple[list[ast.stmt], bool]:
    """`statements` without what the compiler drops as dead code, and whether they always return."""
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
_UNKNOWN, _VALUE = object(), object()  # a top-level name: anything, or a plain value


class Checker:
    """Walks one function. ``reason`` is the first thing that is not plain, with its line.

    names: the globals of an executed function; None: :meth:`module` derives them.
    """

    def __init__(self, names: Mapping[str, Any] | None = None) -> None:
        self.reason: str | None = None
        self.functions: dict[str, ast.FunctionDef] = {}
        self.names: dict[str, Any] = {} if names is None else dict(names)
        self.locals: set[str] = set()
        self.globals: set[str] = set()  # declared with `global`
        self.binds: set[str] = set()  # locals that only ever hold `op.get_bind()`
        self.batches: set[str] = set()  # likewise `with op.batch_alter_table(...) as`
        self.open: set[str] = set()  # those batches whose block is being walked
        self.changes = False  # the function may change lists and dictionaries: see allowed.MUTATORS

    def refuse(self, node: ast.AST, what: str) -> None:
        if self.reason is None:
            self.reason = f"line {getattr(node, 'lineno', 0)}: {what}"

    # the file

    def module(self, tree: ast.Module) -> None:
        """Derive what top-level names mean. A function that uses an unknown name is not plain."""
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
        """From here on, the names that `node` may bind or change are unknown."""
        for part in ast.walk(node):
            if isinstance(part, ast.Name) and not isinstance(node, ast.Expr):
                self._learn(part.id, _UNKNOWN)
            # Other nodes that bind names: functions, classes, imports, except clauses, patterns.
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
        return found if found is not None and allowed.is_allowed(found) else _UNKNOWN

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
        """Find the locals that only ever hold a bind or a batch, and calls that change containers."""
        binds: set[ast.expr] = set()  # nodes that are assigned `op.get_bind()`
        batches: set[ast.expr | None] = set()
        parts = [part for statement in body for part in ast.walk(statement)]
        for part in parts:
            if isinstance(part, ast.Attribute) and part.attr in allowed.MUTATORS:
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

    def _is_autocommit_block(self, node: ast.With) -> bool:
        """``with op.get_context().autocommit_block():``"""
        call = node.items[0].context_expr
        return (
            len(node.items) == 1
            and node.items[0].optional_vars is None
            and isinstance(call, ast.Call)
            and not (call.args or call.keywords)
            and isinstance(call.func, ast.Attribute)
            and call.func.attr == "autocommit_block"
            and isinstance(call.func.value, ast.Call)
            and self._is_get_context(call.func.value)
        )

    def _is_get_context(self, call: ast.Call) -> bool:
        """``op.get_context()``"""
        return not (call.args or call.keywords) and self._is_of_op(call.func, "get_context")

    def _is_thrown_away(self, call: ast.Call) -> bool:
        """Whether `call`, a statement, is ``bind.execute(one)``: its result is not used."""
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
        """Only a with block of ``op.batch_alter_table`` is plain."""
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
        """Refuse anything but literals, listed names, and what is composed of them."""
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
            is_allowed = name not in self.binds and name not in self.batches
        elif name in self.names:
            value = self.names[name]
            is_allowed = value is _VALUE or (value is not _UNKNOWN and allowed.is_allowed(value))
            if self.changes and (value is _VALUE or type(value) in (list, dict, set)):
                is_allowed = False
        else:
            is_allowed = allowed.is_builtin(name) or name == "__debug__"
        if not is_allowed:
            self.refuse(node, f"the name {name}")

    def is_value(self, name: str) -> bool:
        """Whether `name` is a local, except an open batch, or a known global that is no module."""
        if name in self.locals:
            return name not in self.open
        found = self.names.get(name, _UNKNOWN)
        return found is not _UNKNOWN and type(found) is not ModuleType

    def _meaning(self, node: ast.expr) -> Any:
        """The object that a dotted name refers to; None if unknown."""
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
            and allowed.is_op(self._meaning(node.value))
        )

    def _attribute(self, node: ast.Attribute) -> None:
        base, name = node.value, node.attr
        if _name_of(base) in self.open:
            is_allowed = name in allowed.OF_BATCH
        else:
            self.expression(base)
            meaning = self._meaning(base)
            if type(meaning) is ModuleType:
                is_allowed = allowed.is_attribute(meaning, name)
            else:
                is_allowed = name in allowed.ATTRIBUTES or name in allowed.OF_OP
                if name[:1] != "_":
                    is_allowed |= isinstance(base, ast.Attribute) and base.attr in allowed.COLUMNS
                    is_allowed |= meaning is not None and meaning is _func()
        if not is_allowed:
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
    """``sqlalchemy.func``, whose attributes are SQL functions of any name."""
    return vars(sys.modules["sqlalchemy"]).get("func")
