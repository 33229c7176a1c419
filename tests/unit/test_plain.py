"""A migration that looks at the database or the world in the middle never runs ahead of the server."""

from __future__ import annotations

import textwrap

import pytest
import sqlalchemy as sa
from alembic.autogenerate import render_python_code
from alembic.operations import ops
from project import ROOT
from sqlalchemy.sql.elements import conv

from migrate_ext.plain import reason_not_plain

HEAD = (
    "import sqlalchemy as sa\nfrom alembic import op\nfrom sqlalchemy.dialects import postgresql\n"
)


def reason(body: str, top: str = "") -> str | None:
    lines = "".join(f"    {line}\n" for line in body.splitlines())
    return reason_not_plain(f"{HEAD}{top}\n\ndef upgrade() -> None:\n{lines}", "upgrade")


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
    "o = op",
    "do = op.execute",
    "helper()",
    "try:\n    op.drop_table('t')\nexcept Exception:\n    pass",
    "while True:\n    op.drop_table('t')",
    "if sa:\n    op.drop_table('t')",
    "[op.drop_table(n) for n in 'ab']",
    "x = [n for n in 'ab']",
    "x = lambda: 1",
    "x = 1 if sa else 2",
    "(y := 1)",
    "import os",
    "from os import remove",
    "return",
    "raise ValueError",
    "assert False",
    "del x",
    "global x",
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
    "op.execute(str.join)",
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
]


@pytest.mark.parametrize("body", NOT_PLAIN)
def test_whatever_may_look_or_act_is_not_plain(body: str) -> None:
    assert reason(body) is not None


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


def test_types_of_sqlmodel_are_sqlalchemys() -> None:
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
