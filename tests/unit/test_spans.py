"""Which directives of a function may wait, and which must be confirmed before the function goes on."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from migrate_ext.execution.source import tree_of
from migrate_ext.execution.spans import END, LOUD, NEXT, Spans, spans_of

TOP = """\
import datetime, json, os.path, uuid
import sqlalchemy as sa
import application
from application import PlainType, RenderedType, SETTINGS
from alembic import context, op
from alembic.op import drop_table, get_bind
from sqlalchemy.dialects import postgresql

NAMES = ["a", "b"]


def pair(table):
    op.drop_column(table, "x")
    op.drop_column(table, "y")


def pair_of(operations, table):
    operations.drop_column(table, "x")
    operations.drop_column(table, "y")


def add_columns(table, *columns, schema=None, **more):
    for column in columns:
        op.add_column(table, column, schema=schema)


def tells(table):
    op.drop_column(table, "x")
    print(table)
    op.drop_column(table, "y")


def exists(name):
    return name in sa.inspect(op.get_bind()).get_table_names()


def forever():
    op.execute("1")
    forever()


"""
MARKS = {NEXT: "next", END: "end", LOUD: "loud"}


@pytest.fixture(autouse=True)
def application() -> Iterator[None]:
    import sqlalchemy as sa
    import sqlalchemy.orm

    module: Any = ModuleType("application")

    class PlainType(sa.types.TypeDecorator[str]):
        impl = sa.String
        cache_ok = True

        def process_bind_param(self, value: Any, dialect: Any) -> Any:
            return value

    class RenderedType(sa.types.UserDefinedType[str]):
        def get_col_spec(self) -> str:
            return "text"

    module.PlainType, module.RenderedType, module.SETTINGS = PlainType, RenderedType, object()
    module.SCHEMA = "s"

    class Base(sa.orm.DeclarativeBase):
        pass

    class Model(Base):
        __tablename__ = "model"
        id = sa.Column(sa.Integer, primary_key=True)
        loud = property(lambda self: "x")

    class Meta(type):
        def __getattribute__(cls, name: str) -> Any:
            return super().__getattribute__(name)

    class Watched(metaclass=Meta):
        NAME = "watched"

    module.Model, module.Watched = Model, Watched
    sys.modules["application"] = module
    yield
    del sys.modules["application"]


def spans(folder: Path, body: str) -> Spans:
    source = f"{TOP}def upgrade():\n{textwrap.indent(textwrap.dedent(body), '    ')}"
    path = folder / "r0001.py"
    path.write_text(source)
    names: dict[str, Any] = {"__name__": "r0001"}
    exec(compile(source, str(path), "exec", dont_inherit=True), names)
    function = names["upgrade"]
    node = tree_of(str(path), function)
    assert not isinstance(node, str), node
    found = spans_of(function, node)
    assert isinstance(found, Spans), found
    return found


def lines(found: Spans, name: str = "upgrade") -> dict[int, str]:
    """By line of the body, from 1: the mark of the call there, of a block as "block ..."."""
    marks = next((marks for code, marks in found.functions.items() if code.co_name == name), None)
    if marks is None:
        return {}
    first = marks.code.co_firstlineno
    by_line: dict[int, str] = {}
    if sys.version_info >= (3, 11):
        positions = list(marks.code.co_positions())
        for at, mark in (*marks.calls.items(), *marks.executes.items()):
            by_line[(positions[at // 2][0] or 0) - first] = MARKS[mark]
    else:
        both = {**marks.calls, **marks.executes}
        by_line = {line - first: MARKS[mark] for line, mark in both.items()}
    by_line.update({line - first: f"block {MARKS[mark]}" for line, mark in marks.blocks.items()})
    return dict(sorted(by_line.items()))


ROWS = "rows = op.get_bind().execute(sa.text('q')).fetchall()\n"
CASES = {
    "a row of directives": ("op.execute('1')\nop.execute('2')", {1: "next", 2: "end"}),
    "something loud between": (
        "op.execute('1')\nprint()\nop.execute('2')",
        {1: "loud", 3: "end"},
    ),
    "a guard costs nothing behind it": (
        "if SETTINGS.x: return\nop.execute('2')\nop.execute('3')",
        {2: "next", 3: "end"},
    ),
    "a read through the connection": (
        f"op.execute('1')\n{ROWS}for row in rows:\n    op.execute(f'{{row.id}}')\nop.execute('5')",
        {1: "loud", 4: "next", 5: "end"},
    ),
    "a loop that may be empty before something loud": (
        "op.execute('1')\nfor x in NAMES:\n    op.execute(x)\nprint()",
        {1: "loud", 3: "loud"},
    ),
    "a branch": (
        "op.execute('1')\nif exists('t'):\n    print()\nelse:\n    op.execute('5')\nop.execute('6')",
        {1: "loud", 5: "next", 6: "end"},
    ),
    "raising ends the function": (
        "op.execute('1')\nif exists('t'):\n    raise ValueError('t')\nop.execute('4')",
        {1: "loud", 4: "end"},
    ),
    "a helper of the file": (
        "pair('t')\nprint()\nfor x in NAMES:\n    pair(x)\nop.execute('5')",
        {1: "loud", 4: "next", 5: "end"},
    ),
    "a helper with any number of arguments": (
        "add_columns('t', sa.Column('a', sa.Integer), sa.Column('b', sa.Text), schema='s', x=1)\n"
        "add_columns('t', SETTINGS)\nadd_columns('t')\nadd_columns(table='t')\nadd_columns(*NAMES)",
        {1: "loud", 2: "loud", 3: "loud", 4: "loud"},
    ),
    "op as an argument": ("pair_of(op, 't')\nop.execute('2')", {1: "next", 2: "end"}),
    "two kinds of arguments": ("pair_of(op, 't')\npair_of(SETTINGS, 't')", {1: "loud", 2: "end"}),
    "a helper that calls itself": ("op.execute('1')\nforever()", {1: "next", 2: "end"}),
    "arguments that are not known": (
        "op.execute('1')\nop.execute(SETTINGS.sql)\nop.execute('3')",
        {1: "loud", 3: "end"},
    ),
    "a type that renders itself": (
        "op.execute('1')\nop.add_column('t', sa.Column('c', RenderedType()))\nop.execute('3')",
        {1: "next", 2: "next", 3: "end"},  # it waits itself, before it is rendered
    ),
    "raising one of Python's own": (
        "op.execute('1')\nif context.is_offline_mode():\n    raise ValueError('t')\nop.execute('4')",
        {1: "end", 4: "end"},
    ),
    "raising an exit": (
        "op.execute('1')\nif context.is_offline_mode():\n    raise SystemExit(3)\nop.execute('4')",
        {1: "loud", 4: "end"},
    ),
    "a type of the project's": (
        "op.execute('1')\nop.add_column('t', sa.Column('c', PlainType()))",
        {1: "next", 2: "end"},
    ),
    "what a class of the application's holds": (
        "op.execute('1')\nop.execute(f'{application.Model.__tablename__}')\nop.execute(application.Model.id)",
        {1: "next", 2: "loud"},
    ),
    "what is computed for a class": (
        "op.execute('1')\nop.execute(f'{application.Watched.NAME}')\nop.execute('3')",
        {1: "loud", 3: "end"},
    ),
    "what a string of the application's holds": (
        "op.execute('1')\nop.execute(f'{application.SCHEMA}')",
        {1: "next", 2: "end"},
    ),
    "the standard library": (
        "op.execute(str(uuid.uuid4()))\nop.execute(str(uuid.uuid1()))\n"
        "op.execute(datetime.datetime.utcnow().isoformat())\nop.execute(os.path.join('a', 'b'))",
        {1: "next", 2: "next", 3: "next", 4: "end"},
    ),
    "a file is read": ("op.execute('1')\nop.execute(open('x').read())", {1: "loud"}),
    "a container made here": (
        "items = []\nop.execute('2')\nitems.append('a')\nfor x in items:\n    op.execute(x)",
        {2: "end", 5: "end"},
    ),
    "one that others were given": (
        "items = []\nSETTINGS.take(items)\nop.execute('3')\nfor x in items:\n    op.execute(x)",
        {3: "loud"},
    ),
    "one that a function in it changes": (
        "items = []\ndef inner():\n    items.append(SETTINGS)\ninner()\n"
        "op.execute('5')\nfor x in items:\n    op.execute(x)",
        {5: "loud"},
    ),
    "another name for a global container": (
        "items = NAMES\nop.execute('2')\nitems.append('x')\nop.execute('4')",
        {2: "loud", 4: "end"},
    ),
    "text that grows": (
        "sql = ''\nfor x in NAMES:\n    sql += f'{x}'\n    op.execute('4')\nop.execute(sql)",
        {4: "next", 5: "end"},
    ),
    "try": (
        "op.execute('1')\ntry:\n    op.execute('3')\nexcept Exception:\n    pass\nop.execute('6')",
        {1: "loud", 6: "end"},
    ),
    "a savepoint": (
        "op.execute('1')\nwith op.get_bind().begin_nested():\n    op.execute('3')\nop.execute('4')",
        {1: "loud", 4: "end"},
    ),
    "a batch": (
        "op.execute('1')\nwith op.batch_alter_table('t') as b:\n    b.drop_column('c')\nop.execute('4')",
        {1: "next", 2: "block next", 4: "end"},
    ),
    "an empty batch waits for nobody": (
        "op.execute('1')\nwith op.batch_alter_table('t') as b:\n    pass\nprint()",
        {1: "loud", 2: "block loud"},
    ),
    "an autocommit block": (
        "op.execute('1')\nwith op.get_context().autocommit_block():\n    op.execute('3')\nop.execute('4')",
        {1: "next", 2: "block next", 3: "next", 4: "end"},
    ),
    "what is behind an autocommit block": (
        "op.execute('1')\nwith op.get_context().autocommit_block():\n    op.execute('3')\nprint()",
        {1: "next", 2: "block loud", 3: "loud"},
    ),
    "an autocommit block that is left": (
        "for name in ('a', 'b'):\n    with op.get_context().autocommit_block():\n        op.execute('3')\n"
        "        if name: break\n    op.execute('5')\nprint()",
        {2: "block loud", 3: "loud", 5: "loud"},
    ),
    "a result that is thrown away": (
        "bind = op.get_bind()\nbind.execute(sa.text('2'))\nx = bind.execute(sa.text('3'))\nop.execute('4')",
        {2: "loud", 4: "end"},
    ),
    "another connection": (
        "bind = op.get_bind()\nop.execute('2')\nwith bind.engine.connect() as other:\n    pass",
        {2: "loud"},
    ),
    "the engine's name": (
        "op.execute('1')\nif op.get_bind().engine.name == 'postgresql' and not context.is_offline_mode():\n"
        "    op.execute('3')",
        {1: "end", 3: "end"},
    ),
    "a type that is created": (
        "op.execute('1')\npostgresql.ENUM('a', name='k').create(op.get_bind(), checkfirst=False)\nop.execute('3')",
        {1: "loud", 3: "end"},
    ),
    "created elsewhere": (
        "op.execute('1')\npostgresql.ENUM('a', name='k').create(SETTINGS)\nop.execute('3')",
        {1: "loud", 3: "end"},
    ),
    "a comprehension": (
        "op.execute('1')\nnames = [f'{name}_x' for name in NAMES if name]\nop.execute(', '.join(names))",
        {1: "next", 3: "end"},
    ),
    "directives in a comprehension": (
        "op.execute('1')\n[op.execute(x) for x in NAMES]",
        {1: "end"},
    ),
    "a name of a comprehension is no local": (
        "op.execute('1')\n[SETTINGS for SETTINGS in NAMES]\nop.execute(f'{SETTINGS}')",
        {1: "loud"},
    ),
    "a global that is set": (
        "global NAMES\nop.execute('2')\nNAMES = 1\nop.execute('4')",
        {2: "loud", 4: "end"},
    ),
    "a directive under another name": ("do = op.execute\nop.execute('2')\ndo('3')", {2: "end"}),
    "a directive imported by its name": (
        "if context.get_context().dialect.name == 'postgresql':\n    drop_table('2')\n"
        "    get_bind().execute(sa.text('3'))\ndrop_table(SETTINGS.x)\ndrop_table('5')",
        {2: "next", 3: "loud", 5: "end"},
    ),
    "a while loop": (
        "n = 0\nwhile n < 3:\n    op.execute('3')\n    n += 1\nprint()\nop.execute('6')",
        {3: "loud", 6: "end"},
    ),
    "break": (
        "for x in NAMES:\n    op.execute('2')\n    if x:\n        break\n    op.execute('5')\nprint()",
        {2: "loud", 5: "loud"},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_directive_waits_only_where_nothing_is_done_before_the_next(
    tmp_path: Path, case: str
) -> None:
    body, expected = CASES[case]
    assert lines(spans(tmp_path, body)) == expected


def test_a_helper_that_does_something_else_has_marks_of_its_own(tmp_path: Path) -> None:
    found = spans(tmp_path, "tells('t')\nop.execute('2')")
    assert lines(found) == {1: "next", 2: "end"}
    assert lines(found, "tells") == {1: "loud", 3: "end"}


def test_what_ends_a_span_is_named_with_its_file_and_line(tmp_path: Path) -> None:
    found = spans(tmp_path, "op.execute('1')\nprint()\nop.execute('3')\ntells('t')")
    first = found.top.co_firstlineno
    helper = next(code for code in found.functions if code.co_name == "tells").co_firstlineno
    path = str(tmp_path / "r0001.py")
    assert set(found.reasons) == {
        (path, first + 2, "the name print"),
        (path, helper + 2, "the name print"),
    }


def test_a_function_that_begins_with_something_loud_begins_with_nothing_waiting(
    tmp_path: Path,
) -> None:
    assert spans(tmp_path, "if SETTINGS.x: return\nop.execute('2')").entry == LOUD
    assert spans(tmp_path, "op.execute('1')\nprint()").entry == NEXT
    assert spans(tmp_path, f"{ROWS}op.execute('1')\nprint()").entry == LOUD


def test_a_name_that_means_something_else_by_now_is_seen(tmp_path: Path) -> None:
    found = spans(tmp_path, "print()\nfor x in NAMES:\n    op.execute(x)")
    names = found.functions[found.top]
    assert names.still_true()
    globals_ = next(where for where, name, _ in names.names.values() if name == "NAMES")
    globals_["NAMES"].append(object())
    assert not names.still_true()
    globals_["NAMES"].pop()
    globals_["NAMES"] = ["a", "b"]  # type: ignore[index]
    assert not names.still_true()
