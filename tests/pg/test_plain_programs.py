"""Whatever a migration's function does: Python runs ahead only where nobody can tell.

Bodies of all kinds, with a statement that fails on the server somewhere in them. What a body does beside its statements
(files, globals, attributes, calls) must be what it does under Alembic, and so must the error.
"""

from __future__ import annotations

import linecache
import os
import re
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from in_process_project import InProcessProject

from migrate_ext.execution import plain, plain_bytecode

# What bodies find at the top of their file. `world` is a module of this test's: it notes what is done to it.
TOP = """
import world
from world import helper
from sqlalchemy import String, text
from sqlalchemy.dialects import postgresql
import sqlalchemy.dialects.postgresql as pg
X = 1
NAMES = ["n1", "n2"]
PAIRS = [("p1", "p2")]
TABLE = sa.table("t0", sa.column("a"), sa.column("b"))
KIND = postgresql.ENUM("x", "y", name="kind")
LOUD = world.Loud("loud")
OTHER = world.Kind()
"""

EXPRESSIONS = [
    *"1 'a' -1 () [] {{}} X NAMES TABLE KIND String text LOUD OTHER str len x y".split(),
    *"sa.Integer sa.text('t') sa.String(9) op.f('a') TABLE.c.a postgresql.JSONB() pg.UUID".split(),
    *"world.note helper world.attr sa.util sa.sys sa.orm postgresql.base op sa pg.array([1])".split(),
    "sa.Column('c', sa.Integer)",
    "sa.Column('c', KIND)",
    "sa.Column('c', OTHER)",
    "sa.func.now()",
    "sa.func.any_name()",
    "'{{}}'.format({0})",
    "'{{0.attr}}'.format({0})",
    "f'{{{0}}}'",
    "f'{{{0}!r:>9}}'",
    "'%s' % ({0},)",
    "[{0}, {1}]",
    "[*{0}]",
    "{{'k': {0}}}",
    "({0} + {1})",
    "({0} == {1})",
    "({0} and {1})",
    "(not {0})",
    "({0} if {1} else 2)",
    "(x := {0})",
    "str({0})",
    "len({0})",
    "sorted({0})",
    "list({0})",
    "[n for n in {0}]",
    "(lambda: {0})()",
    "getattr(world, 'attr')",
    "helper({0})",
    "world.note({0})",
    "({0}).attr",
    "({0}).upper()",
    "({0}).append(1)",
    "({0}).update({1})",
    "({0}).c.a",
    "({0})[0]",
    "({0})(1)",
    "vars(world)",
    "__import__('world').note(2)",
    "eval('world.note(3)')",
    "print({0})",
    "type({0})",
    "max({0}, key=helper)",
    "TABLE.update().values(a=1)",
    "TABLE.c.a.label('z')",
    "op.get_bind().scalar(sa.text('SELECT 1'))",
]
STATEMENTS = [
    "op.execute('CREATE TABLE t{n} (a int)')",
    "op.execute('CREATE TABLE t{n} (a int)')",
    "op.create_table('t{n}', sa.Column('a', sa.Integer), sa.Column('b', sa.String(5)))",
    "op.execute(sa.text('SELECT {n}'))",
    "op.execute(f'SELECT {n}')",
    "op.get_bind().execute(sa.text('SELECT {n}'))",
    "op.execute(TABLE.update().values(b='q'))",
    "op.execute('SELECT 1/0')",
    "op.execute('SELECT 1/0')",
    "op.execute('SELECT * FROM nosuch')",
    "op.execute({0})",
    "x = {0}",
    "x: str = {0}",
    "y: world.note(9)",
    "x = y = {0}",
    "x, y = {0}",
    "x += {0}",
    "{0}",
    "return",
    "return {0}",
    "pass",
    "import world as w; w.note(4)",
    "from world import helper as h; h(5)",
    "import os.path",
    "global X",
    "global X; X = {0}",
    "NAMES[0] = {0}",
    "NAMES += ['z']",
    "world.attr = {0}",
    "sa.attr = {0}",
    "del x",
    "assert {0}",
    "world.note({0})",
    "x = op",
    "x = op.execute",
    "x = op.get_bind()",
    "op.drop_table('nosuch{n}')",
    "raise ValueError({0})",
]
BLOCKS = [
    "if {0}:",
    "if False:",
    "if True:",
    "while False:",
    "for x in NAMES:",
    "for x, y in PAIRS:",
    "for x in {0}:",
    "with op.batch_alter_table('t0') as y:",
    "with op.get_bind().begin_nested():",
    "with world.block():",
    "def inner():",
    "class Inner:",
    "try:",
]


@st.composite
def expressions(draw: st.DrawFn, depth: int = 2) -> str:
    parts = [draw(expressions(depth - 1)) if depth else "X" for _ in range(2)]
    return draw(st.sampled_from(EXPRESSIONS)).format(*parts)


@st.composite
def blocks(draw: st.DrawFn, depth: int = 2) -> str:
    """A few lines of a body, or a block of such."""
    lines = []
    for _ in range(draw(st.integers(1, 3))):
        number = draw(st.integers(1, 10**6))
        if depth and draw(st.integers(0, 5)) == 0:
            head = draw(st.sampled_from(BLOCKS)).format(draw(expressions()))
            inner = textwrap.indent(draw(blocks(depth - 1)), "    ")
            lines.append(f"{head}\n{inner}")
            if head == "try:":
                lines.append("except Exception:\n    world.note(6)")
            elif head == "def inner():":
                lines.append("inner()")
            elif head.startswith("if") and draw(st.booleans()):
                lines.append(f"else:\n{textwrap.indent(draw(blocks(0)), '    ')}")
        else:
            lines.append(draw(st.sampled_from(STATEMENTS)).format(draw(expressions()), n=number))
    return "\n".join(lines)


class World(ModuleType):
    """A module that tells of itself: what was called, what was set."""

    def __init__(self) -> None:
        super().__init__("world")
        self.noted: list[object] = []
        self.attr = "attr"

        class Loud(str):
            def __format__(_, how: str) -> str:
                return self.note("formatted")

            def __str__(_) -> str:
                return self.note("shown")

        import sqlalchemy

        class Kind(sqlalchemy.types.UserDefinedType[str]):
            def get_col_spec(_) -> str:
                return self.note("kind")

        self.Loud, self.Kind = Loud, Kind

    def note(self, what: object) -> str:
        self.noted.append(str(type(what)) if not isinstance(what, (int, str)) else repr(what))
        return "noted"

    helper = note

    def block(self) -> Any:
        from contextlib import nullcontext

        self.note("block")
        return nullcontext()


@pytest.fixture
def project(tmp_path: Path, database_url: str) -> Iterator[InProcessProject]:
    yield InProcessProject(tmp_path / "project", database_url)
    sys.modules.pop("world", None)


# Of an object, as repr() and SQLAlchemy's names of nameless parameters show it.
_ADDRESS = re.compile(r"0x[0-9a-f]+|(?<=%\()\d{9,}")


class Watched(InProcessProject):
    """A project whose outcomes also tell what was done to the world."""

    def run(self, batched: bool, target: str = "head") -> Any:
        import sqlalchemy

        world = sys.modules["world"] = World()
        linecache.clearcache()
        try:
            outcome: Any = super().run(batched, target)
        finally:
            del sys.modules["world"]
            outcome_attr = vars(sqlalchemy).pop("attr", None)
        shown = repr(outcome.raised).replace("immutabledict({})", "{}")
        outcome.raised = _ADDRESS.sub("at", shown)
        noted = [_ADDRESS.sub("at", str(note)) for note in world.noted]
        outcome.world = [*noted, repr(world.attr)[:20], str(type(outcome_attr))]
        return outcome


@settings(
    max_examples=int(os.environ.get("MIGRATE_EXT_EXAMPLES", "60")),
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
@given(
    bodies=st.lists(blocks(), min_size=1, max_size=3),
    driver=st.sampled_from(["psycopg", "psycopg2"]),
    apart=st.booleans(),
)
def test_random_migrations_do_what_they_do_under_alembic(
    tmp_path: Path, database_url: str, bodies: list[str], driver: str, apart: bool
) -> None:
    project = Watched(tmp_path / "project", database_url.replace("://", f"+{driver}://"))
    project.configure = {"transaction_per_migration": apart}
    first = "op.execute('CREATE TABLE t0 (a int, b text)')"
    try:
        project.write([first, *bodies], TOP)
        for path in sorted((project.folder / "versions").glob("*.py")):
            compile(path.read_text(), str(path), "exec", dont_inherit=True)
    except SyntaxError:
        event("not Python")
        return
    functions = _functions(project)
    for path, function in functions:
        fast, reason = (
            plain_bytecode.looks_plain(function),
            plain.reason_not_plain_in(path, function),
        )
        assert not (fast and reason is not None), reason
        event("fast" if fast else "tree" if reason is None else "not plain")
    project.agree()


def _functions(project: InProcessProject) -> list[tuple[str, Any]]:
    """The ``upgrade`` of each file, executed as Alembic would, in a world of its own."""
    found = []
    sys.modules["world"] = World()
    try:
        for path in sorted((project.folder / "versions").glob("*.py")):
            names: dict[str, Any] = {"__name__": path.stem}
            exec(compile(path.read_text(), str(path), "exec", dont_inherit=True), names)
            found.append((str(path), names["upgrade"]))
    finally:
        del sys.modules["world"]
    return found
