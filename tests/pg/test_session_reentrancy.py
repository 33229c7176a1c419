"""Python code that runs in the middle of a call of a session: the rest is in tests/unit/test_reentrancy.py."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
import reentrant_calls
from core_calls import calls_of

from migrate_ext import _core, errors
from migrate_ext._core import Session
from migrate_ext.execution import libpq

CALLS = [name for name in calls_of() if name.startswith("Session.")]


@pytest.fixture
def versions_url(database_url: str) -> str:
    """A database with a version table."""
    with psycopg.connect(database_url) as connection:
        connection.execute("CREATE TABLE versions (version_num varchar(32) NOT NULL PRIMARY KEY)")
        connection.execute("INSERT INTO versions VALUES ('a')")
    return database_url


@pytest.mark.parametrize("name", CALLS)
def test_python_code_in_the_middle_of_a_call_finds_and_leaves_it_whole(
    name: str, tmp_path: Path, versions_url: str
) -> None:
    reentrant_calls.run(name, tmp_path, versions_url)


def test_what_runs_while_an_error_is_made_cannot_use_its_session(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its diagnostics are those of the error, until the error has them."""
    refused: list[str] = []

    class Meddling(errors.ServerError):
        def __init__(self, text: str) -> None:
            super().__init__(text)
            if not refused:
                refused.append("not refused")
                with pytest.raises(RuntimeError) as error:
                    session.query("SELECT 1/0")
                refused[0] = str(error.value)

    monkeypatch.setattr(errors, "ServerError", Meddling)
    for ask in ("run_batch", "query", "submit"):
        session = Session.connect(_core.parse_url(database_url), libpq.find())
        session.begin()
        refused.clear()
        with pytest.raises(Meddling) as raised:
            if ask == "query":
                session.query("SELECT nosuch")
            elif ask == "run_batch":
                session.run_batch(["SELECT 1", "SELECT nosuch"])
            else:
                session.submit("SELECT nosuch")
                session.wait()
        assert (raised.value.sqlstate, "nosuch" in str(raised.value)) == ("42703", True)
        assert "waiting for the server" in refused[0]
        session.close()


class Owner:
    """Asked for its connection, it meddles."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self.connection = connection
        self.session: Session | None = None
        self.fails = False
        self.told: list[str] = []

    @property
    def pgconn_ptr(self) -> int | None:
        if self.fails:
            raise LookupError("from the owner")
        if self.session is not None:
            for ask in (self.session.close, self.session.wait):
                try:
                    ask()
                except RuntimeError as error:
                    self.told.append(str(error))
        return self.connection.pgconn.pgconn_ptr


@pytest.fixture
def owner(database_url: str) -> Iterator[Owner]:
    with closing(psycopg.connect(database_url)) as connection:
        connection.execute("SELECT 1")
        yield Owner(connection)


def in_flight(owner: Owner) -> Session:
    lent = libpq.of_driver(owner.connection)
    assert lent is not None
    session = Session.borrow(*lent, owner)
    assert session.submit("SELECT pg_advisory_lock(1)") == []
    return session


@pytest.fixture
def lock(database_url: str) -> Iterator[psycopg.Connection[Any]]:
    """Another connection, which holds the advisory lock 1."""
    with psycopg.connect(database_url, autocommit=True) as other:
        other.execute("SELECT pg_advisory_lock(1)")
        yield other


def test_what_an_owner_raises_while_its_session_ends_is_reported(
    owner: Owner, lock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is no exception of the code that happens to drop the session."""
    told: list[object] = []
    monkeypatch.setattr("sys.unraisablehook", lambda said: told.append(repr(said.exc_value)))
    session = in_flight(owner)
    owner.fails = True
    del session
    assert told == ["LookupError('from the owner')"]


class Interrupting(Owner):
    """Python's own code is where a Ctrl-C is raised: here in the property, once."""

    asked = 0

    @property
    def pgconn_ptr(self) -> int | None:
        self.asked += 1
        if self.asked == self.interrupts_at:
            raise KeyboardInterrupt
        return self.connection.pgconn.pgconn_ptr

    interrupts_at = 0


SLEEP = "SELECT pg_sleep(3000)"
WAITING: dict[str, Callable[[Session], object]] = {
    "run_batch": lambda session: session.run_batch(["SELECT 1", SLEEP]),
    "query": lambda session: session.query(SLEEP),
    "wait": lambda session: (session.submit("SELECT 1"), session.submit(SLEEP), session.wait(), session.wait()),
}  # fmt: skip


@pytest.mark.parametrize("after", range(1, 8))
@pytest.mark.parametrize("call", WAITING.values(), ids=WAITING)
def test_what_an_owner_raises_while_its_session_waits_stops_the_server(
    owner: Owner, call: Callable[[Session], object], after: int
) -> None:
    mine = Interrupting(owner.connection)
    lent = libpq.of_driver(owner.connection)
    assert lent is not None
    session = Session.borrow(*lent, mine)
    mine.interrupts_at = mine.asked + after
    with pytest.raises(KeyboardInterrupt):
        call(session)
    session.abandon()
    # Cancelled: not waited for until the server is taken for dead, whose connection would be broken.
    owner.connection.rollback()
    assert owner.connection.execute("SELECT 2").fetchone() == (2,)


def test_a_session_that_the_collector_takes_away_cannot_be_used_by_its_owner(
    owner: Owner, lock: object
) -> None:
    mine = Owner(owner.connection)
    told = mine.told
    gc.freeze()
    session = in_flight(mine)
    gc.collect()
    gc.unfreeze()  # now the session comes first: its owner is not cleared yet
    mine.session = session
    del mine, session
    gc.collect()
    assert told == ["the session is waiting for the server in another call"] * 2
    with pytest.raises(psycopg.OperationalError):  # what was in flight is nobody's
        owner.connection.execute("SELECT 1")


def test_a_session_that_waits_in_another_thread_refuses_every_call(
    database_url: str, lock: psycopg.Connection[Any]
) -> None:
    session = Session.connect(_core.parse_url(database_url), libpq.find())
    state = (session.server_version, session.backend_pid, session.library_version)
    answers: list[object] = []
    sql = "SELECT 'x' FROM pg_advisory_lock(1)"
    thread = threading.Thread(target=lambda: answers.extend(session.query(sql)))
    thread.start()
    waiting = "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND pid = %s"
    while not lock.execute(waiting, (session.backend_pid,)).fetchall():
        assert thread.is_alive()
    refuse = {
        "query": ("SELECT 1",),
        "run_batch": (["SELECT 1"],),
        "submit": ("SELECT 1",),
        "parameter": ("client_encoding",),
        "version_heads": ("versions",),
        "version_create": ("versions",),
        "version_purge": ("versions",),
        "version_sql": (("insert", "a"), "versions"),
        "version_apply": ([("insert", "a")], "versions"),
    }
    tell = ["server_version", "backend_pid", "library_version"]
    tell += ["closed", "pending", "sent", "confirmed", "full", "writing"]
    for name in (n.removeprefix("Session.") for n in CALLS):
        if name in tell:
            getattr(session, name)
        elif name not in ("connect", "borrow", "version_create_sql"):
            with pytest.raises(RuntimeError, match="in another call"):
                getattr(session, name)(*refuse.get(name, ()))
    assert state == tuple(getattr(session, name) for name in tell[:3])
    assert thread.is_alive()
    lock.execute("SELECT pg_advisory_unlock(1)")
    thread.join(60)
    assert answers == [("x",)]
    session.close()
