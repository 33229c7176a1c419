"""A migration that looks at the database or the world in the middle never runs ahead of the server."""

from __future__ import annotations

import builtins
import sys
import textwrap
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import render_python_code
from alembic.operations import ops
from sample_project import ROOT
from sqlalchemy.sql.elements import conv

from migrate_ext.execution.plain import reason_not_plain, reason_not_plain_in
from migrate_ext.execution.plain_bytecode import looks_plain
from migrate_ext.execution.source import tree_of
from migrate_ext.execution.spans import Spans, spans_of

HEAD = (
    "import sqlalchemy as sa\nfrom alembic import op\nfrom sqlalchemy.dialects import postgresql\n"
)


def source_of(body: str, top: str = "") -> str:
    lines = "".join(f"    {line}\n" for line in body.splitlines())
    return f"{HEAD}{top}\n\ndef upgrade() -> None:\n{lines}"


def reason(body: str, top: str = "") -> str | None:
    return reason_not_plain(source_of(body, top), "upgrade")


def executed(folder: Path, source: str) -> tuple[str, Any]:
    """The path of a file with this source, and its ``upgrade``, not called."""
    path = folder / "r0001.py"
    path.write_text(source)
    names: dict[str, Any] = {"__name__": "r0001"}
    exec(compile(source, str(path), "exec", dont_inherit=True), names)
    return str(path), names["upgrade"]


PLAIN = [
    "pass",
    '"""Only a docstring."""',
    'op.create_table("t", sa.Column("a", sa.Integer, server_default=sa.text("0")))',
    'table = op.create_table("t", sa.Column("a", sa.Integer))\nop.bulk_insert(table, [{"a": 1}])',
    'op.execute("UPDATE t SET a = 1")\nop.execute(sa.text("DELETE FROM t"))',
    't = sa.table("t", sa.column("a"))\nop.execute(t.update().where(t.c.a > 1).values(a=2))',
    'with op.batch_alter_table("t") as batch:\n    batch.drop_column("a")\n    batch.f("x")',
    'for name in ("a", "b"):\n    op.drop_column("t", name)',
    'for number, (a, b) in enumerate([("a", "b")]):\n    op.execute(f"SELECT {number:>{3}} {a!r}")',
    'op.create_index(op.f("ix_t_a"), "t", ["a"], postgresql_where=sa.text("a > 0"))',
    'kind = postgresql.ENUM("a", name="kind", create_type=False)\nop.add_column("t", sa.Column("k", kind))',
    'values = ", ".join(sorted(["b", "a"]))\nop.execute("SELECT " + values)',
    'op.execute("SELECT %s" % (1 + 2))',
    'x: int = 3\nop.execute("x" * x)',
    "bind = op.get_bind()",
    "bind = op.get_bind()\nfor n in range(2):\n    bind.execute(sa.text(f'SELECT {n}'))",
    "op.get_bind().execute(sa.text('SELECT 1'))",
    'op.drop_constraint("c", "t", type_="unique")\nop.rename_table("t", "u")',
    "o = op\no.drop_table('t')",
    "do = op.execute\ndo('SELECT 1')",
    "op.execute(str.join)",
    "if 1 < 2:\n    op.drop_table('t')\nelse:\n    return",
    "x = 1 if sa else 2",
    "(y := 1)\nop.execute(f'SELECT {y}')",
    "return\nprint(1)",
    "if False:\n    print(1)",
    "while 0:\n    print(1)",
    "if 1:\n    if True:\n        return\nprint(1)",
    "if sa:\n    return\nelse:\n    return 1\nprint(1)",
    "op.execute(x)\nreturn\nx = op.get_bind()\nx.scalar(1)",
    "assert True",
    "x = False and print(1)\ny = 1 or print(1)\nz = 1 if True else print(1)",
    "global x",
    "x: int\nsa.x: int",
    "op.create_index('i', 't', [sa.text('a')], postgresql_using=sa.func.any_name(1).label('b'))",
    "t = sa.table('t', sa.column('any_name'))\nop.execute(t.update().where(t.c.any_name.is_(None)))",
    "op.execute(t.c.a)\nt = sa.table('t')",
]


@pytest.mark.parametrize("body", PLAIN)
def test_directives_literals_and_constructors_are_plain(body: str) -> None:
    assert reason(body) is None


def test_names_at_the_top_of_the_file_may_be_used() -> None:
    top = 'NAMES = ["a", "b"]\nTABLE = sa.table("t", sa.column("a"))\n'
    assert (
        reason("for n in NAMES:\n    op.drop_column('t', n)\nop.execute(TABLE.delete())", top)
        is None
    )
    assert (
        reason_not_plain("from alembic import op as o\ndef upgrade(): o.drop_table('t')", "upgrade")
        is None
    )
    both = f"{HEAD}import os\n\ndef upgrade():\n    pass\n\ndef downgrade():\n    os.remove('x')\n"
    assert reason_not_plain(both, "upgrade") is None
    assert reason_not_plain(both, "downgrade") == "line 10: the name os"


@pytest.mark.parametrize("as_batch", [False, True])  # as of Flask-Migrate
def test_what_autogenerate_writes_is_plain(as_batch: bool) -> None:
    table = sa.Table("t", sa.MetaData(), sa.Column("a", sa.Integer))
    index = sa.Index(conv("ix_t_a"), table.c.a)
    changes = ops.ModifyTableOps(
        "t",
        [
            ops.AddColumnOp("t", sa.Column("d", sa.String(5), server_default="x", comment="y")),
            ops.AlterColumnOp("t", "a", modify_nullable=False, existing_type=sa.Integer()),
            ops.CreateIndexOp.from_index(index),
            ops.DropIndexOp("ix_t_b", "t"),
            ops.CreateForeignKeyOp("fk_t_a", "t", "u", ["a"], ["c"]),
            ops.CreateUniqueConstraintOp("uq_t_d", "t", ["d"]),
            ops.DropConstraintOp("ck_t", "t", type_="check"),
            ops.CreateTableCommentOp("t", "z"),
            ops.DropColumnOp("t", "e"),
        ],
    )
    written = render_python_code(ops.UpgradeOps([changes]), render_as_batch=as_batch)
    assert ("batch_op.f('ix_t_a')" if as_batch else "op.f('ix_t_a')") in written
    assert reason(textwrap.dedent("    " + written)) is None


NOT_PLAIN = [
    "print('x')",
    "open('x')",
    "bind = op.get_bind()\nfound = bind.execute(sa.text('SELECT 1'))",
    "bind = op.get_bind()\nbind.execute(sa.text('SELECT 1')).all()",
    "bind = op.get_bind()\nbind.execute(sa.text('SELECT :n'), {'n': 1})",
    "bind = op.get_bind()\nbind.execute(sa.text('SELECT 1'), execution_options={})",
    "bind = op.get_bind()\nbind.scalar(sa.text('SELECT 1'))",
    "bind = op.get_bind()\nfor row in bind.execute(sa.text('SELECT 1')):\n    pass",
    "bind = op.get_bind()\nop.execute(bind)",
    "a, b = op.get_bind()",
    "op.get_bind().connection",
    "op.get_context()",
    "with op.get_context().autocommit_block():\n    op.execute('SELECT 1')",
    "with open('x') as f:\n    pass",
    "with op.batch_alter_table('t') as b, open('x') as f:\n    pass",
    "with op.batch_alter_table('t') as b:\n    b.get_bind()",
    "with op.batch_alter_table('t'):\n    pass",
    "op.execute(open('x').read())",
    "op.invoke(x)",
    "op.run_async(f)",
    "helper()",
    "try:\n    op.drop_table('t')\nexcept Exception:\n    pass",
    "while True:\n    op.drop_table('t')",
    "[op.drop_table(n) for n in 'ab']",
    "x = [n for n in 'ab']",
    "x = lambda: 1",
    "import os",
    "from os import remove",
    "raise ValueError",
    "assert False",
    "del x",
    "def inner():\n    pass",
    "class Inner:\n    pass",
    "x = 1\nx += 1",
    "sa.x = 1",
    "x, *y = 1, 2",
    "for n in 'ab':\n    pass\nelse:\n    pass",
    "op.execute(nosuchname)",
    "op.execute(f'{print(1)}')",
    "op.execute(f'{1:{print(1)}}')",
    "op.execute('x'.__class__)",
    "postgresql.ENUM('a', name='k').create(op.get_bind())",
    "sa.create_engine('x')",
    "sa.event.listen",
    "sa.inspect(1)",
    "sa.orm.Session()",
    "eval('1')",
    "getattr(op, 'get_bind')()",
    "str(open('x'))",
    "op.execute(**vars())",
    "'{}'.encode()",
    "while sa:\n    op.drop_table('t')",
    "if print(1):\n    pass",
    "if sa:\n    pass\nelse:\n    print(1)",
    "if sa:\n    return\nprint(1)",
    "global x\nx = 1",
    "global x\nfor x in 'ab':\n    pass",
    "assert sa",
    "return print(1)",
    "sa.sql.compiler.os.remove('x')",
    "sa.sql.compiler",
    "sa.dialects.postgresql.base.re.compile('x')",
    "postgresql.base",
    "sa.types.dt",
    "sa.util.counter()",
    "sa.sys",
    "sa.Column.__init__",
    "sa.Column._set_parent(1, 2)",
    "sa.text('x').compile()",
    "sa.MetaData().create_all(1)",
    "sa.Table('t', sa.MetaData()).create(1)",
    "t = sa.table('t')\nt.metadata",
    "NAMES = ['a']\nNAMES.append('b')",
    "x = op.get_bind()\nx = 1\nx.execute(sa.text('SELECT 1'))",
    "for n in 'ab':\n    op.execute('x')\n    y = x.execute('z')\n    x = op.get_bind()",
    "with op.batch_alter_table('t') as b:\n    c = b",
    "with op.batch_alter_table('t') as b:\n    pass\nb.drop_column('a')",
    "with op.batch_alter_table('t') as b:\n    b = 1\n    b.drop_column('a')",
    "f'{sa.util}'",
    "x = [*sa.util.names()]",
    "op.execute(x := print(1))",
    "sa.func._x",
    "t = sa.table('t')\nt.c._x",
    "x[0] = 1",
    "'x'.join.__self__",
]


@pytest.mark.parametrize("body", NOT_PLAIN)
def test_code_that_may_read_the_database_or_act_on_the_world_is_not_plain(body: str) -> None:
    assert reason(body) is not None


@pytest.mark.parametrize("body", PLAIN + NOT_PLAIN)
def test_byte_code_is_plain_only_where_the_syntax_tree_is(body: str, tmp_path: Path) -> None:
    path, function = executed(tmp_path, source_of(body))
    read, ran = reason(body), reason_not_plain_in(path, function)
    assert (read is None) == (ran is None), (read, ran)
    assert not (looks_plain(function) and ran is not None)


STRAIGHT = [body for body in PLAIN if not {"for", "with", "if", "def"} & set(body.split())]


def test_straight_code_is_seen_from_the_byte_code_alone(tmp_path: Path) -> None:
    """Else each such migration is parsed again, which takes a hundred times as long."""
    seen = [body for body in STRAIGHT if looks_plain(executed(tmp_path, source_of(body))[1])]
    assert len(seen) > len(STRAIGHT) * 3 / 4, [body for body in STRAIGHT if body not in seen]


OTHER_CODE = {
    "an import": "import shutil\nshutil.rmtree('/nonexistent')",
    "an import of the project's": "from os import remove\nremove('x')",
    "a star import's like": "import os.path as p\np.exists('x')",
    "a global": "global X\nX = 1",
    "an attribute": "sa.X = 1",
    "a subscript": "x = {}\nx['a'] = 1",
    "a module behind a module": "sa.sql.compiler.os.remove('x')",
    "a lambda": "(lambda: 1)()",
    "a function": "def f():\n    pass\nf()",
    "a class": "class C:\n    x = 1",
    "a comprehension": "[print(n) for n in 'ab']",
    "a deletion": "x = 1\ndel x",
    "a global list": "NAMES += ['a']",
    "an alias of a global list": "x = NAMES\nx += ['a']",
    "a method that changes a global": "TABLE.update({'a': 1})",
    "a call with stars": "op.execute(*[print(1)])",
    "a try": "try:\n    op.execute('x')\nfinally:\n    print(1)",
    "a private attribute": "'x'.__class__.__base__.__subclasses__()",
}


@pytest.mark.parametrize("case", OTHER_CODE)
def test_what_is_neither_a_directive_nor_a_value_is_not_plain(case: str, tmp_path: Path) -> None:
    top = "NAMES = ['x']\nTABLE = {'a': 0}\n"
    path, function = executed(tmp_path, source_of(OTHER_CODE[case], top))
    assert not looks_plain(function)
    assert reason_not_plain_in(path, function) is not None
    assert reason(OTHER_CODE[case], top) is not None


class Loud(str):
    def __format__(self, how: str) -> str:
        raise AssertionError("somebody looked")


class Kind(sa.types.UserDefinedType[str]):
    def get_col_spec(self) -> str:
        raise AssertionError("somebody looked")


def listened() -> sa.Enum:
    kind = sa.Enum("a", name="k")
    sa.event.listen(kind, "after_parent_attach", lambda *_: None)
    return kind


GLOBALS: dict[str, Any] = {
    "a text of its own class": Loud("x"),
    "a type of its own class": Kind,
    "a value of such a type": Kind(),
    "a type with a listener": listened(),
    "a helper": lambda: None,
    "a module": textwrap,
    "a list with a helper": [print],
    "an object": object(),
    "another op": ModuleType("alembic.op"),
    "a module that says it is SQLAlchemy": ModuleType("sqlalchemy"),
}


@pytest.mark.parametrize("case", GLOBALS)
def test_a_global_is_what_it_is_and_not_what_it_is_called(case: str, tmp_path: Path) -> None:
    path, function = executed(tmp_path, source_of("op.execute(sa)\nX"))
    for name in ("sa", "op", "X"):
        names = {**function.__globals__, "X": 1}
        other = FunctionType(function.__code__, names)
        assert looks_plain(other) and reason_not_plain_in(path, other) is None
        names[name] = GLOBALS[case]
        assert not looks_plain(other)
        assert reason_not_plain_in(path, other) is not None


def test_a_patched_constructor_or_builtin_is_not_plain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, function = executed(tmp_path, source_of("op.execute(sa.text('SELECT 1'[: sum([8])]))"))
    assert looks_plain(function) and reason_not_plain_in(path, function) is None
    for owner, name in ((sa, "text"), (builtins, "sum")):
        with monkeypatch.context() as patch:
            real = getattr(owner, name)
            patch.setattr(owner, name, lambda *x, real=real: real(*x))
            assert not looks_plain(function)
            assert reason_not_plain_in(path, function) is not None


def test_a_file_that_differs_from_the_code_that_runs_is_not_plain(tmp_path: Path) -> None:
    """A file that was edited meanwhile, or bytecode of another version of it."""
    path, function = executed(tmp_path, source_of("for n in 'ab':\n    print(n)"))
    Path(path).write_text(source_of("for n in 'ab':\n    pass"))
    assert reason_not_plain_in(path, function) == "its source is not what runs"


def test_a_function_that_is_traced_is_read_as_any_other(tmp_path: Path) -> None:
    """Tracing and specialisation rewrite a function's instructions in place."""
    source = source_of("x = 1\nsa.text('b')\ny = 'c'.upper()")
    path, function = executed(tmp_path, source)
    sys.settrace(lambda *_: None)
    try:
        for _ in range(50):
            function()
            assert looks_plain(function)
    finally:
        sys.settrace(None)
    assert reason_not_plain_in(path, function) is None


def test_names_beyond_the_first_byte_are_read(tmp_path: Path) -> None:
    many = "\n".join(f"x{n} = sa.text('{n}').name{n}" for n in range(300))
    assert not looks_plain(executed(tmp_path, source_of(many))[1])
    many = "\n".join(f"x{n} = N{n}" for n in range(300))
    top = "\n".join(f"N{n} = {n}" for n in range(300))
    assert looks_plain(executed(tmp_path, source_of(many, top))[1])
    assert not looks_plain(executed(tmp_path, source_of(many, f"{top}\nN299 = print"))[1])


CHANGED_NAMES = {
    "a star import": "from os.path import *",
    "a star import of SQLAlchemy's": "from sqlalchemy import *",
    "op is something else": "op = object()",
    "op is sometimes something else": "if True:\n    op = object()",
    "op is imported from elsewhere": "from os import path as op",
    "op is a loop's": "for op in []:\n    pass",
    "op is a context's": "with open('x') as op:\n    pass",
    "op is an exception's": "try:\n    pass\nexcept Exception as op:\n    pass",
    "op is a class": "class op:\n    pass",
    "op is a function": "def op():\n    pass",
    "op is another function's global": "def f():\n    global op\n    op = 1",
    "op is assigned in passing": "x = (op := 1)",
    "op is assigned in a default": "def f(x=(op := 1)):\n    pass",
    "op is patched": "op.drop_table = print",
    "op is unpacked": "op, x = 1, 2",
    "op is deleted": "del op",
    "op is a pattern's": "match 1:\n    case op:\n        pass",
    "op is imported in a condition": "if True:\n    import os as op",
    "a module of the project": "from lib import op",
    "a relative import": "from . import op",
}


@pytest.mark.parametrize("case", CHANGED_NAMES)
def test_names_that_may_mean_something_else_are_not_plain(case: str) -> None:
    assert reason("op.drop_table('t')", CHANGED_NAMES[case]) is not None


SHADOWED = [
    "str = print",
    "def str(x):\n    pass",
    "class str: pass",
    "from os import str",
    "if sa:\n    str = print",
]


@pytest.mark.parametrize("top", SHADOWED)
def test_shadowed_builtins_are_not_plain(top: str) -> None:
    assert reason("op.execute(str(1))") is None
    assert reason("op.execute(str(1))", top) is not None


IMPORTED = ["create_engine", "event", "inspect", "orm"]


@pytest.mark.parametrize("name", IMPORTED)
def test_sqlalchemys_engines_sessions_and_events_are_not_plain(name: str) -> None:
    assert reason(f"{name}.x('y')", f"from sqlalchemy import {name}") is not None
    assert reason(f"{name}('y')", f"from sqlalchemy import {name}") is not None


def test_types_of_sqlmodel_are_sqlalchemys(monkeypatch: pytest.MonkeyPatch) -> None:
    class AutoString(sa.types.TypeDecorator[str]):
        impl = sa.String

    AutoString.__module__ = "sqlmodel.sql.sqltypes"
    types, sql, top = (ModuleType(f"sqlmodel{name}") for name in (".sql.sqltypes", ".sql", ""))
    types.AutoString = top.AutoString = AutoString  # type: ignore[attr-defined]
    sql.sqltypes, top.sql = types, sql  # type: ignore[attr-defined]
    top.create_engine = top.Session = top.SQLModel = sa.create_engine  # type: ignore[attr-defined]
    for module in (types, sql, top):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    column = "op.add_column('t', sa.Column('a', {}()))"
    long, short = column.format("sqlmodel.sql.sqltypes.AutoString"), column.format("AutoString")
    assert reason(long, "import sqlmodel") is None
    assert reason(long, "import sqlmodel.sql.sqltypes") is None
    assert reason(short, "from sqlmodel.sql.sqltypes import AutoString") is None
    assert reason(short, "from sqlmodel import AutoString") is None
    for name in ("Session", "SQLModel", "create_engine"):
        assert reason(column.format(f"sqlmodel.{name}"), "import sqlmodel") is not None
        assert reason(column.format(name), f"from sqlmodel import {name}") is not None


OTHER_FUNCTIONS = {
    "decorated": "@print\ndef upgrade():\n    pass",
    "decorated later": "def upgrade():\n    pass\n@print\ndef upgrade():\n    pass",
    "wrapped": "def upgrade():\n    pass\nupgrade = print(upgrade)",
    "async": "async def upgrade():\n    pass",
    "missing": "",
    "conditional": "def upgrade():\n    pass\nif True:\n    def upgrade():\n        print(1)",
    "arguments": "def upgrade(x=1):\n    pass",
    "keywords": "def upgrade(**kw):\n    pass",
    "a class": "class upgrade:\n    pass",
    "replaced": "def upgrade():\n    pass\ndef f():\n    global upgrade\n    upgrade = print\nf()",
}


@pytest.mark.parametrize("case", OTHER_FUNCTIONS)
def test_only_the_function_that_runs_is_judged(case: str) -> None:
    assert reason_not_plain(HEAD + OTHER_FUNCTIONS[case], "upgrade") is not None


def test_the_last_definition_is_the_one_that_runs() -> None:
    source = HEAD + "def upgrade():\n    print(1)\ndef upgrade():\n    pass\n"
    assert reason_not_plain(source, "upgrade") is None


def test_the_samples_migrations_that_do_more_than_directives_are_known() -> None:
    waiting = {
        path.name[:12]
        for path in (ROOT / "versions").glob("*.py")
        if reason_not_plain(path.read_bytes(), "upgrade") is not None
    }
    # Slugs computed in Python; autocommit_block, twice; a type's create(); a Decimal.
    computed, *blocks = "8258dde70d56", "99857156e65d", "b47a3100f623"
    assert waiting == {computed, *blocks, "998b176d3c46", "a3794ccd4778"}


def test_looking_at_a_value_calls_none_of_its_code(tmp_path: Path) -> None:
    top = (
        "class Proxy:\n    @property\n    def __class__(self):\n        raise RuntimeError('looked at')\n"
        "    def __getattr__(self, name):\n        raise RuntimeError('asked')\n\n\nPROXY = Proxy()\n"
    )
    path, function = executed(tmp_path, source_of("op.execute(PROXY)\nop.execute(PROXY.sql)", top))
    assert reason_not_plain_in(path, function) == "the name PROXY"
    assert not looks_plain(function)
    node = tree_of(path, function)
    assert not isinstance(node, str)
    assert isinstance(spans_of(function, node), Spans)


LAYOUTS = {
    "text at the beginning of a line": '    op.execute("""\nCREATE TABLE t ()\n""")\n    op.drop_table("u")\n',
    "brackets that close there": "    op.execute(\n'SELECT 1'\n)\n    op.drop_table('u')\n",
    "a method of an import": "    sa.text('x').label('y')\n    op.execute('SELECT 1')\n",
    "a comment there": "    op.execute('SELECT 1')\n# between\n    op.execute('SELECT 2')\n",
}


@pytest.mark.parametrize("future", ["", "from __future__ import annotations\n"])
@pytest.mark.parametrize("case", LAYOUTS)
def test_a_function_is_found_in_its_file_however_it_is_written(
    tmp_path: Path, case: str, future: str
) -> None:
    source = f"# -*- coding: utf-8 -*-\n{future}{HEAD}\n\ndef upgrade() -> None:\n{LAYOUTS[case]}\n\nX = 'after'\n"
    for text in (source, source.partition("\n")[2]):
        path, function = executed(tmp_path, text)
        node = tree_of(path, function)
        assert not isinstance(node, str)
        assert len(node.body) == 2
        (tmp_path / "r0001.py").write_text(text.replace("-> None:\n", "-> None:\n    pass\n", 1))
        assert tree_of(path, function) == "its source is not what runs"
