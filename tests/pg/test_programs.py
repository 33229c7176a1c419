"""Whole runs, with and without the executor, must show the same: exceptions, logs, files, schema, rows, what the server saw.

Random programs of directives, reads, raw cursors, savepoints, blocks, side effects and failures; and a long run in which
each statement fails in turn.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from in_process_project import InProcessProject

from migrate_ext import _core

WATCH = """
op.execute("CREATE TABLE obs (n int GENERATED ALWAYS AS IDENTITY, what text)")
op.execute("CREATE TABLE stamps (at timestamptz)")
op.execute('''CREATE FUNCTION watch() RETURNS event_trigger LANGUAGE plpgsql AS $$
BEGIN INSERT INTO obs (what) VALUES (tg_tag || ': ' || current_query()); END $$''')
op.execute("CREATE EVENT TRIGGER watch ON ddl_command_end EXECUTE FUNCTION watch()")
"""

PLAIN = [
    "op.create_table('t{n}', sa.Column('id', sa.Integer, primary_key=True), sa.Column('s', sa.String(9)))",
    "op.create_table('e{n}', sa.Column('k', sa.Enum('a', 'b', name='kind{n}')))",
    "op.add_column('stamps', sa.Column('c{n}', sa.String(20), server_default='50% %s %(x)s', comment='%%'))",
    "op.create_index('i{n}', 'obs', [sa.text('(n % 3)')])",
    "op.execute('INSERT INTO obs (what) SELECT current_query() -- 100% {n}')",
    "op.execute('INSERT INTO stamps (at) VALUES (statement_timestamp())')",
    "op.execute('INSERT INTO obs (what) SELECT (count(DISTINCT at) = count(*))::text FROM stamps')",
    "op.execute(sa.text('INSERT INTO obs (what) VALUES (:a)').bindparams(a='bound {n} %'))",
    "op.bulk_insert(sa.table('obs', sa.column('what')), [{{'what': 'x{n}'}}, {{'what': '5%'}}])",
    "op.execute('SELECT 1; INSERT INTO obs (what) VALUES (E\\'\\\\\\\\ {n}\\')')",
    'op.execute("SET LOCAL standard_conforming_strings = off")',
    "op.execute(\"INSERT INTO obs (what) VALUES ('\\\\\\\\n') -- {n}\")",
    "op.execute(\"INSERT INTO obs (what) SELECT set_config('search_path', 'public', true)\")",
    'op.execute("SET LOCAL search_path = public, nosuch{n}")',
    "op.execute(\"SET search_path TO 'public'\")",
    "op.execute('RESET search_path')",
    "op.execute(\"SET LOCAL lock_timeout = '{n}s'\")",
    "op.execute('SET statement_timeout TO 20000')",
    "op.execute('RESET statement_timeout')",
    "op.execute(\"SET LOCAL TIME ZONE 'Asia/Tokyo'\")",
    "op.execute('SET SESSION datestyle = \"German\"')",
    "op.execute(\"SET LOCAL app.number = '{n}'\")",
    "op.execute('SET client_min_messages TO warning')",
    "op.execute('SET CONSTRAINTS ALL IMMEDIATE')",
    "op.execute('SET LOCAL ROLE pg_monitor')\nop.execute('RESET ROLE')",
    "op.execute(\"INSERT INTO obs (what) SELECT current_setting('app.number', true) || current_setting('datestyle') || "
    "current_setting('timezone') || current_setting('search_path') || current_setting('lock_timeout')\")",
    "op.execute('ALTER TABLE stamps ADD COLUMN d{n} int; ALTER TABLE stamps DROP COLUMN d{n}')",
    "op.execute(\"DO $$ BEGIN RAISE NOTICE 'notice {n}'; END $$\")",
    "for name in ('l{n}a', 'l{n}b'):\n    op.execute(f'CREATE TABLE {{name}} ()')",
    "op.execute('CREATE RULE r{n} AS ON DELETE TO obs DO ALSO (SELECT 1; SELECT 2)')",
]
OTHER = [
    "see(op.get_bind().execute(sa.text('SELECT count(*) FROM obs')).scalar())",
    "for row in op.get_bind().execute(sa.text('SELECT what FROM obs ORDER BY n')):\n    see(repr(row.what))",
    "cursor = op.get_bind().connection.cursor()\ncursor.execute(\"INSERT INTO obs (what) VALUES ('raw')\")\nsee(cursor.rowcount)",
    "with op.get_bind().begin_nested():\n    op.execute('CREATE TABLE s{n} ()')",
    "try:\n    with op.get_bind().begin_nested():\n        op.execute('SELECT 1/0')\nexcept Exception as error:\n    see(type(error).__name__)",
    "with op.get_context().autocommit_block():\n    op.execute('CREATE INDEX CONCURRENTLY c{n} ON obs (n)')",
    "see('side effect {n}')",
    "print('printed {n}')",
    "see(op.get_bind().in_transaction())",
    "see(op.get_bind().execute(sa.text('SELECT date \\'2026-02-01\\', timestamptz \\'2026-02-01 00:00Z\\'')).one())",
    "for _ in range(7):\n    op.get_bind().execute(sa.text('SELECT * FROM stamps')).all()",
]
FAILING = [
    "op.execute('SELECT 1/0')",
    "op.execute('SELECT * FROM nosuch')",
    "raise ValueError('{n}')",
    "int('x{n}')",
    "op.execute('DELETE FROM alembic_version')",
    "op.drop_constraint('nosuch', 'obs')",
    "op.execute('INSERT INTO obs (what) VALUES (1), (2')",
    "op.execute('SET search_path_{n} = public')",
    "op.execute(\"SET statement_timeout = 'soon'\")",
]
LINES = st.one_of(
    *[st.sampled_from(PLAIN)] * 8, *[st.sampled_from(OTHER)] * 2, st.sampled_from(FAILING)
)
PROGRAMS = st.lists(st.lists(LINES, min_size=1, max_size=4), min_size=1, max_size=6)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(program=PROGRAMS, driver=st.sampled_from(["psycopg", "psycopg2"]), apart=st.booleans())
def test_random_programs_show_the_same(
    project: InProcessProject,
    program: list[list[str]],
    driver: str,
    apart: bool,
    capsys: pytest.CaptureFixture[str],
) -> None:
    project.url = project.bare.replace("://", f"+{driver}://")
    project.configure = {"transaction_per_migration": apart}
    number = iter(range(1000))
    bodies = ["\n".join(line.format(n=next(number)) for line in body) for body in program]
    project.write([WATCH, *bodies])
    plain = project.run(False)
    printed = capsys.readouterr().out
    batched = project.run(True)
    assert capsys.readouterr().out == printed
    for name, value in plain.visible().items():
        assert batched.visible()[name] == value


@pytest.fixture
def project(tmp_path: Path, database_url: str) -> InProcessProject:
    return InProcessProject(tmp_path / "project", database_url)


@pytest.mark.parametrize(("driver", "step"), [("psycopg", 1), ("psycopg2", 7)])
def test_each_statement_of_a_long_run_fails_in_turn(
    project: InProcessProject, driver: str, step: int
) -> None:
    """Sixty statements in twenty migrations."""
    project.url = project.bare.replace("://", f"+{driver}://")
    bad = ("SELECT 1/0", "SELECT * FROM nosuch", "SELECT SELECT", "INSERT INTO t0 VALUES (1), (1)")
    for position in range(1, 60, step):
        bodies = []
        for revision in range(20):
            lines = []
            for n in range(revision * 3, revision * 3 + 3):
                sql = f"CREATE TABLE t{n} (i int UNIQUE)"
                if n == position:
                    sql = bad[n % len(bad)]
                lines.append(f"op.execute({sql!r})")
            bodies.append("\n".join(lines))
        project.write(bodies)
        before = _core.counters()["statements"]
        outcome = project.agree()
        assert _core.counters()["statements"] > before
        assert outcome.error is not None and outcome.database == []
        assert f"revision r{position // 3 + 1:04} " in outcome.error.__dict__["migration_step"]
