"""The private test server: it is the one that was asked for, and it leaves nothing behind."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from migrate_ext.testing import embedded as server

# Starts a server, says where, and waits to be killed. A signal that comes just before a sleep ends that sleep only when it is over.
HOLDER = """
import time
from migrate_ext.testing import embedded as server
with server.temporary_server() as private:
    print(private.home, private.port, flush=True)
    while True:
        time.sleep(0.1)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_killed_test_run_leaves_no_server_behind(number: signal.Signals) -> None:
    command = [sys.executable, "-c", HOLDER]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=subprocess.DEVNULL, text=True) as holder:
        assert holder.stdout is not None
        home, port = holder.stdout.readline().split()
        socket.create_connection(("127.0.0.1", int(port))).close()
        holder.send_signal(number)
    deadline = time.monotonic() + 30
    while Path(home).exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not Path(home).exists()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", int(port)))


def test_the_private_server_asks_for_its_password_by_tcp_only(
    private_server: server.Server,
) -> None:
    psycopg.connect(private_server.url(driver="")).close()
    psycopg.connect(private_server.socket_url(driver="")).close()
    wrong = server.Server(private_server.home, private_server.port, "wrong")
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(wrong.url(driver=""))


def test_dumps_of_equal_databases_are_equal_and_others_are_not(
    make_database: Callable[[], str], pg_dump: Callable[..., str]
) -> None:
    one, same, other = make_database(), make_database(), make_database()
    for url, sql in (
        (one, "CREATE TABLE t (a text DEFAULT '-- kept')"),
        (same, "CREATE TABLE t (a text DEFAULT '-- kept')"),
        (other, "CREATE TABLE t (a text DEFAULT '-- changed')"),
    ):
        with psycopg.connect(url.replace("+psycopg", "")) as connection:
            connection.execute(sql)
    assert pg_dump(one) == pg_dump(same) != pg_dump(other)
    assert "\n-- " not in pg_dump(one)
    assert "CREATE TABLE" not in pg_dump(one, "--data-only")
