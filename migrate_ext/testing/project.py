"""A project's migrations for tests: their order, the key of each state, and how to run them on a database.

history.py reads the revisions. Alembic always runs the migrations: ``alembic.command`` with a ``Config``, the project's
``env.py``, and our runtime under it.

``env.py`` gets its database in the three usual ways: in the environment variables for the URL, in ``sqlalchemy.url`` of
the configuration and, if a test has its own engine, in ``Config.attributes["connection"]``. An ``env.py`` that connects
to another database is stopped before it sends a statement
(:class:`~migrate_ext.testing.surroundings.WrongDatabase`).
"""

from __future__ import annotations

import glob
import hashlib
import importlib.metadata
import io
import json
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from migrate_ext import __version__, errors
from migrate_ext.testing.history import (
    Files,
    History,
    read_folders,
    read_history,
    read_with_alembic,
)
from migrate_ext.testing.sources import Imports, read
from migrate_ext.testing.surroundings import outside_of_loops, surroundings

if TYPE_CHECKING:
    from alembic.config import Config as AlembicConfig

_FORMAT = "1"  # of keys and templates; a new number invalidates all templates
_URL_VARIABLE = re.compile(rb"\burl_variable\s*=\s*[\"'](\w+)[\"']")


class State(NamedTuple):
    """A point of the history: the revisions that have run, and a key for the empty database and after each revision;
    the last one is the state's own.

    Two states with equal keys have equal databases. A state is a prefix of another if its keys are.
    """

    target: str
    revisions: tuple[str, ...]
    keys: tuple[str, ...]

    @property
    def key(self) -> str:
        return self.keys[-1]


class Project:
    """The migrations that a configuration file describes.

    ini, toml: paths of the configuration files, as Alembic accepts them; relative paths inside them are relative to
    their folder. url_variables: environment variables from which ``env.py`` reads its URL, besides ``DATABASE_URL`` and
    the one that a thin ``env.py`` names. watch: patterns, relative to that folder, of further files that determine what
    migrations do.
    """

    def __init__(
        self,
        ini: Path,
        toml: Path,
        *,
        url_variables: Sequence[str] = (),
        watch: Sequence[str] = (),
    ) -> None:
        self.ini, self.toml = str(ini), str(toml)
        self.file = self.ini if ini.exists() or not toml.exists() else self.toml
        self.folder = os.path.dirname(self.file)
        self.watch = watch
        self._url_variables = url_variables
        self._states: dict[tuple[str, str], State] = {}
        self._history: History | None = None
        self._env: bytes | None = None
        self._directory = ""
        self._prepended: list[str] = []  # by prepend_sys_path

    # reading

    @property
    def history(self) -> History:
        """The revisions. Raises what reading them raises."""
        if self._history is None:
            with self._inside():
                try:
                    self._history, self._directory = read_history(self.ini, self.toml)
                except errors.Declined:
                    self._history, self._directory = read_with_alembic(self.config())
        return self._history

    def read_files(self) -> Files:
        """The revision files, read one by one: the history may be broken."""
        from migrate_ext.project.config import Config

        with self._inside():
            try:
                config = Config(self.ini, self.toml, "alembic")
                folders = config.version_locations(config.script_location())
                recursive = config.boolean("recursive_version_locations")
                sys.path[:0] = config.paths("prepend_sys_path")
            except errors.Declined:
                # Alembic has loaded them without an error.
                return Files(self.history.revisions, [])
            return read_folders(folders, recursive)

    def plan_file(self) -> str | None:
        """The path of the plan file, if the project has one."""
        from migrate_ext.plans import key
        from migrate_ext.project.config import Config

        with self._inside():
            try:
                path = os.path.abspath(key.path_of(Config(self.ini, self.toml, "alembic")))
            except errors.Declined:
                return None  # plans need a configuration that migrate_ext itself can read
        return path if os.path.exists(path) else None

    @property
    def env(self) -> str:
        """The path of ``env.py``."""
        _ = self.history
        return os.path.join(self.folder, self._directory, "env.py")

    @cached_property
    def url_variables(self) -> tuple[str, ...]:
        """The environment variables that are set while ``env.py`` runs."""
        named = [name.decode() for name in _URL_VARIABLE.findall(read(self.env))]
        return tuple(dict.fromkeys([*self._url_variables, *named, "DATABASE_URL"]))

    def state(self, target: str, server: str) -> State:
        """The state that ``upgrade TARGET`` leads to.

        server: what else the database depends on, as text.
        """
        if (target, server) not in self._states:
            revisions = self.history.up_to(target)
            with self._inside():
                sys.path[:0] = self._prepended
                keys = self._keys(revisions, server)
            self._states[target, server] = State(target, revisions, keys)
        return self._states[target, server]

    def _keys(self, revisions: tuple[str, ...], server: str) -> tuple[str, ...]:
        by_id = {revision.id: revision for revision in self.history.revisions}
        imports = Imports()
        files = [revision.path for revision in self.history.revisions]
        key = hashlib.sha256(self._common(imports, set(files)) + server.encode())
        keys = [key.hexdigest()[:32]]
        for id_ in revisions:
            revision = by_id[id_]
            key = key.copy()
            key.update(repr((revision.id, revision.down, revision.depends_on)).encode())
            key.update(imports.digest([revision.path]))
            key.update(imports.digest(imports.closure([revision.path])))
            keys.append(key.hexdigest()[:32])
        return tuple(keys)

    def _common(self, imports: Imports, revision_files: set[str]) -> bytes:
        """Hashes of all that every state depends on: configuration, ``env.py``, versions of packages that render SQL."""
        versions = [importlib.metadata.version(name) for name in ("alembic", "sqlalchemy")]
        env = os.path.abspath(self.env)
        watched = [
            path
            for pattern in self.watch
            for path in sorted(glob.glob(os.path.join(self.folder, pattern), recursive=True))
            if os.path.isfile(path)
        ]
        renders = imports.that_render(imports.closure([env]) - revision_files)
        parts = [
            _FORMAT.encode(),
            " ".join((*versions, __version__)).encode(),
            read(self.ini),
            _toml_options(self.ini, self.toml),
            read(env),
            imports.digest(renders),
            imports.digest(watched),
        ]
        return b"".join(hashlib.sha256(part).digest() for part in parts)

    # running

    def config(self, url: str | None = None, output: io.StringIO | None = None) -> AlembicConfig:
        """A new Alembic ``Config`` of the project, for the database of `url`."""
        from alembic.config import Config

        arguments: dict[str, Any] = {"output_buffer": output, "stdout": output or io.StringIO()}
        if hasattr(Config, "get_alembic_option"):  # 1.16: it reads pyproject.toml
            arguments["toml_file"] = self.toml if os.path.exists(self.toml) else None
        config = Config(self.ini, **arguments)
        if url is not None:
            config.set_main_option("sqlalchemy.url", url.replace("%", "%%"))
        return config

    def upgrade(self, url: str, target: str) -> None:
        """``alembic upgrade TARGET`` on the database of `url`, and nowhere else.

        Raises what the migrations raise; :class:`~migrate_ext.testing.surroundings.WrongDatabase`.
        """
        from alembic import command

        self.run(url, lambda config: command.upgrade(config, target))

    def not_reached(self, url: str, revisions: Sequence[str]) -> list[str]:
        """Those of `revisions` that are not applied in the database of `url`."""
        from alembic.runtime.environment import EnvironmentContext
        from alembic.script import ScriptDirectory

        found: list[str] = []

        def look(heads: Any, context: Any) -> list[Any]:
            there = {id_ for head in heads for id_ in self.history.up_to(head)}
            found.extend(id_ for id_ in revisions if id_ not in there)
            return []

        def run(config: AlembicConfig) -> None:
            scripts = ScriptDirectory.from_config(config)
            with EnvironmentContext(config, scripts, fn=look, dont_mutate=True):
                scripts.run_env()

        self.run(url, run)
        return found

    def missing_sql(self, url: str) -> str:
        """The SQL that would change the database of `url` to match the models."""
        from alembic.autogenerate import produce_migrations
        from alembic.operations import Operations
        from alembic.runtime.environment import EnvironmentContext
        from alembic.runtime.migration import MigrationContext
        from alembic.script import ScriptDirectory

        output = io.StringIO()

        def compare(heads: Any, context: MigrationContext) -> list[Any]:
            found = produce_migrations(context, context.opts["target_metadata"])
            options = {**context.opts, "as_sql": True, "output_buffer": output}
            writer = Operations(MigrationContext.configure(dialect=context.dialect, opts=options))
            waiting = [found.upgrade_ops]
            while waiting:
                operation: Any = waiting.pop(0)
                if hasattr(operation, "ops"):
                    waiting[:0] = operation.ops
                else:
                    writer.invoke(operation)
            return []

        def run(config: AlembicConfig) -> None:
            scripts = ScriptDirectory.from_config(config)
            with EnvironmentContext(config, scripts, fn=compare, dont_mutate=True):
                scripts.run_env()

        self.run(url, run)
        return output.getvalue().strip()

    def run(
        self,
        url: str,
        run: Callable[[AlembicConfig], object],
        *,
        output: io.StringIO | None = None,
        connection: object = None,
        prepare: Callable[[dict[str, Any]], None] | None = None,
    ) -> None:
        """Call `run` with a configuration whose ``env.py`` will use the database of `url`.

        output: receives what Alembic prints, and the SQL of offline mode. connection: the value of
        ``Config.attributes["connection"]`` for ``env.py``. prepare: may change the arguments of ``context.configure``.
        """
        config = self.config(url, output)
        if connection is not None:
            config.attributes["connection"] = connection
        with self.around(url, prepare):
            outside_of_loops(lambda: run(config))

    @contextmanager
    def around(
        self, url: str, prepare: Callable[[dict[str, Any]], None] | None = None
    ) -> Iterator[None]:
        """The conditions under which the project's ``env.py`` runs for the database of `url`: see :func:`surroundings`."""
        with self._inside(), surroundings(url, self.url_variables, self.env, prepare):
            yield

    @contextmanager
    def _inside(self) -> Iterator[None]:
        """A block in the configuration's folder. Afterwards ``sys.path``, which loading scripts changes, is restored."""
        folder, path = os.getcwd(), list(sys.path)
        os.chdir(self.folder)
        try:
            yield
            self._prepended = [entry for entry in sys.path if entry not in path] or self._prepended
        finally:
            sys.path[:] = path
            os.chdir(folder)


def _toml_options(ini: str, toml: str) -> bytes:
    """Alembic's part of ``pyproject.toml``; all of it if that part cannot be determined."""
    from migrate_ext.project.config import Config

    try:
        options = Config(ini, toml, "alembic").toml
    except errors.Declined:
        return read(toml)
    return json.dumps(options, sort_keys=True, default=str).encode()
