"""A fresh database for each test that asks for one, on the server named by TEST_DATABASE_URL."""

import os
import secrets
from collections.abc import Iterator

import pytest
from sqlalchemy import create_engine, make_url, pool, text


@pytest.fixture
def database_url() -> Iterator[str]:
    """The URL of an empty database, dropped after the test."""
    server = os.environ.get("TEST_DATABASE_URL")
    if not server:
        pytest.skip("TEST_DATABASE_URL is not set")
    url = make_url(server).set(drivername="postgresql+psycopg")
    name = f"backend_test_{secrets.token_hex(6)}"
    admin = create_engine(url, poolclass=pool.NullPool, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f'CREATE DATABASE "{name}"'))
    try:
        yield url.set(database=name).render_as_string(hide_password=False)
    finally:
        with admin.connect() as connection:
            connection.execute(text(f'DROP DATABASE "{name}" WITH (FORCE)'))
