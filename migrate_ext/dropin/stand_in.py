"""Modules of migrations that are in the compiled plan, for runs in which other migrations are not.

Such a run is Alembic's, but files of planned migrations are not executed. Their ``upgrade()`` is a
generated function that executes the plan's statements, each at the line of its directive. It is a
plain migration; the executor and Alembic run it like any other.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING, Any

import sqlalchemy
from alembic import op

from migrate_ext import counters
from migrate_ext.dropin import script as scripts

if TYPE_CHECKING:
    from migrate_ext.plans.key import Items


class Module(ModuleType):
    """Replaces the module of a revision. Any attribute but `name` is read from the executed file.

    name: of the planned function, ``upgrade`` or ``downgrade``. items: its statements.
    load: executes the file.
    """

    def __init__(self, path: str, name: str, items: Items, load: Callable[[], ModuleType]) -> None:
        super().__init__(name)
        self.load = load
        stand_in: Any = function(path, name, items)
        stand_in.migrate_ext_module = self
        self.__dict__[name] = stand_in

    def __getattr__(self, name: str) -> Any:
        return getattr(self.load(), name)


class LazyModule(scripts.LazyModule):
    """``Script.module`` in a run with planned migrations: see :class:`Module`.

    name: of the planned function. found: path of a revision's file -> its statements.
    """

    def __init__(
        self, load: Callable[[str], ModuleType], name: str, found: dict[str, Items]
    ) -> None:
        super().__init__(load)
        self._name = name
        self._found = found

    def __get__(self, script: Any, cls: type) -> ModuleType:
        items = None if script is None else self._found.get(script.path)
        if items is None:
            return super().__get__(script, cls)
        return Module(
            script.path, self._name, items, lambda: super(LazyModule, self).__get__(script, cls)
        )


def confirm_plan(steps: list[Any], foreign: str | None) -> list[Any]:
    """The steps of a run, after all files that must be executed have been. foreign: why the plan's
    SQL may no longer be what Alembic would render, if one of those files has caused that; then the
    plan is not used.
    """
    for step in steps:
        module = getattr(step.migration_fn, "migrate_ext_module", None)
        if module is not None and foreign is None:
            counters.planned += 1
        elif module is not None:
            counters.plain(f"plan: {foreign}")
            step.migration_fn = getattr(module.load(), module.__name__)
    return steps


def function(path: str, name: str, items: Items) -> Callable[[], None]:
    """A function `name` that executes `items`, with the lines of the file at `path`.

    items: without boundaries (line -1).
    """
    body: list[ast.stmt] = [ast.Pass(lineno=1, col_offset=0)]
    for line, sql in items:
        # In text() a colon begins a parameter.
        call = ast.parse(f"op.execute(text({sql.replace(':', chr(92) + ':')!r}))").body[0]
        body.append(ast.increment_lineno(call, max(line, 1) - 1))
    tree = ast.parse(f"def {name}(): pass")
    tree.body[0].body = body  # type: ignore[attr-defined]
    names: dict[str, Any] = {"op": op, "text": sqlalchemy.text}
    exec(compile(ast.fix_missing_locations(tree), path, "exec"), names)
    return names[name]  # type: ignore[no-any-return]
