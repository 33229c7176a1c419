"""A project's migrations for tests: their order, the key of each state, and how to run them on a database.

The C core reads the revision files (:class:`History`); if it declines, Alembic's own classes do. Alembic always runs
the migrations: ``alembic.command`` with a ``Config``, the project's ``env.py``, and our runtime under it.

``env.py`` gets its database in the three usual ways: in the environment variables for the URL, in ``sqlalchemy.url`` of
the configuration and, if a test has its own engine, in ``Config.attributes["connection"]``. An ``env.py`` that connects
to another database is stopped before it sends a statement (:class:`WrongDatabase`).
"""

from __future__ import annotations

import glob
import hashlib
import importlib.metadata
import io
import json
import logging.config
import os
import re
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from migrate_ext import __version__, errors
from migrate_ext.testing.sources import Imports, read

if TYPE_CHECKING:
    from alembic.config import Config as AlembicConfig

    from migrate_ext import _core

_FORMAT = "1"  # of keys and templates; a new number invalidates all templates
_URL_VARIABLE = re.compile(rb"\burl_variable\s*=\s*[\"'](\w+)[\"']")


class WrongDatabase(Exception):
    """``env.py`` connected to another database than the one that it was given; nothing was run there."""


class Revision(NamedTuple):
    """One revision file: its id, the ids of ``down_revision`` and ``depends_on``, its labels, and its path."""

    id: str
    down: tuple[str, ...]
    depends_on: tuple[str, ...]
    labels: tuple[str, ...]
    path: str

    @property
    def parents(self) -> tuple[str, ...]:
        return (*self.down, *self.depends_on)


class Files(NamedTuple):
    """The files in the version folders, even if they are no valid history: revisions, and (path, problem)."""

    revisions: list[Revision]
    broken: list[tuple[str, str]]


class History:
    """All revisions in the order in which ``upgrade heads`` runs them, and the heads."""

    def __init__(
        self,
        revisions: list[Revision],
        heads: tuple[str, ...],
        order: Callable[[str], list[str]],
        labels: Callable[[str], tuple[str, ...]],
    ) -> None:
        self.revisions = revisions
        self.heads = heads
        self._order = order
        self.labels = labels  # of the branch that a revision is on

    def up_to(self, target: str) -> tuple[str, ...]:
        """The ids that ``upgrade TARGET`` runs on an empty database, in that order.

        target: as for that command. Raises ``CommandError`` (ours or Alembic's) if it does not exist.
        """
        return tuple(self._order(target))


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


def _names(value: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    return (value,) if isinstance(value, str) else tuple(value)


def _revision(scanned: _core._Scanned, path: str) -> Revision:
    id_, down, labels, depends_on, _ = scanned
    assert id_ is not None
    return Revision(id_, _names(down), _names(depends_on), _names(labels), path)


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
                    self._history = self._read()
                except errors.Declined:
                    self._history = self._read_with_alembic()
        return self._history

    def _read(self) -> History:
        from migrate_ext.project.config import Config
        from migrate_ext.project.scripts import Scripts, command_errors

        config = Config(self.ini, self.toml, "alembic")
        sys.path[:0] = config.paths("prepend_sys_path")
        scripts = Scripts(config)
        graph = scripts.graph
        self._directory = scripts.directory

        def order(target: str) -> list[str]:
            with command_errors():
                found = graph.iterate(target, (), implicit_base=True)
            return [graph.revision(index) for index in reversed(found)]

        revisions = []
        for id_ in order("heads"):
            index = graph.lookup(id_)
            revisions.append(_revision(scripts.scanned[index], scripts.paths[index]))
        return History(revisions, graph.heads, order, lambda id_: graph.labels(graph.lookup(id_)))

    def _read_with_alembic(self) -> History:
        from alembic.script import ScriptDirectory

        scripts = ScriptDirectory.from_config(self.config())
        self._directory = scripts.dir

        def order(target: str) -> list[str]:
            found = scripts.iterate_revisions(target, (), implicit_base=True)
            return [script.revision for script in found][::-1]

        revisions = []
        for id_ in order("heads"):
            script = scripts.get_revision(id_)
            revisions.append(
                Revision(
                    id_,
                    _names(script.down_revision),
                    _names(script.dependencies),
                    tuple(sorted(_names(script.branch_labels))),
                    script.path,
                )
            )
        return History(
            revisions,
            tuple(scripts.get_heads()),
            order,
            lambda id_: tuple(sorted(scripts.get_revision(id_).branch_labels)),
        )

    def read_files(self) -> Files:
        """The revision files, read one by one: the history may be broken."""
        from migrate_ext import _core
        from migrate_ext.project.config import Config
        from migrate_ext.project.scripts import identifiers, load

        files = Files([], [])
        with self._inside():
            try:
                config = Config(self.ini, self.toml, "alembic")
                folders = config.version_locations(config.script_location())
                recursive = config.boolean("recursive_version_locations")
                sys.path[:0] = config.paths("prepend_sys_path")
            except errors.Declined:
                return Files(self.history.revisions, [])  # Alembic has loaded them without an error
            for folder in folders:
                for place, _, _ in os.walk(folder):
                    if (place != folder and not recursive) or place.endswith("__pycache__"):
                        continue
                    for name, answer in zip(*_core.scan_folder(place), strict=True):
                        path = os.path.join(place, name)
                        try:
                            if isinstance(answer, str) or answer[0] is None:
                                answer = identifiers(load(path))
                        except (errors.CommandError, errors.Declined) as error:
                            files.broken.append((path, str(error)))
                        else:
                            files.revisions.append(_revision(answer, path))
        return files

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

        Raises what the migrations raise; :class:`WrongDatabase`.
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


@contextmanager
def surroundings(
    url: str | None,
    variables: Sequence[str],
    env: str,
    prepare: Callable[[dict[str, Any]], None] | None = None,
) -> Iterator[None]:
    """A block in which ``env.py`` can run for the database of `url`: sets the environment variables, installs our
    runtime, keeps pytest's logging, refuses connections to other databases.

    url: None for a database that is not PostgreSQL; then connections are not checked. variables: environment variables
    for the URL. env: the path of ``env.py``, for messages. prepare: as for :meth:`Project.run`.
    """
    from migrate_ext.dropin import hooks

    values = {"MIGRATE_EXT_LOCK": "false"}
    if url is not None:
        values.update(dict.fromkeys(variables, url))
    with (
        _environment(values),
        _quiet_logging(),
        hooks.installed(),
        _only_on(url, variables, env, prepare),
    ):
        yield


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def _quiet_logging() -> Iterator[None]:
    """Disables ``fileConfig``, which ``env.py`` usually calls: it closes all handlers, including pytest's."""
    configure = logging.config.fileConfig
    logging.config.fileConfig = lambda *_, **__: None
    try:
        yield
    finally:
        logging.config.fileConfig = configure


@lru_cache
def _database_of(url: str) -> str | None:
    from sqlalchemy.engine import make_url

    return make_url(url).database


@contextmanager
def _only_on(
    url: str | None,
    variables: Sequence[str],
    env: str,
    prepare: Callable[[dict[str, Any]], None] | None,
) -> Iterator[None]:
    """Within this block ``EnvironmentContext.configure`` refuses connections to other databases."""
    from alembic.runtime.environment import EnvironmentContext

    expected = _database_of(url) if url is not None else None
    configure = EnvironmentContext.configure

    def guarded(self: EnvironmentContext, *args: Any, **kw: Any) -> None:
        if prepare is not None:
            prepare(kw)
        configure(self, *args, **kw)
        connection = self.get_context().connection
        if connection is None or expected is None or self.is_offline_mode():
            return
        info = getattr(connection.connection.dbapi_connection, "info", None)
        name = getattr(info, "dbname", None) or connection.engine.url.database
        if name != expected:
            raise WrongDatabase(
                f"{env} connected to the database {name!r}, not to {expected!r} that the test made. "
                f"It was offered in {', '.join(variables)}, in the option sqlalchemy.url of the "
                "configuration and nowhere else; name the variable that it reads with the ini option "
                "migrate_ext_url_variable (docs/testing.md)"
            )

    # type.__setattr__ bypasses Alembic's metaclass, which would compile the function `alembic.context.configure` again.
    # That is not needed: the function calls this attribute, and its signature is the same.
    type.__setattr__(EnvironmentContext, "configure", guarded)
    try:
        yield
    finally:
        type.__setattr__(EnvironmentContext, "configure", configure)


def outside_of_loops(run: Callable[[], object]) -> None:
    """Call `run`, which may start an event loop: in another thread if a loop is running in this one."""
    asyncio = sys.modules.get("asyncio")
    if asyncio is None or asyncio._get_running_loop() is None:
        run()
        return
    raised: list[BaseException] = []

    def target() -> None:
        try:
            run()
        except BaseException as error:  # raised again in the caller's thread
            raised.append(error)

    thread = threading.Thread(target=target, name="migrate_ext")
    thread.start()
    thread.join()
    if raised:
        raise raised[0]
