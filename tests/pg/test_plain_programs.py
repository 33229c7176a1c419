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

from migrate_ext import _core
from migrate_ext.execution import plain, plain_bytecode

# What bodies find at the top of their file. `world` is a module of this test's: it notes what is done to it.
TOP = """
import uuid
import world
from sqlalchemy.orm import Session
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
Derived = world.Derived


def two(name, o=op, more=()):
    o.execute(f"CREATE TABLE {name}_1 (a int)")
    for each in more:
        o.execute(f"CREATE TABLE {name}_{each} (a int)")
    o.execute(f"CREATE TABLE {name}_2 (a int)")


def told(name, bind):
    bind.execute(sa.text(f"CREATE TABLE {name}_3 (a int)"))
    world.note(20)
    op.execute(f"CREATE TABLE {name}_4 (a int)")


def exists(name):
    return name in sa.inspect(op.get_bind()).get_table_names()


def changes(items):
    world.change(items)


def sets():
    global X
    X = LOUD


def nested(name):
    if exists(name):
        return
    two(name)
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
    *"rows row.a items bind bind.dialect.name op.get_context().dialect.name bind.engine".split(),
    "bind.execute(sa.text('SELECT a, b FROM t0')).fetchall()",
    "bind.execute(sa.text('SELECT count(*) FROM t0')).scalar()",
    "exists('t0')",
    "[n for n in {0} if {1}]",
    "{{n: 1 for n in NAMES}}",
    "sa.inspect(bind).get_table_names()",
    "Derived",
    "sa.Column('d', Derived())",
    "sa.Column('k', world.Kind())",
    "sa.Column({0}, Derived({1}))",
    "uuid.uuid5(uuid.NAMESPACE_DNS, {0})",
    "isinstance({0}, str)",
    *"row[0] row.b rows[0].a s".split(),
    "s.scalar(sa.text('SELECT 1'))",
    "bind.scalars(sa.text('SELECT b FROM t0')).all()",
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
    "op.execute(\"SET LOCAL lock_timeout = '{n}s'\")",
    "op.execute('RESET search_path')",
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
    "bind = op.get_bind()",
    "rows = bind.execute(sa.text('SELECT a, b FROM t0')).fetchall()",
    "row = bind.execute(sa.text('SELECT 1 AS a')).first()",
    "items = []",
    "items = ['i1', {0}]",
    "items.append({0})",
    "items += ['z{n}']",
    "changes(items)",
    "world.change(items)",
    "sets()",
    "two('u{n}')",
    "two('u{n}', more=items)",
    "two(name='u{n}', o=op)",
    "two({0})",
    "told('u{n}', bind)",
    "told('u{n}', op.get_bind())",
    "nested('u{n}')",
    "bind.execute(sa.text('CREATE TABLE v{n} (a int)'))",
    "postgresql.ENUM('q', name='k{n}').create(bind, checkfirst={0})",
    "op.create_table('t{n}', sa.Column('d', Derived()), sa.Column('e', sa.Text, index=True), comment='c')",
    "op.create_table('t{n}', sa.Column('d', OTHER), sa.Column('e', sa.Text, index=True), comment='c')",
    "op.add_column('t0', sa.Column('c{n}', world.Kind()))",
    "op.add_column('t0', sa.Column('c{n}', Derived(), server_default={0}))",
    "op.add_column('t0', {0})",
    "op.execute('SAVEPOINT s')",
    "op.bulk_insert(TABLE, [])",
    "op.bulk_insert(TABLE, [{{'a': 1, 'b': {0}}}])",
    "s = Session(bind)",
    "s = Session(bind=op.get_bind())",
    "s.execute(sa.text('INSERT INTO t0 VALUES (:a, :b)'), {{'a': {n}, 'b': {0}}})",
    "s.execute(sa.text('CREATE TABLE s{n} (a int)'))",
    "rows = s.execute(sa.text('SELECT a, b FROM t0')).all()",
    "s.commit()",
    "s.rollback()",
    "world.rebind(s)",
    "bind.execute(sa.text('UPDATE t0 SET b = :b'), {{'b': {0}}})",
    "x = bind.scalar(sa.text('SELECT max(a) FROM t0'))",
    "y = sa.table('t0', sa.column('a'), sa.column('b'))",
    "op.execute(y.insert().values(a={n}, b={0}))",
    "op.execute(y.update().values(b={0}))",
    "break",
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
    "if not exists('t{n}'):",
    "for row in rows:",
    "for row in bind.execute(sa.text('SELECT a, b FROM t0')):",
    "for x, y in bind.execute(sa.text('SELECT a, b FROM t0')):",
    "for x in bind.scalars(sa.text('SELECT b FROM t0')):",
    "for x in items:",
    "while not world.enough():",
    "with op.get_context().autocommit_block():",
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
            head = draw(st.sampled_from(BLOCKS)).format(draw(expressions()), n=number)
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


LISTENERS: list[Any] = []  # that migrations have registered, to be removed
SESSIONS: list[Any] = []  # likewise, on all sessions


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

        class Derived(sqlalchemy.types.TypeDecorator[str]):
            impl = sqlalchemy.String
            cache_ok = True

            def process_bind_param(_, value: Any, dialect: Any) -> Any:
                self.note("bound")
                return value

        self.Loud, self.Kind, self.Derived = Loud, Kind, Derived
        self.LISTENERS, self.SESSIONS = LISTENERS, SESSIONS

    def note(self, what: object) -> str:
        self.noted.append(str(type(what)) if not isinstance(what, (int, str)) else repr(what))
        return "noted"

    helper = note

    def change(self, items: Any) -> None:
        if type(items) is list:
            items.append(self.Loud("changed"))

    def rebind(self, session: Any) -> None:
        import sqlalchemy

        sqlalchemy.event.listen(session, "do_orm_execute", lambda state: self.note("executed"))

    def finalized(self) -> Any:
        class Finalized:
            def __del__(_) -> None:
                self.note("finalized")

        return Finalized()

    def several(self) -> Iterator[str]:
        for name in ("v1", "v2"):
            self.note(name)
            yield name

    def enough(self) -> bool:
        self.note("asked")
        return len(self.noted) > 4

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


# Lines that run to their end, unless the one that fails has come. {n}: a number that is used once.
QUIET_LINES = [
    *["op.execute('CREATE TABLE q{n} (a int)')"] * 3,
    "op.create_table('q{n}', sa.Column('a', sa.Integer), sa.Column('b', sa.Text, index=True))",
    "op.create_table('q{n}', sa.Column('a', Derived()), sa.Column('b', sa.Text, index=True), comment='c')",
    "op.add_column('t0', sa.Column('c{n}', sa.Integer)),",
    "bind.execute(sa.text('CREATE TABLE q{n} (a int)'))",
    "two('q{n}')",
    "two('q{n}', more=['m', 'n'])",
    "nested('q{n}')",
    "items = ['q{n}']",
    "items.append('q{n}_{x}')",
    "number += 1",
    "rows = bind.execute(sa.text('SELECT a, b FROM t0')).fetchall()",
    "op.bulk_insert(TABLE, [{{'a': {n}, 'b': str(uuid.uuid4())[:0]}}])",
    "op.bulk_insert(TABLE, [])",
    "op.execute(TABLE.update().values(b='q'))",
    "postgresql.ENUM('q', name='k{n}').create(bind, checkfirst=False)",
    "with op.batch_alter_table('t0') as batch: op.create_table('q{n}', sa.Column('a', OTHER, comment='c'))",
    "x = bind.scalar(sa.text('SELECT max(a) FROM t0'))",
    "op.execute(f'CREATE TABLE q{n}_{{number}} (a int)')",
]
LOUD_LINES = [
    "world.note({n})",
    "number = helper({n}) and 3",
    "world.change(items)",
    "changes(items)",
    "told('q{n}', bind)",
    "op.create_table('q{n}', sa.Column('a', OTHER), sa.Column('b', sa.Text, index=True), comment='c')",
    "op.execute(f'CREATE TABLE q{n} (a int) /* {{LOUD}} */')",
    "op.execute(f'CREATE TABLE q{n} (a int) -- {{items}}')",
    "see('q{n}')",
    "world.attr = {n}",
    "NAMES.append(world.Loud('x{n}'))",
    "sets()",
    "PAIRS[0] = (LOUD, LOUD)",
]
SPAN_BLOCKS = [
    "if number:",
    "if world.note({n}):",
    "if not exists('t{n}'):",
    "if bind.dialect.name == 'postgresql':",
    "for x in NAMES:",
    "for x in items:",
    "for row in rows:",
    "for row in bind.execute(sa.text('SELECT a, b FROM t0')):",
    "for x, y in bind.execute(sa.text('SELECT a, b FROM t0')):",
    "for x in bind.scalars(sa.text('SELECT b FROM t0')):",
    "for x, y in PAIRS:",
    "for x in world.several():",
    "with op.batch_alter_table('t0') as batch:",
    "with world.block():",
    "with bind.begin_nested():",
    "with op.get_context().autocommit_block():",
    "try:",
    "def inner():",
]
FAILING = ("op.execute('SELECT 1/0')", "op.drop_table('nosuch')", "bind.execute(sa.text('nosuch'))")


@st.composite
def spanned(draw: st.DrawFn, depth: int = 2, prefix: str = "") -> str:
    """Lines of a body that runs, with quiet ones in rows."""
    lines = []
    for index in range(draw(st.integers(1, 5))):
        number = draw(st.integers(1, 10**8))
        kind = draw(st.integers(0, 11))
        if depth and kind < 2:
            head = draw(st.sampled_from(SPAN_BLOCKS)).format(n=number)
            inner = draw(spanned(depth - 1, f"{prefix}{index}"))
            if "batch_alter" in head:
                inner = f"batch.add_column(sa.Column('b{number}', sa.Integer))\n" + inner
            # Tables that are made in a loop have other names each time.
            inner = re.sub(r"CREATE TABLE (q\d+) ", r"CREATE TABLE IF NOT EXISTS \1 ", inner)
            lines.append(f"{head}\n{textwrap.indent(inner, '    ')}")
            if head == "try:":
                lines.append("except Exception:\n    world.note(6)")
            elif head == "def inner():":
                lines[-1] = lines[-1].replace("number += 1", "pass")
                lines.append("inner()")
            elif head.startswith("if") and draw(st.booleans()):
                lines.append(f"else:\n{textwrap.indent(draw(spanned(0)), '    ')}")
        elif kind == 2:
            lines.append(draw(st.sampled_from(LOUD_LINES)).format(n=number, x="x"))
        elif kind == 3 and draw(st.booleans()):
            behind = [QUIET_LINES] * draw(st.integers(0, 2)) + [LOUD_LINES]
            found = [draw(st.sampled_from(lines)) for lines in behind]
            lines.append(draw(st.sampled_from(FAILING)))
            lines += [line.format(n=number + n, x="x") for n, line in enumerate(found)]
        else:
            lines.append(draw(st.sampled_from(QUIET_LINES)).format(n=number, x="x"))
    return "\n".join(lines)


@settings(
    max_examples=int(os.environ.get("MIGRATE_EXT_EXAMPLES", "60")),
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
@given(
    bodies=st.lists(spanned(), min_size=1, max_size=3),
    driver=st.sampled_from(["psycopg", "psycopg2"]),
    apart=st.booleans(),
)
def test_statements_wait_only_where_nothing_is_done_before_the_next(
    tmp_path: Path, database_url: str, bodies: list[str], driver: str, apart: bool
) -> None:
    project = Watched(tmp_path / "project", database_url.replace("://", f"+{driver}://"))
    project.configure = {"transaction_per_migration": apart}
    first = "op.execute('CREATE TABLE t0 (a int, b text)')\nop.execute(\"INSERT INTO t0 VALUES (1, 'b')\")"
    start = "bind = op.get_bind()\nrows, items, number, x = [], [], 0, 'x'\n"
    project.write([first, *(start + body for body in bodies)], TOP)
    before = _core.counters()["statements"]
    outcome = project.agree()
    event("in batches", len(bodies) and (_core.counters()["statements"] - before) // 4)
    event("failed" if outcome.error is not None else "ran")


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
