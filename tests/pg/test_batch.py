"""Batches on a real server: transactions, errors, notices and cursors of a driver are as without pipeline mode."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import Any

import psycopg
import psycopg2
import pytest

from migrate_ext import _core
from migrate_ext._core import Session
from migrate_ext.errors import ConnectError, Declined, InternalError, ServerError
from migrate_ext.execution import libpq

DRIVERS: dict[str, Callable[[str], Any]] = {
    "psycopg": psycopg.connect,
    "psycopg2": psycopg2.connect,
}


def own(url: str) -> Session:
    return Session.connect(_core.parse_url(url), libpq.find())


def borrow(connection: object) -> Session:
    lent = libpq.of_driver(connection)
    assert lent is not None
    return Session.borrow(*lent, libpq.owner(connection))


@pytest.fixture(params=["psycopg", "psycopg2"])
def driver(request: pytest.FixtureRequest, database_url: str) -> Iterator[Any]:
    connection = DRIVERS[request.param](database_url)
    yield connection
    connection.close()


def begun(connection: Any) -> Session:
    """A driver's connection inside a transaction that the driver began."""
    connection.cursor().execute("SELECT 1")
    return borrow(connection)


def ask(connection: Any, sql: str) -> list[tuple[Any, ...]]:
    cursor = connection.cursor()
    cursor.execute(sql)
    rows: list[tuple[Any, ...]] = cursor.fetchall()
    return rows


def waits() -> int:
    return _core.counters()["waits"]


def test_ddl_of_a_batch_is_gone_after_the_drivers_rollback_and_there_after_its_commit(
    driver: Any,
) -> None:
    session = begun(driver)
    assert session.run_batch(["CREATE TABLE t (i int)", "INSERT INTO t VALUES (1), (2)"]) == [
        ("CREATE TABLE", -1),
        ("INSERT 0 2", 2),
    ]
    driver.rollback()
    assert ask(driver, "SELECT to_regclass('t')") == [(None,)]
    session.run_batch(["CREATE TABLE t (i int)", "INSERT INTO t VALUES (3)"])
    driver.commit()
    assert ask(driver, "SELECT i FROM t") == [(3,)]


def test_a_batch_outside_a_transaction_is_refused_and_nothing_is_sent(driver: Any) -> None:
    session = borrow(driver)
    with pytest.raises(ValueError, match="not in a transaction"):
        session.run_batch(["CREATE TABLE t (i int)"])
    assert ask(driver, "SELECT to_regclass('t')") == [(None,)]


def test_a_batch_in_a_failed_transaction_is_refused(driver: Any) -> None:
    session = begun(driver)
    with pytest.raises(ServerError):
        session.run_batch(["SELECT 1/0"])
    with pytest.raises(ValueError, match="not in a transaction"):
        session.run_batch(["SELECT 1"])
    driver.rollback()
    assert ask(driver, "SELECT 1") == [(1,)]


def test_the_drivers_cursor_works_between_batches(driver: Any) -> None:
    session = begun(driver)
    session.run_batch(["CREATE TABLE t (i int)"])
    for i in range(3):
        cursor = driver.cursor()
        cursor.execute("INSERT INTO t VALUES (%s)", (i,))
        session.run_batch([f"UPDATE t SET i = i + 10 WHERE i = {i}", "SELECT * FROM t"])
    assert sorted(ask(driver, "SELECT i FROM t")) == [(10,), (11,), (12,)]


@pytest.mark.parametrize("bad", [0, 1, 5, 9])
def test_the_error_names_the_statement_that_failed(driver: Any, bad: int) -> None:
    session = begun(driver)
    session.run_batch(["CREATE TABLE t (i int CONSTRAINT small CHECK (i < 100))"])
    statements = [f"INSERT INTO t VALUES ({i})" for i in range(10)]
    statements[bad] = "INSERT INTO t VALUES (100)"
    with pytest.raises(ServerError) as caught:
        session.run_batch(statements)
    error = caught.value
    assert (error.index, error.sqlstate) == (bad, "23514")
    assert error.fields[ord("n")] == "small"
    assert error.fields[ord("t")] == "t"
    assert error.fields[ord("s")] == "public"
    assert "small" in error.fields[ord("M")] and "(100)" in error.fields[ord("D")]
    assert error.partial == (("INSERT 0 1", 1),) * bad
    driver.rollback()
    assert ask(driver, "SELECT to_regclass('t')") == [(None,)]


def test_the_position_of_a_syntax_error_is_that_in_its_own_statement(driver: Any) -> None:
    session = begun(driver)
    with pytest.raises(ServerError) as caught:
        session.run_batch(["SELECT 1", "SELECT 'ä', FROM"])
    assert caught.value.fields[ord("P")] == "13"
    assert caught.value.index == 1


def test_percent_signs_and_backslashes_arrive_as_they_are(driver: Any) -> None:
    session = begun(driver)
    session.run_batch(
        ["CREATE TABLE t (a text DEFAULT '50% %s %% \\n')", "INSERT INTO t DEFAULT VALUES"]
    )
    assert ask(driver, "SELECT a FROM t") == [("50% %s %% \\n",)]


def test_twenty_thousand_statements_in_a_few_waits(driver: Any) -> None:
    session = begun(driver)
    session.run_batch(["CREATE TABLE t (i int)"])
    before = waits()
    results = session.run_batch([f"INSERT INTO t VALUES ({i})" for i in range(20_000)])
    assert len(results) == 20_000
    assert waits() - before <= 20
    assert ask(driver, "SELECT count(*), sum(i) FROM t") == [(20_000, 199_990_000)]


def test_full_buffers_on_both_sides_do_not_stop_a_batch(driver: Any) -> None:
    session = begun(driver)
    long = "x" * 5_000_000
    assert session.run_batch([f"SELECT '{long}'", f"SELECT '{long}'", "SELECT 1"])[2] == (
        "SELECT 1",
        1,
    )
    # Many small statements with large answers: the server stops reading until we read.
    assert len(session.run_batch(["SELECT repeat('y', 20000)"] * 2_000)) == 2_000


def rest_of(session: Session) -> list[tuple[str, int]]:
    """The results of all that waits, sent behind what is in flight."""
    results = session.send_rest()
    while session.pending:
        results += session.wait()
    return results


def test_what_waits_is_sent_behind_what_is_in_flight(driver: Any) -> None:
    session = begun(driver)
    texts = ["CREATE TABLE t (i int)", *(f"INSERT INTO t VALUES ({i})" for i in range(9))]
    before = _core.counters()["batches"]
    for sql in ["SELECT pg_sleep(0.3)", *texts]:
        assert session.submit(sql) == []  # the first one runs, the others wait
    results = rest_of(session)
    assert results == [("SELECT 1", 1), ("CREATE TABLE", -1), *[("INSERT 0 1", 1)] * 9]
    assert _core.counters()["batches"] - before == 1
    assert session.send_rest() == []
    assert ask(driver, "SELECT count(*) FROM t") == [(9,)]


def test_more_than_a_segment_behind_what_is_in_flight(driver: Any) -> None:
    session = begun(driver)
    assert session.submit("SELECT pg_sleep(0.3)") == []
    for _ in range(3):
        assert session.submit(f"SELECT '{'x' * 3_000_000}'") == []
    assert len(rest_of(session)) == 4


def test_after_a_failure_nothing_that_was_sent_behind_it_has_run(driver: Any) -> None:
    cursor = driver.cursor()
    cursor.execute("CREATE SEQUENCE s")  # which keeps its number when the transaction fails
    driver.commit()
    session = begun(driver)
    for sql in (
        "SELECT 1",
        "DO $$ BEGIN PERFORM pg_sleep(0.3); RAISE 'no'; END $$",
        "SELECT nextval('s')",
        "SELECT nosuch",
    ):
        assert session.submit(sql) == [] or sql != "SELECT 1"
    with pytest.raises(ServerError, match="no") as caught:
        rest_of(session)
    assert caught.value.sqlstate == "P0001"
    driver.rollback()
    assert ask(driver, "SELECT is_called FROM s") == [(False,)]


def test_nothing_is_sent_behind_a_begin_that_is_in_flight(driver: Any) -> None:
    """If BEGIN failed, the statements behind its segment would commit by themselves."""
    session = borrow(driver)
    before = _core.counters()["batches"]
    assert session.submit("SELECT pg_sleep(0.3)", "BEGIN") == []
    assert session.submit("CREATE TABLE t ()") == []
    assert len(rest_of(session)) == 3
    assert _core.counters()["batches"] - before == 2


def test_strings_of_several_statements_and_empty_ones_run_in_their_place(driver: Any) -> None:
    session = begun(driver)
    assert session.run_batch(
        [
            "CREATE TABLE t (i int)",
            "INSERT INTO t VALUES (1); INSERT INTO t VALUES (2), (3)",
            "-- nothing",
            "",
            "UPDATE t SET i = 0",
        ]
    ) == [("CREATE TABLE", -1), ("INSERT 0 2", 2), ("", -1), ("", -1), ("UPDATE 3", 3)]


@pytest.mark.parametrize(
    "sql", ["COPY t FROM STDIN", "COPY t TO STDOUT", "SELECT 1; COPY t TO STDOUT"]
)
def test_copy_with_the_client_fails_and_does_not_hang(driver: Any, sql: str) -> None:
    session = begun(driver)
    session.run_batch(["CREATE TABLE t (i int)", "INSERT INTO t VALUES (1)"])
    with pytest.raises((ServerError, ValueError)):
        session.run_batch(["SELECT 1", sql])
    driver.rollback()
    assert ask(driver, "SELECT 1") == [(1,)]


@pytest.mark.parametrize(
    "sql", ["COMMIT", "rollback", "BEGIN", "/* x */ END", "PREPARE TRANSACTION 'x'"]
)
def test_transaction_control_is_left_to_the_driver(driver: Any, sql: str) -> None:
    session = begun(driver)
    with pytest.raises(Declined):
        session.run_batch(["CREATE TABLE t (i int)", sql])
    assert ask(driver, "SELECT to_regclass('t')") == [(None,)]


def test_a_string_that_ends_the_transaction_ends_the_batch(driver: Any) -> None:
    session = begun(driver)
    with pytest.raises(InternalError, match="the transaction was ended"):
        session.run_batch(["SELECT 1; COMMIT", "CREATE TABLE t (i int)"])
    assert ask(driver, "SELECT to_regclass('t')") == [(None,)]


def test_the_driver_gets_its_connection_back_as_it_was(database_url: str) -> None:
    connection = psycopg.connect(database_url)
    session = begun(connection)
    before = connection.pgconn.nonblocking
    for statements in (["SELECT 1"], ["SELECT 1/0"]):
        try:
            session.run_batch(statements)
        except ServerError:
            pass
        assert connection.pgconn.nonblocking == before
        assert connection.pgconn.pipeline_status == psycopg.pq.PipelineStatus.OFF
    connection.rollback()
    with connection.pipeline():
        connection.execute("SELECT 1")
        with pytest.raises(InternalError, match="somebody used the connection"):
            session.run_batch(["SELECT 2"])
        assert session.submit("SELECT 2") == "the driver is in a pipeline"
    session.close()
    assert connection.execute("SELECT 3").fetchone() == (3,)
    connection.close()


def test_the_drivers_notice_handler_hears_what_a_batch_says(database_url: str) -> None:
    connection = psycopg.connect(database_url)
    heard: list[str | None] = []
    connection.add_notice_handler(lambda diag: heard.append(diag.message_primary))
    begun(connection).run_batch(
        ["DO $$ BEGIN RAISE NOTICE 'one'; END $$", "DO $$ BEGIN RAISE NOTICE 'two'; END $$"]
    )
    assert heard == ["one", "two"]
    connection.close()


def test_a_killed_backend_ends_the_batch_with_an_error(driver: Any, database_url: str) -> None:
    session = begun(driver)
    with psycopg.connect(database_url, autocommit=True) as other:
        killer = threading.Timer(
            0.5, other.execute, ("SELECT pg_terminate_backend(%s)", (session.backend_pid,))
        )
        killer.start()
        with pytest.raises(ServerError) as caught:
            session.run_batch(["CREATE TABLE t (i int)", "SELECT pg_sleep(30)", "SELECT 1"])
        killer.join()
        assert caught.value.sqlstate == "57P01"
        assert caught.value.index == 1
        assert other.execute("SELECT to_regclass('t')").fetchone() == (None,)
    with pytest.raises((ServerError, ValueError), match="closed"):
        session.run_batch(["SELECT 1"])


def test_a_statement_that_kills_its_own_backend_does_not_hang(driver: Any) -> None:
    session = begun(driver)
    with pytest.raises(ServerError) as caught:
        session.run_batch(
            ["SELECT 1"] * 100
            + ["SELECT pg_terminate_backend(pg_backend_pid())"]
            + ["SELECT 1"] * 5000
        )
    # The server closes with our bytes unread: its last answers may be lost on the way.
    assert 0 <= caught.value.index <= 100


INTERRUPTED = """
import os, signal, sys, threading, time
import psycopg, psycopg2
from migrate_ext.execution import libpq
from migrate_ext._core import Session
connection = {"psycopg": psycopg, "psycopg2": psycopg2}[sys.argv[1]].connect(sys.argv[2])
connection.cursor().execute("SELECT 1")
session = Session.borrow(*libpq.of_driver(connection), libpq.owner(connection))
threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
start = time.monotonic()
try:
    session.run_batch(["SELECT 1", "SELECT pg_sleep(30)", "SELECT 2"] + ["SELECT 3"] * 10000)
except KeyboardInterrupt:
    assert time.monotonic() - start < 5
    connection.rollback()
    cursor = connection.cursor()
    cursor.execute("SELECT 4")
    assert cursor.fetchall() == [(4,)]
    print("stopped")
"""


@pytest.mark.parametrize("name", list(DRIVERS))
def test_ctrl_c_cancels_on_the_server_and_leaves_the_connection_usable(
    name: str, database_url: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, name, database_url],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout == "stopped\n", done.stderr


def test_another_thread_runs_while_a_batch_waits(database_url: str) -> None:
    session = own(database_url)
    session.begin()
    thread = threading.Thread(target=session.run_batch, args=(["SELECT pg_sleep(1)"],))
    thread.start()
    time.sleep(0.3)
    with pytest.raises(RuntimeError):
        session.query("SELECT 1")
    thread.join()
    assert session.query("SELECT 1") == [("1",)]


ASKED = """
import sys, threading
import psycopg
from migrate_ext.execution import libpq
from migrate_ext._core import Session
class Owner:
    thread = None
    @property
    def pgconn_ptr(self):
        if self.thread is not None:
            thread, self.thread = self.thread, None
            thread.start()
            thread.join()
        return connection.pgconn.pgconn_ptr
def other():
    try:
        session.query("SELECT 3")
    except RuntimeError as error:
        print(error)
connection = psycopg.connect(sys.argv[1])
owner = Owner()
session = Session.borrow(*libpq.of_driver(connection), owner)
owner.thread = threading.Thread(target=other)
print(session.query("SELECT 2"))
"""


def test_a_call_from_another_thread_while_the_driver_is_asked_is_kept_out(
    database_url: str,
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", ASKED, database_url], capture_output=True, text=True, timeout=60
    )
    told = "the session is waiting for the server in another call"
    assert done.stdout == f"{told}\n[('2',)]\n", done.stderr


def test_a_forked_child_leaves_the_parents_connection_alone(database_url: str) -> None:
    session = own(database_url)
    pid = os.fork()
    if pid == 0:
        try:
            session.query("SELECT 1")
        except ValueError:
            session.close()
            os._exit(7)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
    assert session.query("SELECT 1") == [("1",)]


def test_our_own_session_hears_notices_and_reads_rows(database_url: str) -> None:
    session = own(database_url)
    assert session.query("SELECT 1, NULL, 'ä'; SELECT 2") == [("2",)]
    session.query("DO $$ BEGIN RAISE WARNING 'careful'; END $$")
    assert [n[ord("M")] for n in session.notices()] == ["careful"]
    assert session.notices() == []
    assert session.parameter("client_encoding") == "UTF8"
    assert session.server_version > 90000 and session.backend_pid > 0
    session.close()
    with pytest.raises(ValueError):
        session.query("SELECT 1")


def test_a_connection_that_the_driver_closed_is_not_touched(driver: Any) -> None:
    session = begun(driver)
    driver.close()
    for use in (lambda: session.query("SELECT 1"), lambda: session.run_batch(["SELECT 1"])):
        with pytest.raises(ValueError, match="closed"):
            use()
    assert session.closed and not session.in_transaction and session.backend_pid == 0
    session.close()


def test_commit_of_a_failed_transaction_is_no_success(database_url: str) -> None:
    session = own(database_url)
    session.begin()
    with pytest.raises(ServerError):
        session.query("SELECT 1/0")
    with pytest.raises(ValueError, match="rolled it back"):
        session.commit()
    assert not session.in_transaction


def test_a_borrowed_session_never_ends_the_drivers_transaction(driver: Any) -> None:
    session = begun(driver)
    for end in (session.commit, session.rollback, session.begin):
        with pytest.raises(ValueError, match="the driver's"):
            end()


@pytest.mark.parametrize(
    "url",
    ["postgresql://postgres@127.0.0.1:1/d", "postgresql://u:hunter2@127.0.0.1/no_such_database_pq"],
)
def test_a_connection_that_cannot_be_made_says_why_without_the_password(url: str) -> None:
    with pytest.raises(ConnectError) as caught:
        own(url)
    assert str(caught.value) and "hunter2" not in str(caught.value)


def test_connect_timeout_holds_for_each_host(database_url: str) -> None:
    """A socket that listens and never answers, then the server."""
    import socket

    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        params = _core.parse_url(database_url)
        port = params.get("port", "5432")
        start = time.monotonic()
        with pytest.raises(ConnectError, match="timeout expired"):
            Session.connect(
                {**params, "port": str(silent.getsockname()[1]), "connect_timeout": "2"}
            )
        assert 1.5 < time.monotonic() - start < 10
        both = {
            **params,
            "host": f"{params['host']},{params['host']}",
            "port": f"{silent.getsockname()[1]},{port}",
            "connect_timeout": "2",
        }
        assert Session.connect(both).query("SELECT 1") == [("1",)]


@pytest.mark.parametrize(
    "impl", ["python", *(name for name in ("c", "binary") if find_spec(f"psycopg_{name}"))]
)
def test_each_build_of_psycopg_is_served_by_its_own_libpq(impl: str, database_url: str) -> None:
    code = (
        "import sys, psycopg\n"
        "from migrate_ext.execution import libpq\n"
        "from migrate_ext._core import Session\n"
        "c = psycopg.connect(sys.argv[1]); c.execute('SELECT 1')\n"
        "s = Session.borrow(*libpq.of_driver(c), libpq.owner(c))\n"
        "assert s.library_version == psycopg.pq.version(), s.library_version\n"
        "print(s.run_batch(['SELECT 1']))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, database_url],
        capture_output=True,
        text=True,
        env={**os.environ, "PSYCOPG_IMPL": impl},
    )
    assert done.stdout == "[('SELECT 1', 1)]\n", done.stderr


def test_signals_are_seen_while_connecting() -> None:
    import socket

    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        timer = threading.Timer(0.5, signal.raise_signal, (signal.SIGINT,))
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            Session.connect({"host": "127.0.0.1", "port": str(silent.getsockname()[1])})
        timer.join()
