"""A run that is stopped in the middle: it says what was committed and what was not, and the next one goes on."""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import signal
import subprocess
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from cutting_proxy import COMMIT, Proxy
from database_urls import libpq_url, with_driver, with_port
from forked_command import Command, check_report, wait_until
from recording_project import ALL_WAYS, CLASSIC, THIN, WAYS, RecordingProject
from sqlalchemy.engine import make_url

from migrate_ext.testing import embedded

ALEMBIC, DIRECT = WAYS
SLEEP = "    op.execute('SELECT pg_sleep(60)')"
UNIQUE = """\
    with op.get_context().autocommit_block():
        op.create_index("single", "t1", ["a"], unique=True, postgresql_concurrently=True)"""


def sleeps(connection: psycopg.Connection[tuple[object, ...]], seconds: int = 60) -> bool:
    found = connection.execute(
        f"SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%%pg_sleep({seconds})%%' "
        "AND datname = current_database() AND state = 'active' AND pid <> pg_backend_pid()"
    ).fetchone()
    return found != (0,)


@pytest.mark.parametrize(
    ("way", "driver"),
    [(way, "psycopg") for way in ALL_WAYS] + [(DIRECT, "asyncpg"), (DIRECT, "psycopg_async")],
)
def test_sigterm_says_what_was_committed_and_leaves_nothing_running(
    tmp_path: Path, database_url: str, way: str, driver: str
) -> None:
    url = with_driver(database_url, driver)
    project = RecordingProject(tmp_path / "p", url, way=way, mode="each", count=4, body={3: SLEEP})
    with project.connect() as connection:
        command = project.start("upgrade", "head")
        wait_until(lambda: sleeps(connection), command)
        command.send(signal.SIGTERM)
        command.wait(20)
        if driver == "asyncpg":  # early SQLAlchemy closes its line before it has cancelled
            wait_until(lambda: not sleeps(connection))
        assert not sleeps(connection)
    assert command.code == 143, command.said
    assert "Terminated by SIGTERM: the open transaction is rolled back." in command.said
    assert "Committed: r0001, r0002. All else was rolled back; the same command" in command.said
    assert project.state() == 2


@pytest.mark.parametrize("way", ALL_WAYS)
def test_the_server_cancels_the_statement_of_a_killed_run(
    tmp_path: Path, database_url: str, way: str
) -> None:
    project = RecordingProject(tmp_path / "p", database_url, way=way, count=1, body={1: SLEEP})
    with project.connect() as connection:
        if connection.info.server_version < 140000:
            pytest.skip("client_connection_check_interval came with PostgreSQL 14")
        command = project.start("upgrade", "head")
        wait_until(lambda: sleeps(connection), command)
        command.send(signal.SIGKILL)
        command.wait()
        wait_until(lambda: not sleeps(connection))  # the statement does not go on without a client
    assert project.state() == 0


@pytest.mark.parametrize("way", ALL_WAYS)
def test_what_an_autocommit_block_left_is_named_and_can_be_dropped(
    tmp_path: Path, database_url: str, way: str
) -> None:
    project = RecordingProject(tmp_path / "p", database_url, way=way, count=3, body={2: UNIQUE})
    assert project.run("upgrade", "r0001").code == 0
    with project.connect() as connection:
        connection.execute("INSERT INTO t1 (a) VALUES ('x'), ('x')")
        done = project.run("upgrade", "head")
        assert done.code == 1
        assert "r0002 was left half done: what it did in and before its autocommit" in done.said
        connection.execute("DELETE FROM t1")
        for _ in range(2):
            done = project.run("upgrade", "head")
            named = "r0002 was interrupted before: it left the INVALID index public.single of t1"
            assert named + ". Nothing was run. To have it dropped first: --repair" in done.said
            assert "or MIGRATE_EXT_REPAIR=true under alembic" in done.said
            assert done.code == 255
            assert connection.execute("TABLE alembic_version").fetchall() == [("r0001",)]
        if way != ALEMBIC:
            done = project.run("upgrade", "head", "--repair")
        else:
            done = project.run("upgrade", "head", MIGRATE_EXT_REPAIR="true")
        assert done.code == 0, done.said
        assert "Dropped the INVALID index public.single" in done.said
        valid = connection.execute(
            "SELECT indisvalid FROM pg_index WHERE indexrelid = 'public.single'::regclass"
        ).fetchone()
        assert valid == (True,)
        assert connection.execute("TABLE alembic_version").fetchall() == [("r0003",)]


AGAIN = UNIQUE.replace("True)", "True, if_not_exists=True)")
DROPS = UNIQUE.replace(
    "        op.create", "        op.drop_index('single', if_exists=True)\n        op.create"
)


@pytest.mark.parametrize(
    ("way", "driver"),
    [*((way, "psycopg") for way in ALL_WAYS), (DIRECT, "asyncpg"), (ALEMBIC, "psycopg2")],
)
def test_a_run_never_goes_on_over_an_index_that_is_not_valid(
    tmp_path: Path, database_url: str, way: str, driver: str
) -> None:
    url = with_driver(database_url, driver)
    project = RecordingProject(tmp_path / "p", url, way=way, count=3, body={2: AGAIN})
    with project.connect() as connection:
        connection.execute("CREATE SCHEMA other")  # what is invalid there is not of this run
        connection.execute("CREATE TABLE other.t AS SELECT 1 AS a FROM generate_series(1, 2)")
        with pytest.raises(psycopg.errors.UniqueViolation):
            connection.execute("CREATE UNIQUE INDEX CONCURRENTLY single ON other.t (a)")
        assert project.run("upgrade", "r0001").code == 0
        connection.execute("INSERT INTO t1 (a) VALUES ('x'), ('x')")
        assert project.run("upgrade", "head").code == 1
        done = project.run("upgrade", "head")
        assert done.code == 255
        assert "it left the INVALID index public.single of t1. Nothing was run." in done.said
        assert connection.execute("TABLE alembic_version").fetchall() == [("r0001",)]
        connection.execute("DELETE FROM t1")
        done = project.run("upgrade", "head", MIGRATE_EXT_REPAIR="true", MIGRATE_EXT_LOCK="false")
        assert done.code == 0, done.said
        assert connection.execute("TABLE alembic_version").fetchall() == [("r0003",)]


@pytest.mark.parametrize("way", ALL_WAYS)
def test_a_migration_that_drops_the_index_itself_may_go_on(
    tmp_path: Path, database_url: str, way: str
) -> None:
    project = RecordingProject(tmp_path / "p", database_url, way=way, count=3, body={2: DROPS})
    assert project.run("upgrade", "r0001").code == 0
    with project.connect() as connection:
        connection.execute("INSERT INTO t1 (a) VALUES ('x'), ('x')")
        assert project.run("upgrade", "head").code == 1
        connection.execute("DELETE FROM t1")
        done = project.run("upgrade", "head")
        assert done.code == 0, done.said
        assert "it left the INVALID index public.single of t1; --repair drops it" in done.said
        assert connection.execute("TABLE alembic_version").fetchall() == [("r0003",)]


OWN = "    op.execute('COMMIT')"
FAILS = "    op.execute('SELECT 1/0')"
BLOCK = "    with op.get_context().autocommit_block():\n        op.execute('SELECT 1')"


@pytest.mark.parametrize("own", [OWN, BLOCK, "    op.execute('-- x\\n END')"])
@pytest.mark.parametrize("driver", ["psycopg", "psycopg2", "asyncpg"])
def test_what_a_migration_committed_itself_is_told(
    tmp_path: Path, database_url: str, driver: str, own: str
) -> None:
    """Also where a later one fails, in the transaction that its version row was in."""
    url = with_driver(database_url, driver)
    half = "was left half done: what it did in and before its autocommit block, or its own COMMIT,"
    way = DIRECT if driver == "asyncpg" else ALEMBIC
    project = RecordingProject(tmp_path / "a", url, way=way, count=3, body={2: f"{own}\n{FAILS}"})
    done = project.run("upgrade", "head")
    assert f"Committed: r0001. r0002 {half}" in done.said, done.said
    assert project.state() == 1
    project = RecordingProject(tmp_path / "b", url, way=way, count=4, body={2: own, 4: FAILS})
    done = project.run("upgrade", "head")
    with project.connect() as connection:
        at = connection.execute("TABLE alembic_version").fetchone()
    if driver == "psycopg" or own == BLOCK:  # whose BEGIN comes by itself
        assert at == ("r0001",)
        assert f"r0002 {half}" in done.said, done.said
    else:
        assert at == ("r0003",)
        assert "Committed: r0002, r0003. All else" in done.said, done.said


def test_a_run_is_not_repeated_after_a_migration_that_was_left_half_done(
    tmp_path: Path, database_url: str
) -> None:
    """Though another migration failed with what may be repeated: its transaction had the version row."""
    fails = "    op.execute(\"DO $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '40001'; END $$\")"
    settings = "migrate_ext_retries = 2\n"
    url = with_driver(database_url, "psycopg")
    project = RecordingProject(
        tmp_path / "p", url, count=3, body={2: OWN, 3: fails}, settings=settings
    )
    done = project.run("upgrade", "head")
    assert done.code == 1
    assert "Repeating" not in done.said, done.said
    assert "Committed: r0001. r0002 was left half done" in done.said


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2"])
def test_a_string_that_failed_around_its_commit_is_in_doubt(
    tmp_path: Path, database_url: str, driver: str
) -> None:
    url = with_driver(database_url, driver)
    before, behind = "SELECT 1/0; COMMIT", "SELECT 1; COMMIT; SELECT 1/0"
    for at, (text, found) in enumerate(
        (
            (before, "it was not committed; the database is at base"),
            (behind, "the database is at r0001. What r0002 did before its"),
        )
    ):
        body = {2: f"    op.execute({text!r})"}
        project = RecordingProject(tmp_path / str(at), url, count=2, body=body)
        done = project.run("upgrade", "head")
        assert done.code == 1
        assert "A COMMIT was among the statements of the string that failed" in done.said
        assert found in done.said, done.said
        assert "division by zero" in done.said
        assert project.state() == at


# --- a COMMIT that nobody answered ----------------------------------------------------------------


@pytest.mark.parametrize("sent", [True, False], ids=["sent", "not sent"])
@pytest.mark.parametrize(("mode", "number"), [("one", 1), ("each", 3)])
@pytest.mark.parametrize(
    ("way", "driver"),
    [
        *((ALEMBIC, driver) for driver in ("psycopg", "psycopg2")),
        *((DIRECT, driver) for driver in ("psycopg", "psycopg2", "asyncpg")),
        ("compiled", "psycopg"),
    ],
)
def test_a_commit_whose_answer_is_lost_is_reported_as_in_doubt_and_looked_up(
    tmp_path: Path, database_url: str, way: str, driver: str, mode: str, number: int, sent: bool
) -> None:
    url = with_driver(database_url, driver)
    project = RecordingProject(tmp_path / "p", url, way=way, mode=mode, count=4)
    proxy = Proxy(
        make_url(url).port or 5432, number=number, **{"behind" if sent else "before": COMMIT}
    )
    done = project.run("upgrade", "head", url=with_port(url, proxy.port))
    proxy.close()
    assert proxy.cut
    assert done.code == 1, done.said
    assert "COMMIT was on its way, so its outcome is in doubt." in done.said
    at = project.state()
    check_report(done, 0, at)
    if mode == "one":
        assert at == (4 if sent else 0)
    found = "it was committed" if sent else "it was not committed"
    assert f"{found}; the database is at {f'r{at:04}' if at else 'base'}" in done.said
    if way != ALEMBIC:
        assert "Traceback" not in done.said
        assert "cannot connect" not in done.said
        assert "Nothing of the open transaction was kept" not in done.said
    assert project.run("upgrade", "head").code == 0
    assert project.state() == 4


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(("mode", "nth", "at"), [("one", 1, 4), ("each", 3, None)])
@pytest.mark.parametrize(
    ("way", "driver"),
    [
        (ALEMBIC, "psycopg"),
        *((DIRECT, driver) for driver in ("psycopg", "psycopg2", "asyncpg", "psycopg_async")),
        ("compiled", "psycopg"),
    ],
)
def test_a_commit_that_a_signal_interrupts_is_looked_up(
    tmp_path: Path,
    database_url: str,
    way: str,
    driver: str,
    mode: str,
    nth: int,
    at: int | None,
    number: signal.Signals,
) -> None:
    url = with_driver(database_url, driver)
    project = RecordingProject(tmp_path / "p", url, way=way, mode=mode, count=4)
    started: list[Command] = []
    proxy = Proxy(
        make_url(url).port or 5432,
        before=COMMIT,
        number=nth,
        then=lambda: started[0].send(number),
    )
    started.append(project.start("upgrade", "head", url=with_port(url, proxy.port)))
    done = started[0].wait()
    proxy.close()
    assert proxy.cut
    assert done.code == 128 + number, done.said
    at = at or (2 if way == "compiled" else 3)  # which makes the version table in the first
    assert "Interrupted while COMMIT was on its way, so its outcome is in doubt." in done.said
    assert f"it was committed; the database is at r{at:04}" in done.said, done.said
    assert "rolled back; 'current'" not in done.said
    assert b"own a lock" not in proxy.answered
    assert project.state() == at
    assert project.run("upgrade", "head", MIGRATE_EXT_LOCK_TIMEOUT="0").code == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("driver", ["psycopg", "psycopg2"])
def test_a_signal_between_the_run_and_its_commit_leaves_nothing(
    tmp_path: Path, database_url: str, driver: str, number: signal.Signals
) -> None:
    url = with_driver(database_url, driver)
    project = RecordingProject(tmp_path / "p", url, count=2)
    env = project.folder / "env.py"
    text = env.read_text()
    run = "context.run_migrations()\n"
    kill = f"{run}        os.kill(os.getpid(), {int(number)})\n"
    env.write_text(text.replace(run, kill))
    proxy = Proxy(make_url(url).port or 5432)
    done = project.run("upgrade", "head", url=with_port(url, proxy.port))
    proxy.close()
    assert done.code == 128 + number, done.said
    assert "committed" not in done.said.lower().replace("_commit", ""), done.said
    assert b"own a lock" not in proxy.answered
    assert project.state() == 0
    env.write_text(text)
    assert project.run("upgrade", "head").code == 0


@pytest.mark.parametrize("sent", [True, False], ids=["sent", "not sent"])
def test_a_stamp_whose_answer_is_lost_is_looked_up(
    tmp_path: Path, database_url: str, sent: bool
) -> None:
    project = RecordingProject(tmp_path / "p", database_url, way=DIRECT, count=2)
    port = make_url(database_url).port or 5432
    proxy = Proxy(port, **{"behind" if sent else "before": COMMIT})
    done = project.run("stamp", "head", url=with_port(database_url, proxy.port))
    proxy.close()
    assert proxy.cut
    assert done.code == 1, done.said
    found = "it was committed; the database is at r0002" if sent else "it was not committed"
    assert found in done.said, done.said
    assert "cannot connect" not in done.said
    with project.connect() as connection:
        assert connection.execute("SELECT to_regclass('alembic_version') IS NULL").fetchone() == (
            not sent,
        )


@pytest.mark.parametrize("way", ALL_WAYS)
def test_a_commit_that_the_server_refuses_is_not_told_as_committed(
    tmp_path: Path, database_url: str, way: str
) -> None:
    """What is deferred fails when it is committed."""
    body = """\
    op.execute("CREATE TABLE later (n int UNIQUE DEFERRABLE INITIALLY DEFERRED)")
    op.execute("INSERT INTO later VALUES (1), (1)")"""
    project = RecordingProject(
        tmp_path / "p", database_url, way=way, mode="each", count=4, body={3: body}
    )
    done = project.run("upgrade", "head")
    assert done.code == 1
    assert "duplicate key value violates unique constraint" in done.said
    assert "Committed: r0001, r0002. All else was rolled back" in done.said, done.said
    assert "in doubt" not in done.said
    assert project.state() == 2


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2"])
def test_a_connection_lost_between_two_migrations_is_not_reported_as_an_unreachable_server(
    tmp_path: Path, database_url: str, driver: str
) -> None:
    url = with_driver(database_url, driver)
    project = RecordingProject(tmp_path / "p", url, way=DIRECT, mode="each", count=4)
    port = make_url(url).port or 5432
    take = rb"pg_try_advisory_xact_lock\(-?\d+\) THEN"  # the first statement of each transaction
    proxy = Proxy(port, before=take, number=3)
    done = project.run("upgrade", "head", url=with_port(url, proxy.port))
    proxy.close()
    assert proxy.cut
    assert done.code == 1
    assert "Traceback" not in done.said, done.said
    assert "cannot connect" not in done.said, done.said
    assert re.search("FAILED: .*server closed the connection", done.said)
    check_report(done, 0, project.state())


# --- statement limits -----------------------------------------------------------------------------

LIMITS = "migrate_ext_ddl_lock_timeout = 100ms\n"
ALTER = "    op.execute('ALTER TABLE t1 ADD COLUMN b text')\n    op.execute('INSERT INTO ran VALUES (2)')"


@pytest.fixture(params=["one", "each"])
def mode(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("way", WAYS)
def test_a_table_in_use_is_tried_again_within_its_limit(
    tmp_path: Path, database_url: str, way: str, mode: str
) -> None:
    for settings, code in ((LIMITS, 1), (LIMITS + "migrate_ext_retries = 40\n", 0)):
        folder = tmp_path / str(code)
        project = RecordingProject(
            folder, database_url, way=way, mode=mode, count=3, body={2: ALTER}, settings=settings
        )
        assert project.run("upgrade", "r0001").code == 0
        with project.connect() as holder:
            holder.execute("BEGIN; SELECT * FROM t1")
            command = project.start("upgrade", "head")
            if code == 1:
                assert command.wait().code == 1
                assert "canceling statement due to lock timeout" in command.said
                assert "Repeating" not in command.said
            else:
                wait_until(lambda c=command: "Repeating, 2 of 40" in c.text(), command)
                holder.execute("COMMIT")
                assert command.wait().code == 0, command.said
        if code == 1:
            assert project.run("downgrade", "base").code == 0
    with project.connect() as connection:
        assert connection.execute("TABLE alembic_version").fetchall() == [("r0003",)]
        assert connection.execute("SELECT n FROM ran ORDER BY n").fetchall() == [(1,), (2,), (3,)]


def test_a_migration_that_has_committed_is_not_repeated(tmp_path: Path, database_url: str) -> None:
    body = UNIQUE + "\n    op.execute('ALTER TABLE busy ADD COLUMN b text')"
    settings = LIMITS + "migrate_ext_retries = 40\n"
    project = RecordingProject(
        tmp_path / "p", database_url, count=2, body={2: body}, settings=settings
    )
    assert project.run("upgrade", "r0001").code == 0
    with project.connect() as holder:
        holder.execute("CREATE TABLE busy ()")
        holder.execute("BEGIN; SELECT * FROM busy")
        done = project.run("upgrade", "head")
    assert done.code == 1
    assert "canceling statement due to lock timeout" in done.said
    assert "Repeating" not in done.said
    assert "r0002 was left half done" in done.said


def test_limits_do_not_outlive_the_run(tmp_path: Path, database_url: str) -> None:
    """Nor the transaction: a pooled connection must not keep them."""
    settings = LIMITS + "migrate_ext_statement_timeout = 5min\n"
    shown = (
        "    op.execute(\"DO $$ BEGIN RAISE EXCEPTION 'limit %', current_setting('{}'); END $$\")"
    )
    for name, value in (("lock_timeout", "100ms"), ("statement_timeout", "5min")):
        project = RecordingProject(
            tmp_path / name, database_url, count=1, body={1: shown.format(name)}, settings=settings
        )
        (project.folder / "env.py").write_text(
            (project.folder / "env.py")
            .read_text()
            .replace("with engine.connect() as connection:", "connection = engine.connect()\ntry:")
            + "finally:\n    from sqlalchemy import text\n    connection.rollback()\n"
            f"    print('afterwards', connection.execute(text('SHOW {name}')).scalar())\n"
        )
        done = project.run("upgrade", "head")
        assert f"limit {value}" in done.said, done.said
        assert "afterwards 0" in done.said, done.said


# --- a line that goes silent ------------------------------------------------------------------------


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2", "psycopg_async"])
def test_each_side_notices_that_the_other_has_gone_without_a_word(
    tmp_path: Path, database_url: str, driver: str
) -> None:
    """Keep-alives are on, unless the URL has its own; and others see who we are."""
    body = """\
    raw = op.get_bind().connection.driver_connection
    found = raw.info.dsn_parameters if hasattr(raw, "get_backend_pid") else raw.info.get_parameters()
    print([item for item in found.items() if item[0][:4] in ("keep", "tcp_", "fall")])
    show = lambda: [op.get_bind().exec_driver_sql("SHOW tcp_keepalives_" + name).scalar()
                    for name in ("idle", "interval", "count")]
    print("the server asks", show())
    with op.get_context().autocommit_block():
        print("between transactions", show())
    op.execute("INSERT INTO ran VALUES (1)")"""
    url = with_driver(database_url, driver) + "?keepalives_idle=7"
    project = RecordingProject(tmp_path / "p", url, way=DIRECT, count=1, body={1: body})
    done = project.run("upgrade", "head")
    assert done.code == 0, done.said
    for said in ("keepalives_idle', '7'", "tcp_user_timeout', '60000'", "_name', 'migrate_ext'"):
        assert said in done.said, done.said
    for when in ("the server asks", "between transactions"):
        assert f"{when} ['30', '10', '3']" in done.said, done.said


def _line(state: str) -> None:
    subprocess.run(["ip", "link", "set", "lo", state], check=True)


def _on_a_network_of_its_own(test: Callable[[], None]) -> None:
    """Call it in a fork whose loopback device is no other's; skip where that is not allowed."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            if not shutil.which("ip") or ctypes.CDLL(None).unshare(0x40000000):  # CLONE_NEWNET
                os._exit(77)
            _line("up")
            test()
            code = 0
        except BaseException:
            traceback.print_exc()
        os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if code == 77:
        pytest.skip("LEFT OUT: a network namespace needs Linux, root and the program `ip`")
    assert code == 0


@pytest.mark.parametrize(
    ("way", "mode"), [(ALEMBIC, "one"), (DIRECT, "each"), ("compiled", "each")]
)
def test_a_network_that_drops_all_packets_ends_the_run_and_frees_the_lock(
    tmp_path: Path, way: str, mode: str
) -> None:
    """Nothing is closed: no packet arrives any more. Who else waits for the lock may have it when the server has noticed."""
    ours = "?tcp_user_timeout=1000&keepalives_idle=1&keepalives_interval=1&keepalives_count=1"
    the_servers = "-ctcp_keepalives_idle=1 -ctcp_keepalives_interval=1 -ctcp_keepalives_count=1"
    body = """\
    op.create_table("t2", sa.Column("id", sa.Integer))
    op.execute("SELECT pg_sleep(3)")
    op.execute("INSERT INTO ran VALUES (2)")"""

    def test() -> None:
        with (
            embedded.temporary_server() as server,
            psycopg.connect(libpq_url(server.socket_url()), autocommit=True) as connection,
        ):
            url = server.url() + ours
            project = RecordingProject(
                tmp_path / "p", url, way=way, mode=mode, count=3, body={2: body}
            )
            command = project.start("upgrade", "head", PGOPTIONS=the_servers)
            wait_until(lambda: sleeps(connection, 3), command)
            _line("down")
            command.wait()
            _line("up")
            again = project.run("upgrade", "head")
            print(command.said, again.said)
            assert command.code == 1
            assert "could not receive data from server: Connection timed out" in command.said
            assert "invalid socket" not in command.said
            assert "Committed: r0001." in command.said or mode == "one"
            assert again.code == 0
            assert project.state() == 3

    _on_a_network_of_its_own(test)


# --- secrets --------------------------------------------------------------------------------------


@pytest.fixture
def failures(tmp_path: Path, database_url: str) -> Iterator[tuple[RecordingProject, str]]:
    project = RecordingProject(
        tmp_path / "p", database_url, way=DIRECT, count=2, body={2: "    op.execute('SELECT 1/0')"}
    )
    password = make_url(database_url).password
    if not password:
        pytest.skip("LEFT OUT: the server of TEST_DATABASE_URL has no password")
    yield project, password


def test_no_failure_prints_the_password(failures: tuple[RecordingProject, str]) -> None:
    project, password = failures
    url = make_url(project.url)
    outputs = []
    for way in WAYS:
        project.way = way
        env = THIN if way == DIRECT else CLASSIC
        (project.folder / "env.py").write_text(env.format(each=False))
        for broken in (
            url,
            url.set(port=1),
            url.set(database="nosuchdatabase"),
            url.set(username="nosuchuser"),
            url.set(host="nosuchhost.invalid"),
            url.update_query_dict({"sslmode": "verify-full"}),
            url.update_query_dict({"nosuchoption": "1"}),
        ):
            text = broken.render_as_string(hide_password=False)
            for command in (
                ("upgrade", "head"),
                ("--raiseerr", "upgrade", "head"),
                ("current", "-v"),
            ):
                if way == ALEMBIC and "--raiseerr" in command:
                    continue
                done = project.run(*command, url=text)
                assert done.code != 0 or command[0] == "current"
                outputs.append(done.said)
        for text in (f"postgresql://u:{password}@h:x/d", f"nonsense:{password}", f"//{password}@"):
            if way == DIRECT:
                outputs.append(project.run("upgrade", "head", url=text).said)
    (project.folder / "env.py").write_text(THIN.format(each=False))
    project.way = DIRECT
    stats = project.folder / "stats"
    for command in (
        ("doctor", "-v"),
        ("compile",),
        ("upgrade", "head", "--plan"),
        ("upgrade", "head"),
    ):
        outputs.append(project.run(*command, MIGRATE_EXT_STATS=str(stats)).said)
        outputs.append(stats.read_text())
    assert "SELECT 1/0" in outputs[-4]
    outputs.append((project.folder / "versions.plan").read_text())
    assert len(outputs) > 40
    assert [said for said in outputs if password in said] == []


@pytest.mark.parametrize("mode", ["require", "verify-ca", "verify-full"])
def test_sslmode_is_never_weakened(failures: tuple[RecordingProject, str], mode: str) -> None:
    """The embedded server has no TLS: whoever asks for it gets no connection, on none of our ways."""
    project, _ = failures
    url = make_url(project.url).update_query_dict({"sslmode": mode})
    for command in ("current",), ("upgrade", "head"), ("stamp", "head"):
        done = project.run(*command, url=url.render_as_string(hide_password=False))
        assert done.code == 1, done.said
        assert "cannot connect to the database" in done.said
    assert project.state() == 0
