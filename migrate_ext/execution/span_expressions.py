"""The state before an expression, from the state behind it (:mod:`migrate_ext.execution.spans`)."""

from __future__ import annotations

import ast
import builtins
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FunctionType, ModuleType
from typing import Any

from migrate_ext.execution import allowed, plain, source
from migrate_ext.execution.marks import END, LOUD, NEXT, Spans
from migrate_ext.execution.plain import _UNKNOWN
from migrate_ext.execution.quiet import (
    BATCH,
    BIND,
    ENGINE,
    FRESH,
    GIVES,
    OF_FRESH,
    OF_KIND,
    OF_VALUES,
    OWN_COLUMN,
    OWN_COLUMNS,
    QUIET_BUILTINS,
    ROW,
    SCALAR,
    SESSION,
    TABLE,
    UNCHANGING,
    builtins_of,
    is_context,
    is_made_quietly,
    is_own_type,
    is_scalar,
    is_standard,
)
from migrate_ext.execution.span_names import Names, stored

_DEEPEST = 4  # helpers that call helpers


class Expressions(Names):
    """Adds expressions, and the calls in them."""

    def _is_loud(self, node: ast.AST, why: str) -> int:
        self.loud += 1
        self._tell(node, why)
        return LOUD

    def _tell(self, node: ast.AST, why: str) -> None:
        """Take down why a span ends."""
        if self.is_final:
            path = self.function_.__code__.co_filename
            found = (path, getattr(node, "lineno", 0), why)
            if found not in self.spans.reasons:
                self.spans.reasons.append(found)

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
                    if self.kinds.get(part.id) not in UNCHANGING:
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
            after = self.stored_in(node.target, after, node.value)
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
        if isinstance(node, ast.Compare):
            state = after
            for value in reversed(node.comparators[1:]):  # not evaluated where one before is false
                state = max(after, self.expression_before(value, state))
            state = self.expression_before(node.comparators[0], state)
            return self.expression_before(node.left, state)
        if isinstance(node, ast.Dict):
            for key, value in zip(reversed(node.keys), reversed(node.values), strict=True):
                after = self.expression_before(value, after)
                after = after if key is None else self.expression_before(key, after)
            return after
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
                kind = SCALAR if self._has_scalars(generator.iter) else None
                scope.update(dict.fromkeys(stored(generator.target), kind))
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
            if self.kinds.get(name) == BATCH and name not in self.open:
                return self._is_loud(node, f"the name {name}")
            if self.kinds.get(name) in (OWN_COLUMN, OWN_COLUMNS):
                return self._is_loud(node, f"the type of {name}")
            return after
        if name in self.names:
            value = self.names[name]
            if value is _UNKNOWN:
                return self._is_loud(node, f"the name {name}")
            is_quiet = allowed.is_allowed(value) or is_standard(value)
            if self.changes and type(value) in (list, dict, set):
                is_quiet = False
            self._uses_name(self.function_.__globals__, name, value)
        else:
            value = vars(builtins).get(name)
            is_quiet = allowed.is_builtin(name) or name == "__debug__"
            is_quiet |= name in ("bytes", "isinstance", "any", "all", "repr") and (
                value in QUIET_BUILTINS
            )
            is_quiet |= (
                isinstance(value, type)
                and issubclass(value, BaseException)
                and value.__module__ == "builtins"
            )
            self._uses_name(vars(builtins), name, value)
            is_quiet &= builtins_of(self.function_) is vars(builtins)
        return after if is_quiet else self._is_loud(node, f"the name {name}")

    def _attribute_before(self, node: ast.Attribute, after: int) -> int:
        base, name = node.value, node.attr
        if plain._name_of(base) in self.open:
            return (
                after if name in allowed.OF_BATCH else self._is_loud(node, f"the attribute {name}")
            )
        kind, meaning = self.kind(base), self._meaning(base)
        if kind == ENGINE:
            assert isinstance(base, ast.Attribute)
            after = self.expression_before(base.value, after)
        elif type(meaning) is ModuleType and isinstance(base, ast.Name):
            self._uses_name(self.function_.__globals__, base.id, meaning)
        else:
            after = self.expression_before(base, after)
        if type(meaning) is ModuleType:
            is_quiet = self._may_be_asked_of(meaning, name)
        elif kind == ROW:
            is_quiet = name[:1] != "_" or name == "_mapping"
        elif kind in OF_KIND:
            is_quiet = name in OF_KIND[kind]
            is_quiet &= (kind, name) != (BIND, "engine")  # but see above
        else:
            is_quiet = name in allowed.ATTRIBUTES or name in OF_VALUES
            if name in allowed.MUTATORS:
                is_quiet = self._is_table(base)
            is_quiet |= kind == FRESH and name in OF_FRESH
            if name[:1] != "_":
                is_quiet |= isinstance(base, ast.Attribute) and base.attr in allowed.COLUMNS
                is_quiet |= meaning is not None and meaning is plain._func()
        return after if is_quiet else self._is_loud(node, f"the attribute {name}")

    def _is_table(self, node: ast.expr) -> bool:
        """Whether `insert` and `update` of a value make a statement, and do not change a container."""
        if self.kind(node) == TABLE:  # a local that holds anything else is loud itself
            return True
        sql: Any = sys.modules.get("sqlalchemy.sql.selectable")
        return sql is not None and type(self._meaning(node)) is sql.TableClause

    def _may_be_asked_of(self, module: ModuleType, name: str) -> bool:
        if allowed.is_op(module) or allowed.is_module(module):
            self._uses_name(vars(module), name, vars(module).get(name))
            return allowed.is_attribute(module, name)
        if is_context(module):
            return name == "is_offline_mode"
        if "__getattr__" in vars(module):
            return False
        found = vars(module).get(name)
        self._uses_name(vars(module), name, found)
        if found is None:
            return False
        return type(found) is ModuleType or allowed.is_allowed(found) or is_standard(found)

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
        if self._makes_session(node):
            self._uses_class(function)
            self.marks.sessions.add(self._meaning(function))
            return self._arguments_before(node, after)
        if self._is_read(node):
            return self._read_before(node)
        helper = self._helper(function)
        if helper is not None:
            return self._helper_before(node, helper, after, is_thrown_away)
        return self.expression_before(function, self._arguments_before(node, after))

    def _is_read(self, node: ast.Call) -> bool:
        """Whether a call is ``bind.execute(one)``, ``session.scalar(one, two)`` or the like."""
        function = node.func
        return (
            isinstance(function, ast.Attribute)
            and self.kind(function.value) in (BIND, SESSION)
            and function.attr in GIVES[BIND]
            and len(node.args) in (1, 2)
            and not any(isinstance(argument, ast.Starred) for argument in node.args)
            and not node.keywords
        )

    def _read_before(self, node: ast.Call) -> int:
        """A query is waited for, but runs no code of the project's, which could change anything."""
        assert isinstance(node.func, ast.Attribute)
        self._arguments_before(node, NEXT)
        self.expression_before(node.func.value, NEXT)
        self._tell(node, "a query")
        if self.is_final:
            self.reads[id(node)] = node
        return LOUD

    def _uses_class(self, function: ast.expr) -> None:
        """Take down the names through which a class was found."""
        if isinstance(function, ast.Name):
            self._uses_name(self.function_.__globals__, function.id, self.names.get(function.id))
        elif isinstance(function, ast.Attribute):
            module = self._meaning(function.value)
            self._uses_name(vars(module), function.attr, vars(module).get(function.attr))
            self._uses_class(function.value)

    def _arguments_before(self, node: ast.Call, after: int) -> int:
        values = [*node.args, *(keyword.value for keyword in node.keywords)]
        for value in reversed(values):
            after = self.expression_before(value, after)
        return after

    def _site(self, node: ast.Call, after: int, *, is_execute: bool = False) -> int:
        """A call that sends statements, for which `after` is the mark. With arguments that are not quiet it
        has none: rendering them may call code that looks at its first statement.
        """
        loud, types_met = self.loud, self.types_met
        self.types_met = 0
        state = NEXT
        for value in reversed([*node.args, *(keyword.value for keyword in node.keywords)]):
            state = self._directives_argument_before(value, state)
        self._take_mark(
            node,
            after,
            is_quiet=self.loud - loud == self.types_met,
            is_execute=is_execute,
            renders_own=self.types_met > 0,
        )
        self.types_met = types_met
        return state

    def _directives_argument_before(self, value: ast.expr, after: int) -> int:
        """Of columns with types of the project's, each of which counts as loud: rendering calls it, too."""
        inner = value.value if isinstance(value, ast.Starred) else value
        if isinstance(inner, ast.Name) and self.kind(inner) in (OWN_COLUMN, OWN_COLUMNS):
            self.types_met += 1
            self._is_loud(inner, f"the type of {inner.id}")
            return after
        types = self._own_types_of(value)
        if not types:
            return self.expression_before(value, after)
        assert isinstance(value, ast.Call)
        for part in reversed([*value.args, *(keyword.value for keyword in value.keywords)]):
            if part in types:
                assert isinstance(part, ast.Call)
                self.types_met += 1
                self._is_loud(part, f"the type {ast.unparse(part.func)}")
                before = self._arguments_before(part, after)
                after = before if is_made_quietly(self._meaning(part.func)) else LOUD
            else:
                after = self.expression_before(part, after)
        return self.expression_before(value.func, after)

    def _own_types_of(self, column: ast.expr) -> list[ast.expr]:
        """What in ``sa.Column(name, Own(...), ...)`` makes a type of the project's."""
        if not isinstance(column, ast.Call):
            return []
        made = self._meaning(column.func)
        schema: Any = sys.modules.get("sqlalchemy.sql.schema")
        if schema is None or made is not schema.Column:
            return []
        by_name = [keyword.value for keyword in column.keywords if keyword.arg == "type_"]
        return [
            part
            for part in (*column.args[:2], *by_name)
            if isinstance(part, ast.Call) and is_own_type(self._meaning(part.func))
        ]

    def _take_mark(
        self,
        node: ast.Call,
        after: int,
        *,
        is_quiet: bool = True,
        is_execute: bool = False,
        renders_own: bool = False,
    ) -> None:
        if not self.is_final:
            return
        if not is_quiet:
            self.unmarked.add(node.lineno)
            return
        known = self.taken.get(id(node))
        mark = max(after, known[1] if known else NEXT)
        self.taken[id(node)] = (node, mark, is_execute, renders_own)

    def _is_thrown_away_execute(self, call: ast.Call) -> bool:
        """``bind.execute(one)`` as a statement, or with parameters: nobody looks at what it gives."""
        function = call.func
        return (
            isinstance(function, ast.Attribute)
            and function.attr == "execute"
            and self.kind(function.value) in (BIND, SESSION)
            and len(call.args) in (1, 2)
            and not any(isinstance(argument, ast.Starred) for argument in call.args)
            and not call.keywords
        )

    def _helper(self, function: ast.expr) -> FunctionType | None:
        """The function that is called, if it is one of Python's own that can be analysed."""
        if not isinstance(function, (ast.Name, ast.Attribute)):
            return None
        found = self._meaning(function)
        if type(found) is not FunctionType or allowed.is_allowed(found) or is_standard(found):
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
            code.co_flags & (0x20 | 0x80 | 0x200)  # generators, coroutines
            or code.co_freevars
            or code.co_cellvars
            or any(isinstance(argument, ast.Starred) for argument in node.args)
            or any(keyword.arg is None for keyword in node.keywords)
        )

    def _walk_helper(self, node: ast.Call, helper: FunctionType) -> tuple[int, bool, bool] | None:
        """The state at the beginning of a helper, whose own end is END; whether what it returns is quiet;
        whether something in it is loud. None where it is not known.
        """
        code = helper.__code__
        if (
            self.depth >= _DEEPEST
            or code in self.active
            or builtins_of(helper) is not vars(builtins)
        ):
            return None
        if code not in self.known:
            self.known[code] = source.tree_of(code.co_filename, helper)
        tree = self.known[code]
        arguments = None if isinstance(tree, str) else self._given(node, helper, tree.args)
        if isinstance(tree, str) or arguments is None:
            return None
        for name in ("__code__", "__defaults__", "__kwdefaults__"):
            self.marks.helpers.append((helper, name, getattr(helper, name)))
        key = (code, id(helper), arguments, self.active, self.is_final)
        if key not in self.known:
            spans = self.spans if self.is_final else Spans(self.spans.top)
            place = (self.depth + 1, self.active, self.known)
            walker = type(self)(spans, helper, tree, arguments, *place)
            state = walker.mark()
            self.known[key] = (
                (state, walker.returns_value, walker.loud > 0),
                (
                    walker.marks.names,
                    walker.marks.helpers,
                    walker.marks.sessions,
                ),
            )
        found, used = self.known[key]
        self.marks.names.update(used[0])
        self.marks.helpers += used[1]
        self.marks.sessions |= used[2]
        return found  # type: ignore[no-any-return]

    def _given(
        self, node: ast.Call, helper: FunctionType, parameters: ast.arguments
    ) -> tuple[tuple[str, Any], ...] | None:
        """What a call binds the parameters of `helper` to, as :class:`~migrate_ext.execution.span_names.Names`
        takes it; None where it does not fit.
        """
        positional = [found.arg for found in (*parameters.posonlyargs, *parameters.args)]
        by_name = {*positional[len(parameters.posonlyargs) :]}
        by_name |= {found.arg for found in parameters.kwonlyargs}
        defaults = helper.__defaults__ or ()
        known = dict(zip(positional[len(positional) - len(defaults) :], defaults, strict=True))
        known.update(helper.__kwdefaults__ or {})
        given = {name: SCALAR if is_scalar((value,)) else _UNKNOWN for name, value in known.items()}
        more = [self._kind_of_argument(value) for value in node.args[len(positional) :]]
        for name, value in zip(positional, node.args, strict=False):
            given[name] = self._kind_of_argument(value)
        others = []
        for keyword in node.keywords:
            if keyword.arg in by_name:
                given[keyword.arg] = self._kind_of_argument(keyword.value)
            else:
                others.append(self._kind_of_argument(keyword.value))
        if given.keys() != {*positional, *by_name}:
            return None
        for rest, kinds in ((parameters.vararg, more), (parameters.kwarg, others)):
            if rest is not None:
                given[rest.arg] = _UNKNOWN if _UNKNOWN in kinds else None
                if given[rest.arg] is None and OWN_COLUMN in kinds:
                    given[rest.arg] = OWN_COLUMNS if rest is parameters.vararg else _UNKNOWN
            elif kinds:
                return None
        return tuple(given.items())

    def _kind_of_argument(self, value: ast.expr) -> Any:
        loud, types_met = self.loud, self.types_met
        self.types_met = 0
        with self._unmarked():
            self._directives_argument_before(value, NEXT)
        is_loud, has_types = self.loud - loud != self.types_met, self.types_met > 0
        self.loud, self.types_met = loud, types_met
        if has_types and not is_loud:
            return OWN_COLUMNS if isinstance(value, ast.Starred) else OWN_COLUMN
        kind = self.kind(value)
        return _UNKNOWN if is_loud else None if kind == FRESH else kind
