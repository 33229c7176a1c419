"""asyncpg: DDL goes in batches, and what can be seen of a run is what Alembic alone shows."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from in_process_project import InProcessProject
from test_async import ENV
from test_plain_programs import TOP, Watched, spanned
from test_programs import FAILING, OTHER, PLAIN, WATCH
from test_texts import PROGRAMS

import migrate_ext

pytest.importorskip("asyncpg")
EXAMPLES = settings(
    max_examples=int(os.environ.get("MIGRATE_EXT_EXAMPLES", "40")),
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
TABLE = "op.create_table('t{n}', sa.Column('id', sa.Integer, primary_key=True), sa.Column('s', sa.Text, index=True))"


def prepared(project: InProcessProject, **server: str) -> Any:
    (project.folder / "env.py").write_text(ENV)
    project.configure = {"user_module_prefix": ""}
    project.engine_options = {"connect_args": {"server_settings": server}}
    return project


def asyncpg_project(folder: Path, url: str, **server: str) -> InProcessProject:
    found: InProcessProject = prepared(
        InProcessProject(folder / "project", url.replace("://", "+asyncpg://")), **server
    )
    return found


def counted(project: InProcessProject) -> tuple[Any, dict[str, int]]:
    """The outcome, and how much the counters of the batched run have grown."""
    before: Any = migrate_ext.stats()
    outcome = project.agree()
    after: Any = migrate_ext.stats()
    names = ("batches", "statements", "plain_statements", "waits")
    return outcome, {name: after[name] - before[name] for name in names}


def tables(first: int, last: int) -> str:
    return "\n".join(TABLE.format(n=n) for n in range(first, last))


def test_the_ddl_of_a_migration_is_one_wait(tmp_path: Path, database_url: str) -> None:
    project = asyncpg_project(tmp_path, database_url)
    project.write([tables(10 * n, 10 * n + 10) for n in range(5)])
    outcome, grown = counted(project)
    assert outcome.error is None
    # A table and its index each; the version's row; the lock is asked by the driver.
    assert grown["statements"] >= 5 * 20
    assert grown["batches"] <= 6
    assert grown["waits"] <= 20


@pytest.mark.parametrize("apart", [False, True])
def test_the_statement_that_fails_is_named_as_alembic_names_it(
    tmp_path: Path, database_url: str, apart: bool
) -> None:
    project = asyncpg_project(tmp_path, database_url)
    project.configure["transaction_per_migration"] = apart
    bad = "op.execute('CREATE TABLE bad (a int, b nosuchtype)')"
    project.write([tables(0, 3), f"{tables(10, 13)}\n{bad}\n{tables(20, 23)}", tables(30, 33)])
    outcome, grown = counted(project)
    assert "nosuchtype" in str(outcome.error)
    assert "r0002" in outcome.error.migration_step
    assert grown["batches"] >= 1


def test_a_statement_whose_batch_failed_for_another_reason_runs(
    tmp_path: Path, database_url: str
) -> None:
    """An event trigger may look at the statement that is running."""
    project = asyncpg_project(tmp_path, database_url)
    project.write([WATCH, tables(0, 3), "op.execute('CREATE TABLE seen AS SELECT what FROM obs')"])
    outcome, grown = counted(project)
    assert outcome.error is None
    assert any("CREATE TABLE t1" in str(row) for row in outcome.database)


def test_an_event_trigger_that_is_there_before_the_run_sees_each_statement(
    tmp_path: Path, database_url: str
) -> None:
    project = asyncpg_project(tmp_path, database_url)
    project.write([WATCH])
    project.run(False)
    project.write([WATCH, tables(0, 3), tables(3, 6)])
    project.clean = lambda: None  # type: ignore[method-assign]
    outcome = project.run(True)
    assert outcome.error is None
    assert sum("CREATE TABLE t" in str(row) for row in outcome.database) == 6


@pytest.mark.parametrize(
    "line",
    [
        "op.execute('CREATE TABLE x AS SELECT current_query() AS q')",
        "op.execute('CREATE TABLE x (at timestamptz DEFAULT statement_timestamp())')",
        "op.execute('CREATE INDEX CONCURRENTLY x ON t0 (s)')",
        "op.execute(\"ALTER TABLE t0 ADD COLUMN x text DEFAULT 'a\\\\\\\\b'\")",
        "op.execute(\"COMMENT ON TABLE t0 IS '100 % %% é'\")",
        "op.execute('CREATE TABLE x () -- to the end')",
        "op.execute('CREATE TABLE x () /* ; */;')",
        "op.execute('CREATE TABLE x (); CREATE TABLE y ()')",
        "op.execute('SAVEPOINT migrate_ext_batch')",
        "op.execute('ROLLBACK TO SAVEPOINT nosuch')",
        "op.execute(\"COMMENT ON TABLE t0 IS '\\ud800'\")",
        "op.execute(\"COMMENT ON TABLE t0 IS '\\0'\")",
        "op.execute('SET standard_conforming_strings = off')",
        "op.execute(\"CREATE TYPE k AS ENUM ('a')\")\nop.execute(\"ALTER TYPE k ADD VALUE 'b'\")\n"
        "op.execute(\"CREATE TABLE x (k k DEFAULT 'b')\")",
        "op.execute('COMMIT')",
    ],
)
@pytest.mark.parametrize("strings", ["on", "off"])
def test_statements_of_all_kinds(
    tmp_path: Path, database_url: str, line: str, strings: str
) -> None:
    project = asyncpg_project(tmp_path, database_url, standard_conforming_strings=strings)
    project.write([tables(0, 2), f"{tables(2, 4)}\n{line}\n{tables(4, 6)}", tables(6, 8)])
    project.agree()


def test_no_function_sees_the_batch(tmp_path: Path, database_url: str) -> None:
    project = asyncpg_project(tmp_path, database_url)
    body = "CREATE FUNCTION seen() RETURNS text LANGUAGE sql VOLATILE AS 'SELECT current_query()'"
    column = "op.execute('ALTER TABLE r ADD COLUMN seen text DEFAULT seen()')"
    rows = "op.execute('CREATE TABLE r (a int)')\nop.execute('INSERT INTO r VALUES (1)')"
    query = "op.execute('CREATE TABLE x AS SELECT seen()')"
    project.write([f"{rows}\nop.execute({body!r})", f"{column}\n{query}"])
    project.agree()


def test_a_query_may_see_that_there_was_a_savepoint(tmp_path: Path, database_url: str) -> None:
    project = asyncpg_project(tmp_path, database_url)
    count = (
        "SELECT count(*) FROM pg_class WHERE xmin = pg_current_xact_id()::xid AND relname LIKE 'x_'"
    )
    made = "op.execute('CREATE TABLE x1 ()')\nop.execute('CREATE TABLE x2 ()')"
    project.write([f"{made}\nsee(op.get_bind().scalar(sa.text({count!r})))"])
    assert [project.run(batched).seen for batched in (False, True)] == [["2"], ["0"]]


def test_a_version_row_that_is_gone_is_noticed(tmp_path: Path, database_url: str) -> None:
    project = asyncpg_project(tmp_path, database_url)
    gone = "op.execute('DELETE FROM alembic_version')"
    project.write([tables(0, 2), f"{tables(2, 4)}\n{gone}\n{tables(4, 6)}"])
    assert "expected to match one row" in str(project.agree().error)


def test_a_version_row_that_the_server_refuses_is_its_own_error(
    tmp_path: Path, database_url: str
) -> None:
    project = asyncpg_project(tmp_path, database_url)
    check = "op.execute(\"ALTER TABLE alembic_version ADD CHECK (version_num <> 'r0002')\")"
    project.write([f"{tables(0, 2)}\n{check}", tables(2, 4), tables(4, 6)])
    assert "violates check constraint" in str(project.agree().error)


@pytest.mark.skipif(
    "asan" in os.environ.get("LD_PRELOAD", ""),
    reason="asyncpg reads freed memory where a parameter is a str of another class",
)
@EXAMPLES
@given(bodies=st.lists(spanned(), min_size=1, max_size=3), apart=st.booleans())
def test_random_functions(
    tmp_path: Path, database_url: str, bodies: list[str], apart: bool
) -> None:
    project = prepared(Watched(tmp_path / "project", database_url.replace("://", "+asyncpg://")))
    project.configure["transaction_per_migration"] = apart
    first = "op.execute('CREATE TABLE t0 (a int, b text)')\nop.execute(\"INSERT INTO t0 VALUES (1, 'b')\")"
    start = "bind = op.get_bind()\nrows, items, number, x = [], [], 0, 'x'\n"
    project.write([first, *(start + body for body in bodies)], TOP)
    outcome, grown = counted(project)
    event(f"{grown['batches']} batches")
    event("failed" if outcome.error is not None else "ran")


@EXAMPLES
@given(program=PROGRAMS, strings=st.sampled_from(["on", "on", "off"]), apart=st.booleans())
def test_random_texts(
    tmp_path: Path, database_url: str, program: list[list[str]], strings: str, apart: bool
) -> None:
    project = asyncpg_project(tmp_path, database_url, standard_conforming_strings=strings)
    project.configure["transaction_per_migration"] = apart
    project.write(
        ["op.execute('CREATE TABLE t0 (s text)')", *("\n".join(body) for body in program)]
    )
    project.agree()


@EXAMPLES
@given(
    program=st.lists(
        st.lists(st.sampled_from([*PLAIN, *OTHER, *FAILING]), min_size=1, max_size=4),
        min_size=1,
        max_size=5,
    ),
    is_watched=st.booleans(),
)
def test_random_programs(
    tmp_path: Path, database_url: str, program: list[list[str]], is_watched: bool
) -> None:
    project = asyncpg_project(tmp_path, database_url)
    first = WATCH if is_watched else WATCH.partition("op.execute('''")[0]
    numbers = iter(range(10**6))
    bodies = ["\n".join(line.format(n=next(numbers)) for line in body) for body in program]
    project.write([first, *bodies])
    project.agree()
