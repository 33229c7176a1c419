"""A driver's connection that is closed while we wait on it: a clean error as the driver's, and never a use of freed memory.

Under valgrind or ASan the first defect of this kind shows as an invalid read in PQconsumeInput.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import psycopg
import psycopg2
import pytest
from in_process_project import InProcessProject

from migrate_ext import _core
from migrate_ext._core import Session
from migrate_ext.errors import Declined, ServerError
from migrate_ext.execution import libpq

# A batch (or a query) that waits for the server while somebody closes the connection.
CLOSED = """
import os, signal, sys, threading, time
import psycopg, psycopg2
from migrate_ext.execution import libpq
from migrate_ext._core import Session
from migrate_ext.errors import ServerError

url, driver, way, who = sys.argv[1:]
connection = {"psycopg": psycopg, "psycopg2": psycopg2}[driver].connect(url)
watcher = psycopg.connect(url, autocommit=True)
connection.cursor().execute("SELECT 1")
session = Session.borrow(*libpq.of_driver(connection), libpq.owner(connection))

def close(*_):
    connection.close()
    junk = [b"x" * n for n in range(64, 20000, 7)]  # takes the place of what was freed

def is_waiting():
    return watcher.execute(
        "SELECT 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND pid = %s",
        (session.backend_pid,)).fetchall()

def from_outside():
    while not is_waiting():
        pass
    if who == "signal":
        signal.pthread_kill(threading.main_thread().ident, signal.SIGALRM)
    else:
        close()

signal.signal(signal.SIGALRM, close)
thread = threading.Thread(target=from_outside)
thread.start()
statements = ["CREATE TABLE t (i int)", "SELECT pg_sleep(2)", *["SELECT 1"] * 9000]
try:
    if way == "query":
        session.query("SELECT pg_sleep(2)")
    elif way == "run":
        session.run_batch(statements)
    elif way == "submit":
        for sql in statements:
            assert session.submit(sql) is not None
        while session.pending:
            session.wait()
    print("finished")
except ServerError as error:
    print(error, error.sqlstate)
thread.join()
print(session.closed, session.in_transaction, session.backend_pid, session.parameter("x"))
for use in (lambda: session.query("SELECT 1"), lambda: session.run_batch(["SELECT 1"])):
    try:
        use()
    except ValueError as error:
        print(error)
session.abandon()
session.close()
"""


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2"])
@pytest.mark.parametrize("way", ["query", "run", "submit"])
@pytest.mark.parametrize("who", ["signal", "thread"])
def test_a_connection_closed_while_we_wait_is_a_clean_error(
    database_url: str, driver: str, way: str, who: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CLOSED, database_url, driver, way, who],
        capture_output=True,
        text=True,
        timeout=60,
    )
    closed = "the connection is closed None"
    expected = [closed, "True False 0 None", "the session is closed", "the session is closed"]
    lines = done.stdout.splitlines()
    if (driver, who) == ("psycopg2", "thread") and lines[:1] == ["finished"]:
        expected[0] = "finished"  # its close() may wait for us, as it waits for its own statements
    assert (done.returncode, lines) == (0, expected), done.stderr


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2"])
def test_an_upgrade_whose_connection_is_closed_by_a_signal_handler_ends_as_the_driver_ends_it(
    tmp_path: Path, database_url: str, driver: str
) -> None:
    """The handler runs where the driver lets it; the error is the driver's either way."""
    project = InProcessProject(tmp_path / "project", database_url.replace("://", f"+{driver}://"))
    closes = """
import signal, threading
connection = op.get_bind().connection.dbapi_connection
signal.signal(signal.SIGALRM, lambda *_: connection.close())
signal.setitimer(signal.ITIMER_REAL, 0.5)
"""
    project.write(
        [closes, "op.execute('SELECT pg_sleep(2)')", "op.execute('CREATE TABLE t (i int)')"]
    )
    batched, plain = project.run(True), project.run(False)
    assert type(batched.error) is type(plain.error)
    assert [step[0] for step in batched.raised][:1] == [step[0] for step in plain.raised][:1]
    assert batched.database == plain.database == []


def test_an_owner_that_has_another_connection_is_refused(database_url: str) -> None:
    with psycopg.connect(database_url) as one, psycopg.connect(database_url) as other:
        lent = libpq.of_driver(one)
        assert lent is not None
        with pytest.raises(ValueError, match="no such connection"):
            Session.borrow(*lent, libpq.owner(other))
        with pytest.raises(AttributeError):
            Session.borrow(*lent, object())


def test_a_psycopg2_whose_lock_cannot_be_found_is_not_borrowed_from(database_url: str) -> None:
    """A class that only says that it is psycopg2's."""
    connection = psycopg2.connect(database_url)
    lent = libpq.of_driver(connection)
    assert lent is not None
    other = type("psycopg2.extensions.connection", (), {"pgconn_ptr": lent[0]})
    with pytest.raises(Declined, match="lock"):
        Session.borrow(*lent, other())
    connection.close()


@pytest.mark.parametrize("driver", [psycopg, psycopg2])
def test_no_statement_is_quoted_by_a_connection_that_its_driver_closed(
    database_url: str, driver: Any
) -> None:
    connection = driver.connect(database_url)
    lent = libpq.of_driver(connection)
    assert lent is not None
    session = Session.borrow(*lent, libpq.owner(connection))
    update = ("update", "it's", "b")
    assert "'it''s'" in session.version_sql(update, "versions")
    connection.close()
    with pytest.raises(ValueError, match="the session is closed"):
        session.version_sql(update, "versions")


def test_a_cancelled_statement_leaves_the_lock_of_psycopg2_free(database_url: str) -> None:
    connection = psycopg2.connect(database_url)
    connection.cursor().execute("SELECT 1")
    lent = libpq.of_driver(connection)
    assert lent is not None
    session = Session.borrow(*lent, libpq.owner(connection))
    with pytest.raises(ServerError):
        session.run_batch(["SELECT 1", "SELECT 1/0"])
    connection.rollback()
    cursor = connection.cursor()
    cursor.execute("SELECT 2")
    assert cursor.fetchall() == [(2,)]
    connection.close()


def test_a_closed_session_answers_what_it_is_asked(database_url: str) -> None:
    connection = psycopg.connect(database_url)
    connection.execute("SELECT 1")
    lent = libpq.of_driver(connection)
    assert lent is not None
    for session in (
        Session.borrow(*lent, libpq.owner(connection)),
        Session.connect(_core.parse_url(database_url), libpq.find()),
    ):
        session.close()
        assert session.parameter("client_encoding") is None
        assert (session.closed, session.in_transaction, session.socket) == (True, False, -1)
        assert (session.server_version, session.backend_pid) == (0, 0)
        assert session.submit("SELECT 1") == "the connection is closed"
        session.close()
    connection.close()


def test_an_owner_that_closes_the_session_when_it_is_asked_harms_nobody(database_url: str) -> None:
    connection = psycopg.connect(database_url)
    lent = libpq.of_driver(connection)
    assert lent is not None

    class Owner:
        session: Session | None = None

        @property
        def pgconn_ptr(self) -> int | None:
            if self.session is not None:
                with pytest.raises(RuntimeError):
                    self.session.close()
            return connection.pgconn.pgconn_ptr

    owner = Owner()
    owner.session = Session.borrow(*lent, owner)
    for ask in ("server_version", "backend_pid", "in_transaction", "socket", "closed"):
        getattr(owner.session, ask)
    assert owner.session.parameter("client_encoding") == "UTF8"
    assert owner.session.query("SELECT 1") == [("1",)]
    connection.close()
