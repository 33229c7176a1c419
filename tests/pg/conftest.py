"""Here a database's URL is bare, as libpq and both drivers take it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import psycopg
import pytest

LOCKS = """
SELECT a.pid, a.state, a.query FROM pg_locks l LEFT JOIN pg_stat_activity a USING (pid)
WHERE l.locktype = 'advisory' AND l.granted
AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""


@pytest.fixture
def database_url(make_database: Callable[[], str]) -> Iterator[str]:
    """``postgresql://`` URL of a new, empty database. No session may keep a lock when the test is over."""
    url = make_database().replace("+psycopg", "", 1)
    yield url
    deadline = time.monotonic() + 20  # for the server to notice the end of those that were killed
    with psycopg.connect(url, autocommit=True) as connection:
        while left := connection.execute(LOCKS).fetchall():
            assert time.monotonic() < deadline, left
            time.sleep(0.02)
