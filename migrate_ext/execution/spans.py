"""Which statements of a migration may wait for the server, although the migration is not plain.

A function that reads, decides or calls into the application cannot run ahead as a whole. But what lies
between one directive and the next may still be quiet: nothing there can be observed, so the first
statement need not be confirmed before Python goes on to the second. Such a row of statements is a
*span*. Each call of a directive gets a mark that says what comes next on all paths through the
function:

- ``NEXT``: another directive, with only quiet code before it. The statement may wait.
- ``END``: on some path the end of the function. The statement may wait if the function's caller says
  so; Alembic's call of ``upgrade()`` does.
- ``LOUD``: on some path code that could be observed. The directive returns only when all statements
  up to it are confirmed: it is the last of its span.

A directive without a mark goes the driver's way, which waits. So does whatever the analysis does not
know: what is quiet is listed (:mod:`migrate_ext.execution.allowed`, and below), all else is loud.
Statements inside ``try``, and inside ``with`` blocks other than those of Alembic, have no marks: an
exception must be raised where Alembic would raise it.

Code that uses the database through the connection of ``op.get_bind()`` is quiet: whatever reaches the
driver synchronises first. The marks are computed backwards over the syntax tree, to a fixed point in
loops; functions that are called with quiet arguments are analysed with their caller.
"""

from __future__ import annotations

import ast
import builtins
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import BuiltinFunctionType, CodeType, FunctionType, ModuleType
from typing import Any

from migrate_ext.execution import allowed, plain
from migrate_ext.execution.plain import _UNKNOWN

NEXT, END, LOUD = range(3)
_DEEPEST = 4  # helpers that call helpers
_NO_POSITIONS = sys.version_info < (3, 11)


class Marks:
    """What is known of the calls in one function.

    ``calls``: by offset of the instruction that calls (by line before Python 3.11), the mark of a
    directive or of a helper. ``executes``: those of ``bind.execute(...)`` whose result is thrown away.
    ``blocks``: by line, the marks of ``with op.batch_alter_table(...)``.
    ``names``: the globals and built-ins that quiet code uses, each as (where it is, name, what it was).
    """

    __slots__ = ("blocks", "calls", "code", "executes", "names")

    def __init__(self, code: CodeType) -> None:
        self.code = code
        self.calls: dict[int, int] = {}
        self.executes: dict[int, int] = {}
        self.blocks: dict[int, int] = {}
        self.names: dict[tuple[int, str], tuple[Mapping[str, Any], str, Any]] = {}

    def still_true(self) -> bool:
        """Whether the names mean what they meant when the function was analysed."""
        for where, name, value in self.names.values():
            if where.get(name) is not value:
                return False
            if type(value) in (list, dict, set) and not allowed.is_allowed(value):
                return False
        return True


class Spans:
    """The marks of one migration's function and of the helpers that it calls.

    ``entry``: the state at the function's beginning; where it is LOUD, nothing may be pending there.
    ``functions``: marks by code object. ``reasons``: what ends spans, as (path, line, text).
    """

    __slots__ = ("entry", "functions", "reasons", "top")

    def __init__(self, top: CodeType) -> None:
        self.top = top
        self.entry = LOUD
        self.functions: dict[CodeType, Marks] = {}
        self.reasons: list[tuple[str, int, str]] = []

    def mark_of(self, frame: Any, *, of_execute: bool = False) -> int | None:
        """The mark of a directive called in `frame`, which its callers decide where it is END; None where
        a caller is not known. of_execute: of ``bind.execute(...)``, instead.
        """
        found = END
        while (marks := self.functions.get(frame.f_code)) is not None:
            calls = marks.executes if of_execute else marks.calls
            of_execute = False
            mark = calls.get(frame.f_lineno if _NO_POSITIONS else frame.f_lasti)
            if mark is None:
                return None
            if found == END:
                found = mark
            if frame.f_code is self.top:
                return found
            frame = frame.f_back
        return None


def spans_of(function: FunctionType, node: ast.FunctionDef) -> Spans | str:
    """The spans of a function with this syntax tree; a text says why it has none."""
    arguments = node.args
    if arguments.posonlyargs or arguments.args or arguments.kwonlyargs:
        return "takes arguments"
    if arguments.vararg or arguments.kwarg:
        return "takes arguments"
    spans = Spans(function.__code__)
    spans.entry = _Walker(spans, function, node, ()).mark()
    return spans


# -------------------------------------------------------------------------------------------------
# What is quiet, beyond what a plain migration may use

# What a value is, where that says what may be asked of it. A value of no kind is made of constants,
# SQLAlchemy's constructs and what the database gave.
_OP, _BIND, _CONTEXT, _DIALECT, _INSPECTOR = "op", "bind", "context", "dialect", "inspector"
_ENGINE = "engine"  # only what is asked of it is quiet: it could connect
_RESULT, _ROWS, _ROW = "result", "rows", "row"
_FRESH = "a container made here"
_SCALAR = "a string or a number"

# Attributes by kind, each with the kind of its value, or of what calling it gives.
_OF_KIND: dict[str, dict[str, str | None]] = {
    _BIND: {
        **{"dialect": _DIALECT, "engine": _ENGINE, "execute": _RESULT, "exec_driver_sql": _RESULT},
        **{"scalar": None, "scalars": _RESULT},
    },
    _CONTEXT: {"dialect": _DIALECT, "bind": _BIND, "connection": _BIND, "as_sql": None},
    _ENGINE: {"dialect": _DIALECT, "name": None, "driver": None},
    _DIALECT: {"name": None, "driver": None, "server_version_info": None},
    _INSPECTOR: dict.fromkeys(
        "default_schema_name get_check_constraints get_columns get_enums get_foreign_keys get_indexes "
        "get_pk_constraint get_schema_names get_sequence_names get_table_comment get_table_names "
        "get_unique_constraints get_view_names has_index has_schema has_sequence has_table".split()
    ),
    _RESULT: {
        **dict.fromkeys(("all", "fetchall", "fetchmany"), _ROWS),
        **dict.fromkeys(("fetchone", "first", "one", "one_or_none"), _ROW),
        **dict.fromkeys(("mappings", "scalars", "unique"), _RESULT),
        **dict.fromkeys(("keys", "rowcount", "scalar", "scalar_one", "scalar_one_or_none")),
    },
    _ROWS: {},
    _ROW: {"_mapping": _ROW, "_asdict": None},
}
# Of containers that were made in the function, and of which nobody else knows.
_OF_FRESH = frozenset("add append clear copy discard extend pop remove reverse setdefault".split())
# Beyond allowed.ATTRIBUTES, of values: dates, identifiers, strings.
_OF_VALUES = frozenset(
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


def _is_standard(value: Any) -> bool:
    """Whether a value is a listed function, type or module of the standard library, or of such a type."""
    kind = type(value)
    if kind is ModuleType:
        return value.__name__ in _STANDARD_MODULES and sys.modules.get(value.__name__) is value
    if kind not in (type, FunctionType, BuiltinFunctionType):
        return kind is not type and kind.__module__ in _STANDARD and _is_standard(kind)
    name = value.__name__
    return (
        name in _STANDARD.get(value.__module__, "").split()
        and vars(sys.modules.get(value.__module__, builtins)).get(name) is value
    )


def _is_quiet_type(value: Any) -> bool:
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
    return allowed.is_allowed(value) or _is_quiet_type(value)


# -------------------------------------------------------------------------------------------------
# The walk


class _Walker(plain.Checker):
    """Computes the marks of one function, given what its arguments are.

    arguments: the kind of each, or None for a value of no kind; ``_UNKNOWN`` for one that is not quiet.
    """

    def __init__(
        self,
        spans: Spans,
        function: FunctionType,
        node: ast.FunctionDef,
        arguments: tuple[Any, ...],
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
        # By identity: a call, its mark, whether it is one of `bind.execute`.
        self.taken: dict[int, tuple[ast.Call, int, bool]] = {}
        self.unmarked: set[int] = set()  # lines with calls that have no mark
        self.returns_value = True  # what it returns is quiet
        self.kinds: dict[str, Any] = {}
        self.tainted: set[str] = set()
        self.scopes: list[dict[str, Any]] = []  # of comprehensions and lambdas
        self.loud = 0  # how often something loud was met
        self.is_final = False  # marks and reasons are taken down
        self.own_types = True
        key = ("parts", function.__code__)
        if key not in self.known:
            self.known[key] = list(_own_parts(node.body)), list(ast.walk(node))
        self.own_parts, self.parts = self.known[key]
        self._bindings = list(self._find_bindings(arguments))

    def mark(self) -> int:
        """Fill in the marks, and give the state at the function's beginning."""
        self.locals = {name for name, _, _ in self._bindings}
        for part in self.parts:
            if isinstance(part, (ast.Global, ast.Nonlocal)):
                self.globals.update(part.names)
            elif isinstance(part, ast.Attribute):
                self.changes |= part.attr in allowed.MUTATORS
                # There, constants could be rendered by the type's own functions.
                self.own_types &= part.attr not in allowed.COLUMNS
        self.locals -= self.globals
        self.names.update(dict.fromkeys(self.globals, _UNKNOWN))
        for part in self.own_parts:
            if isinstance(part, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)):
                inner = {found.id for found in ast.walk(part) if isinstance(found, ast.Name)}
                self.tainted |= inner & self.locals
        self._learn_locals()
        if _NO_POSITIONS:  # which of several calls on a line it is does not show
            lines = [part.lineno for part in self.parts if self._may_send(part)]
            self.unmarked |= {line for line in lines if lines.count(line) > 1}
        self.is_final, self.loud = True, 0
        state = self.block(self.node.body, END, None)
        self._take_down()
        return state

    def _may_send(self, node: ast.AST) -> bool:
        """Whether a node is a call that could send a statement, seen from its name alone."""
        if not isinstance(node, ast.Call):
            return False
        if isinstance(node.func, ast.Name):
            is_value = allowed.is_builtin(node.func.id)
            return not is_value and self._name_in_op(node.func) not in ("get_bind", "get_context")
        return isinstance(node.func, ast.Attribute) and node.func.attr in allowed.DIRECTIVES

    def _take_down(self) -> None:
        """Find the instructions that the marks of calls belong to."""
        marks, code = self.marks, self.function_.__code__
        by_position: dict[tuple[int, ...], list[int]] = {}
        if not _NO_POSITIONS:
            positions: Any = code.co_positions()  # type: ignore[attr-defined,unused-ignore]
            for number, position in enumerate(positions):
                by_position.setdefault(position, []).append(number * 2)
        for node, mark, is_execute in self.taken.values():
            table = marks.executes if is_execute else marks.calls
            if _NO_POSITIONS:
                at = [node.lineno] if node.lineno not in self.unmarked else []
            else:
                place = (node.lineno, node.end_lineno, node.col_offset, node.end_col_offset)
                at = by_position.get(place, [])  # type: ignore[arg-type]
            for found in at:
                table[found] = max(mark, table.get(found, NEXT))
        before = self.spans.functions.get(code)
        if before is not None:  # called with other arguments, too
            for name in ("calls", "executes", "blocks"):
                now, old = getattr(marks, name), getattr(before, name)
                setattr(marks, name, {at: max(now[at], old[at]) for at in now.keys() & old})
            marks.names.update(before.names)
        self.spans.functions[code] = marks

    # names

    def _find_bindings(
        self, arguments: tuple[Any, ...]
    ) -> Iterator[tuple[str, ast.expr | None, Any]]:
        """What binds a local: (name, value, kind). Of value None, it is ``_UNKNOWN`` or of that kind."""
        named = [*self.node.args.posonlyargs, *self.node.args.args]
        for argument, kind in zip(named, arguments, strict=True):
            yield argument.arg, None, kind
        for part in self.own_parts:
            if isinstance(part, _BINDS_NOTHING):
                continue
            if isinstance(part, ast.Assign):
                for target in part.targets:
                    yield from self._targets(target, part.value)
            elif isinstance(part, ast.AnnAssign):
                if part.value is not None:
                    yield from self._targets(part.target, part.value)
                elif isinstance(part.target, ast.Name):
                    yield part.target.id, None, _SCALAR  # a local, and bound elsewhere if at all
            elif isinstance(part, ast.NamedExpr):
                yield part.target.id, part.value, part.value
            elif isinstance(part, ast.AugAssign):
                if isinstance(part.target, ast.Name):
                    yield part.target.id, part.value, _AUGMENTED
            elif isinstance(part, ast.For):
                yield from self._targets(part.target, part.iter, of_items=True)
            elif isinstance(part, ast.With):
                is_batch = self._is_batch(part)
                for item in part.items:
                    for name in _stored(item.optional_vars):
                        yield name, None, _BATCH if is_batch else _UNKNOWN
            elif isinstance(part, (ast.Import, ast.ImportFrom)):
                for alias in part.names:
                    name = (alias.asname or alias.name).partition(".")[0]
                    yield name, None, _UNKNOWN
            else:
                for name in _bound_otherwise(part):
                    yield name, None, _UNKNOWN

    def _targets(
        self, target: ast.expr, value: ast.expr, *, of_items: bool = False
    ) -> Iterator[tuple[str, ast.expr | None, Any]]:
        if isinstance(target, ast.Name):
            yield target.id, value, _ITEM if of_items else value
        else:
            for name in _stored(target):
                yield name, value, None

    def _learn_locals(self) -> None:
        """The kinds of locals, then which of them may hold what is not known; each to a fixed point."""
        for _ in range(len(self.locals) + 2):
            kinds: dict[str, Any] = {}
            for name, value, kind in self._bindings:
                if kind is _AUGMENTED:
                    continue
                found = kind
                if kind is _ITEM and value is not None:
                    found = _ROW if self.kind(value) in (_RESULT, _ROWS) else None
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
            self.block(self.node.body, END, None)  # loud code may change what it is given

    def _is_unknown(self, name: str, value: ast.expr, kind: Any) -> bool:
        loud = self.loud
        self.expression_before(value, NEXT)
        if kind is _AUGMENTED and self.kinds.get(name) != _FRESH:
            return self.kinds.get(name) != _SCALAR or self.kind(value) != _SCALAR
        return self.loud != loud

    def kind(self, node: ast.expr) -> Any:
        """Of what kind the value of an expression is."""
        if isinstance(node, ast.Name):
            for scope in reversed(self.scopes):
                if node.id in scope:
                    return scope[node.id]
            if node.id in self.locals:
                return self.kinds.get(node.id)
            return _OP if allowed.is_op(self.names.get(node.id)) else None
        if isinstance(node, ast.Constant):
            return _SCALAR if isinstance(node.value, (str, int, float)) else None
        if isinstance(node, ast.JoinedStr):
            return _SCALAR
        if isinstance(node, (ast.List, ast.Dict, ast.Set, ast.ListComp, ast.SetComp, ast.DictComp)):
            return _FRESH
        if isinstance(node, ast.NamedExpr):
            return self.kind(node.value)
        if isinstance(node, ast.BinOp):
            kinds = self.kind(node.left), self.kind(node.right)
            return _SCALAR if kinds == (_SCALAR, _SCALAR) else None
        if isinstance(node, ast.Subscript):
            return _ROW if self.kind(node.value) == _ROWS else None
        if isinstance(node, ast.Attribute):
            return _OF_KIND.get(self.kind(node.value), {}).get(node.attr)
        if isinstance(node, ast.Call):
            function = node.func
            name = self._name_in_op(function)
            if name in ("get_bind", "get_context"):
                return _BIND if name == "get_bind" else _CONTEXT
            if self._makes_inspector(node):
                return _INSPECTOR
            if isinstance(function, ast.Name) and function.id in ("list", "dict", "set"):
                return _FRESH if allowed.is_builtin(function.id) else None
            if isinstance(function, ast.Attribute):
                is_text = function.attr not in ("split", "splitlines")
                is_text &= self.kind(function.value) == _SCALAR
                return _SCALAR if is_text else self.kind(function)
        return None

    def _name_in_op(self, function: ast.expr) -> str:
        """Which function of ``alembic.op`` an expression names, or of ``alembic.context`` if it gives the
        connection or the context; empty if it is neither.
        """
        if isinstance(function, ast.Attribute):
            module = self._meaning(function.value)
            if allowed.is_op(module):
                return function.attr
            if _is_context(module) and function.attr in ("get_bind", "get_context"):
                return function.attr
        elif isinstance(function, ast.Name):
            found = self._meaning(function)
            name = found.__name__ if type(found) is FunctionType else ""
            if name and vars(sys.modules["alembic.op"]).get(name) is found:
                return name
        return ""

    def _makes_inspector(self, node: ast.Call) -> bool:
        """``sa.inspect(bind)``, ``Inspector.from_engine(bind)``"""
        function, inspection = node.func, sys.modules.get("sqlalchemy.inspection")
        if len(node.args) != 1 or node.keywords or self.kind(node.args[0]) != _BIND:
            return False
        if inspection is not None and self._meaning(function) is inspection.inspect:
            return True
        reflection: Any = sys.modules.get("sqlalchemy.engine.reflection")
        return (
            reflection is not None
            and isinstance(function, ast.Attribute)
            and function.attr == "from_engine"
            and self._meaning(function.value) is reflection.Inspector
        )

    def _meaning(self, node: ast.expr) -> Any:
        if isinstance(node, ast.Name):
            if any(node.id in scope for scope in self.scopes):
                return None
            if self.kinds.get(node.id) == _OP and node.id not in self.tainted:
                return sys.modules.get("alembic.op")
        return super()._meaning(node)

    # the state before a piece of code, from the state behind it

    def _is_loud(self, node: ast.AST, why: str) -> int:
        self.loud += 1
        if self.is_final:
            path = self.function_.__code__.co_filename
            found = (path, getattr(node, "lineno", 0), why)
            if found not in self.spans.reasons:
                self.spans.reasons.append(found)
        return LOUD

    def block(self, statements: list[ast.stmt], after: int, loop: tuple[int, int] | None) -> int:
        """loop: the states behind ``break`` and ``continue``."""
        for statement in reversed(statements):
            after = self.before(statement, after, loop)
        return after

    def before(self, node: ast.stmt, after: int, loop: tuple[int, int] | None) -> int:
        if isinstance(node, ast.Expr):
            return self.root(node.value, after, node)
        if isinstance(node, (ast.Pass, ast.Global)):
            return after
        if isinstance(node, ast.Return):
            loud = self.loud
            state = END if node.value is None else self.root(node.value, END)
            self.returns_value &= self.loud == loud
            return state
        if isinstance(node, ast.Raise):
            state = END
            for value in (node.cause, node.exc):
                state = state if value is None else self.root(value, state)
            return state
        if isinstance(node, (ast.Assign, ast.AnnAssign)):
            if node.value is None:
                return after
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            for target in reversed(targets):
                after = self._stored_in(target, after, node.value)
            return self.root(node.value, after)
        if isinstance(node, ast.AugAssign):
            if not isinstance(node.target, ast.Name) or node.target.id in self.tainted:
                after = self._is_loud(node, "an assignment in place")
            return self.root(node.value, self._stored_in(node.target, after, node.value))
        if isinstance(node, ast.If):
            states = self.block(node.body, after, loop), self.block(node.orelse, after, loop)
            return self.root(node.test, max(states))
        if isinstance(node, ast.Assert):
            if node.msg is not None:
                after = max(after, self.root(node.msg, END))
            return self.root(node.test, after)
        if isinstance(node, ast.For):
            return self._for(node, after, loop)
        if isinstance(node, ast.While):
            return self._while(node, after, loop)
        if isinstance(node, (ast.Break, ast.Continue)):
            assert loop is not None
            return loop[isinstance(node, ast.Continue)]
        if isinstance(node, ast.With):
            return self._with_before(node, after, loop)
        self._taint(node)
        return self._is_loud(node, f"a {type(node).__name__} statement")

    def _stored_in(self, target: ast.expr, after: int, value: ast.expr) -> int:
        if isinstance(target, ast.Name):
            if target.id in self.globals:
                return self._is_loud(target, f"the global {target.id} is set")
            return after
        if isinstance(target, (ast.Tuple, ast.List)):
            for element in reversed(target.elts):
                after = self._stored_in(element, after, value)
            return after
        if isinstance(target, ast.Starred):
            return self._stored_in(target.value, after, value)
        if isinstance(target, ast.Subscript) and self.kind(target.value) == _FRESH:
            return self.root(target.slice, self.root(target.value, after))
        self._taint(target, value)
        return self._is_loud(target, "an assignment to something else than a name")

    def _for(self, node: ast.For, after: int, loop: tuple[int, int] | None) -> int:
        done = self.block(node.orelse, after, loop)
        head = done
        while True:
            state = self.block(node.body, head, (after, head))
            state = max(done, self._stored_in(node.target, state, node.iter))
            loud = self.loud
            self.root(node.iter, head)
            if self.loud != loud:  # each item comes out of something unknown
                state = LOUD
            if state == head:
                return self.root(node.iter, head)
            head = state

    def _while(self, node: ast.While, after: int, loop: tuple[int, int] | None) -> int:
        done = self.block(node.orelse, after, loop)
        head = NEXT
        while True:
            body = self.block(node.body, head, (after, head))
            state = max(head, self.root(node.test, max(done, body)))
            if state == head:
                return head
            head = state

    def _with_before(self, node: ast.With, after: int, loop: tuple[int, int] | None) -> int:
        call = node.items[0].context_expr
        if self._is_batch(node) and isinstance(call, ast.Call):
            name = plain._name_of(node.items[0].optional_vars)
            if self.kinds.get(name) == _BATCH and name not in self.tainted:
                return self._batch_before(node, call, name, after, loop)
        if self._is_autocommit_block(node):
            self.block(node.body, after, loop)
            return LOUD
        for item in node.items:
            self._taint(item.context_expr)
        with self._unmarked():
            self.block(node.body, LOUD, None if loop is None else (LOUD, LOUD))
        return self._is_loud(node, "a with block")

    def _batch_before(
        self,
        node: ast.With,
        call: ast.Call,
        name: str,
        after: int,
        loop: tuple[int, int] | None,
    ) -> int:
        """Its statements are sent at its end, if there are any: until there others wait as behind it."""
        loud, was_open = self.loud, name in self.open
        self.open.add(name)
        state = self.block(node.body, after, loop)
        if not was_open:
            self.open.discard(name)
        state = self._arguments_before(call, state)
        if self.is_final and self.loud == loud:
            self.marks.blocks[node.lineno] = max(after, self.marks.blocks.get(node.lineno, NEXT))
        return state

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
            and self.kind(call.func.value) == _CONTEXT
        )

    @contextmanager
    def _unmarked(self) -> Iterator[None]:
        """Within this block nothing is taken down, but what is loud still taints."""
        before, self.is_final = self.is_final, False
        try:
            yield
        finally:
            self.is_final = before

    def root(self, node: ast.expr, after: int, statement: ast.Expr | None = None) -> int:
        """The state before an expression that is not part of another one."""
        loud = self.loud
        state = self.expression_before(node, after, is_thrown_away=statement is not None)
        if self.loud != loud:
            self._taint(node)
        return state

    def _taint(self, *nodes: ast.AST) -> None:
        """Loud code was given these: it may have changed them."""
        for node in nodes:
            for part in ast.walk(node):
                if isinstance(part, ast.Name) and part.id in self.locals:
                    if self.kinds.get(part.id) not in (_BIND, _CONTEXT, _OP, _SCALAR, _BATCH):
                        self.tainted.add(part.id)

    # expressions

    def expression_before(self, node: ast.expr, after: int, *, is_thrown_away: bool = False) -> int:
        if isinstance(node, ast.Constant):
            return after
        if isinstance(node, ast.Name):
            return self._name_before(node, after)
        if isinstance(node, ast.Attribute):
            return self._attribute_before(node, after)
        if isinstance(node, ast.Call):
            return self._call_before(node, after, is_thrown_away)
        if isinstance(node, ast.NamedExpr):
            after = self._stored_in(node.target, after, node.value)
            return self.expression_before(node.value, after)
        if isinstance(node, ast.IfExp):
            branches = [
                self.expression_before(branch, after) for branch in (node.body, node.orelse)
            ]
            return self.expression_before(node.test, max(branches))
        if isinstance(node, ast.BoolOp):
            state = after
            for value in reversed(node.values):
                state = self.expression_before(value, max(after, state))
            return state
        if isinstance(node, plain._TRANSPARENT):
            children = [c for c in ast.iter_child_nodes(node) if isinstance(c, ast.expr)]
            for child in reversed(children):
                after = self.expression_before(child, after)
            return after
        if isinstance(node, (ast.ListComp, ast.SetComp, ast.GeneratorExp, ast.DictComp)):
            return self._comprehension_before(node, after)
        return self._is_loud(node, f"a {type(node).__name__} expression")

    def _comprehension_before(
        self, node: ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp, after: int
    ) -> int:
        """Quiet where all its parts are. Directives in it have no marks, and so synchronise first."""
        loud, scope = self.loud, dict[str, Any]()
        self.scopes.append(scope)
        with self._unmarked():
            for generator in node.generators:
                self.expression_before(generator.iter, after)
                kind = _ROW if self.kind(generator.iter) in (_RESULT, _ROWS) else None
                is_name = isinstance(generator.target, ast.Name)
                scope.update(dict.fromkeys(_stored(generator.target), kind if is_name else None))
                for condition in generator.ifs:
                    self.expression_before(condition, after)
            elements = (node.key, node.value) if isinstance(node, ast.DictComp) else (node.elt,)
            for element in elements:
                self.expression_before(element, after)
        self.scopes.pop()
        if self.loud != loud:
            return self._is_loud(node, "a comprehension")
        return after

    def _name_before(self, node: ast.Name, after: int) -> int:
        name = node.id
        if any(name in scope for scope in self.scopes):
            return after
        if name in self.locals:
            if name in self.tainted:
                return self._is_loud(node, f"what {name} is")
            if self.kinds.get(name) == _BATCH and name not in self.open:
                return self._is_loud(node, f"the name {name}")
            return after
        if name in self.names:
            value = self.names[name]
            if value is _UNKNOWN:
                return self._is_loud(node, f"the name {name}")
            is_quiet = allowed.is_allowed(value) or self._is_quiet_outside(value)
            if self.changes and type(value) in (list, dict, set):
                is_quiet = False
            self._uses_name(self.function_.__globals__, name, value)
        else:
            value = vars(builtins).get(name)
            is_quiet = allowed.is_builtin(name) or name == "__debug__"
            is_quiet |= name in ("bytes", "isinstance", "any", "all", "repr", "next", "iter") and (
                value in _QUIET_BUILTINS
            )
            is_quiet |= (
                isinstance(value, type)
                and issubclass(value, BaseException)
                and value.__module__ == "builtins"
            )
            self._uses_name(vars(builtins), name, value)
            is_quiet &= _builtins_of(self.function_) is vars(builtins)
        return after if is_quiet else self._is_loud(node, f"the name {name}")

    def _uses_name(self, where: Mapping[str, Any], name: str, value: Any) -> None:
        self.marks.names[id(where), name] = (where, name, value)

    def _is_quiet_outside(self, value: Any) -> bool:
        return _is_standard(value) or (self.own_types and _is_quiet_type(value))

    def _attribute_before(self, node: ast.Attribute, after: int) -> int:
        base, name = node.value, node.attr
        if plain._name_of(base) in self.open:
            return (
                after if name in allowed.OF_BATCH else self._is_loud(node, f"the attribute {name}")
            )
        kind, meaning = self.kind(base), self._meaning(base)
        if kind == _ENGINE:
            assert isinstance(base, ast.Attribute)
            after = self.expression_before(base.value, after)
        elif type(meaning) is ModuleType and isinstance(base, ast.Name):
            self._uses_name(self.function_.__globals__, base.id, meaning)
        else:
            after = self.expression_before(base, after)
        if type(meaning) is ModuleType:
            is_quiet = self._may_be_asked_of(meaning, name)
        elif kind in _OF_KIND:
            is_quiet = name in _OF_KIND[kind] or (kind == _ROW and name[:1] != "_")
            is_quiet &= (kind, name) != (_BIND, "engine")  # but see above
        else:
            is_quiet = name in allowed.ATTRIBUTES or name in _OF_VALUES
            is_quiet |= kind == _FRESH and name in _OF_FRESH
            if name[:1] != "_":
                is_quiet |= isinstance(base, ast.Attribute) and base.attr in allowed.COLUMNS
                is_quiet |= meaning is not None and meaning is plain._func()
        return after if is_quiet else self._is_loud(node, f"the attribute {name}")

    def _may_be_asked_of(self, module: ModuleType, name: str) -> bool:
        if allowed.is_op(module):
            return allowed.is_attribute(module, name)
        if allowed.is_module(module):
            return allowed.is_attribute(module, name)
        if _is_context(module):
            return name == "is_offline_mode"
        if "__getattr__" in vars(module):
            return False
        found = vars(module).get(name)
        self._uses_name(vars(module), name, found)
        if found is None:
            return False
        return (
            type(found) is ModuleType or allowed.is_allowed(found) or self._is_quiet_outside(found)
        )

    # calls

    def _call_before(self, node: ast.Call, after: int, is_thrown_away: bool) -> int:
        function = node.func
        name = self._name_in_op(function)
        if name and isinstance(function, ast.Name) and function.id not in self.locals:
            self._uses_name(self.function_.__globals__, function.id, self.names[function.id])
        if name in allowed.DIRECTIVES:
            base = NEXT
            if isinstance(function, ast.Attribute):
                base = self.expression_before(function.value, NEXT)
            return max(base, self._site(node, after))
        if is_thrown_away and self._is_thrown_away_execute(node):
            assert isinstance(function, ast.Attribute)
            site = self._site(node, after, is_execute=True)
            return self.expression_before(function.value, site)
        if name in ("get_bind", "get_context"):
            return after if not (node.args or node.keywords) else self._is_loud(node, "arguments")
        if self._makes_inspector(node):
            return after
        helper = self._helper(function)
        if helper is not None:
            return self._helper_before(node, helper, after, is_thrown_away)
        if isinstance(function, ast.Attribute) and function.attr in ("create", "drop"):
            # Through the connection, which synchronises. Nothing happens on another one.
            binds = [*node.args[:1], *(k.value for k in node.keywords if k.arg == "bind")]
            if len(binds) != 1 or self.kind(binds[0]) != _BIND:
                return self._is_loud(node, f"the attribute {function.attr}")
            return self.expression_before(function.value, self._arguments_before(node, after))
        if isinstance(function, ast.Name) and function.id in ("next", "iter"):
            if function.id not in self.locals and not self._is_of_results(node):
                return self._is_loud(node, f"the name {function.id}")
        return self.expression_before(function, self._arguments_before(node, after))

    def _is_of_results(self, node: ast.Call) -> bool:
        return bool(node.args) and self.kind(node.args[0]) in (_RESULT, _ROWS)

    def _arguments_before(self, node: ast.Call, after: int) -> int:
        values = [*node.args, *(keyword.value for keyword in node.keywords)]
        for value in reversed(values):
            after = self.expression_before(value, after)
        return after

    def _site(self, node: ast.Call, after: int, *, is_execute: bool = False) -> int:
        """A call that sends statements, for which `after` is the mark. With arguments that are not quiet it
        has none: rendering them may call code that looks at its first statement.
        """
        loud = self.loud
        state = self._arguments_before(node, NEXT)
        self._take_mark(node, after, is_quiet=self.loud == loud, is_execute=is_execute)
        return state

    def _take_mark(
        self, node: ast.Call, after: int, *, is_quiet: bool = True, is_execute: bool = False
    ) -> None:
        if not self.is_final:
            return
        if not is_quiet:
            self.unmarked.add(node.lineno)
            return
        known = self.taken.get(id(node))
        self.taken[id(node)] = (node, max(after, known[1] if known else NEXT), is_execute)

    def _is_thrown_away_execute(self, call: ast.Call) -> bool:
        """``bind.execute(one)`` as a statement: nobody looks at what it gives."""
        function = call.func
        return (
            isinstance(function, ast.Attribute)
            and function.attr == "execute"
            and self.kind(function.value) == _BIND
            and len(call.args) == 1
            and not isinstance(call.args[0], ast.Starred)
            and not call.keywords
        )

    def _helper(self, function: ast.expr) -> FunctionType | None:
        """The function that is called, if it is one of Python's own that can be analysed."""
        if not isinstance(function, (ast.Name, ast.Attribute)):
            return None
        found = self._meaning(function)
        if type(found) is not FunctionType or allowed.is_allowed(found) or _is_standard(found):
            return None
        if found.__module__.partition(".")[0] in ("sqlalchemy", "alembic"):
            return None
        return found

    def _helper_before(
        self, node: ast.Call, helper: FunctionType, after: int, is_thrown_away: bool
    ) -> int:
        if isinstance(node.func, ast.Name):
            self._uses_name(self.function_.__globals__, node.func.id, helper)
        found = self._walk_helper(node, helper) if self._binds_simply(node, helper) else None
        if found is None or not (is_thrown_away or found[1]):
            self._arguments_before(node, LOUD)
            self._take_mark(node, after, is_quiet=False)
            return self._is_loud(node, f"the function {helper.__name__}")
        state, _, is_loud = found
        self._take_mark(node, after)
        before = self._arguments_before(node, max(NEXT, after) if state == END else state)
        self.loud += is_loud
        return before

    @staticmethod
    def _binds_simply(node: ast.Call, helper: FunctionType) -> bool:
        code = helper.__code__
        return not (
            code.co_flags & (0x04 | 0x08 | 0x20 | 0x80 | 0x200)  # stars, generators, coroutines
            or code.co_freevars
            or code.co_cellvars
            or code.co_kwonlyargcount
            or code.co_posonlyargcount
            or any(isinstance(argument, ast.Starred) for argument in node.args)
            or any(keyword.arg is None for keyword in node.keywords)
            or len(node.args) > code.co_argcount
        )

    def _walk_helper(self, node: ast.Call, helper: FunctionType) -> tuple[int, bool, bool] | None:
        """The state at the beginning of a helper, whose own end is END; whether what it returns is quiet;
        whether something in it is loud. None where it is not known.
        """
        code = helper.__code__
        if (
            self.depth >= _DEEPEST
            or code in self.active
            or _builtins_of(helper) is not vars(builtins)
        ):
            return None
        if code not in self.known:
            self.known[code] = plain.tree_of(code.co_filename, helper)
        source = self.known[code]
        names = code.co_varnames[: code.co_argcount]
        given = self._given(node, helper, names)
        if isinstance(source, str) or given.keys() != set(names):
            return None
        arguments = tuple(given[name] for name in names)
        key = (code, arguments, self.active, self.is_final)
        if key not in self.known:
            spans = self.spans if self.is_final else Spans(self.spans.top)
            place = (self.depth + 1, self.active, self.known)
            walker = _Walker(spans, helper, source, arguments, *place)
            state = walker.mark()
            self.known[key] = (state, walker.returns_value, walker.loud > 0), walker.marks.names
        found, used = self.known[key]
        self.marks.names.update(used)
        return found  # type: ignore[no-any-return]

    def _given(
        self, node: ast.Call, helper: FunctionType, names: tuple[str, ...]
    ) -> dict[str, Any]:
        """What a call binds the arguments of `helper` to, as :class:`_Walker` takes it."""
        defaults = helper.__defaults__ or ()
        given: dict[str, Any] = {
            name: None if allowed.is_allowed(value) else _UNKNOWN
            for name, value in zip(names[len(names) - len(defaults) :], defaults, strict=True)
        }
        passed = [*zip(names, node.args, strict=False)]
        passed += [(str(keyword.arg), keyword.value) for keyword in node.keywords]
        for name, value in passed:
            loud = self.loud
            with self._unmarked():
                self.expression_before(value, NEXT)
            kind = self.kind(value)
            given[name] = _UNKNOWN if self.loud != loud else None if kind == _FRESH else kind
            self.loud = loud
        return given


_BATCH = "batch"
_BINDS_NOTHING = (ast.Name, ast.Constant, ast.Attribute, ast.Call, ast.keyword, ast.expr_context)
_AUGMENTED, _ITEM = object(), object()  # how a local is bound
_QUIET_BUILTINS = (bytes, isinstance, any, all, repr, next, iter)


def _is_context(value: Any) -> bool:
    return type(value) is ModuleType and value is sys.modules.get("alembic.context")


def _builtins_of(function: Any) -> Any:
    return function.__builtins__


def _own_parts(body: list[ast.stmt]) -> Iterator[ast.AST]:
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


def _stored(target: ast.AST | None) -> list[str]:
    """The names that a target binds."""
    if target is None:
        return []
    return [
        part.id
        for part in ast.walk(target)
        if isinstance(part, ast.Name) and not isinstance(part.ctx, ast.Load)
    ]


def _bound_otherwise(part: ast.AST) -> list[str]:
    """Names that a node binds which is no assignment, loop, import or block."""
    if isinstance(part, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return [part.name]
    if isinstance(part, (ast.ExceptHandler, ast.MatchAs, ast.MatchStar)):
        return [part.name] if part.name else []
    if isinstance(part, ast.MatchMapping):
        return [part.rest] if part.rest else []
    if isinstance(part, ast.Delete):
        return [name for target in part.targets for name in _stored(target)]
    if isinstance(part, (ast.AsyncFor, ast.AsyncWith)):
        return [name for child in ast.iter_child_nodes(part) for name in _stored(child)]
    return []
