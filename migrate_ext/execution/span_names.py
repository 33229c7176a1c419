"""What the names of a function mean: the kinds of its locals, and which of them may hold what is not known.

The first of three classes that read a function backwards (:mod:`migrate_ext.execution.spans`).
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping
from types import CodeType, FunctionType
from typing import Any

from migrate_ext.execution import allowed, plain
from migrate_ext.execution.marks import END, NEXT, Marks, Spans
from migrate_ext.execution.plain import _UNKNOWN
from migrate_ext.execution.quiet import (
    BATCH,
    BIND,
    CONTEXT,
    FRESH,
    GIVES,
    ITEMS,
    OF_KIND,
    OP,
    OWN_COLUMNS,
    ROW,
    ROWS,
    SCALAR,
    SESSION,
    TABLE,
    UNCHANGING,
    constant_of_class,
    is_context,
    is_scalar,
    is_session_class,
)

AUGMENTED, ITEM, UNPACKED = object(), object(), object()  # how a local is bound
BINDS_NOTHING = (ast.Name, ast.Constant, ast.Attribute, ast.Call, ast.keyword, ast.expr_context)


class Names(plain.Checker):
    """What the names in one function mean, given what its arguments are.

    arguments: the kind of each by its name; None for a value of no kind, ``_UNKNOWN`` for one that is not quiet.
    """

    def __init__(
        self,
        spans: Spans,
        function: FunctionType,
        node: ast.FunctionDef,
        arguments: tuple[tuple[str, Any], ...],
        depth: int = 0,
        active: tuple[CodeType, ...] = (),
        known: dict[Any, Any] | None = None,
    ) -> None:
        super().__init__(function.__globals__)
        self.spans = spans
        self.function_ = function
        self.node = node
        self.depth = depth
        self.active = (*active, function.__code__)
        # By code: the tree; by code, arguments and whether it is final: what came out.
        self.known: dict[Any, Any] = {} if known is None else known
        self.marks = Marks(function.__code__)
        # By identity: a call, its mark, whether it is one of `bind.execute`, whether it renders types of the
        # project's.
        self.taken: dict[int, tuple[ast.Call, int, bool, bool]] = {}
        self.reads: dict[int, ast.Call] = {}  # by identity
        self.types_met = (
            0  # how much of `loud` is such types, in columns that are given to a directive
        )
        self.unmarked: set[int] = set()  # lines with calls that have no mark
        self.returns_value = True  # what it returns is quiet
        self.kinds: dict[str, Any] = {}
        self.tainted: set[str] = set()
        self.scopes: list[dict[str, Any]] = []  # of comprehensions and lambdas
        self.loud = 0  # how often something loud was met
        self.is_final = False  # marks and reasons are taken down
        key = ("parts", function.__code__)
        if key not in self.known:
            self.known[key] = list(own_parts_of(node.body)), list(ast.walk(node))
        self.own_parts, self.parts = self.known[key]
        # What a comprehension binds outside of itself: its values are seen only in its own scope.
        self.of_comprehensions = {
            id(found)
            for part in self.parts
            if isinstance(part, (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp))
            for found in ast.walk(part)
            if isinstance(found, ast.NamedExpr)
        }
        self._bindings = list(self._find_bindings(arguments))

    # what the subclasses do

    def mark(self) -> int:
        raise NotImplementedError

    def block(self, statements: list[ast.stmt], after: int, loop: tuple[int, int] | None) -> int:
        raise NotImplementedError

    def expression_before(self, node: ast.expr, after: int, *, is_thrown_away: bool = False) -> int:
        raise NotImplementedError

    def stored_in(self, target: ast.expr, after: int, value: ast.expr) -> int:
        raise NotImplementedError

    # locals

    def _find_bindings(
        self, arguments: tuple[tuple[str, Any], ...]
    ) -> Iterator[tuple[str, ast.expr | None, Any]]:
        """What binds a local: (name, value, kind). Of value None, it is ``_UNKNOWN`` or of that kind."""
        for name, kind in arguments:
            yield name, None, kind
        for part in self.own_parts:
            if isinstance(part, BINDS_NOTHING):
                continue
            if isinstance(part, ast.Assign):
                for target in part.targets:
                    yield from self._targets(target, part.value)
            elif isinstance(part, ast.AnnAssign):
                if part.value is not None:
                    yield from self._targets(part.target, part.value)
                elif isinstance(part.target, ast.Name):
                    yield part.target.id, None, SCALAR  # a local, and bound elsewhere if at all
            elif isinstance(part, ast.NamedExpr):
                is_inner = id(part) in self.of_comprehensions
                yield (
                    part.target.id,
                    None if is_inner else part.value,
                    _UNKNOWN if is_inner else part.value,
                )
            elif isinstance(part, ast.AugAssign):
                if isinstance(part.target, ast.Name):
                    yield part.target.id, part.value, AUGMENTED
            elif isinstance(part, ast.For):
                yield from self._targets(part.target, part.iter, of_items=True)
            elif isinstance(part, ast.With):
                is_batch = self._is_batch(part)
                for item in part.items:
                    for name in stored(item.optional_vars):
                        yield name, None, BATCH if is_batch else _UNKNOWN
            elif isinstance(part, (ast.Import, ast.ImportFrom)):
                for alias in part.names:
                    name = (alias.asname or alias.name).partition(".")[0]
                    yield name, None, _UNKNOWN
            else:
                for name in bound_otherwise(part):
                    yield name, None, _UNKNOWN

    def _targets(
        self, target: ast.expr, value: ast.expr, *, of_items: bool = False
    ) -> Iterator[tuple[str, ast.expr | None, Any]]:
        if isinstance(target, ast.Name):
            yield target.id, value, ITEM if of_items else value
        else:
            for name in stored(target):
                yield name, value, UNPACKED if of_items else None

    def _learn_locals(self) -> None:
        """The kinds of locals, then which of them may hold what is not known; each to a fixed point."""
        for _ in range(len(self.locals) + 2):
            kinds: dict[str, Any] = {}
            for name, value, kind in self._bindings:
                if kind is AUGMENTED:
                    continue
                found = kind
                if kind in (ITEM, UNPACKED) and value is not None:
                    found = SCALAR if self._has_scalars(value) else None
                    found = ITEMS.get(self.kind(value), found)
                    found = ITEMS.get(found) if kind is UNPACKED and found != SCALAR else found
                elif value is not None and kind is not None:
                    found = self.kind(value)
                kinds[name] = found if kinds.get(name, found) == found else None
            if kinds == self.kinds:
                break
            self.kinds = kinds
        else:
            self.kinds = {}
        before = -1
        while len(self.tainted) != before:
            before = len(self.tainted)
            for name, value, kind in self._bindings:
                if kind is _UNKNOWN or (value is not None and self._is_unknown(name, value, kind)):
                    self.tainted.add(name)
            self.block(self.node.body, END, None)
            if self.loud:  # code of others may have changed whatever can be changed
                changing = (name for name in self.locals if self.kinds.get(name) not in UNCHANGING)
                self.tainted.update(changing)

    def _is_unknown(self, name: str, value: ast.expr, kind: Any) -> bool:
        loud = self.loud
        if not (kind is ITEM and self.kind(value) == OWN_COLUMNS):
            self.expression_before(value, NEXT)
        if kind is AUGMENTED and self.kinds.get(name) != FRESH:
            return self.kinds.get(name) != SCALAR or self.kind(value) != SCALAR
        return self.loud != loud

    def kind(self, node: ast.expr) -> Any:
        """Of what kind the value of an expression is."""
        if isinstance(node, ast.Name):
            for scope in reversed(self.scopes):
                if node.id in scope:
                    return scope[node.id]
            if node.id in self.locals:
                return self.kinds.get(node.id)
            return OP if allowed.is_op(self.names.get(node.id)) else None
        if isinstance(node, ast.Constant):
            return SCALAR if isinstance(node.value, (str, int, float)) else None
        if isinstance(node, ast.JoinedStr):
            return SCALAR
        if isinstance(node, (ast.List, ast.Dict, ast.Set, ast.ListComp, ast.SetComp, ast.DictComp)):
            return FRESH
        if isinstance(node, ast.NamedExpr):
            return self.kind(node.value)
        if isinstance(node, ast.BinOp):
            kinds = self.kind(node.left), self.kind(node.right)
            return SCALAR if kinds == (SCALAR, SCALAR) else None
        if isinstance(node, ast.Attribute):
            if constant_of_class(self._meaning(node.value), node.attr) is not None:
                return SCALAR
            base = self.kind(node.value)
            if base == ROW:
                return ROW if node.attr == "_mapping" else SCALAR
            return OF_KIND.get(base, {}).get(node.attr)
        if isinstance(node, ast.Subscript) and not isinstance(node.slice, ast.Slice):
            base = self.kind(node.value)
            return ITEMS.get(base) if base in (ROWS, ROW) else None
        if isinstance(node, ast.Call):
            function = node.func
            name = self._name_in_op(function)
            if name in ("get_bind", "get_context"):
                return BIND if name == "get_bind" else CONTEXT
            if self._makes_table(function):
                return TABLE
            if isinstance(function, ast.Name) and function.id in ("list", "dict", "set"):
                return FRESH if self._is_builtin(function.id) else None
            if isinstance(function, ast.Name) and function.id in ("str", "int", "len"):
                return SCALAR if self._is_builtin(function.id) else None
            if self._makes_session(node):
                return SESSION
            if isinstance(function, ast.Attribute):
                gives = GIVES.get(self.kind(function.value))
                if gives is not None:
                    return gives.get(function.attr)
                is_text = function.attr not in ("split", "splitlines")
                is_text &= self.kind(function.value) == SCALAR
                return SCALAR if is_text else None
        return None

    def _name_in_op(self, function: ast.expr) -> str:
        """Which function of ``alembic.op`` an expression names, or of ``alembic.context`` if it gives the
        connection or the context; empty if it is neither.
        """
        if isinstance(function, ast.Attribute):
            module = self._meaning(function.value)
            if allowed.is_op(module):
                return function.attr
            if is_context(module) and function.attr in ("get_bind", "get_context"):
                return function.attr
        elif isinstance(function, ast.Name):
            found = self._meaning(function)
            name = found.__name__ if type(found) is FunctionType else ""
            if name and vars(sys.modules["alembic.op"]).get(name) is found:
                return name
        return ""

    def _makes_session(self, node: ast.Call) -> bool:
        """Whether a call is ``Session(bind)`` or ``Session(bind=bind)``, of the migration's connection."""
        values = [*node.args, *(k.value for k in node.keywords if k.arg == "bind")]
        return (
            len(node.args) + len(node.keywords) == len(values) == 1
            and is_session_class(self._meaning(node.func))
            and self.kind(values[0]) == BIND
        )

    def _makes_table(self, function: ast.expr) -> bool:
        """Whether a function is ``sa.table``."""
        found = self._meaning(function)
        return getattr(found, "__name__", "") == "table" and allowed.is_allowed(found)

    def _is_builtin(self, name: str) -> bool:
        hidden = name in self.locals or name in self.names or any(name in s for s in self.scopes)
        return not hidden and allowed.is_builtin(name)

    def _has_scalars(self, node: ast.expr) -> bool:
        """Whether all that comes out of an iteration is a string or a number, or made of such."""
        if isinstance(node, (ast.Tuple, ast.List)):
            inner = [e for e in node.elts if not isinstance(e, ast.Constant)]
            return all(isinstance(e, ast.Tuple) and self._has_scalars(e) for e in inner)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            plain_builtin = node.func.id in ("enumerate", "range", "reversed", "sorted", "zip")
            return (
                plain_builtin
                and self._is_builtin(node.func.id)
                and not node.keywords
                and all(self.kind(a) == SCALAR or self._has_scalars(a) for a in node.args)
            )
        return is_scalar(self._meaning(node)) and self._meaning(node) is not None

    def _meaning(self, node: ast.expr) -> Any:
        if isinstance(node, ast.Name):
            if any(node.id in scope for scope in self.scopes):
                return None
            if self.kinds.get(node.id) == OP and node.id not in self.tainted:
                return sys.modules.get("alembic.op")
        return super()._meaning(node)

    def _uses_class(self, function: ast.expr) -> None:
        """Take down the names through which a class was found."""
        if isinstance(function, ast.Name):
            self._uses_name(self.function_.__globals__, function.id, self.names.get(function.id))
        elif isinstance(function, ast.Attribute):
            module = self._meaning(function.value)
            self._uses_name(vars(module), function.attr, vars(module).get(function.attr))
            self._uses_class(function.value)

    def _uses_name(self, where: Mapping[str, Any], name: str, value: Any) -> None:
        self.marks.names[id(where), name] = (where, name, value)


def own_parts_of(body: list[ast.stmt]) -> Iterator[ast.AST]:
    """The nodes of a function's own scope: not those of functions, classes, lambdas, comprehensions in it."""
    left: list[ast.AST] = [*body]
    while left:
        node = left.pop()
        yield node
        if isinstance(node, (ast.Name, ast.Constant)):
            continue
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)):
            continue
        if isinstance(node, (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)):
            left += [part for part in ast.walk(node) if isinstance(part, ast.NamedExpr)]
            continue
        left += ast.iter_child_nodes(node)


def stored(target: ast.AST | None) -> list[str]:
    """The names that a target binds."""
    if target is None:
        return []
    return [
        part.id
        for part in ast.walk(target)
        if isinstance(part, ast.Name) and not isinstance(part.ctx, ast.Load)
    ]


def bound_otherwise(part: ast.AST) -> list[str]:
    """Names that a node binds which is no assignment, loop, import or block."""
    if isinstance(part, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return [part.name]
    if isinstance(part, (ast.ExceptHandler, ast.MatchAs, ast.MatchStar)):
        return [part.name] if part.name else []
    if isinstance(part, ast.MatchMapping):
        return [part.rest] if part.rest else []
    if isinstance(part, ast.Delete):
        return [name for target in part.targets for name in stored(target)]
    if isinstance(part, (ast.AsyncFor, ast.AsyncWith)):
        return [name for child in ast.iter_child_nodes(part) for name in stored(child)]
    return []
