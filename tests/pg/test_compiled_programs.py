"""What is compiled is what rendering would have sent, byte for byte, for random migrations; and no guess is compiled.

The oracle is Alembic on a real connection: the texts that reach the driver's cursor.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from hypothesis import HealthCheck, example, given, reject, settings
from hypothesis import strategies as st
from sqlalchemy import event

from migrate_ext.dropin.foreign import foreign_rendering
from migrate_ext.project.environment import Settings
from migrate_ext.rendering import compile as compiling

TOP = """
import random
import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql as pg
revision = "r"
down_revision = None
NAMES = ("x", "y")
"""
CONVENTION = {"ix": "ix_%(column_0_label)s", "uq": "unique_%(table_name)s_%(column_0_N_name)s", "pk": "pk_%(table_name)s"}  # fmt: skip

TYPES = st.sampled_from(
    [
        "sa.Integer()", "sa.BigInteger()", "sa.String(9)", "sa.Text()", "sa.Numeric(7, 2)", "sa.Boolean()", "sa.Date()",
        "sa.DateTime(timezone=True)", "sa.LargeBinary()", "sa.JSON()", "sa.Float()", "sa.Uuid()", "sa.Interval()",
        "pg.JSONB()", "pg.UUID()", "pg.ARRAY(sa.Integer())", "pg.INET()", "pg.TSVECTOR()", "pg.INT4RANGE()",
        "sa.Integer().with_variant(sa.BigInteger(), 'postgresql')",
    ]
)  # fmt: skip
TEXTS = st.sampled_from(
    ["a", "50%", "%s", "%%", "%(x)s", "it's", 'a "word"', "back\\slash", "é\u20ac\U0001f600", ":x", "a\nb\tc", "", " ", "{0}"]
)  # fmt: skip
DEFAULTS = st.one_of(
    st.just(""),
    TEXTS.map(lambda text: f", server_default={text!r}"),
    st.just(", server_default=sa.text('now()::text')"),
    st.just(", comment='the \"c\" of 100%'"),
    st.just(", nullable=False"),
)


@st.composite
def columns(draw: st.DrawFn) -> str:
    """Arguments of ``create_table`` after its name; column ``k`` is an integer, ``s`` a text."""
    found = ["sa.Column('k', sa.Integer()" + draw(st.sampled_from(["", ", primary_key=True", ", index=True", ", unique=True"])) + ")"]  # fmt: skip
    found.append(f"sa.Column('s', sa.Text(){draw(DEFAULTS)})")
    for number in range(draw(st.integers(0, 3))):
        found.append(f"sa.Column('c{number}', {draw(TYPES)}, nullable={draw(st.booleans())})")
    if draw(st.booleans()):
        found += [f"sa.Column('i{n}', sa.Date(), index=True)" for n in range(3)]
    more = st.sampled_from(
        ["", "sa.CheckConstraint('k > 0', name='positive')", "sa.UniqueConstraint('k', 's')", "comment='it''s 5%'", "schema='public'"]
    )  # fmt: skip
    found.append(draw(more))
    return ", ".join(filter(None, found))


@st.composite
def programs(draw: st.DrawFn) -> tuple[list[str], bool]:
    """The lines of a function that succeeds on an empty schema; whether it is constant."""
    lines: list[str] = []
    constant = True
    tables = 0
    for number in range(draw(st.integers(1, 6))):
        kind = draw(st.integers(0, 19)) if tables else 0
        table = f"t{draw(st.integers(0, tables - 1))}" if tables else ""
        text = draw(TEXTS)
        if kind <= 3:
            lines.append(f"op.create_table('t{tables}', {draw(columns())})")
            tables += 1
        elif kind == 4:
            lines.append(
                f"op.add_column('{table}', sa.Column('a{number}', {draw(TYPES)}), schema=None)"
            )
        elif kind == 5:
            lines.append(
                f"op.alter_column('{table}', 'k', type_=sa.BigInteger(), existing_nullable=False)"
            )
        elif kind == 6:
            lines.append(f"op.alter_column('{table}', 's', server_default={text!r})")
        elif kind == 7:
            lines.append(f"op.create_index(op.f('i{number}'), '{table}', ['s', sa.text('(k % 7)')], postgresql_where=sa.text('k > 1'))")  # fmt: skip
        elif kind == 8:
            lines.append(f"op.create_index(None, '{table}', ['k'])")
        elif kind == 9:
            lines.append(f"op.create_table_comment('{table}', {text!r})")
        elif kind == 10:
            lines.append(
                f"for name in NAMES:\n    op.execute(f'ALTER TABLE {table} ADD COLUMN {{name}}{number} int')"
            )
        elif kind == 11:
            lines.append(
                f"with op.batch_alter_table('{table}') as b:\n    b.add_column(sa.Column('b{number}', {draw(TYPES)}))"
            )
        elif kind == 12:
            lines.append(f"op.create_table('e{number}', sa.Column('e', sa.Enum('a', 'b', name='k{number}')), sa.Column('f', pg.ENUM('c', name='l{number}')))")  # fmt: skip
        elif kind == 13:
            lines.append(f"op.execute(sa.text(\"SELECT '50%', 7 % 3, 'a\\\\:b', ' {number} '\"))")
        elif kind == 14:
            lines.append(
                f"op.execute(\"SELECT 1; INSERT INTO {table} (k, s) SELECT 1, 'x%' WHERE false\")"
            )
        elif kind == 15:
            lines.append(f"op.create_foreign_key(None, '{table}', '{table}', ['s'], ['s']) if False else None")  # fmt: skip
        elif kind == 16:
            lines.append(f"op.execute(f'SELECT {{random.random()}} + {number}')")
            constant = False
        elif kind == 17:
            lines.append(f"op.get_bind().execute(sa.text('SELECT * FROM {table}')).all()")
            constant = False
        elif kind == 18:
            lines.append(f"for name in {{'p', 'q'}}:\n    op.execute(f'ALTER TABLE {table} ADD COLUMN {{name}}{number} int')")  # fmt: skip
            constant = False
        else:
            lines.append(f"op.bulk_insert(op.create_table('b{number}', sa.Column('k', sa.Integer)), [{{'k': 1}}])")  # fmt: skip
            constant = False
    return lines, constant


@pytest.fixture
def engine(database_url: str) -> Iterator[sa.Engine]:
    found = sa.create_engine(database_url.replace("://", "+psycopg://"))
    yield found
    found.dispose()


def rendered(connection: sa.Connection, source: str, name: str, metadata: sa.MetaData) -> list[str]:
    """What reaches the driver when Alembic runs a function of a revision file."""
    sent: list[str] = []

    def listen(_: Any, __: Any, statement: str, *___: Any) -> None:
        sent.append(statement.replace("%%", "%"))  # which the driver undoes

    names: dict[str, Any] = {}
    exec(compile(source, "r.py", "exec"), names)
    context = MigrationContext.configure(connection, opts={"target_metadata": metadata})
    event.listen(connection, "before_cursor_execute", listen)
    try:
        with Operations.context(context):
            names[name]()
    finally:
        event.remove(connection, "before_cursor_execute", listen)
    return sent


def function(name: str, lines: list[str]) -> str:
    body = "".join(f"    {part}\n" for line in lines for part in line.split("\n"))
    return f"\n\ndef {name}():\n{body or '    pass'}\n"


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.filter_too_much],
)
@given(program=programs(), convention=st.booleans())
@example(program=(["op.create_table('t0', sa.Column('k', sa.Text(), server_default='50%'))"], True), convention=True)  # fmt: skip
def test_a_compiled_program_is_the_rendered_one(
    engine: sa.Engine, tmp_path: Path, program: tuple[list[str], bool], convention: bool
) -> None:
    lines, constant = program
    tables = [line.split("'")[1] for line in lines if line.startswith("op.create_table(")]
    undo = [f"op.drop_table('{table}')" for table in reversed(tables)]
    source = TOP + function("upgrade", lines) + function("downgrade", undo)
    metadata = sa.MetaData(naming_convention=CONVENTION if convention else None)
    path = tmp_path / "r.py"
    path.write_text(source, encoding="utf-8")
    found = compiling.compile_file(
        str(path),
        source.encode(),
        Settings("X", "x:y", None, {}),
        metadata,
        foreign_rendering(),
    )
    with engine.connect() as connection:
        for compiled in found:
            try:
                sent = rendered(connection, source, compiled.name, metadata)
            except sa.exc.DBAPIError:
                reject()  # two indexes of one name, say
            if compiled.items is None:
                assert not constant, f"{compiled.reason}\n{source}"
                continue
            assert constant or compiled.name == "downgrade", source
            # Indexes of a new table come from a set in Alembic.
            assert in_order([sql for _, sql in compiled.items]) == in_order(sent), source
        connection.rollback()


def in_order(statements: list[str]) -> list[str]:
    """With neighbouring CREATE INDEX in the order of the alphabet."""
    found: list[str] = []
    group: list[str] = []
    for sql in [*statements, ""]:
        if sql.startswith(("CREATE INDEX", "CREATE UNIQUE INDEX")):
            group.append(sql)
        else:
            found += [*sorted(group), sql]
            group = []
    return found[:-1]
