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
know: what is quiet is listed (:mod:`migrate_ext.execution.allowed`, and :mod:`~migrate_ext.execution.quiet`), all else is loud.
Statements inside ``try``, and inside ``with`` blocks other than those of Alembic, have no marks: an
exception must be raised where Alembic would raise it.

Reading is loud, whatever it reads: nothing is lost by that, because what is pending has to be confirmed
before a read anyway. After loud code a local that can be changed is not known any more. The marks are
computed backwards over the syntax tree, to a fixed point in loops; functions that are called with quiet
arguments are analysed with their caller.
"""

from __future__ import annotations

import ast
import builtins
from types import FunctionType
from typing import Any

from migrate_ext.execution import allowed
from migrate_ext.execution.marks import END, LOUD, NEXT, NO_POSITIONS, Spans
from migrate_ext.execution.plain import _UNKNOWN, _name_of
from migrate_ext.execution.quiet import BATCH, CONTEXT, FRESH, OWN_COLUMNS, is_own_type
from migrate_ext.execution.span_calls import Calls

__all__ = ["END", "LOUD", "NEXT", "Spans", "spans_of"]


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


class _Walker(Calls):
    """Computes the marks of one function."""

    def mark(self) -> int:
        """Fill in the marks, and give the state at the function's beginning."""
        self.locals = {name for name, _, _ in self._bindings}
        for part in self.parts:
            if isinstance(part, (ast.Global, ast.Nonlocal)):
                self.globals.update(part.names)
            elif isinstance(part, ast.Attribute):
                self.changes |= part.attr in allowed.MUTATORS
        self.locals -= self.globals
        self.names.update(dict.fromkeys(self.globals, _UNKNOWN))
        for part in self.own_parts:
            if isinstance(part, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)):
                inner = {found.id for found in ast.walk(part) if isinstance(found, ast.Name)}
                self.tainted |= inner & self.locals
        self._learn_locals()
        if NO_POSITIONS:  # which of several calls on a line it is does not show
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
            is_value |= is_own_type(self._meaning(node.func))
            return not is_value and self._name_in_op(node.func) not in ("get_bind", "get_context")
        return isinstance(node.func, ast.Attribute) and node.func.attr in allowed.DIRECTIVES

    def _take_down(self) -> None:
        """Find the instructions that the marks of calls belong to."""
        marks, code = self.marks, self.function_.__code__
        by_position: dict[tuple[int, ...], list[int]] = {}
        if not NO_POSITIONS:
            positions: Any = code.co_positions()  # type: ignore[attr-defined,unused-ignore]
            for number, position in enumerate(positions):
                by_position.setdefault(position, []).append(number * 2)

        def where(node: ast.Call) -> list[int]:
            if NO_POSITIONS:
                return [node.lineno]
            place = (node.lineno, node.end_lineno, node.col_offset, node.end_col_offset)
            return by_position.get(place, [])  # type: ignore[arg-type]

        for node in self.reads.values():
            marks.reads.update(where(node))
        for node, mark, is_execute, renders_own in self.taken.values():
            table = marks.executes if is_execute else marks.calls
            for found in [] if node.lineno in self.unmarked and NO_POSITIONS else where(node):
                table[found] = max(mark, table.get(found, NEXT))
                if renders_own:
                    marks.renderers.add(found)
        before = self.spans.functions.get(code)
        if before is not None:  # called with other arguments, too
            for name in ("calls", "executes", "blocks"):
                now, old = getattr(marks, name), getattr(before, name)
                setattr(marks, name, {at: max(now[at], old[at]) for at in now.keys() & old})
            marks.names.update(before.names)
            marks.renderers |= before.renderers
            marks.reads |= before.reads
        self.spans.functions[code] = marks

    # statements

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
            state = END if self._is_exception(node.exc) else self._is_loud(node, "what it raises")
            for value in (node.cause, node.exc):
                state = state if value is None else self.root(value, state)
            return state
        if isinstance(node, (ast.Assign, ast.AnnAssign)):
            if node.value is None:
                return after
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            for target in reversed(targets):
                after = self.stored_in(target, after, node.value)
            return self.root(node.value, after)
        if isinstance(node, ast.AugAssign):
            if not isinstance(node.target, ast.Name) or node.target.id in self.tainted:
                after = self._is_loud(node, "an assignment in place")
            return self.root(node.value, self.stored_in(node.target, after, node.value))
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

    def _is_exception(self, node: ast.expr | None) -> bool:
        """Whether an exception is one of Python's own that is no exit: before it all is synchronised."""
        node = node.func if isinstance(node, ast.Call) else node
        name = _name_of(node)
        found = vars(builtins).get(name)
        is_hidden = name in self.locals or name in self.names
        return not is_hidden and isinstance(found, type) and issubclass(found, Exception)

    def stored_in(self, target: ast.expr, after: int, value: ast.expr) -> int:
        if isinstance(target, ast.Name):
            if target.id in self.globals:
                return self._is_loud(target, f"the global {target.id} is set")
            if target.id in self.tainted:
                return self._is_loud(target, f"what {target.id} was is dropped")
            return after
        if isinstance(target, (ast.Tuple, ast.List)):
            for element in reversed(target.elts):
                after = self.stored_in(element, after, value)
            return after
        if isinstance(target, ast.Starred):
            return self.stored_in(target.value, after, value)
        if isinstance(target, ast.Subscript) and self.kind(target.value) == FRESH:
            return self.root(target.slice, self.root(target.value, after))
        self._taint(target, value)
        return self._is_loud(target, "an assignment to something else than a name")

    def _for(self, node: ast.For, after: int, loop: tuple[int, int] | None) -> int:
        done = self.block(node.orelse, after, loop)
        head = done
        while True:
            state = self.block(node.body, head, (after, head))
            state = max(done, self.stored_in(node.target, state, node.iter))
            loud = self.loud
            self._iterated_before(node.iter, head)
            if self.loud != loud:  # each item comes out of something unknown
                state = LOUD
            if state == head:
                return self._iterated_before(node.iter, head)
            head = state

    def _iterated_before(self, node: ast.expr, after: int) -> int:
        return after if self.kind(node) == OWN_COLUMNS else self.root(node, after)

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
            name = _name_of(node.items[0].optional_vars)
            if self.kinds.get(name) == BATCH and name not in self.tainted:
                return self._batch_before(node, call, name, after, loop)
        if self._is_autocommit_block(node) and isinstance(call, ast.Call):
            self.block(node.body, after, loop)
            self._take_block(node, after, loop)
            return self.expression_before(call.func, NEXT)  # its COMMIT waits for what is pending
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
        """Its statements are sent at its end, if there are any: until there others wait as behind it. What
        is loud in it may be rendered there, too.
        """
        loud, was_open = self.loud, name in self.open
        self.open.add(name)
        assert node.items[0].optional_vars is not None
        body = self.block(node.body, after, loop)
        self._arguments_before(call, NEXT)
        is_loud = self.loud != loud
        if is_loud:
            body = self.block(node.body, LOUD, loop)
        if not was_open:
            self.open.discard(name)
        state = self._arguments_before(
            call, self.stored_in(node.items[0].optional_vars, body, call)
        )
        if not is_loud:
            self._take_block(node, after, loop)
        return state

    def _take_block(self, node: ast.With, after: int, loop: tuple[int, int] | None) -> None:
        """Take down the mark of a block, which may be left before its last statement, too."""
        for part in ast.walk(node):
            if isinstance(part, ast.Return):
                after = max(after, END)
            elif isinstance(part, (ast.Break, ast.Continue)) and loop is not None:
                after = max(after, *loop)
        if self.is_final:
            self.marks.blocks[node.lineno] = max(after, self.marks.blocks.get(node.lineno, NEXT))

    def _is_get_context(self, call: ast.Call) -> bool:
        return bool(self.kind(call) == CONTEXT)
