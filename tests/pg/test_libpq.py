"""A driver's connection is borrowed only through the libpq that the driver itself has loaded."""

from __future__ import annotations

import asyncio
import os

import psycopg
import psycopg2
import psycopg2.extensions
import pytest

from migrate_ext import _core
from migrate_ext._core import Session
from migrate_ext.errors import Declined
from migrate_ext.execution import libpq


def test_a_libpq_is_found_where_the_system_has_none(database_url: str) -> None:
    bundled = [path for path in libpq.candidates() if path is not None]
    assert bundled and all(os.path.exists(path) for path in bundled)
    for path in bundled:
        session = Session.connect(_core.parse_url(database_url), path)
        assert session.library_version == _core.load_libpq(path)
        assert session.query("SELECT 1") == [("1",)]
        session.close()


def test_a_missing_library_is_an_os_error() -> None:
    with pytest.raises(OSError, match="nonexistent"):
        _core.load_libpq("/nonexistent/libpq.so.5")


def test_a_path_that_is_not_utf8_can_still_be_told() -> None:
    with pytest.raises(OSError, match="cannot load libpq: /nonexistent/\ufffd"):
        _core.load_libpq("/nonexistent/\udcff")


def test_a_file_that_no_driver_loaded_is_not_borrowed_from() -> None:
    with pytest.raises(Declined):
        Session.borrow(1, "/nonexistent/driver.so", None)


def test_closed_connections_and_other_objects_are_not_borrowed(database_url: str) -> None:
    assert libpq.of_driver(object()) is None
    for connection in (psycopg.connect(database_url), psycopg2.connect(database_url)):
        assert libpq.of_driver(connection) is not None
        connection.close()
        assert libpq.of_driver(connection) is None


def test_a_connection_whose_waits_are_the_event_loops_is_not_borrowed(database_url: str) -> None:
    async def check() -> None:
        async with await psycopg.AsyncConnection.connect(database_url) as connection:
            assert libpq.of_driver(connection) is None

    asyncio.run(check())
    connection = psycopg2.connect(database_url)
    psycopg2.extensions.set_wait_callback(lambda conn: None)
    try:
        assert libpq.of_driver(connection) is None
    finally:
        psycopg2.extensions.set_wait_callback(None)
    assert libpq.of_driver(connection) is not None
    connection.close()
