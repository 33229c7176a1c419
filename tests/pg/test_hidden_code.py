"""Code that runs where a migration does not seem to run any: what it does is what it does under Alembic.

Each body has a statement that fails, or reads what the server sees; between that and what comes before it, code of the
project's is called in a way that does not show.
"""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from in_process_project import InProcessProject
from test_async import ENV
from test_plain_programs import LISTENERS, SESSIONS, TOP, Watched

from migrate_ext import _core

B = "op.execute('SELECT 1/0')"
LOOP = f"{B}\nfor i in items: op.execute(f'CREATE TABLE q{{i}} (a int)')"
READS = f"{B}\nfor row in r: op.execute(f'SELECT {{row.a}}')"
LOADER, DUMPER = "loads(bind)\n", "dumps(bind)\n"
BLOCK = (
    "with op.get_context().autocommit_block():\n    op.execute('CREATE TABLE q (a int)')\n"
    "    op.execute('CREATE INDEX CONCURRENTLY ON t0 (a)')"
)
HIDDEN = {
    "a server-side cursor": (
        "r = bind.execute(sa.text('SELECT g AS a FROM generate_series(1,500) g'), execution_options={'stream_results': True})\n"
        "for row in r:\n    if row.a % 100 == 0: op.execute(f'CREATE TABLE s{row.a} (a int)')"
    ),
    "an exit is raised": f"{B}\nraise SystemExit(3)",
    "an interrupt is raised": f"{B}\nraise KeyboardInterrupt",
    "a chained comparison": f"{B}\ny = 5 < number < op.execute('SELECT 2')\nworld.note(1)",
    "the order in a dictionary": f"def rv():\n    {B}\n    return 0\nd = {{1: rv(), world.note(4): 3}}",
    "a batch that renders at its end": (
        f"with op.batch_alter_table('t0') as b:\n    b.add_column(sa.Column('k', OTHER))\n    {B}\n    op.execute('SELECT 3')"
    ),
    "a batch whose name is global": f"global X\n{B}\nwith op.batch_alter_table('t0') as X:\n    pass\nop.execute('SELECT 2')",
    "a loud value in a container": f"items = ['a']\nitems[0] = LOUD\n{B}\nop.execute(f'CREATE TABLE {{items[0]}} (a int)')",
    "another name": f"items = ['a']\nother = items\nworld.change(other)\n{LOOP}",
    "in a dictionary": f"items = ['a']\nd = {{'k': items}}\nworld.change(d['k'])\n{LOOP}",
    "in a tuple": f"items = ['a']\np, q = (items, 1)\nworld.change(p)\n{LOOP}",
    "in a list": f"items = ['a']\nkeep = [items]\nworld.change(keep.pop())\n{LOOP}",
    "a list in a global tuple": f"{B}\nDEEP[0].insert(0, 'q')\nop.execute('SELECT 2')",
    "a list as an argument": f"{B}\nkept_in(NAMES)\nop.execute('SELECT 2')",
    "a list that is given": f"y = given()\n{B}\ny.insert(0, 'q')\nop.execute('SELECT 2')",
    "a default": f"{B}\nin_default()\nop.execute('SELECT 2')",
    "a function called list": f"y = list()\n{B}\ny.append('q')\nop.execute('SELECT 2')",
    "a list in a tuple is changed": f"world.change(DEEP[0])\n{B}\nfor x in DEEP[0]: op.execute(f'CREATE TABLE q{{x}} (a int)')",
    "a default is changed": f"world.change(in_default.__defaults__[0])\n{B}\nof_default()\nop.execute('SELECT 2')",
    "the code of a function": f"two.__code__ = loud_two.__code__\n{B}\ntwo('u')\nop.execute('SELECT 2')",
    "a constructor of SQLAlchemy's": (
        f"kept, sa.String = sa.String, world.Kind\n{B}\ntry_column = sa.String()\nop.execute(f'SELECT {{try_column}}')"
    ),
    "a global column with a type": f"{B}\nop.add_column('t0', COLUMN)\nop.execute('SELECT 2')",
    "a global array of a type": f"{B}\nop.add_column('t0', sa.Column('k', ARRAY))\nop.execute('SELECT 2')",
    "a global column that changes": (
        f"PLAIN_COLUMN.type = world.Kind()\n{B}\nop.add_column('t0', PLAIN_COLUMN)\nop.execute('SELECT 2')"
    ),
    "a type that is created": f"{B}\nOTHER_TABLE.create(bind, checkfirst=False)\nop.execute('SELECT 2')",
    "a default of a type": (
        f"{B}\nop.add_column('t0', sa.Column('k', sa.Text, server_default=sa.literal('x', Derived())))\nop.execute('SELECT 2')"
    ),
    "a check of a type": (
        f"{B}\nop.create_check_constraint('ck', 't0', sa.column('b', Derived()) == 'x')\nop.execute('SELECT 2')"
    ),
    "a type of its own behind a failure": f"{B}\nop.add_column('t0', sa.Column('k', world.Kind()))\nop.execute('SELECT 2')",
    "types of its own, and a failure": (
        f"op.add_column('t0', sa.Column('k', Derived()))\n{B}\nop.add_column('t0', sa.Column('l', world.Kind()))\n"
        "op.execute('SELECT 2')"
    ),
    "a table with types of its own": (
        "op.create_table('t0', sa.Column('k', Shown(1)), sa.Column('l', Shown(2), index=True), comment='c')\n"
        "op.add_column('t0', sa.Column('m', Shown(3)))\nworld.note('behind')"
    ),
    "types of its own in a helper": (
        "adds('t0', sa.Column('k', Shown(1)), sa.Column('a', Shown(2)), sa.Column('l', Shown(3)))\nworld.note('behind')"
    ),
    "types of its own in a helper, with a result": (
        "kept = sa.Column('k', Shown(1))\nop.add_column('t0', kept)\n"
        f"{B}\nop.execute(f'SELECT {{kept.type}}')"
    ),
    "a type that is copied": f"{B}\nop.add_column('t0', sa.Column('k', Copied()))\nop.execute('SELECT 2')",
    "a type that notes, behind a failure": f"{B}\nop.add_column('t0', sa.Column('k', Rendered()))\nop.execute('SELECT 2')",
    "a type that notes, before a failure": (
        f"op.add_column('t0', sa.Column('k', Rendered()))\n{B}\nop.add_column('t0', sa.Column('l', Rendered()))"
    ),
    "a type that looks": "op.execute('CREATE TABLE t1 (a int)')\nop.add_column('t1', sa.Column('k', Looking(bind)))",
    "a type with a default of its own": (
        f"{B}\nop.add_column('t0', sa.Column('k', Derived(), server_default=sa.literal('x', Derived())))\nop.execute('SELECT 2')"
    ),
    "a type that listens": (
        f"op.create_table('t5', sa.Column('k', Listening()))\n{B}\nop.create_table('t6', sa.Column('k', sa.Integer))\n"
        "op.execute('SELECT 2')"
    ),
    "a type that is changed when it is rendered": (
        f"op.add_column('t0', sa.Column('k', Changing()))\n{B}\ntwo('u')\nop.execute('SELECT 2')"
    ),
    "a finalizer": f"o = world.finalized()\n{B}\no = None\nop.execute('SELECT 2')",
    "a walrus in a comprehension": (
        f"k = 'a'\n[(y := k) for k in [world.Loud('q')]]\n{B}\nop.execute(f'SELECT {{y}}')"
    ),
    "a list that a walrus gives": (
        f"k = 'a'\n[(y := k) for k in [['a']]]\nworld.change(y)\n{B}\nop.execute(f'SELECT {{y[-1]}}')"
    ),
    "items that are lists": f"for y in (['a'],):\n    world.change(y)\n    {B}\n    op.execute(f'SELECT {{y[-1]}}')",
    "a list in a default": "deep_default()",
    "a global CREATE TABLE": f"{B}\nop.execute(CREATE_TABLE)\nop.execute('SELECT 2')",
    "a global DDL with a context": f"{B}\nop.execute(WITH_CONTEXT)\nop.execute('SELECT 2')",
    "a sequence of a type": f"{B}\nop.execute(sa.schema.CreateSequence(SEQUENCE))\nop.execute('SELECT 2')",
    "a key to a column of a type": f"{B}\nop.add_column('t0', sa.Column('m', KEY))\nop.execute('SELECT 2')",
    "a parameter that calls": (
        f"{B}\nop.create_check_constraint('ck', 't0', sa.column('b') == PARAMETER)\nop.execute('SELECT 2')"
    ),
    "a literal of a class": (
        f"{B}\nop.create_check_constraint('ck', 't0', sa.column('b') == LITERAL)\nop.execute('SELECT 2')"
    ),
    "a wrapper in the standard library": f"{B}\nop.execute(textwrap.dedent('SELECT 2'))\nop.execute('SELECT 2')",
    "a batch that is left by a return": "leaves_batch(1)\nworld.note('left')",
    "a batch that is left by a break": (
        "for i in (1, 2):\n    with op.batch_alter_table('t0') as b:\n"
        "        b.add_column(sa.Column('a', sa.Integer))\n        if i: break\n    op.execute('SELECT 2')\n"
        "world.note('left')"
    ),
    "an autocommit block behind a failure": f"{B}\n{BLOCK}",
    "an autocommit block behind a helper": f"two('u')\n{BLOCK}\n{B}\nop.execute('SELECT 2')",
    "a connection of the driver's behind an autocommit block": (
        f"raw = bind.connection.dbapi_connection\n{BLOCK}\nc = raw.cursor()\nc.execute('SELECT 1')\n"
        "world.note(c.fetchall()[0])"
    ),
    "an autocommit block that is left by a return": (
        "raw = bind.connection.dbapi_connection\nleaves_block(1)\nc = raw.cursor()\nc.execute('SELECT 1')\n"
        "world.note(c.fetchall()[0])"
    ),
    "a patch in an autocommit block": (
        "with op.get_context().autocommit_block():\n    kept, sa.String = sa.String, world.Kind\n"
        f"{B}\nop.add_column('t0', sa.Column('k', sa.String()))\nop.execute('SELECT 2')"
    ),
    "a setting in an autocommit block": (
        "with op.get_context().autocommit_block():\n    op.execute(\"SET lock_timeout = '7s'\")\n"
        "world.note(bind.scalar(sa.text('SHOW lock_timeout')))"
    ),
    "two autocommit blocks": f"{BLOCK}\nop.execute('CREATE TABLE q2 (a int)')\n{BLOCK}",
    "a SERIALIZABLE transaction behind an autocommit block": (
        "bind.commit()\nbind.execution_options(isolation_level='SERIALIZABLE')\n"
        f"{BLOCK}\nworld.note(bind.scalar(sa.text('SHOW transaction_isolation')))\n{BLOCK.replace(' q ', ' q3 ')}\n"
        "world.note(bind.scalar(sa.text('SHOW transaction_isolation')))"
    ),
    "rows of an enum of the project's": (
        f"{B.replace('1/0', '1')}\nt = sa.table('t0', sa.column('b', sa.Enum(Letter, values_callable=letters)))\n"
        f"r = bind.execute(sa.select(t.c.b)).fetchall()\n{B}\nfor row in r: op.execute(f'SELECT {{row.b}}')"
    ),
    "rows that are loaded by the project": f"{LOADER}r = bind.execute(sa.text('SELECT 7::int4 AS a'))\n{READS}",
    "a value that is loaded by the project": (
        f"{LOADER}r = bind.scalar(sa.text('SELECT 7::int4 AS a'))\n{B}\nop.execute(f'SELECT {{r}}')"
    ),
    "rows that are lists": f"r = bind.execute(sa.text(\"SELECT '{{1}}'::int[] AS a\"))\n{READS}",
    "rows that are plain": f"r = bind.execute(sa.text('SELECT g AS a FROM generate_series(1, 3) g'))\n{READS}",
    "a session": (
        "s = Session(bind=bind)\nr = s.execute(sa.text('SELECT a, b FROM t0')).all()\n"
        "for a, b in r:\n    s.execute(sa.text('INSERT INTO t0 VALUES (:a, :b)'), {'a': a + 1, 'b': b})\n"
        "s.commit()\nop.execute('CREATE TABLE t1 (a int)')\ns.execute(sa.text('SELECT 1/0'))\n"
        "s.commit()\nworld.note('behind')"
    ),
    "a session that is listened to": (
        "def heard(session): world.note('committed')\nsa.event.listen(Session, 'before_commit', heard)\n"
        f"world.SESSIONS.append(heard)\ns = Session(bind)\n{B}\ns.commit()\nop.execute('SELECT 2')"
    ),
    "a session of another class": f"s = Sessions(bind)\n{B}\ns.commit()\nop.execute('SELECT 2')",
    "a session that was changed": (
        f"s = Session(bind)\nworld.rebind(s)\n{B}\ns.execute(sa.text('SELECT 2'))\nop.execute('SELECT 3')"
    ),
    "a session whose parameter is missing": (
        f"s = Session(bind)\n{B}\ns.execute(sa.text('SELECT :a'), {{'b': 1}})\nop.execute('SELECT 3')"
    ),
    "a rollback of a session": (
        "s = Session(bind)\nop.execute('CREATE TABLE t1 (a int)')\ns.rollback()\nop.execute('CREATE TABLE t2 (a int)')"
    ),
    "a session in a block": f"with Session(bind) as s:\n    {B}\n    s.execute(sa.text('SELECT 2'))\nworld.note(1)",
    "a parameter of a class": f"{B}\nbind.execute(sa.text('SELECT :a'), {{'a': Named('x')}})\nop.execute('SELECT 2')",
    "a parameter that the project adapts": (
        f"{DUMPER}{B}\nbind.execute(sa.text('SELECT :a'), {{'a': 5}})\nop.execute('SELECT 2')"
    ),
    "a parameter that fails": (
        "bind.execute(sa.text('SELECT CAST(:a AS int)'), {'a': 'x%(y)s'})\nop.execute('SELECT 2')\nworld.note(1)"
    ),
    "a zone of the project's": f"{B}\nbind.execute(sa.text('SELECT :a'), {{'a': MOMENT}})\nop.execute('SELECT 2')",
    "several parameters": (
        f"bind.execute(sa.text('INSERT INTO t0 VALUES (:a, :b)'), [{{'a': 5, 'b': 'é'}}, {{'a': 6, 'b': None}}])\n"
        f"{B}\nop.execute('SELECT 2')"
    ),
    "an update of a table": (
        "t = sa.table('t0', sa.column('a', sa.Integer), sa.column('b', sa.String))\n"
        "op.execute(t.update().where(t.c.a == 1).values(b='%(x)s %% é'))\n"
        "op.execute(t.insert().values(a=2, b=None))\nop.execute(t.delete().where(t.c.a == 1))\n"
        "op.execute(t.insert().values(a='x'))\nop.execute('SELECT 2')"
    ),
    "an insert that returns": (
        "t = sa.table('t0', sa.column('a', sa.Integer), sa.column('b', sa.String))\n"
        "r = bind.execute(t.insert().values(a=2, b='x').returning(t.c.a)).scalar()\nworld.note(r)\n"
        f"op.execute(t.insert().values(a=3).returning(t.c.a))\n{B}\nop.execute(f'SELECT {{r}}')"
    ),
    "a class whose attribute is replaced": (
        f"Held.NAME = LOUD\n{B}\nop.execute(f'CREATE TABLE {{Held.NAME}} (a int)')\nop.execute('SELECT 2')"
    ),
    "a class that gets an attribute": (
        f"setattr(Heir, 'NAME', LOUD)\n{B}\nop.execute(f'CREATE TABLE {{Heir.NAME}} (a int)')\nop.execute('SELECT 2')"
    ),
    "a class that computes": f"{B}\nop.execute(f'CREATE TABLE {{Computes.NAME}} (a int)')\nop.execute('SELECT 2')",
    "rows that are decoded": (
        f"r = bind.execute(sa.text(\"SELECT '{{}}'::jsonb AS a\"))\n{B}\nfor row in r: op.execute(f'SELECT {{row.a}}')"
    ),
}
MORE = """
import datetime, enum, functools, textwrap
from sqlalchemy.orm import Session

DEEP = (["a"],)
CREATE_TABLE = sa.schema.CreateTable(sa.Table("zz", sa.MetaData(), sa.Column("a", world.Kind())))
WITH_CONTEXT = sa.DDL("CREATE TABLE %(n)s (a int)", context={"n": LOUD})
SEQUENCE = sa.Sequence("sq", data_type=world.Kind())
KEY = sa.ForeignKey(sa.Table("o", sa.MetaData(), sa.Column("k", world.Kind())).c.k)
PARAMETER = sa.bindparam("p", callable_=lambda: world.note("called"), type_=sa.String())


class Named(str):
    def replace(self, *arguments):
        return world.note("replaced")


LITERAL = sa.literal(Named("x"), sa.String())
_dedent = textwrap.dedent


@functools.wraps(_dedent)
def dedent(text):
    world.note("dedented")
    return _dedent(text)


textwrap.dedent = dedent


def deep_default(more=(["d"],)):
    world.change(more[0])
    op.execute("SELECT 1/0")
    op.execute(f"SELECT {more[0][-1]}")


COLUMN = sa.Column("k", world.Kind())
PLAIN_COLUMN = sa.Column("k", sa.Integer)
ARRAY = sa.ARRAY(world.Kind())
OTHER_TABLE = sa.Table("other", sa.MetaData(), sa.Column("k", world.Kind()))


class Letter(enum.Enum):
    one = "b"

    def __format__(self, how):
        return world.note("letter")

    __str__ = __format__


def letters(letter):
    return [each.value for each in letter]


class Sessions(Session):
    def commit(self):
        world.note("sessions")
        super().commit()


class Zone(datetime.tzinfo):
    def utcoffset(self, moment):
        world.note("offset")
        return datetime.timedelta(0)

    dst = utcoffset

    def tzname(self, moment):
        return "UTC"


MOMENT = datetime.datetime(2026, 1, 1, tzinfo=Zone())


def loads(bind):
    driver = bind.connection.driver_connection
    if hasattr(driver, "adapters"):
        from psycopg.types.numeric import IntLoader

        class Loader(IntLoader):
            def load(self, data):
                return world.Loud("7")

        driver.adapters.register_loader("int4", Loader)
    else:
        from psycopg2.extensions import new_type, register_type

        register_type(new_type((23,), "LOUD", lambda value, cursor: world.Loud("7")), driver)


def dumps(bind):
    driver = bind.connection.driver_connection
    if hasattr(driver, "adapters"):
        from psycopg.types.numeric import IntDumper

        class Dumper(IntDumper):
            def dump(self, value):
                world.note("dumped")
                return super().dump(value)

        driver.adapters.register_dumper(int, Dumper)


class Shown(sa.types.UserDefinedType):
    cache_ok = True

    def __init__(self, number):
        world.note(number)
        self.number = number

    def get_col_spec(self):
        world.note(-self.number)
        return "int"


class Held:
    NAME = "h1"


class Heir(Held):
    pass


class Meta(type):
    @property
    def NAME(cls):
        return world.note("computed")


class Computes(metaclass=Meta):
    pass


class Rendered(sa.types.TypeDecorator):
    impl = sa.Text
    cache_ok = True

    def load_dialect_impl(self, dialect):
        world.note("loaded")
        return dialect.type_descriptor(sa.Text())


class Copied(Rendered):
    def copy(self, **kw):
        world.note("copied")
        return super().copy(**kw)


class Looking(sa.types.UserDefinedType):
    cache_ok = True

    def __init__(self, bind):
        self.bind = bind

    def get_col_spec(self):
        world.note(self.bind.scalar(sa.text("SELECT count(*) FROM pg_class WHERE relname = 't1'")))
        return "int"


class Listening(sa.types.UserDefinedType):
    cache_ok = True

    def get_col_spec(self):
        heard = lambda *a, **k: world.note("heard")
        sa.event.listen(sa.Table, "before_create", heard)
        world.LISTENERS.append(heard)
        return "int"


class Changing(sa.types.UserDefinedType):
    cache_ok = True

    def get_col_spec(self):
        global two
        two = lambda name: world.note("two")
        return "int"


def adds(table, *columns):
    for column in columns:
        op.add_column(table, column)


def leaves_batch(flag):
    with op.batch_alter_table("t0") as b:
        b.add_column(sa.Column("a", sa.Integer))
        if flag:
            return
    op.execute("SELECT 2")


def leaves_block(flag):
    with op.get_context().autocommit_block():
        op.execute("CREATE TABLE q (a int)")
        if flag:
            return
    op.execute("SELECT 2")


def kept_in(items):
    items.insert(0, "q")


def given():
    return NAMES


DEFAULT = ["d"]


def in_default(more=DEFAULT):
    more.insert(0, "q")


def of_default(more=DEFAULT):
    for each in more:
        op.execute(f"CREATE TABLE q{each} (a int)")


def loud_two(name, o=op, more=()):
    world.note(30)


def list():
    return NAMES
"""
START = "bind = op.get_bind()\nx = bind.scalar(sa.text('SELECT 1'))\nnumber = 0\n"


@pytest.fixture(autouse=True)
def sqlalchemy_as_it_was() -> Iterator[None]:
    import sqlalchemy

    string, dedent = sqlalchemy.String, textwrap.dedent
    yield
    sqlalchemy.String, textwrap.dedent = string, dedent  # type: ignore[misc]
    from sqlalchemy.orm import Session

    while SESSIONS:
        sqlalchemy.event.remove(Session, "before_commit", SESSIONS.pop())
    while LISTENERS:
        sqlalchemy.event.remove(sqlalchemy.Table, "before_create", LISTENERS.pop())
    sys.modules.pop("world", None)


def project_of(folder: Path, url: str, driver: str) -> InProcessProject:
    project = Watched(folder / "project", url.replace("://", f"+{driver}://"))
    if driver == "asyncpg":
        (project.folder / "env.py").write_text(ENV)
        project.configure = {"user_module_prefix": ""}
    return project


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2"])
@pytest.mark.parametrize("case", HIDDEN)
def test_what_runs_out_of_sight_runs_as_under_alembic(
    tmp_path: Path, database_url: str, case: str, driver: str
) -> None:
    project = project_of(tmp_path, database_url, driver)
    first = "op.execute('CREATE TABLE t0 (a int, b text)')\nop.execute(\"INSERT INTO t0 VALUES (1, 'b')\")"
    project.write([first, START + HIDDEN[case]], TOP + MORE)
    project.agree()


@pytest.mark.parametrize("case", ["a global column with a type", "a list in a global tuple"])
def test_in_a_function_that_is_plain_but_for_that(
    tmp_path: Path, database_url: str, case: str
) -> None:
    project = project_of(tmp_path, database_url, "psycopg")
    project.write(["op.execute('CREATE TABLE t0 (a int, b text)')", HIDDEN[case]], TOP + MORE)
    project.agree()


REGISTERED = {
    "a function of SQL": (
        "class noted_fn(sa.sql.functions.GenericFunction):\n    inherit_cache = True\n"
        "    def __init__(self, *args):\n        world.note('made')\n        super().__init__(*args)\n",
        "op.create_index('i', 't0', [sa.func.noted_fn(sa.text('a'))])",
    ),
    "an event of all columns": (
        "def heard(*_): world.note('heard')\n"
        "sa.event.listen(sa.Column, 'before_parent_attach', heard)\nworld.LISTENERS.append(heard)\n",
        "op.add_column('t0', sa.Column('k', sa.Integer))",
    ),
}


@pytest.mark.parametrize("case", REGISTERED)
def test_what_is_registered_for_all_of_sqlalchemy(
    tmp_path: Path, database_url: str, case: str
) -> None:
    import sqlalchemy as sa

    top, line = REGISTERED[case]
    project = project_of(tmp_path, database_url, "psycopg")
    body = f"{B}\n{line}\nop.execute('SELECT 2')"
    project.write(["op.execute('CREATE TABLE t0 (a int, b text)')", body], f"{TOP}{top}")
    try:
        project.agree()
    finally:
        sa.sql.functions._registry["_default"].pop("noted_fn", None)
        while LISTENERS:
            sa.event.remove(sa.Column, "before_parent_attach", LISTENERS.pop())


COMPILED = """
from sqlalchemy.ext.compiler import compiles


@compiles(sa.Numeric, "sqlite")
def for_sqlite(*_, **__):
    return world.note("sqlite")
"""


def test_a_construct_that_is_compiled_by_the_project(tmp_path: Path, database_url: str) -> None:
    """For another database that does not matter; for this one, from there on."""
    import sqlalchemy as sa
    from sqlalchemy.ext.compiler import deregister

    project = project_of(tmp_path, database_url, "psycopg")
    column = "op.add_column('t0', sa.Column('{}', sa.Numeric))"
    later = (
        "def noted(*_, **__): return world.note('noted')\ncompiles(sa.Numeric, 'postgresql')(noted)\n"
        f"{B}\n{column.format('l')}\nop.execute('SELECT 2')"
    )
    project.write(["op.execute('CREATE TABLE t0 (a int)')", column.format("k")], TOP + COMPILED)
    try:
        before = _core.counters()["statements"]
        project.agree()
        assert _core.counters()["statements"] - before == 4  # two, and their version rows
        project.write(["op.execute('CREATE TABLE t0 (a int)')", later], TOP + COMPILED)
        project.agree()
    finally:
        deregister(sa.Numeric)


def test_a_naming_convention_with_a_function(tmp_path: Path, database_url: str) -> None:
    import sqlalchemy as sa

    project = project_of(tmp_path, database_url, "psycopg")
    named: list[Any] = []

    def token(constraint: Any, table: Any) -> str:
        named.append(table.name)
        return "token"

    project.configure["target_metadata"] = sa.MetaData(
        naming_convention={"token": token, "uq": "uq_%(token)s"}
    )
    table = "op.create_table('t', sa.Column('a', sa.Integer), sa.UniqueConstraint('a'))"
    project.write(
        ["op.execute('CREATE TABLE t0 (a int)')", f"{B}\n{table}\nop.execute('SELECT 2')"]
    )
    project.agree()
    assert named == []


ASYNCPG = {
    "a value of an enum": (
        "op.execute(\"CREATE TYPE k AS ENUM ('a')\")\nop.execute(\"ALTER TYPE k ADD VALUE 'b'\")\n"
        "op.execute(\"SELECT 'b'::k\")"
    ),
    "a prepared statement": (
        "b = op.get_bind()\nb.execute(sa.text('SELECT * FROM t0'))\nop.add_column('t0', sa.Column('c', sa.Integer))\n"
        "op.add_column('t0', sa.Column('d', sa.Integer))\nb.execute(sa.text('SELECT * FROM t0'))"
    ),
    "a syntax error": (
        "op.execute('CREATE TABLE x1 (a int)')\nop.execute('CREATE TABEL x2 (a int)')\nop.execute('CREATE TABLE x3 (a int)')"
    ),
    "a sequence": (
        "op.execute('CREATE SEQUENCE s')\nop.execute('INSERT INTO t0 VALUES (1), (2)')\n"
        "with op.get_bind().begin_nested() as n:\n    pass\n"
        "op.execute(\"ALTER TABLE t0 ADD c int DEFAULT nextval('s')\")\nop.execute('CREATE TABLE t0 ()')"
    ),
    "a query behind a comment": (
        "op.execute('CREATE VIEW v AS SELECT current_query() AS q')\nop.execute('CREATE TABLE x1 (a int)')\n"
        "op.execute('CREATE /**/ TABLE x2 AS SELECT * FROM v')"
    ),
    "an exit": f"op.execute('CREATE TABLE x1 (a int)')\n{B}\nraise SystemExit(3)",
}


@pytest.mark.parametrize("case", ASYNCPG)
def test_asyncpg(tmp_path: Path, database_url: str, case: str) -> None:
    pytest.importorskip("asyncpg")
    project = project_of(tmp_path, database_url, "asyncpg")
    project.write(
        ["op.execute('CREATE TABLE t0 (a int)')", ASYNCPG[case], "op.execute('CREATE TABLE y ()')"],
        TOP,
    )
    project.agree()
