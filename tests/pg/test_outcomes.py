"""Each text that a failed run prints about the database agrees with the database."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest
from cutting_proxy import Proxy
from database_urls import with_driver, with_port
from forked_command import Command
from older_releases import DEFAULT_ISOLATION_OF_ASYNCPG
from recording_project import WAYS, RecordingProject
from sqlalchemy.engine import make_url

from migrate_ext import errors

ALEMBIC, DIRECT = WAYS
RUNS = [
    (ALEMBIC, "psycopg", "one"),
    (ALEMBIC, "psycopg", "each"),
    (ALEMBIC, "psycopg2", "one"),
    (ALEMBIC, "psycopg2", "each"),
    *((DIRECT, driver, "one") for driver in ("psycopg", "psycopg_async", "asyncpg")),
    *((DIRECT, driver, "each") for driver in ("psycopg2", "psycopg_async", "asyncpg")),
    ("compiled", "psycopg", "one"),
    ("compiled", "psycopg", "each"),
]
REFUSED = """\
    op.execute("CREATE TABLE parent (id int PRIMARY KEY)")
    op.execute("CREATE TABLE child (p int REFERENCES parent DEFERRABLE INITIALLY DEFERRED)")
    op.execute("INSERT INTO child VALUES (1)")
"""
BLOCK = """\
    with op.get_context().autocommit_block():
        op.execute("CREATE TABLE inside ()")
"""
INDEX = """\
    with op.get_context().autocommit_block():
        op.create_index("later", "t1", ["a"], postgresql_concurrently=True)
"""
FAILS = '    op.execute("SELECT 1 / 0")'


def run_of(
    tmp_path: Path, url: str, way: str, driver: str, mode: str, body: dict[int, str]
) -> RecordingProject:
    url = with_driver(url, driver)
    return RecordingProject(tmp_path / "project", url, way=way, mode=mode, count=4, body=body)


def tables(project: RecordingProject) -> set[str]:
    with project.connect() as connection:
        rows = connection.execute("SELECT relname FROM pg_class WHERE relkind IN ('r', 'i')")
        return {str(name) for (name,) in rows.fetchall()}


def at(project: RecordingProject) -> str:
    with project.connect() as connection:
        if "alembic_version" not in tables(project):
            return "base"
        rows: Any = connection.execute("TABLE alembic_version").fetchall()
    return str(rows[0][0]) if rows else "base"


def committed(done: Command) -> str:
    """The last revision that a run says it has committed."""
    found = re.search(r"Committed: (?:[^.]* |)(r\d{4})(?:\.| \()", done.said)
    found = found or re.search(r"Committed: r\d{4} to (r\d{4})", done.said)
    return found[1] if found else "base"


@pytest.mark.parametrize(("way", "driver", "mode"), RUNS)
@pytest.mark.parametrize("where", ["at the end", "before a block"])
def test_a_refused_commit_is_said_to_be_refused(
    tmp_path: Path, database_url: str, way: str, driver: str, mode: str, where: str
) -> None:
    body = {3: REFUSED + (BLOCK if where == "before a block" else "")}
    project = run_of(tmp_path, database_url, way, driver, mode, body)
    done = project.run("upgrade", "head")
    assert done.code == 1, done.said
    assert "The server refused COMMIT, and rolled its transaction back." in done.said
    assert 'violates foreign key constraint "child_p_fkey"' in done.said
    assert committed(done) == at(project) == ("base" if mode == "one" else "r0002")
    assert not tables(project) & {"child", "inside", "t4"}
    for wrong in ("in doubt", "half done", "connection was lost"):
        assert wrong not in done.said
    assert not re.search(r"FAILED: \S+\.pyx", done.said)  # a line of the driver's source


@pytest.mark.parametrize(("way", "driver", "mode"), RUNS)
def test_a_migration_that_is_half_done_is_named_with_what_stands(
    tmp_path: Path, database_url: str, way: str, driver: str, mode: str
) -> None:
    body = {2: INDEX, 3: FAILS}
    project = run_of(tmp_path, database_url, way, driver, mode, body)
    done = project.run("upgrade", "head")
    assert done.code == 1, done.said
    assert "division by zero" in done.said
    assert "later" in tables(project)
    assert committed(done) == at(project) == ("r0001" if mode == "one" else "r0002")
    half = "r0002 was left half done"
    assert (half in done.said) == (mode == "one")
    if mode == "one":
        assert "Among that is: CREATE INDEX CONCURRENTLY later ON t1 (a)." in done.said
        assert "the same command goes on from there" not in done.said
        assert "The same command begins r0002 anew: undo first what is committed" in done.said
    else:
        assert "the same command goes on from there" in done.said
    again = project.run("upgrade", "head")
    assert ('"later" already exists' in again.said) == (mode == "one"), again.said
    if mode == "each":
        return
    assert "r0002 was interrupted before: it left the index later, which is the one" in again.said
    (project.folder / "versions" / "r0003.py").write_text(
        (project.folder / "versions" / "r0003.py").read_text().replace(FAILS, "    pass")
    )
    with project.connect() as connection:  # not exactly the one: it is not touched
        connection.execute("DROP INDEX later")
        connection.execute("CREATE INDEX later ON t1 (a DESC)")
        other = project.run("upgrade", "head", MIGRATE_EXT_REPAIR="true")
        assert other.code == 1
        assert '"later" already exists' in other.said
        assert "interrupted before" not in other.said
        connection.execute("DROP INDEX later")
        connection.execute("CREATE INDEX later ON t1 (a)")
    repaired = project.run("upgrade", "head", MIGRATE_EXT_REPAIR="true")
    assert repaired.code == 0, repaired.said
    assert "Dropped the index later, which an earlier run had made" in repaired.said
    assert at(project) == "r0004"


@pytest.mark.parametrize(("way", "driver", "mode"), RUNS)
def test_the_servers_default_isolation_is_that_of_the_run(
    tmp_path: Path, database_url: str, way: str, driver: str, mode: str
) -> None:
    if driver == "asyncpg" and not DEFAULT_ISOLATION_OF_ASYNCPG:
        pytest.skip("this SQLAlchemy asks asyncpg for READ COMMITTED")
    note = "INSERT INTO found VALUES (current_setting('transaction_isolation'))"
    project = run_of(tmp_path, database_url, way, driver, mode, {2: f"    op.execute({note!r})"})
    with project.connect() as connection:
        connection.execute("CREATE TABLE found (level text)")
        name = make_url(database_url).database
        connection.execute(
            f"ALTER DATABASE {name} SET default_transaction_isolation = 'serializable'"
        )
        done = project.run("upgrade", "head")
        assert done.code == 0, done.said
        assert connection.execute("TABLE found").fetchall() == [("serializable",)]
        stats = re.search(r'"planned": (\d+)', done.said)
        assert stats is None or way == "compiled"
    assert at(project) == "r0004"


PAUSE = """\
    op.create_table("t3", sa.Column("a", sa.Integer))
    {pause}
    op.execute("CREATE TABLE late (i int)")
"""


@pytest.mark.parametrize(("way", "driver", "mode"), [run for run in RUNS if run[0] != "compiled"])
def test_a_session_that_was_idle_for_too_long_names_the_migration_that_paused(
    tmp_path: Path, database_url: str, way: str, driver: str, mode: str
) -> None:
    pause = "__import__('time').sleep(0.6)"
    project = run_of(tmp_path, database_url, way, driver, mode, {3: PAUSE.format(pause=pause)})
    with project.connect() as connection:
        name = make_url(database_url).database
        connection.execute(
            f"ALTER DATABASE {name} SET idle_in_transaction_session_timeout = '200ms'"
        )
    done = project.run("upgrade", "head")
    assert done.code == 1, done.said
    assert "[SQL: CREATE TABLE late" in done.said
    # Under `alembic` it is in a note, which Python prints since 3.11.
    assert "r0003.py" in done.said or (way == ALEMBIC and sys.version_info < (3, 11))
    assert committed(done) == at(project) == ("base" if mode == "one" else "r0002")


@pytest.mark.parametrize("mode", ["one", "each"])
def test_a_plan_whose_connection_is_cut_names_what_was_not_answered(
    tmp_path: Path, database_url: str, mode: str
) -> None:
    project = RecordingProject(
        tmp_path / "project", database_url, way="compiled", mode=mode, count=30
    )
    proxy = Proxy(make_url(database_url).port or 5432, behind=rb"CREATE TABLE t9 ")
    done = project.run("upgrade", "head", url=with_port(database_url, proxy.port))
    proxy.close()
    assert proxy.cut
    assert done.code == 1, done.said
    named = "one of r0001 to r0030" if mode == "one" else "r0009; the last one confirmed is r0008"
    assert f"FAILED: upgrade of revision {named}: " in done.said, done.said
    assert committed(done) == at(project) == ("base" if mode == "one" else "r0008")


LOST_BEHIND_A_BATCH = """
import os, socket
import psycopg2, sqlalchemy as sa
from alembic import context
from migrate_ext.execution import drivers

engine = sa.create_engine(os.environ["DATABASE_URL"])
admin = psycopg2.connect(engine.url.set(drivername="postgresql").render_as_string(False))
admin.autocommit = True
after_batch = drivers.Psycopg2.after_batch

def lose(self, discards_plans):
    with admin.cursor() as cursor:
        cursor.execute("SELECT to_regclass('t2') IS NOT NULL")
        if not {each} or cursor.fetchone() == (True,):
            line = socket.socket(fileno=os.dup(self.connection.fileno()))
            line.shutdown(socket.SHUT_RDWR)
            line.close()
    after_batch(self, discards_plans)

drivers.Psycopg2.after_batch = lose
with engine.connect() as connection:
    context.configure(connection=connection, transaction_per_migration={each})
    with context.begin_transaction():
        context.run_migrations()
"""


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("mode", ["one", "each"])
def test_a_loss_between_a_batch_and_the_next_statement_is_told_with_its_reason(
    tmp_path: Path, database_url: str, mode: str, fails: bool
) -> None:
    body = {3: '    op.execute("SELECT 1 / 0")'} if fails else {}
    project = run_of(tmp_path, database_url, ALEMBIC, "psycopg2", mode, body)
    (project.folder / "env.py").write_text(LOST_BEHIND_A_BATCH.format(each=mode == "each"))
    done = project.run("upgrade", "head")
    assert done.code == 1, done.said
    reason = "division by zero" if fails else "server closed the connection unexpectedly"
    assert reason in done.said, done.said
    assert "already closed" not in done.said
    assert committed(done) == at(project) == ("r0002" if mode == "each" else "base")


def test_the_severity_of_a_server_that_speaks_another_language_is_no_part_of_its_message() -> None:
    error = errors.ServerError("FEHLER:  Relation »t« existiert nicht\nZEILE 1: SELECT\n")
    error.fields = {ord("S"): "FEHLER", ord("V"): "ERROR", ord("M"): "Relation »t« existiert nicht"}
    assert errors.without_severity(error) == "Relation »t« existiert nicht\nZEILE 1: SELECT\n"


POOL = """
import os, sqlalchemy as sa
from alembic import context
engine = sa.create_engine(os.environ["DATABASE_URL"], pool_size=1, max_overflow=0)
try:
    with engine.connect() as connection:
        context.configure(connection=connection, transaction_per_migration={each})
        with context.begin_transaction():
            context.run_migrations()
finally:
    locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND database = "
    locks += "(SELECT oid FROM pg_database WHERE datname = current_database())"
    with engine.connect() as connection:
        print("locks in the pool:", connection.execute(sa.text(locks)).scalar(), flush=True)
"""


@pytest.mark.parametrize("each", [False, True])
@pytest.mark.parametrize("driver", ["psycopg", "psycopg2"])
@pytest.mark.parametrize("close", ["connection.close()", "close()", "invalidate()"])
def test_a_migration_that_closes_its_connection_leaves_the_pool_usable(
    tmp_path: Path, database_url: str, driver: str, each: bool, close: str
) -> None:
    body = f"    op.get_bind().{close}\n    op.execute('CREATE TABLE late ()')"
    mode = "each" if each else "one"
    project = run_of(tmp_path, database_url, ALEMBIC, driver, mode, {3: body})
    (project.folder / "env.py").write_text(POOL.format(each=each))
    done = project.run("upgrade", "head")
    assert done.code == 1, done.said
    assert "locks in the pool: 0" in done.said
    assert "AttributeError" not in done.said
    assert committed(done) == at(project) == ("r0002" if each else "base")
