"""The state before a call: of a directive, a query, a helper, or a constructor (:mod:`migrate_ext.execution.spans`)."""

from __future__ import annotations

import ast
import builtins
import sys
from types import FunctionType
from typing import Any

from migrate_ext.execution import allowed, source
from migrate_ext.execution.marks import END, LOUD, NEXT, Spans
from migrate_ext.execution.plain import _UNKNOWN
from migrate_ext.execution.quiet import (
    BIND,
    FRESH,
    GIVES,
    OWN_COLUMN,
    OWN_COLUMNS,
    READS,
    SCALAR,
    builtins_of,
    is_made_quietly,
    is_own_type,
    is_scalar,
    is_standard,
)
from migrate_ext.execution.span_expressions import Expressions

_DEEPEST = 4  # helpers that call helpers


class Calls(Expressions):
    """Adds calls."""

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
            and self.kind(function.value) in READS
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
            and self.kind(function.value) in READS
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
