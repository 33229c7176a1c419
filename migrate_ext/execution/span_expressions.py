"""The state before an expression, from the state behind it (:mod:`migrate_ext.execution.spans`)."""

from __future__ import annotations

import ast
import builtins
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from migrate_ext.execution import allowed, plain
from migrate_ext.execution.marks import LOUD
from migrate_ext.execution.plain import _UNKNOWN
from migrate_ext.execution.quiet import (
    BATCH,
    BIND,
    ENGINE,
    FRESH,
    OF_FRESH,
    OF_KIND,
    OF_VALUES,
    OWN_COLUMN,
    OWN_COLUMNS,
    QUIET_BUILTINS,
    ROW,
    SCALAR,
    TABLE,
    UNCHANGING,
    builtins_of,
    constant_of_class,
    is_context,
    is_standard,
)
from migrate_ext.execution.span_names import Names, stored


class Expressions(Names):
    """Adds expressions other than calls."""

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
        constant = constant_of_class(meaning, name)
        if constant is not None:
            self._uses_class(base)
            for owner, value in constant[1]:
                self.marks.names[id(owner), name] = (vars(owner), name, value)
            return after
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

    def _call_before(self, node: ast.Call, after: int, is_thrown_away: bool) -> int:
        raise NotImplementedError
