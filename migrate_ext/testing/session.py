"""State that the fixtures of one pytest process share: the server, the project, its templates."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy.engine import URL

from migrate_ext.testing import options
from migrate_ext.testing.databases import Database, Databases
from migrate_ext.testing.project import Project
from migrate_ext.testing.sources import Imports
from migrate_ext.testing.templates import AgainBroken, Seeds, Templates


class Session:
    """Creates the databases of the fixtures. config: pytest's. url: of any database on the server."""

    def __init__(self, config: pytest.Config, url: str | URL) -> None:
        if isinstance(url, URL):
            url = url.render_as_string(hide_password=False)
        self.project = project(config)
        self.databases = Databases(
            _with_driver(url, self.project),
            base=config.getini("migrate_ext_base"),
            keep=config.getoption("migrate_ext_keep"),
        )
        self.templates = Templates(
            self.databases,
            self.project,
            run=options.run_name(config),
            rebuild=config.getoption("migrate_ext_rebuild"),
            seeds=_seeds(config),
            days=float(config.getini("migrate_ext_keep_days")),
            number=int(config.getini("migrate_ext_keep_templates")),
        )

    @contextmanager
    def migrated(self) -> Iterator[Database]:
        """A database at ``heads`` with the seed data."""
        with self._lent(self._migrated()) as database:
            yield database

    @contextmanager
    def migrated_at(self) -> Iterator[Callable[[str], Database]]:
        """A function that creates a database in the state of a target, without seed data."""
        made: list[Database] = []

        def make(target: str) -> Database:
            name = (
                self.templates.empty()
                if target == "base"
                else self.templates.clone(target, seeded=False)
            )
            made.append(self.databases.database(name))
            return made[-1]

        try:
            yield make
        finally:
            for database in made:
                self._give_back(database)

    def _migrated(self) -> str:
        """:meth:`Templates.clone` for ``heads``; an error of a migration fails the test with a short message."""
        from migrate_ext.testing.ground import told

        try:
            return self.templates.clone("heads", seeded=True)
        except AgainBroken as error:
            text = f"{error}: see the first test that failed so"
        except Exception as error:  # a migration may raise anything
            text = f"'upgrade heads' fails\n{told(error)}"
        pytest.fail(text, pytrace=False)

    @contextmanager
    def empty(self) -> Iterator[Database]:
        """An empty database."""
        with self._lent(self.templates.empty()) as database:
            yield database

    @contextmanager
    def _lent(self, name: str) -> Iterator[Database]:
        database = self.databases.database(name)
        try:
            yield database
        finally:
            self._give_back(database)

    def _give_back(self, database: Database) -> None:
        database.close()
        self.databases.drop(database.name)

    def kept(self) -> list[str]:
        """The URLs, without their passwords, of databases that ``--migrate-ext-keep`` left."""
        return [repr(self.databases.url(name)) for name in self.databases.kept]

    def close(self) -> None:
        """Disconnect from the server."""
        self.databases.close()


def project(config: pytest.Config) -> Project:
    """The migrations that pytest's configuration names. Fails the test if there is no configuration file."""
    ini, toml = options.configuration_files(config)
    if not ini.exists() and not toml.exists():
        pytest.fail(
            f"migrate_ext found no {ini}; name Alembic's configuration file with the ini option migrate_ext_config",
            pytrace=False,
        )
    return Project(
        ini,
        toml,
        url_variables=config.getini("migrate_ext_url_variable"),
        watch=config.getini("migrate_ext_watch"),
    )


def _with_driver(url: str, project: Project) -> str:
    """`url`; if it names no driver, with the one that the project uses."""
    scheme, separator, rest = url.partition("://")
    if "+" in scheme:
        return url
    ini = project.config()
    configured = ini.file_config.get(ini.config_ini_section, "sqlalchemy.url", fallback=None)
    for other in (*(os.environ.get(name) for name in project.url_variables), configured):
        driver = (other or "").partition("://")[0]
        if driver.startswith(("postgresql+", "postgres+")):
            return driver + separator + rest
    return f"postgresql+psycopg{separator}{rest}"


def _seeds(config: pytest.Config) -> Seeds:
    """The project's seed hooks. Their key is a hash of the files that define them and of those they import."""
    hook = config.hook.pytest_migrate_ext_seed
    files = {impl.function.__code__.co_filename for impl in hook.get_hookimpls()}
    if not files:
        return Seeds([], "")
    imports = Imports()
    digest = imports.digest(files) + imports.digest(imports.closure(files))
    return Seeds([lambda database: hook(database=database)], hashlib.sha256(digest).hexdigest())
