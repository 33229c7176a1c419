"""Alembic's graph code with sets that keep their order, and without endless loops.

Alembic's order is a set's hash order in places; the extension's is the order of declaration there. These are Alembic's
own modules, compiled once more with every set made to keep its order, so that both can be compared exactly.
"""

from __future__ import annotations

import ast
import contextlib
import importlib.util
import types
from collections.abc import Iterable, Iterator, MutableSet
from pathlib import Path
from typing import Any

from alembic.script import ScriptDirectory


class Endless(BaseException):
    """Alembic would go round for ever."""


class OrderedSet(MutableSet):
    """Alembic's use of `set` and `frozenset`, in order of insertion."""

    def __init__(self, items: Iterable[Any] = ()) -> None:
        self._items = dict.fromkeys(items)

    def __class_getitem__(cls, item: object) -> type:
        return cls

    def __contains__(self, item: object) -> bool:
        return item in self._items

    def __iter__(self) -> Iterator[Any]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __repr__(self) -> str:
        return repr(list(self))

    def add(self, item: Any) -> None:
        self._items[item] = None

    def discard(self, item: Any) -> None:
        self._items.pop(item, None)

    def remove(self, item: Any) -> None:
        del self._items[item]

    def update(self, *others: Iterable[Any]) -> None:
        for other in others:
            self._items.update(dict.fromkeys(list(other)))

    def union(self, *others: Iterable[Any]) -> OrderedSet:
        made = OrderedSet(self)
        made.update(*others)
        return made

    def difference(self, other: Iterable[Any]) -> OrderedSet:
        left_out = dict.fromkeys(other)
        return OrderedSet(item for item in self if item not in left_out)

    def difference_update(self, other: Iterable[Any]) -> None:
        self._items = self.difference(other)._items

    def intersection(self, other: Iterable[Any]) -> OrderedSet:
        """In the order of `other`, which is what a set's own order follows from."""
        return OrderedSet(item for item in other if item in self)

    def intersection_update(self, other: Iterable[Any]) -> None:
        self._items = self.intersection(other)._items


class _MakeOrdered(ast.NodeTransformer):
    """`{...}` becomes OrderedSet([...]); each round of a `while` is counted."""

    def visit_SetComp(self, node: ast.SetComp) -> ast.AST:
        self.generic_visit(node)
        comprehension = ast.ListComp(node.elt, node.generators)
        return ast.Call(ast.Name("set", ast.Load()), [comprehension], [])

    def visit_Set(self, node: ast.Set) -> ast.AST:
        self.generic_visit(node)
        return ast.Call(ast.Name("set", ast.Load()), [ast.List(node.elts, ast.Load())], [])

    def visit_While(self, node: ast.While) -> ast.AST:
        self.generic_visit(node)
        node.body.insert(0, ast.parse("count_round()").body[0])
        return node


class _Rounds:
    LIMIT = 20_000

    def __init__(self) -> None:
        self.left = self.LIMIT

    def count(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise Endless

    def reset(self) -> None:
        self.left = self.LIMIT


rounds = _Rounds()


def _load(name: str) -> Any:
    spec = importlib.util.find_spec(name)
    assert spec is not None and spec.origin is not None
    tree = _MakeOrdered().visit(ast.parse(Path(spec.origin).read_text(encoding="utf-8")))
    module = types.ModuleType(name)
    module.__package__ = name.rpartition(".")[0]
    module.__dict__.update(set=OrderedSet, frozenset=OrderedSet, count_round=rounds.count)
    exec(compile(ast.fix_missing_locations(tree), spec.origin, "exec"), module.__dict__)
    return module


revision = _load("alembic.script.revision")
_migration = _load("alembic.runtime.migration")


class Revision(revision.Revision):  # type: ignore[misc]
    """As a Script is one, as far as a step needs it."""

    module = types.SimpleNamespace(upgrade=None, downgrade=None)


class Scripts:
    """ScriptDirectory over records, as far as `_stamp_revs` and running steps need it."""

    def __init__(self, records: Iterable[tuple[Any, Any, Any, Any]]) -> None:
        rounds.reset()
        self.revisions = [
            Revision(id_, down, depends, labels) for id_, down, labels, depends in records
        ]
        self.revision_map = revision.RevisionMap(lambda: self.revisions)
        assert self.revision_map._revision_map is not None
        self.get_revisions = self.revision_map.get_revisions

    def _catch_revision_errors(self, **texts: str) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def stamp(self, destinations: Any, heads: Any) -> list[tuple[Any, Any, bool, bool]]:
        steps = ScriptDirectory._stamp_revs(self, destinations, heads)  # type: ignore[arg-type]
        return [(step.from_, step.to_, step.is_upgrade, step.branch_move) for step in steps]

    def version_operations(self, heads: Any, steps: Iterable[Any]) -> list[list[tuple[str, ...]]]:
        maintainer = _Recorder(heads)
        for step in steps:
            maintainer.operations.append([])
            if len(step) == 2:
                made = _migration.RevisionStep(
                    self.revision_map, self.revisions[step[0]], is_upgrade=step[1]
                )
            else:
                made = _migration.StampStep(*step, self.revision_map)
            maintainer.update_to_step(made)
        return maintainer.operations


class Anything:
    """A MigrationContext that takes every statement."""

    as_sql = True

    def __getattr__(self, name: str) -> Anything:
        return self

    def __call__(self, *args: object, **kwargs: object) -> Anything:
        return self

    def __eq__(self, other: object) -> bool:
        return True


class _Recorder(_migration.HeadMaintainer):  # type: ignore[misc]
    def __init__(self, heads: Any) -> None:
        super().__init__(Anything(), heads)
        self.operations: list[list[tuple[str, ...]]] = []

    def _insert_version(self, version: str) -> None:
        super()._insert_version(version)
        self.operations[-1].append(("insert", version))

    def _delete_version(self, version: str) -> None:
        super()._delete_version(version)
        self.operations[-1].append(("delete", version))

    def _update_version(self, from_: str, to_: str) -> None:
        super()._update_version(from_, to_)
        self.operations[-1].append(("update", from_, to_))
