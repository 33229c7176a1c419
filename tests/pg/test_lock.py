"""Many containers run their migrations at once: each migration runs once, and nobody fails."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from connection_pooler import find_pooler, run_pooler
from cutting_proxy import Proxy
from database_urls import libpq_url, with_driver, with_port
from forked_command import Command, wait_until
from recording_project import WAYS, RecordingProject
from sqlalchemy.engine import make_url

from migrate_ext import _core

ALEMBIC, DIRECT = WAYS


def all_at_once(project: RecordingProject, count: int = 8, url: str = "") -> list[Command]:
    commands = [project.start("upgrade", "head", url=url) for _ in range(count)]
    return [command.wait() for command in commands]


def each_ran_once(project: RecordingProject, commands: list[Command]) -> None:
    assert [command.code for command in commands] == [0] * len(commands), "\n\n".join(
        command.said for command in commands if command.code
    )
    assert project.state() == project.count
    assert no_lock_is_left(project)


def no_lock_is_left(project: RecordingProject) -> bool:
    with project.connect() as connection:
        found = connection.execute(
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND database = "
            "(SELECT oid FROM pg_database WHERE datname = current_database())"
        ).fetchone()
    return found == (0,)


@contextmanager
def held(project: RecordingProject, name: str = "somebody") -> Iterator[psycopg.Connection[Any]]:
    """Another session has the lock of the project's version table."""
    url = libpq_url(project.url)
    with psycopg.connect(url, autocommit=True, application_name=name) as connection:
        row = connection.execute(_core.lock_sql_try("alembic_version", None, True)).fetchone()
        assert row is not None and row[1] in ("t", "true")
        yield connection


@pytest.mark.parametrize(
    ("way", "driver", "mode"),
    [
        (ALEMBIC, "psycopg", "one"),
        (ALEMBIC, "psycopg2", "each"),
        (ALEMBIC, "psycopg", "autocommit"),
        (DIRECT, "psycopg2", "autocommit"),
        (DIRECT, "asyncpg", "one"),
        (DIRECT, "asyncpg", "autocommit"),
        (DIRECT, "psycopg_async", "each"),
    ],
)
def test_eight_upgrades_at_once_run_each_migration_once(
    tmp_path: Path, database_url: str, way: str, driver: str, mode: str
) -> None:
    url = with_driver(database_url, driver)
    project = RecordingProject(tmp_path / "project", url, way=way, mode=mode, count=20)
    each_ran_once(project, all_at_once(project))


def test_without_the_lock_two_runs_at_once_fail(tmp_path: Path, database_url: str) -> None:
    """Else the test above would show nothing. The second has read the heads while the first is in the middle."""
    body = {1: '    op.execute("INSERT INTO gate VALUES (1)")'}
    project = RecordingProject(tmp_path / "project", database_url, count=20, body=body)
    with closed_gate(project) as gate:
        commands: list[Command] = []
        for waiting in 1, 2:
            commands.append(project.start("upgrade", "head", MIGRATE_EXT_LOCK="false"))
            wait_until(lambda count=waiting: waits_in_server(project) == count, *commands)
        gate.execute("COMMIT")
    for command in commands:
        command.wait()
    assert sum(command.code != 0 for command in commands) > 0
    assert project.run("upgrade", "head").code == 0


def test_a_waiting_run_names_the_session_with_the_lock_and_gives_up_after_its_timeout(
    tmp_path: Path, database_url: str
) -> None:
    for way in WAYS:
        project = RecordingProject(tmp_path / way, database_url, way=way, count=2)
        with held(project, "the other one") as other:
            pid = other.info.backend_pid
            done = project.run("upgrade", "head", MIGRATE_EXT_LOCK_TIMEOUT="0.5")
            assert done.code == 255
            whom = f"pid {pid}, application 'the other one', since 20"
            assert done.said.count("Waiting for another run of migrations: " + whom) == 1
            assert f"another run of migrations has the lock of this database: {whom}" in done.said
            assert "Traceback" not in done.said
        assert project.state() == 0


def test_a_waiter_goes_on_when_the_other_is_done(tmp_path: Path, database_url: str) -> None:
    project = RecordingProject(tmp_path / "project", database_url, way=DIRECT, count=3)
    with held(project):
        command = project.start("upgrade", "head")
        deadline = time.monotonic() + 30
        while "Waiting for another run" not in command.text():
            assert time.monotonic() < deadline and not command.poll(), command.text()
            time.sleep(0.01)
    each_ran_once(project, [command.wait()])


def test_options_say_how_long_and_whether_at_all(tmp_path: Path, database_url: str) -> None:
    project = RecordingProject(tmp_path / "project", database_url, way=DIRECT, count=2)
    with held(project):
        for command in ("upgrade", "head"), ("stamp", "r0001"):
            done = project.run(*command, "--lock-timeout", "0.1")
            assert done.code == 255, done.said
            assert "another run of migrations has the lock" in done.said
            assert project.run(command[0], "--lock-timeout=0.1", command[1]).code == 255
        assert project.run("upgrade", "--no-lock", "head").code == 0
    assert project.state() == 2
    for wrong in ("--lock-timeout", "x"), ("--lock-timeout",):
        done = project.run("upgrade", "head", *wrong)
        assert done.code == 255
        assert "number of seconds" in done.said
        assert "Traceback" not in done.said


@pytest.mark.parametrize("way", WAYS)
def test_the_locks_settings_may_stand_in_the_ini_file(
    tmp_path: Path, database_url: str, way: str
) -> None:
    settings = "migrate_ext_lock_timeout = 0.1\n"
    project = RecordingProject(
        tmp_path / "project", database_url, way=way, count=2, settings=settings
    )
    with held(project):
        assert "another run of migrations has the lock" in project.run("upgrade", "head").said
        assert project.run("upgrade", "head", MIGRATE_EXT_LOCK="no").code == 0
    done = project.run("downgrade", "base", MIGRATE_EXT_POOLER="perhaps")
    assert done.code == 255
    assert "MIGRATE_EXT_POOLER is 'perhaps'; expected auto, transaction or none" in done.said
    assert project.state() == 2


@pytest.mark.parametrize("way", WAYS)
def test_reading_makes_no_version_table_and_does_not_wait_for_a_first_run(
    tmp_path: Path, database_url: str, way: str
) -> None:
    project = RecordingProject(tmp_path / "project", database_url, way=way, count=2)
    commands = (("current",), ("history", "-i"), ("show", "current"), ("check",))
    with held(project) as connection:
        connection.execute("BEGIN")
        connection.execute("CREATE TABLE alembic_version (version_num text)")  # a first run
        for command in commands:
            done = project.run(*command, MIGRATE_EXT_LOCK_TIMEOUT="0")
            assert done.code == (255 if command == ("check",) else 0), (command, done.said)
            assert "another run" not in done.said
        connection.execute("ROLLBACK")
        row = connection.execute("SELECT to_regclass('alembic_version') IS NULL").fetchone()
    assert row == (True,)


@pytest.mark.parametrize("way", WAYS)
def test_commands_that_only_read_do_not_wait_for_the_lock(
    tmp_path: Path, database_url: str, way: str
) -> None:
    project = RecordingProject(tmp_path / "project", database_url, way=way, count=2)
    (project.folder / "script.py.mako").write_text(
        "revision = ${repr(up_revision)}\ndown_revision = ${repr(down_revision)}\n"
    )
    assert project.run("upgrade", "head").code == 0
    with held(project):
        for command in (
            ("current",),
            ("history", "-i"),
            ("show", "current"),
            ("heads",),
            ("revision", "--autogenerate", "-m", "x"),
        ):
            done = project.run(*command, MIGRATE_EXT_LOCK_TIMEOUT="0")
            assert done.code == 0, (command, done.said)
            assert "another run" not in done.said


def test_another_schema_is_another_lock_and_the_named_one_the_same(
    tmp_path: Path, database_url: str
) -> None:
    with psycopg.connect(libpq_url(database_url), autocommit=True) as connection:
        connection.execute("CREATE SCHEMA app")
        keys = [
            connection.execute(_core.lock_sql_try(table, schema, False)).fetchone()[0]
            for table, schema in (
                ("alembic_version", None),
                ("alembic_version", "public"),
                ("alembic_version", "app"),
                ("it's", None),
            )
        ]
        assert keys[0] == keys[1]
        assert len(set(keys)) == 3
        connection.execute("CREATE TABLE app.alembic_version (version_num text)")
        connection.execute("SET search_path = nosuch, app, public")
        sql = _core.lock_sql_try("alembic_version", None, False)
        assert connection.execute(sql).fetchone()[0] == keys[2]


# --- environments of all kinds --------------------------------------------------------------------

ENV = """\
import os, sqlalchemy as sa
from alembic import context
engine = sa.create_engine(os.environ["DATABASE_URL"], {engine})
with engine.{connect}() as connection:
{before}
    context.configure(connection=connection, {configure})
    with context.begin_transaction():
        context.run_migrations()
{after}
"""


def environment(
    project: RecordingProject,
    *,
    engine: str = "",
    connect: str = "connect",
    before: str = "",
    configure: str = "",
    after: str = "",
) -> RecordingProject:
    (project.folder / "env.py").write_text(
        ENV.format(engine=engine, connect=connect, before=before, configure=configure, after=after)
    )
    return project


ENVIRONMENTS = {
    "REPEATABLE READ": {"engine": "isolation_level='REPEATABLE READ'"},
    "SERIALIZABLE": {"engine": "isolation_level='SERIALIZABLE'", "connect": "begin"},
    "AUTOCOMMIT": {"engine": "isolation_level='AUTOCOMMIT'"},
    "a statement before configure": {
        "before": "    connection.execute(sa.text('SELECT 1'))",
        "after": "    connection.commit()",
    },
    "a lock of its own": {
        "before": "    connection.execute(sa.text('SELECT pg_advisory_xact_lock(1)'))",
        "after": "    connection.commit()",
    },
    "a lock of its own, for the session": {
        "before": "    connection.execute(sa.text('SELECT pg_advisory_lock(1)'))\n"
        "    connection.commit()",
    },
    "a pool": {"engine": "pool_size=1", "connect": "begin"},
}


@pytest.mark.parametrize("case", ENVIRONMENTS)
def test_whatever_env_py_does_with_its_connection(
    tmp_path: Path, database_url: str, case: str
) -> None:
    driver = "psycopg2" if case in ("AUTOCOMMIT", "a pool") else "psycopg"
    url = with_driver(database_url, driver)
    project = environment(
        RecordingProject(tmp_path / "project", url, count=10), **ENVIRONMENTS[case]
    )
    each_ran_once(project, all_at_once(project, 6))


def test_a_snapshot_from_before_the_wait_is_not_used(tmp_path: Path, database_url: str) -> None:
    project = environment(
        RecordingProject(tmp_path / "project", database_url, count=2),
        engine="isolation_level='REPEATABLE READ'",
        before="    connection.execute(sa.text('SELECT 1'))",
        after="    connection.commit()",
    )
    with held(project):
        done = project.run("upgrade", "head")
        assert done.code == 255
        assert "the open transaction is repeatable read: it would not see" in done.said
    assert project.state() == 0
    assert project.run("upgrade", "head").code == 0


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2"])
def test_a_pooled_connection_does_not_carry_the_lock_away(
    tmp_path: Path, database_url: str, driver: str
) -> None:
    """Whether the transaction was committed or rolled back, by whom, and in whatever state."""
    url = with_driver(database_url, driver)
    after = """
with engine.connect() as connection:
    found = connection.execute(sa.text(
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND database = "
        "(SELECT oid FROM pg_database WHERE datname = current_database())")).scalar()
    print("locks in the pool:", found)
"""
    project = RecordingProject(
        tmp_path / "project", url, count=4, body={3: "    op.execute('SELECT 1/0')"}
    )
    text = ENV.format(engine="pool_size=1", connect="connect", before="", after="", configure="")
    for configure in "", "transaction_per_migration=True":
        text = ENV.format(
            engine="pool_size=1", connect="connect", before="", after="", configure=configure
        )
        body = "".join(f"    {line}\n" for line in text.splitlines()[3:])
        (project.folder / "env.py").write_text(
            "\n".join(text.splitlines()[:3])
            + f"\ntry:\n{body}except sa.exc.DBAPIError as error:\n    print('failed')\n{after}"
        )
        for target, failed in ("r0002", False), ("head", True):
            done = project.run("upgrade", target)
            assert done.code == 0, done.said
            assert "locks in the pool: 0" in done.said
            assert ("failed" in done.said) == failed
        assert project.state() == 2
        assert project.run("downgrade", "base").code == 0


# --- migrations that end the transaction themselves -----------------------------------------------

OWN = """\
    op.execute({ending!r})
    op.execute("INSERT INTO gate VALUES (1)")
    op.create_table("t{n}", sa.Column("id", sa.Integer), sa.Column("a", sa.Integer))
    op.execute("INSERT INTO ran VALUES ({n})")"""


@contextmanager
def closed_gate(project: RecordingProject) -> Iterator[psycopg.Connection[Any]]:
    """Within this block whoever writes into the table `gate` waits; COMMIT opens it."""
    with project.connect() as connection:
        connection.execute("CREATE TABLE gate (n int)")
        connection.execute("BEGIN; LOCK TABLE gate IN EXCLUSIVE MODE")
        yield connection


def waits_in_server(project: RecordingProject) -> object:
    """How many sessions of the project's database wait for a lock."""
    with project.connect() as connection:
        (count,) = connection.execute(
            "SELECT count(*) FROM pg_stat_activity "
            "WHERE datname = current_database() AND wait_event_type = 'Lock'"
        ).fetchall()[0]
    return count


def the_second_waits(project: RecordingProject) -> None:
    """Two runs, of which the first comes to the gate: the second waits for it, and each migration runs once."""
    with closed_gate(project) as gate:
        first = project.start("upgrade", "head")
        wait_until(lambda: waits_in_server(project) == 1, first)
        second = project.start("upgrade", "head")
        said = "Waiting for another run of migrations"
        wait_until(lambda: said in second.text(), first, second)
        gate.execute("COMMIT")
    each_ran_once(project, [first.wait(), second.wait()])


@pytest.mark.parametrize(
    ("way", "driver", "mode", "ending"),
    [
        (ALEMBIC, "psycopg", "one", "COMMIT"),
        (ALEMBIC, "psycopg2", "one", "-- now\nEND;"),
        (ALEMBIC, "psycopg2", "each", "COMMIT; BEGIN"),
        (DIRECT, "psycopg", "each", "SELECT 1; /* ; */ commit work; SELECT 2"),
        (DIRECT, "psycopg2", "each", "COMMIT AND CHAIN"),
        (DIRECT, "asyncpg", "one", "COMMIT"),
        (DIRECT, "asyncpg", "each", "Commit"),
        (DIRECT, "psycopg_async", "each", "COMMIT"),
        (DIRECT, "psycopg_async", "one", "COMMIT"),
    ],
)
def test_a_migration_that_commits_keeps_the_lock(
    tmp_path: Path, database_url: str, way: str, driver: str, mode: str, ending: str
) -> None:
    url = with_driver(database_url, driver)
    body = {2: OWN.format(n=2, ending=ending)}
    project = RecordingProject(tmp_path / "project", url, way=way, mode=mode, count=4, body=body)
    the_second_waits(project)


RAW = """\
    cursor = op.get_bind().connection.cursor()
    cursor.execute("INSERT INTO ran VALUES (2)")
    cursor.execute("COMMIT")
    op.execute("INSERT INTO gate VALUES (1)")
    op.create_table("t2", sa.Column("id", sa.Integer), sa.Column("a", sa.Integer))"""


@pytest.mark.parametrize("mode", ["one", "each"])
@pytest.mark.parametrize("driver", ["psycopg", "psycopg2", "asyncpg", "psycopg_async"])
def test_a_commit_on_a_raw_cursor_keeps_the_lock_if_it_is_noticed_in_time(
    tmp_path: Path, database_url: str, driver: str, mode: str
) -> None:
    """Its lock is gone; the session has taken one when the next statement goes."""
    url = with_driver(database_url, driver)
    project = RecordingProject(tmp_path / "p", url, way=DIRECT, mode=mode, count=4, body={2: RAW})
    the_second_waits(project)


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2"])
def test_a_migration_that_a_raw_cursor_has_ended_is_not_repeated_and_nothing_is_claimed(
    tmp_path: Path, database_url: str, driver: str
) -> None:
    failing = "DO $$ BEGIN RAISE SQLSTATE '40001'; END $$"
    body = {2: RAW.replace("INSERT INTO gate VALUES (1)", failing)}
    project = RecordingProject(
        tmp_path / "p", with_driver(database_url, driver), count=4, body=body
    )
    done = project.run("upgrade", "head", MIGRATE_EXT_RETRIES="5")
    assert done.code == 1
    assert "Repeating" not in done.said
    assert "r0002 ended its transaction by itself: 'current' tells what is comm" in done.said
    assert "Committed:" not in done.said


CAUGHT = """\
    try:
        op.execute("SELECT 1/0")
    except sa.exc.DBAPIError:
        op.execute("ROLLBACK")
    op.execute("INSERT INTO gate VALUES (1)")
    op.create_table("t2", sa.Column("id", sa.Integer), sa.Column("a", sa.Integer))
    op.execute("INSERT INTO ran VALUES (2)")"""


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2", "asyncpg"])
def test_a_migration_that_rolls_back_keeps_the_lock(
    tmp_path: Path, database_url: str, driver: str
) -> None:
    """Of a transaction that has failed: no question can be asked in it."""
    url = with_driver(database_url, driver)
    body = {2: CAUGHT}
    project = RecordingProject(tmp_path / "p", url, way=DIRECT, mode="each", count=3, body=body)
    the_second_waits(project)


POOL = """\
import asyncio, os, sqlalchemy as sa
from alembic import context
from sqlalchemy.ext.asyncio import create_async_engine

def migrate(connection):
    context.configure(connection=connection, transaction_per_migration={each})
    try:
        with context.begin_transaction():
            context.run_migrations()
    except BaseException as error:
        print("failed with", type(error).__name__)

def look(connection):
    print("locks in the pool:", connection.execute(sa.text(
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()"
    )).scalar())

async def work():
    engine = create_async_engine(url, pool_size=1)
    for step in migrate, look:
        async with engine.connect() as connection:
            await connection.run_sync(step)

url = sa.make_url(os.environ["DATABASE_URL"])
if url.get_dialect().is_async:
    asyncio.run(work())
else:
    engine = sa.create_engine(url, pool_size=1)
    for step in migrate, look:
        with engine.connect() as connection:
            step(connection)
"""


@pytest.mark.parametrize("mode", ["one", "each"])
@pytest.mark.parametrize("driver", ["psycopg", "psycopg2", "asyncpg", "psycopg_async"])
def test_a_migration_that_commits_leaves_no_lock_in_the_pool(
    tmp_path: Path, database_url: str, driver: str, mode: str
) -> None:
    """However the run ends, and in whatever state the transaction is then; and it is told."""
    url = with_driver(database_url, driver)
    commit = '    op.execute("COMMIT")\n'
    begin = '    op.execute("BEGIN")\n' if driver in ("psycopg2", "asyncpg") else ""
    kill = "    import os, signal\n    os.kill(os.getpid(), signal.SIGTERM)\n"
    ran = '    op.execute("INSERT INTO ran VALUES (2)")'
    table = '    op.create_table("t2", sa.Column("id", sa.Integer))\n'

    def run(name: str, body: dict[int, str]) -> str:
        project = RecordingProject(tmp_path / name, url, mode=mode, count=3, body=body)
        (project.folder / "env.py").write_text(POOL.format(each=mode == "each"))
        done = project.run("upgrade", f"r000{max(body)}")
        assert done.code == 0, done.said
        assert "locks in the pool: 0" in done.said, (name, done.said)
        assert project.state() == 2
        return done.said

    assert "failed" not in run("well", {2: table + commit + ran})
    for name, body, error in (
        ("Python", commit + "    raise RuntimeError", "RuntimeError"),
        ("by itself", commit + "    op.execute('SELECT 1/0')", "DataError"),
        ("in a transaction", commit + begin + "    op.execute('SELECT 1/0')", "DataError"),
        ("killed", commit + begin + kill + "    op.execute('SELECT 1')", "SystemExit"),
        ("interrupted", commit + "    raise KeyboardInterrupt", "KeyboardInterrupt"),
    ):
        said = run(name, {3: body})
        error = "DBAPIError" if driver == "asyncpg" and error == "DataError" else error
        assert f"failed with {error}" in said, (name, said)
        assert "r0003 was left half done: what it did in and before its" in said, (name, said)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("driver", ["psycopg", "psycopg2", "psycopg_async"])
def test_a_run_that_is_stopped_before_its_commit_leaves_no_lock_in_the_pool(
    tmp_path: Path, database_url: str, driver: str, number: signal.Signals
) -> None:
    """The session has taken it by then."""
    url = with_driver(database_url, driver)
    project = RecordingProject(tmp_path / "p", url, mode="each", count=4)
    (project.folder / "env.py").write_text(POOL.format(each=True))
    started: list[Command] = []

    def stop() -> None:
        started[0].send(number)
        time.sleep(0.3)  # an event loop looks at a signal when it is next idle

    proxy = Proxy(
        make_url(url).port or 5432,
        before=rb"SELECT 1 WHERE pg_catalog.pg_try_advisory_lock",
        number=2,
        then=stop,
    )
    started.append(project.start("upgrade", "head", url=with_port(url, proxy.port)))
    done = started[0].wait()
    proxy.close()
    assert proxy.cut
    assert "failed with" in done.said
    assert "locks in the pool: 0" in done.said, done.said
    assert b"own a lock" not in proxy.answered
    assert project.state() == 1


def test_commands_from_a_program_lock_as_well(tmp_path: Path, database_url: str) -> None:
    """Also those that give no destination to Alembic."""
    project = RecordingProject(tmp_path / "project", database_url, count=2)
    (project.folder / "env.py").write_text("")
    program = f"""
import os, sqlalchemy as sa
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
script = ScriptDirectory.from_config(Config({str(project.folder / "alembic.ini")!r}))
engine = sa.create_engine(os.environ["DATABASE_URL"])
with engine.connect() as connection:
    context = MigrationContext.configure(
        connection, opts={{"fn": lambda heads, _: script._upgrade_revs("head", heads),
                           "script": script}})
    from alembic.operations import Operations
    with Operations.context(context), context.begin_transaction():
        context.run_migrations()
"""
    (project.folder / "env.py").write_text(program)
    with held(project):
        command = project.start("current")
        deadline = time.monotonic() + 30
        while "Waiting for another run" not in command.text():
            assert time.monotonic() < deadline and not command.poll(), command.text()
            time.sleep(0.01)
    assert command.wait().code == 0, command.said
    assert project.state() == 2


def test_other_databases_have_no_lock_and_it_is_said_once(tmp_path: Path) -> None:
    project = RecordingProject(tmp_path / "project", f"sqlite:///{tmp_path}/x.db", count=3)
    done = project.run("upgrade", "head")
    assert done.code == 0, done.said
    assert done.said.count("No lock against other runs on sqlite.") == 1
    assert "No lock" not in project.run("current").said


# --- a pooler -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pooler_port(server_url: Any) -> Iterator[int]:
    if find_pooler() is None:
        pytest.skip(
            "LEFT OUT: there is no pgbouncer here; Debian, Ubuntu: apt-get install pgbouncer"
        )
    url = server_url.render_as_string(hide_password=False)
    with run_pooler(url) as port:
        yield port


@pytest.mark.parametrize(
    ("way", "driver", "mode"),
    [(ALEMBIC, "psycopg", "one"), (ALEMBIC, "psycopg2", "each"), (DIRECT, "psycopg", "each")],
)
def test_behind_a_pooler_each_migration_runs_once(
    tmp_path: Path, database_url: str, pooler_port: int, way: str, driver: str, mode: str
) -> None:
    project = RecordingProject(tmp_path / "project", database_url, way=way, mode=mode, count=12)
    url = with_driver(with_port(database_url, pooler_port), driver)
    each_ran_once(project, all_at_once(project, url=url))


def test_behind_a_pooler_stamp_waits_too(
    tmp_path: Path, database_url: str, pooler_port: int
) -> None:
    project = RecordingProject(tmp_path / "project", database_url, way=DIRECT, count=2)
    url = with_port(database_url, pooler_port)
    with held(project):
        done = project.run("stamp", "head", "--lock-timeout=0.2", url=url)
        assert done.code == 255, done.said
    assert project.run("stamp", "head", url=url).code == 0
    assert no_lock_is_left(project)


@pytest.mark.parametrize("way", WAYS)
def test_behind_a_pooler_autocommit_blocks_need_the_servers_own_url(
    tmp_path: Path, database_url: str, pooler_port: int, way: str
) -> None:
    project = RecordingProject(
        tmp_path / "project", database_url, way=way, mode="autocommit", count=12
    )
    url = with_port(database_url, pooler_port)
    done = project.run("upgrade", "head", url=url)
    assert done.code == 255
    assert "an autocommit block behind a pooler" in done.said
    assert project.state() == 9
    if way == DIRECT:
        done = project.run("upgrade", "head", url=url, DIRECT_DATABASE_URL=database_url)
    else:
        done = project.run("upgrade", "head", url=database_url)
    assert done.code == 0, done.said
    assert project.state() == 12


def test_behind_a_pooler_a_migration_that_commits_is_refused(
    tmp_path: Path, database_url: str, pooler_port: int
) -> None:
    body = {2: '    op.execute("COMMIT")'}
    project = RecordingProject(tmp_path / "project", database_url, way=DIRECT, count=2, body=body)
    url = with_port(database_url, pooler_port)
    done = project.run("upgrade", "head", url=url)
    assert done.code == 255
    assert "a COMMIT of its own behind a pooler that shares sessions: no lock" in done.said
    assert project.state() == 0
    assert project.run("upgrade", "head", "--no-lock", url=url).code == 0


@pytest.mark.parametrize("commit", ["execute(sa.text('COMMIT'))", "commit()"])
def test_a_pooler_is_recognised_in_a_transaction_that_is_open_already(
    tmp_path: Path, database_url: str, pooler_port: int, commit: str
) -> None:
    """Else a session's lock would stay in one that is soon somebody else's."""
    body = {2: f"    op.get_bind().{commit}"}
    project = environment(
        RecordingProject(tmp_path / "project", database_url, count=2, body=body),
        **ENVIRONMENTS["a statement before configure"],
    )
    done = project.run("upgrade", "head", url=with_port(database_url, pooler_port))
    assert "a COMMIT of its own behind a pooler that shares sessions" in done.said, done.said
    assert project.state() == 0
    assert no_lock_is_left(project)


def test_the_setting_pooler_makes_a_run_treat_the_server_as_a_pooler(
    tmp_path: Path, database_url: str
) -> None:
    """One that hands the server's process id on would not be recognised."""
    project = RecordingProject(tmp_path / "project", database_url, mode="autocommit", count=12)
    done = project.run("upgrade", "head", MIGRATE_EXT_POOLER="transaction")
    assert done.code == 255
    assert "an autocommit block behind a pooler" in done.said


def test_the_setting_pooler_turns_the_check_for_a_pooler_off(
    tmp_path: Path, database_url: str, pooler_port: int
) -> None:
    """A pooler in session mode shares nothing, but gives a process id of its own."""
    project = RecordingProject(tmp_path / "project", database_url, mode="autocommit", count=12)
    with run_pooler(database_url, mode="session", size=20) as port:
        url = with_port(database_url, port)
        done = project.run("upgrade", "head", url=url, MIGRATE_EXT_POOLER="none")
    assert done.code == 0, done.said
    assert project.state() == 12


# --- version tables that are none -----------------------------------------------------------------

BAD_TABLES: dict[str, tuple[str, Callable[[str], bool]]] = {
    "something else": (
        "CREATE TABLE alembic_version (id integer)",
        lambda said: "it has no version_num" in said,
    ),
    "unknown": (
        "CREATE TABLE alembic_version (version_num varchar(32)); "
        "INSERT INTO alembic_version VALUES ('nosuch')",
        lambda said: "Can't locate revision identified by 'nosuch'" in said,
    ),
    "over-long": (
        "CREATE TABLE alembic_version (version_num text); "
        f"INSERT INTO alembic_version VALUES ('{'x' * 5000}')",
        lambda said: "Can't locate revision identified by 'xxx" in said,
    ),
}


@pytest.mark.parametrize("case", BAD_TABLES)
def test_a_relation_with_the_name_of_the_version_table_is_left_alone(
    tmp_path: Path, database_url: str, case: str
) -> None:
    sql, explains = BAD_TABLES[case]
    with psycopg.connect(libpq_url(database_url), autocommit=True) as connection:
        connection.execute(sql)
        before = connection.execute("TABLE alembic_version").fetchall()
        for way in WAYS:
            project = RecordingProject(tmp_path / way, database_url, way=way, count=2)
            for command in ("upgrade", "head"), ("downgrade", "base"), ("stamp", "r0002"):
                done = project.run(*command)
                assert done.code == 255, (way, command, done.said)
                assert explains(done.said), (way, command, done.said)
                assert "Traceback" not in done.said, (way, command, done.said)
            assert connection.execute("TABLE alembic_version").fetchall() == before


def test_another_schema_first_in_the_path_is_where_the_table_goes(
    tmp_path: Path, database_url: str
) -> None:
    """As under Alembic; and the lock is that table's."""
    with psycopg.connect(libpq_url(database_url), autocommit=True) as connection:
        connection.execute("CREATE SCHEMA app")
        name = connection.info.dbname
        connection.execute(f'ALTER DATABASE "{name}" SET search_path = app, public')
    project = RecordingProject(tmp_path / "project", database_url, way=DIRECT, count=2)
    with held(project):
        assert project.run("upgrade", "head", "--lock-timeout=0.1").code == 255
    assert project.run("upgrade", "head").code == 0
    with project.connect() as connection:
        rows = connection.execute("TABLE app.alembic_version").fetchall()
        assert rows == [("r0002",)]
