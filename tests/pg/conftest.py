"""Here a database's URL is bare, as libpq and both drivers take it."""

from __future__ import annotations

from collections.abc import Callable

import pytest


@pytest.fixture
def database_url(make_database: Callable[[], str]) -> str:
    """``postgresql://`` URL of a new, empty database."""
    return make_database().replace("+psycopg", "", 1)
