"""A run that has lost its lock, may not take it, or whose program holds it on another connection, never migrates twice."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy
from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from connection_pooler import POOLED_ASYNCPG
from database_urls import with_driver, with_port
from forked_command import wait_until
from older_releases import needs_plugins, needs_statement_names
from recording_project import WAYS, RecordingProject
from sqlalchemy.engine import make_url
from test_lock import closed_gate, environment, held, no_lock_is_left, pooler_port, waits_in_server

from migrate_ext.dropin import hooks
from migrate_ext.locking import lock

assert pooler_port  # a fixture
ALEMBIC, DIRECT = WAYS
LOSSES = ["DISCARD ALL", "SELECT pg_advisory_unlock_all()"]
# psycopg and asyncpg prepare statements, which DISCARD takes away, under Alembic, too.
CASES = [
    *((way, "psycopg2", mode, loss) for way in WAYS for mode in ("one", "each") for loss in LOSSES),
    *((way, "psycopg", "each", LOSSES[1]) for way in WAYS),
    (DIRECT, "asyncpg", "each", LOSSES[1]),
    (DIRECT, "psycopg_async", "one", LOSSES[1]),
    *(("compiled", "psycopg", mode, loss) for mode in ("one", "each") for loss in LOSSES),
]
NOTE = """    op.execute("INSERT INTO locks SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()")"""


def losing(statement: str, then: str = "") -> str:
    body = f"    with op.get_context().autocommit_block():\n        op.execute({statement!r})\n"
    return body + (f"        op.execute({then!r})\n" if then else "")


def made(
    tmp_path: Path, url: str, way: str, driver: str, mode: str, body: dict[int, str]
) -> RecordingProject:
    url = with_driver(url, driver)
    return RecordingProject(tmp_path / "project", url, way=way, mode=mode, count=4, body=body)


def version(connection: psycopg.Connection[Any]) -> list[Any]:
    return [row[0] for row in connection.execute("TABLE alembic_version").fetchall()]


@pytest.mark.parametrize(("way", "driver", "mode", "loss"), CASES)
def test_a_lost_lock_is_taken_again_before_the_next_transaction(
    tmp_path: Path, database_url: str, way: str, driver: str, mode: str, loss: str
) -> None:
    body = {2: losing(loss) + NOTE, 3: NOTE}
    project = made(tmp_path, database_url, way, driver, mode, body)
    with project.connect() as connection:
        connection.execute("CREATE TABLE locks (n int)")
        done = project.run("upgrade", "head")
        assert done.code == 0, done.said
        assert connection.execute("TABLE locks").fetchall() == [(1,), (1,)]
        assert version(connection) == ["r0004"]
    assert no_lock_is_left(project)


@pytest.mark.parametrize("other", ["has it", "has run"])
@pytest.mark.parametrize(("way", "driver", "mode", "loss"), CASES)
def test_a_run_whose_lock_another_run_took_meanwhile_ends(
    tmp_path: Path, database_url: str, way: str, driver: str, mode: str, loss: str, other: str
) -> None:
    body = {2: losing(loss, "INSERT INTO gate VALUES (1)")}
    project = made(tmp_path, database_url, way, driver, mode, body)
    with closed_gate(project) as gate, project.connect() as connection:
        running = project.start("upgrade", "head")
        wait_until(lambda: waits_in_server(project) == 1, running)
        with held(project):
            if other == "has it":
                gate.execute("COMMIT")
                running.wait()
        if other == "has run":
            connection.execute("UPDATE alembic_version SET version_num = 'r0002'")
            gate.execute("COMMIT")
            running.wait()
        assert running.code == 255, running.said
        # In a batch it shows by the version row, if the other run is over.
        row = "expected to match one row when updating 'r0001' to 'r0002'"
        assert lock.LOST in running.said or (other == "has run" and row in running.said)
        assert version(connection) == ["r0001" if other == "has it" else "r0002"]
    assert no_lock_is_left(project)


@pytest.mark.parametrize("loss", LOSSES)
def test_where_each_statement_commits_itself_the_lock_is_looked_for_before_each_migration(
    tmp_path: Path, database_url: str, loss: str
) -> None:
    body = {2: f"    op.execute({loss!r})", 3: NOTE}
    project = RecordingProject(tmp_path / "project", database_url, count=4, body=body)
    environment(project, engine="isolation_level='AUTOCOMMIT'")
    with project.connect() as connection:
        connection.execute("CREATE TABLE locks (n int)")
        done = project.run("upgrade", "head", url=with_driver(database_url, "psycopg2"))
        assert done.code == 0, done.said
        assert connection.execute("TABLE locks").fetchall() == [(1,)]
    assert no_lock_is_left(project)


# --- a role that may not take it ------------------------------------------------------------------


@contextmanager
def role_without_locks(url: str) -> Iterator[str]:
    """The URL with a role that may do everything but take advisory locks."""
    name = f"role_{secrets.token_hex(6)}"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            f"CREATE ROLE {name} LOGIN PASSWORD 'x'; GRANT ALL ON SCHEMA public TO {name};"
            "REVOKE EXECUTE ON FUNCTION pg_try_advisory_lock(bigint), pg_advisory_unlock(bigint), "
            "pg_try_advisory_xact_lock(bigint) FROM PUBLIC"
        )
        try:
            parsed = make_url(url).set(username=name, password="x")
            yield parsed.render_as_string(hide_password=False)
        finally:
            connection.execute(f"DROP OWNED BY {name}; DROP ROLE {name}")


@pytest.mark.parametrize(
    ("way", "driver", "before"),
    [
        *((way, "psycopg2", False) for way in WAYS),
        (DIRECT, "asyncpg", False),
        ("compiled", "psycopg", False),
        (ALEMBIC, "psycopg", True),
        (ALEMBIC, "psycopg2", True),
    ],
)
def test_a_role_that_may_not_lock_runs_without_unless_the_lock_is_asked_for(
    tmp_path: Path, database_url: str, way: str, driver: str, before: bool
) -> None:
    project = made(tmp_path, database_url, way, driver, "one", {})
    if before:
        environment(project, connect="begin", before="    connection.execute(sa.text('SELECT 1'))")
    with role_without_locks(database_url) as url:
        url = with_driver(url, driver)
        done = project.run("upgrade", "head", url=url, MIGRATE_EXT_LOCK="true")
        assert done.code == 255, done.said
        assert "no lock against other runs: permission denied" in done.said
        assert "GRANT EXECUTE" in done.said
        done = project.run("upgrade", "head", url=url)
        assert done.code == 0, done.said
        assert done.said.count("No lock against other runs: permission denied for") == 1
        assert project.state() == 4
        if way != ALEMBIC:
            assert project.run("stamp", "r0001", url=url).code == 0


@needs_plugins
def test_a_role_that_may_not_lock_runs_under_alembic_and_here(
    tmp_path: Path, database_url: str
) -> None:
    project = made(tmp_path, database_url, ALEMBIC, "psycopg", "one", {})
    with role_without_locks(database_url) as url:
        for command, off in ((("upgrade", "head"), "0"), (("downgrade", "base"), "1")):
            done = subprocess.run(
                [sys.executable, "-m", "alembic", *command],
                cwd=project.folder,
                env={
                    **os.environ,
                    "DATABASE_URL": with_driver(url, "psycopg"),
                    "MIGRATE_EXT": off,
                },
                capture_output=True,
                text=True,
                timeout=60,
            )
            assert done.returncode == 0, done.stderr
            assert ("No lock against other runs" in done.stderr) == (off == "1")


# --- the program's own ----------------------------------------------------------------------------

ENV = """
from alembic import context
context.configure(connection=context.config.attributes["connection"])
with context.begin_transaction():
    context.run_migrations()
"""
Start = Callable[[sqlalchemy.Connection], None]


@pytest.fixture
def program(tmp_path: Path, database_url: str) -> Iterator[tuple[sqlalchemy.Engine, Start]]:
    """An engine, and what upgrades on a connection of it to head, as programs do when they start."""
    project = RecordingProject(tmp_path / "project", database_url, count=2)
    (project.folder / "env.py").write_text(ENV)
    url = with_driver(database_url, "psycopg")
    engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.pool.NullPool)

    def start(connection: sqlalchemy.Connection) -> None:
        config = Config()
        config.set_main_option("script_location", str(project.folder))
        config.set_main_option("migrate_ext_lock_timeout", "30")  # the wait would be for ever
        config.attributes["connection"] = connection
        command.upgrade(config, "head")

    yield engine, start
    assert no_lock_is_left(project)


@pytest.fixture(autouse=True)
def installed(request: pytest.FixtureRequest) -> Iterator[None]:
    """The runtime is active in this process, where a test does not say otherwise."""
    with nullcontext() if "under_alembic" in request.node.name else hooks.installed():
        yield


def test_two_runs_of_one_program_do_not_wait_for_each_other_at_head(
    program: tuple[sqlalchemy.Engine, Start],
) -> None:
    engine, start = program
    with engine.begin() as first:
        start(first)
    with engine.begin() as first, engine.begin() as second:
        start(first)
        start(second)


def test_two_runs_of_one_program_under_alembic_and_here(
    program: tuple[sqlalchemy.Engine, Start],
) -> None:
    """Alembic's second one waits in the server for the first to end: here until a timeout."""
    engine, start = program
    for active, error in ((False, sqlalchemy.exc.OperationalError), (True, CommandError)):
        with engine.connect() as first, engine.connect() as second:
            first.begin()
            second.begin()
            second.execute(sqlalchemy.text("SET lock_timeout = '200ms'"))
            with hooks.installed() if active else nullcontext():
                start(first)
                with pytest.raises(error, match="this program" if active else "lock timeout"):
                    start(second)


def test_the_second_run_of_a_program_fails_at_once_where_it_has_something_to_do(
    program: tuple[sqlalchemy.Engine, Start],
) -> None:
    engine, start = program
    with engine.begin() as first, engine.begin() as second:
        start(first)
        with pytest.raises(CommandError, match="this program has the lock of this database itself"):
            start(second)
    with engine.begin() as third:
        start(third)


def test_a_run_in_another_thread_is_waited_for(
    program: tuple[sqlalchemy.Engine, Start], caplog: pytest.LogCaptureFixture
) -> None:
    engine, start = program
    raised: list[BaseException] = []

    def other() -> None:
        try:
            with engine.begin() as second:
                start(second)
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=other)
    with engine.begin() as first:
        start(first)
        thread.start()
        wait_until(lambda: "Waiting for another run of migrations" in caplog.text)
    thread.join(30)
    assert not thread.is_alive()
    assert not raised


# --- asyncpg behind a pooler ----------------------------------------------------------------------


@needs_statement_names
def test_behind_a_busy_pooler_no_statement_of_the_locks_is_prepared(
    tmp_path: Path, database_url: str, pooler_port: int
) -> None:
    url = with_port(database_url, pooler_port)
    project = RecordingProject(tmp_path / "project", database_url, count=12)
    (project.folder / "env.py").write_text(POOLED_ASYNCPG.format(each=True))
    over = threading.Event()

    def others() -> None:
        with psycopg.connect(url, prepare_threshold=None) as connection:
            while not over.is_set():
                with connection.transaction():
                    connection.execute("SELECT 1")

    threads = [threading.Thread(target=others) for _ in range(8)]
    for thread in threads:
        thread.start()
    try:
        for command in ("upgrade", "head"), ("downgrade", "base"), ("upgrade", "head"):
            done = project.run(*command, url=with_driver(url, "asyncpg"))
            assert done.code == 0, done.said
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert project.state() == 12
