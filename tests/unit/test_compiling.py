"""Only migrations that render the same SQL every time are compiled: what could make a difference is found and named."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.operations import Operations, ops
from sqlalchemy import event
from sqlalchemy.dialects.postgresql.base import PGDialect
from sqlalchemy.engine.default import DefaultDialect
from sqlalchemy.ext.compiler import compiles

from migrate_ext.dropin.foreign import foreign_rendering
from migrate_ext.project.environment import Settings
from migrate_ext.rendering import compile as compiling

TOP = """
import os, random, time, datetime
from alembic import context, op
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from helpers import helper
revision = "a"
down_revision = None
NAMES = ["a", "b"]
count = 0
status = postgresql.ENUM("x", "y", name="status")
"""


@pytest.fixture(autouse=True)
def helpers_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A plan that a later test compiles would depend on them."""
    monkeypatch.setattr(sys, "path", sys.path[:])
    yield
    sys.modules.pop("helpers", None)


def compiled(
    tmp_path: Path, body: str, metadata: sa.MetaData | None = None, **configure: object
) -> compiling.Compiled:
    """``upgrade`` with this body, compiled."""
    (tmp_path / "helpers.py").write_text("def helper():\n    return 'x'\n")
    path = tmp_path / "a.py"
    path.write_text(
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n{TOP}\ndef upgrade():\n"
        + textwrap.indent(textwrap.dedent(body), "    ")
    )
    settings = Settings("X", "x:y", None, dict(configure))
    upgrade, _ = compiling.compile_file(
        str(path),
        path.read_bytes(),
        settings,
        metadata or sa.MetaData(),
        foreign_rendering(),
    )
    return upgrade


NOT_CONSTANT = {
    "reading the database": ("op.get_bind().execute(sa.text('SELECT 1')).scalar()", "get_bind"),
    "a bind": ("bind = op.get_bind()\nbind.execute(sa.text('SELECT 1'))", "get_bind"),
    "the context": ("op.get_context().connection.execute(sa.text('x'))", "get_context"),
    "an x argument": ("op.execute(context.get_x_argument(as_dictionary=True)['a'])", "name context"),
    "time": ("op.execute(f'SELECT {time.time()}')", "name time"),
    "the date": ("op.execute(sa.text(str(datetime.date.today())))", "name datetime"),
    "random numbers": ("op.execute(f'SELECT {random.random()}')", "name random"),
    "the environment": ("op.execute(os.environ['HOME'])", "name os"),
    "a file": ("op.execute(open('x.sql').read())", "name open"),
    "the network": ("import urllib.request\nurllib.request.urlopen('http://x')", "Import"),
    "an imported helper": ("op.execute(helper())", "name helper"),
    "a global that changes": ("global count\ncount += 1\nop.execute(f'SELECT {count}')", "AugAssign"),
    "a global list that changes": ("NAMES.append('c')\nop.execute(NAMES[-1])", "method of NAMES"),
    "a loop over a set": ("for n in {'a', 'b'}:\n    op.drop_table(n)", "no order"),
    "a loop over set()": ("for n in set(NAMES):\n    op.drop_table(n)", "no order"),
    "offline mode": ("if context.is_offline_mode():\n    op.execute('x')", "context"),
    "offline mode in a word": ("op.execute('a' if context.is_offline_mode() else 'b')", "context"),
    "a type that is created if it is not there": ("status.create(op.get_bind(), checkfirst=True)", "method of status"),
    "rows": ("op.bulk_insert(sa.table('t', sa.column('a')), [{'a': 1}])", "parameters"),
    "parameters": ("op.execute(sa.text('SELECT :x').bindparams(x=1))", "parameters"),
    "an insert": ("op.execute(sa.table('t', sa.column('a')).insert().values(a=1))", "Insert"),
    "execution options": ("op.execute('x', execution_options={'isolation_level': 'AUTOCOMMIT'})", "execution options"),
    "options that do not show": ("op.create_table('t', sa.Column('a', sa.Integer), **{})", "do not show"),
    "a commit": ("op.execute('COMMIT')", "transaction"),
    "a commit among others": ("op.execute('SELECT 1; COMMIT')", "transaction"),
    "a commit behind a comment": ("op.execute('SELECT 1;/**/COMMIT')", "transaction"),
    "a batch that reads the table": (
        "with op.batch_alter_table('t', recreate='always') as b:\n    b.drop_column('a')", ""),
    "a batch that may run without waiting, but an autocommit block in it": (
        "with op.get_context().autocommit_block():\n    with op.get_context().autocommit_block():\n        pass", "inside"),
    "an object's address": ("op.execute(f'SELECT {sa.Column()!r} {sa.Column}' + str(sa.MetaData().tables.values))", ""),
    "an error": ("op.create_table('t', sa.Column('a', sa.Integer), sa.Column('a', sa.Integer))", ""),
    "a try": ("try:\n    op.drop_table('t')\nexcept Exception:\n    pass", "Try"),
}  # fmt: skip


@pytest.mark.parametrize("what", NOT_CONSTANT)
def test_what_may_differ_is_not_compiled(tmp_path: Path, what: str) -> None:
    body, word = NOT_CONSTANT[what]
    found = compiled(tmp_path, body)
    assert found.items is None
    assert word in found.reason


def test_what_would_warn_at_each_run_is_not_compiled(tmp_path: Path) -> None:
    found = compiled(tmp_path, "op.alter_column('t', 'a', autoincrement=True)")
    assert found.items is None
    assert found.reason.startswith("it warns: autoincrement")


NEW = {
    "a virtual column": "op.add_column('t', sa.Column('c', sa.Integer, sa.Computed('1')))",
    "a member of JSON": "op.create_index('i', 't', [sa.cast(sa.column('a'), postgresql.JSONB)['b']])",
}


@pytest.mark.parametrize("what", NEW)
def test_what_is_rendered_otherwise_for_an_older_server_is_not_compiled(
    tmp_path: Path, what: str
) -> None:
    found = compiled(tmp_path, NEW[what])
    if sa.__version__.startswith("2.0."):  # it looks at no version
        return
    assert found.items is None
    assert found.reason.startswith(("it warns: ", "it renders something else for another server"))


def test_all_is_known_that_a_dialect_learns_from_the_servers_version(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else the SQL of a plan may be for a newer server."""
    monkeypatch.setattr(DefaultDialect, "initialize", lambda self, connection: None)
    monkeypatch.setattr(PGDialect, "_set_backslash_escapes", lambda self, connection: None)
    found = []
    for version in (12, 0), (99, 0):
        dialect = PGDialect()
        dialect.server_version_info = version
        dialect.initialize(None)  # type: ignore[arg-type]
        found.append({k: v for k, v in vars(dialect).items() if isinstance(v, bool)})
    old, new = found
    assert {name for name in new if old.get(name) != new[name]} <= set(compiling.SINCE)


CONSTANT = {
    "op.create_table('t', sa.Column('a', sa.Integer), sa.Column('b', sa.Text, server_default='50%'))": [
        "\nCREATE TABLE t (\n\ta INTEGER, \n\tb TEXT DEFAULT '50%'\n)\n\n"
    ],
    "for n in NAMES:\n    op.execute(f'DROP TABLE {n}')": ["DROP TABLE a", "DROP TABLE b"],
    "op.execute('SELECT 1; SELECT 2')": ["SELECT 1; SELECT 2"],
    "op.execute(sa.text('SELECT 50 % 3'))": ["SELECT 50 % 3"],
    "op.alter_column('t', 'a', type_=sa.BigInteger())": ["ALTER TABLE t ALTER COLUMN a TYPE BIGINT "],
    "with op.batch_alter_table('t') as b:\n    b.drop_column('a')": ["ALTER TABLE t DROP COLUMN a"],
    "op.add_column('t', sa.Column('s', status))": ["ALTER TABLE t ADD COLUMN s status"],
    "op.create_table('t', sa.Column('s', postgresql.ENUM('x', name='e')))": [
        "CREATE TYPE e AS ENUM ('x')", "\nCREATE TABLE t (\n\ts e\n)\n\n"
    ],
    "with op.get_context().autocommit_block():\n    op.create_index('i', 't', ['a'], postgresql_concurrently=True)": [
        "autocommit", "CREATE INDEX CONCURRENTLY i ON t (a)", "transaction"
    ],
    "pass": [],
}  # fmt: skip


@pytest.mark.parametrize("body", CONSTANT)
def test_what_is_the_same_each_time_is_compiled(tmp_path: Path, body: str) -> None:
    found = compiled(tmp_path, body)
    assert found.reason == ""
    assert found.items is not None
    assert [sql for _, sql in found.items] == CONSTANT[body]


def test_indexes_of_a_table_come_in_the_order_of_its_columns(tmp_path: Path) -> None:
    columns = [f"c{number}" for number in range(9)][::-1]
    text = ", ".join(f"sa.Column({name!r}, sa.Integer, index=True)" for name in columns)
    found = compiled(tmp_path, f"op.create_table('t', {text})")
    assert found.items is not None
    assert [sql for _, sql in found.items[1:]] == [
        f"CREATE INDEX ix_t_{name} ON t ({name})" for name in columns
    ]


def test_a_naming_convention_reaches_the_sql(tmp_path: Path) -> None:
    metadata = sa.MetaData(naming_convention={"uq": "unique_%(table_name)s"})
    found = compiled(tmp_path, "op.create_unique_constraint(None, 't', ['a'])", metadata)
    assert found.items is not None
    assert "unique_t" in found.items[0][1]


def test_each_statement_has_the_line_of_its_directive(tmp_path: Path) -> None:
    found = compiled(tmp_path, "op.execute('a')\n\nop.execute(\n    'b'\n)")
    assert found.items is not None
    first, second = (line for line, _ in found.items)
    lines = (tmp_path / "a.py").read_text().splitlines()
    assert lines[first - 1] == "    op.execute('a')"
    assert lines[second - 1] == "    op.execute("


@contextmanager
def listening(target: type, name: str) -> Iterator[None]:
    def listener(*args: object, **kw: object) -> None:
        pass

    event.listen(target, name, listener)
    yield
    event.remove(target, name, listener)


@pytest.mark.parametrize(
    ("target", "name"),
    [
        (sa.Table, "before_create"),
        (sa.Table, "after_parent_attach"),
        (sa.Column, "before_parent_attach"),
        (sa.MetaData, "after_create"),
        (sa.engine.Engine, "before_cursor_execute"),
    ],
)
def test_nothing_is_constant_where_a_listener_sees_every_table(
    tmp_path: Path, target: type, name: str
) -> None:
    with listening(target, name):
        found = compiled(tmp_path, "op.execute('x')")
    assert found.items is None
    assert name in found.reason
    assert compiled(tmp_path, "op.execute('x')").items is not None


def test_nothing_is_constant_where_a_construct_is_compiled_by_others(tmp_path: Path) -> None:
    before = dict(vars(sa.schema.CreateTable))

    @compiles(sa.schema.CreateTable, "postgresql")
    def render(element: object, compiler: object, **kw: object) -> str:
        return "x"

    try:
        assert "@compiles" in compiled(tmp_path, "op.execute('x')").reason
    finally:
        for name in ("_compiler_dispatch", "_compiler_dispatcher"):
            if name in before:
                setattr(sa.schema.CreateTable, name, before[name])
            else:
                delattr(sa.schema.CreateTable, name)
    assert compiled(tmp_path, "op.execute('x')").items is not None


def test_nothing_is_constant_where_an_operation_is_replaced(tmp_path: Path) -> None:
    registry = Operations._to_impl._registry
    before = dict(registry)

    def drop(operations: Operations, operation: ops.DropTableOp) -> None:
        operations.execute("x")

    key = next(key for key in registry if key[0] is ops.DropTableOp)
    registry[key] = drop  # implementation_for(..., replace=True), which Alembic 1.13 does not have
    try:
        assert "replaced" in compiled(tmp_path, "op.execute('x')").reason
    finally:
        registry.clear()
        registry.update(before)
    assert compiled(tmp_path, "op.execute('x')").items is not None


def test_a_backslash_stays_one_with_an_sqlalchemy_that_doubles_it_until_it_is_connected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLAlchemy 2.0; a plan is used where standard_conforming_strings is on."""
    monkeypatch.setattr(PGDialect, "_backslash_escapes", True)
    items = compiled(tmp_path, r"op.alter_column('t', 'a', server_default='back\\slash')").items
    assert items is not None and "'back\\slash'" in items[0][1]
