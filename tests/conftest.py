"""What every test may ask for: a real PostgreSQL, empty databases on it, and a dump to compare them by.

The server is private (migrate_ext/testing/embedded.py), one for each pytest-xdist worker, or the one that TEST_DATABASE_URL names (any
form SQLAlchemy takes; its user must be allowed to create databases). It starts with the first test that asks for it.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator

import alembic.config  # noqa: F401  (all of it, and with it our plugin)
import psycopg
import pytest
from alembic_patches import patched_attributes
from psycopg import sql
from sqlalchemy.engine import URL, make_url

import migrate_ext
from migrate_ext.testing import embedded as server

# Started in the background, a shell has SIGINT ignored, and so would every program of the tests.
signal.signal(signal.SIGINT, signal.default_int_handler)
pytest.register_assert_rewrite(
    "sample_project", "recording_project", "paired_projects", "forked_command", "connection_pooler"
)
pytest_plugins = ["pytester"]

# In this process Alembic is what ours is compared with. A test of the installed runtime installs it, and takes it out.
migrate_ext.uninstall()

# Tests make thousands of small files: in memory, if there is room.
if memory := server.memory_folder():
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", memory)

# Without bytecode, each program that a test starts would compile all of migrate_ext anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

TEST_DATABASE_URL = os.environ.get("TEST_DATABASE_URL")

# A test names its database itself: nothing of the developer's own shell may lead it to another.
for name in [n for n in os.environ if n.startswith("PG") or n == "DATABASE_URL"]:
    del os.environ[name]


def pytest_addoption(parser: pytest.Parser) -> None:
    help_ = "leave out the tests that need a PostgreSQL server"
    parser.addoption("--no-server", action="store_true", help=help_)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--no-server"):
        needing = [item for item in items if "server_url" in getattr(item, "fixturenames", ())]
        config.hook.pytest_deselected(items=needing)
        items[:] = [item for item in items if item not in needing]


@pytest.fixture(autouse=True)
def alembic_is_its_own() -> Iterator[None]:
    """No comparison may become one of ours with ours."""
    assert patched_attributes() == []
    yield
    assert patched_attributes() == [], "uninstall() was forgotten"


def connect(url: URL) -> psycopg.Connection[tuple[object, ...]]:
    """A connection in autocommit mode."""
    bare = url.set(drivername="postgresql").render_as_string(hide_password=False)
    return psycopg.connect(bare, autocommit=True)


@pytest.fixture(scope="session")
def private_server() -> Iterator[server.Server]:
    """The private server: its port, its socket, its password. For tests of how one connects."""
    with server.temporary_server() as private:
        yield private


@pytest.fixture(scope="session")
def server_url(request: pytest.FixtureRequest) -> URL:
    """URL of a database on the server under test, from which others are made."""
    if TEST_DATABASE_URL:
        return make_url(TEST_DATABASE_URL).set(drivername="postgresql+psycopg")
    private: server.Server = request.getfixturevalue("private_server")
    return make_url(private.url())


@contextlib.contextmanager
def databases_on(server: URL) -> Iterator[Callable[..., str]]:
    """A function that makes a new database, empty or a copy of the `template` of a URL, and returns its URL; they are
    dropped after the block.
    """
    names: list[str] = []
    # Cheaper for the private server, which does without fsync; a server with it would wait for the disk.
    strategy = sql.SQL("" if TEST_DATABASE_URL else " STRATEGY file_copy")

    def make(template: str | None = None) -> str:
        name = f"migrate_ext_test_{secrets.token_hex(6)}"
        names.append(name)
        source = (make_url(template).database if template else None) or "template0"
        with connect(server) as connection:
            statement = sql.SQL("CREATE DATABASE {} TEMPLATE {}{}")
            connection.execute(
                statement.format(sql.Identifier(name), sql.Identifier(source), strategy)
            )
        return server.set(database=name).render_as_string(hide_password=False)

    yield make
    with connect(server) as connection:
        for name in names:
            statement = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)")
            connection.execute(statement.format(sql.Identifier(name)))


@pytest.fixture
def make_database(server_url: URL) -> Iterator[Callable[..., str]]:
    """A function that makes a new, empty database and returns its URL; they are dropped after the test."""
    with databases_on(server_url) as make:
        yield make


@pytest.fixture(scope="module")
def make_shared_database(server_url: URL) -> Iterator[Callable[..., str]]:
    """The same for all tests of a file."""
    with databases_on(server_url) as make:
        yield make


@pytest.fixture
def database_url(make_database: Callable[[], str]) -> str:
    """``postgresql+psycopg://`` URL of a new, empty database."""
    return make_database()


@pytest.fixture(scope="session")
def pg_dump(server_url: URL) -> Callable[..., str]:
    """``pg_dump(url, *options) -> str``: the schema (or what the options say) as SQL that two databases share if equal.

    Left out is what differs between two dumps of one database: comments, blank lines, psql's restrict keys.
    """
    with connect(server_url) as connection:
        program = server.find_pg_dump(connection.info.server_version // 10000)

    def dump(url: str, *options: str) -> str:
        to = make_url(url)
        address = (to.username, None, to.host, to.port, to.database, to.query)
        bare = URL.create("postgresql", *address).render_as_string()
        environment = server.clean_environment()
        if to.password is not None:
            environment["PGPASSWORD"] = to.password  # as an argument, every user could read it
        done = subprocess.run(
            [program, *(options or ("--schema-only",)), f"--dbname={bare}"],
            env=environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        noise = re.compile(
            r"--($| (Name|Data for Name|Dumped|PostgreSQL database)\b)|\\(un)?restrict |$|ALTER TABLE .* SET \(\);$"
        )
        # A counter that minor releases since November 2026 keep with a column, and older ones of pg_dump write out.
        text = re.sub(r"(, )?\bpg_attver=\d+", "", done.stdout)
        return "".join(f"{x}\n" for x in text.splitlines() if not noise.match(x))

    return dump
