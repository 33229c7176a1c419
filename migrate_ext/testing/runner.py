"""``alembic_runner``: the API of pytest-alembic, over our runtime.

Names and behaviour are those of pytest-alembic 0.13: the history is one sequence of revisions between ``base`` and
``heads``; steps move through it one revision at a time, and insert the rows that the project gives for a revision.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import alembic.command
import pytest
import sqlalchemy
from alembic.config import Config as AlembicConfig
from alembic.runtime.environment import EnvironmentContext
from alembic.util import CommandError

from migrate_ext.dropin import script as revisions
from migrate_ext.testing import rows
from migrate_ext.testing.options import configuration_files
from migrate_ext.testing.surroundings import outside_of_loops, surroundings

_BEYOND = "not a valid downgrade target"


@dataclass
class Config:
    """How to run Alembic, and the rows to insert.

    config_options: ``file``, ``script_location``, ``sqlalchemy.url``, ``target_metadata``,
    ``process_revision_directives``, ``include_schemas``. alembic_config: a configuration object instead of a file.
    before_revision_data, at_revision_data: revision -> rows to insert before, and after, its upgrade.
    minimum_downgrade_revision: the oldest revision that tests downgrade to. skip_revisions: stamped, not run.
    """

    config_options: dict[str, Any] = field(default_factory=dict)
    alembic_config: AlembicConfig | None = None
    before_revision_data: Mapping[str, Any] | None = None
    at_revision_data: Mapping[str, Any] | None = None
    minimum_downgrade_revision: str | None = None
    skip_revisions: Sequence[str] | None = None

    @classmethod
    def from_raw_config(cls, raw: Any = None) -> Config:
        """From the value of the fixture ``alembic_config``."""
        if isinstance(raw, cls):
            return raw
        if isinstance(raw, AlembicConfig):
            return cls(alembic_config=raw)
        options = dict(raw or {})
        ours = {
            name: options.pop(name)
            for name in (
                "before_revision_data",
                "at_revision_data",
                "minimum_downgrade_revision",
                "skip_revisions",
            )
            if name in options
        }
        return cls(config_options=options, **ours)


class History:
    """All revisions in one sequence, oldest first, between ``base`` and ``heads``."""

    def __init__(self, revision_map: Any) -> None:
        self.map = revision_map
        found = [script.revision for script in revision_map.iterate_revisions("heads", "base")]
        self.revisions: list[str] = ["base", *reversed(found), "heads"]
        self._index = {revision: number for number, revision in enumerate(self.revisions)}

    def validate_revision(self, revision: str | None) -> str:
        """`revision`, with ``heads`` for ``head``. Raises ValueError if it is not in this history."""
        revision = "heads" if revision == "head" else revision
        if revision is None or revision not in self._index:
            raise ValueError(f"Revision {revision} is not a valid revision in alembic's history")
        return revision

    def _beside(self, revision: str, by: int) -> str | None:
        index = self._index[self.validate_revision(revision)] + by
        return self.revisions[index] if 0 <= index < len(self.revisions) else None

    def previous_revision(self, revision: str) -> str | None:
        return self._beside(revision, -1)

    def next_revision(self, revision: str) -> str | None:
        return self._beside(revision, 1)

    def revision_range(self, current_revision: str | None, dest_revision: str | None) -> list[str]:
        """The revisions from the one to the other, including both; empty if they are in the opposite order."""
        first, last = (
            self.validate_revision(current_revision),
            self.validate_revision(dest_revision),
        )
        return self.revisions[self._index[first] : self._index[last] + 1]

    def revision_window(
        self, current_revision: str | None, dest_revision: str | None
    ) -> list[tuple[str, str]]:
        """The steps from the one to the other, as (from, to)."""
        span = self.revision_range(current_revision, dest_revision)
        return list(zip(span, span[1:], strict=False))


class RevisionSuccess(Exception):
    """Ends ``alembic revision`` before it writes a file."""


class Runner:
    """Moves one database through the history. ``config``, ``engine``, ``history``: see this module."""

    def __init__(self, config: Config, engine: Any, pytest_config: pytest.Config | None) -> None:
        self.config = config
        self.engine = engine
        self._output = io.StringIO()
        self.alembic_config = _alembic_config(config, engine, self._output, pytest_config)
        named = pytest_config.getini("migrate_ext_url_variable") if pytest_config else []
        self._variables = [*named, "DATABASE_URL"]
        self._tables: dict[str, sqlalchemy.MetaData] = {}
        with self._around():
            self._scripts = revisions.ScriptDirectory.from_config(self.alembic_config)
        self.history = History(self._scripts.revision_map)

    # state

    @property
    def heads(self) -> list[str]:
        return list(self._scripts.get_heads())

    @property
    def current(self) -> str:
        """The database's revision; ``"base"`` before the first."""
        found = ["base"]

        def look(heads: Any, context: Any) -> list[Any]:
            found[:0] = heads[:1]
            return []

        self._run_env(look)
        return found[0]

    def refresh_history(self) -> History:
        """Read the revision files again."""
        with self._around():
            self._scripts = revisions.ScriptDirectory.from_config(self.alembic_config)
        self.history = History(self._scripts.revision_map)
        return self.history

    # commands

    def raw_command(self, name: str, *arguments: Any, **options: Any) -> list[str]:
        """Run a function of ``alembic.command``; returns the lines it prints. Raises RuntimeError for a CommandError."""
        self._output.seek(0)
        self._output.truncate()
        command = getattr(alembic.command, name)
        try:
            with self._around():
                outside_of_loops(lambda: command(self.alembic_config, *arguments, **options))
        except CommandError as error:
            raise RuntimeError(error) from error
        return self._output.getvalue().splitlines(keepends=True)

    def generate_revision(
        self,
        process_revision_directives: Callable[..., None] | None = None,
        *,
        prevent_file_generation: bool = True,
        autogenerate: bool = False,
        **options: Any,
    ) -> list[str] | None:
        """``alembic revision``; writes no file if `prevent_file_generation`, the default."""
        given = self.alembic_config.attributes.get("process_revision_directives")

        def process(*arguments: Any) -> None:
            for directive in (given, process_revision_directives):
                if directive is not None:
                    directive(*arguments)
            if prevent_file_generation:
                raise RevisionSuccess

        try:
            lines = self.raw_command(
                "revision",
                process_revision_directives=process,
                autogenerate=autogenerate,
                **options,
            )
        except RevisionSuccess:
            return None
        self.refresh_history()
        return lines

    def set_revision(self, revision: str) -> None:
        """Stamp the database with a revision, without running a migration."""
        self.raw_command("stamp", revision)

    # steps

    def managed_upgrade(
        self, dest_revision: str | None, *, current: str | None = None, return_current: bool = True
    ) -> str | None:
        """Upgrade, one revision after the other, and insert the rows given for each."""
        before, at = self.config.before_revision_data or {}, self.config.at_revision_data or {}
        for from_, to in self.history.revision_window(current or self.current, dest_revision):
            self.insert_into(None, before.get(to), from_)
            if to in (self.config.skip_revisions or ()):
                self.set_revision(to)
            else:
                self._run_env(self._upgrade_to(to), to)
            self.insert_into(None, at.get(to), to)
        return self.current if return_current else None

    def managed_downgrade(
        self, dest_revision: str | None, *, current: str | None = None, return_current: bool = True
    ) -> str | None:
        """Downgrade, one revision after the other."""
        steps = self.history.revision_window(dest_revision, current or self.current)
        for to, from_ in reversed(steps):
            if from_ in (self.config.skip_revisions or ()):
                self.set_revision(to)
                continue
            try:
                self._run_env(self._downgrade_to(to), to)
            except CommandError as error:
                if _BEYOND not in str(error):  # on another branch: a later step gets there
                    raise
        return self.current if return_current else None

    def migrate_up_to(
        self, revision: str, *, current: str | None = None, return_current: bool = True
    ) -> str | None:
        return self.managed_upgrade(revision, current=current, return_current=return_current)

    def migrate_up_before(self, revision: str) -> str | None:
        return self.managed_upgrade(self.history.previous_revision(revision))

    def migrate_up_one(self) -> str | None:
        """Upgrade by one revision, and return the revision reached; None at the head."""
        current = self.current
        reached = self.managed_upgrade(self.history.next_revision(current), current=current)
        return None if reached == current else reached

    def migrate_down_to(
        self, revision: str | None, *, current: str | None = None, return_current: bool = True
    ) -> str | None:
        self.history.validate_revision(revision)
        self.managed_downgrade(revision, current=current, return_current=return_current)
        return revision

    def migrate_down_before(self, revision: str) -> str | None:
        return self.migrate_down_to(self.history.next_revision(revision))

    def migrate_down_one(self) -> str | None:
        """Downgrade by one revision, and return the revision reached."""
        current = self.current
        previous = self.history.previous_revision(current)
        self.managed_downgrade(previous, current=current)
        return previous

    def roundtrip_next_revision(self) -> str | None:
        """Upgrade, downgrade and upgrade by one revision, and return the revision reached; None at the head."""
        if self.migrate_up_one() is None:
            return None
        self.migrate_down_one()
        return self.migrate_up_one()

    # rows

    def insert_into(self, table: str | None, data: Any = None, revision: str | None = None) -> None:
        """Insert rows (a dict, or a list of dicts) into a table in its present form.

        table: None if each row names its own under ``"__tablename__"``.
        """
        if data is not None and data != []:
            self._with_connection(lambda connection: rows.insert(connection, data, table))

    def table_at_revision(
        self, name: str, *, revision: str | None = None, schema: str | None = None
    ) -> sqlalchemy.Table:
        """A table as it is in the database now, cached for `revision` (by default the current one)."""
        metadata = self._tables.setdefault(revision or self.current, sqlalchemy.MetaData())
        key = f"{schema}.{name}" if schema else name
        if key not in metadata.tables:
            self._with_connection(
                lambda c: sqlalchemy.Table(name, metadata, schema=schema, autoload_with=c)
            )
        return metadata.tables[key]

    # running

    def _upgrade_to(self, revision: str) -> Callable[..., Any]:
        return lambda heads, context: revisions.upgrade_steps(self._scripts, revision, heads)

    def _downgrade_to(self, revision: str) -> Callable[..., Any]:
        return lambda heads, context: revisions.downgrade_steps(self._scripts, revision, heads)

    def _run_env(self, steps: Callable[..., Any], target: str | None = None) -> None:
        options: dict[str, Any] = {"destination_rev": target, "dont_mutate": target is None}

        def run() -> None:
            with EnvironmentContext(self.alembic_config, self._scripts, fn=steps, **options):
                self._scripts.run_env()

        with self._around():
            outside_of_loops(run)

    @contextmanager
    def _around(self) -> Iterator[None]:
        url = getattr(self.engine, "url", None)
        if url is None or url.get_backend_name() != "postgresql":
            with surroundings(None, (), "env.py"):
                yield
            return
        with surroundings(url.render_as_string(hide_password=False), self._variables, "env.py"):
            yield

    def _with_connection(self, work: Callable[[Any], Any]) -> None:
        if isinstance(self.engine, sqlalchemy.engine.Connection):
            work(self.engine)
        elif hasattr(self.engine, "sync_engine"):
            outside_of_loops(lambda: _run_async(self.engine, work))
        else:
            with self.engine.begin() as connection:
                work(connection)


def _run_async(engine: Any, work: Callable[[Any], Any]) -> None:
    import asyncio

    async def run() -> None:
        async with engine.begin() as connection:
            await connection.run_sync(work)
        await engine.dispose()

    asyncio.run(run())


def _alembic_config(
    config: Config, engine: Any, output: io.StringIO, pytest_config: pytest.Config | None
) -> AlembicConfig:
    options = config.config_options
    found = config.alembic_config or options.get("alembic_config")
    if found is None:
        ini = Path(options.get("file") or options.get("config_file_name") or "alembic.ini")
        toml = Path("pyproject.toml")
        if pytest_config is not None and not ini.exists():
            ini, toml = configuration_files(pytest_config)
        arguments: dict[str, Any] = {"stdout": output}
        if hasattr(AlembicConfig, "get_alembic_option") and toml.exists():
            arguments["toml_file"] = str(toml)
        found = AlembicConfig(str(ini), **arguments)
    found.stdout = output
    url = options.get("sqlalchemy.url")
    engine_url = getattr(engine, "url", None)
    if url is None and engine_url is not None and engine_url.get_backend_name() == "postgresql":
        url = engine_url.render_as_string(hide_password=False)
    if url is not None:
        found.set_main_option("sqlalchemy.url", url.replace("%", "%%"))
    get = getattr(found, "get_alembic_option", found.get_main_option)
    location = options.get("script_location") or get("script_location") or "migrations"
    if not os.path.isabs(location) and ":" not in location and not os.path.isdir(location):
        location = os.path.join(os.path.dirname(found.config_file_name or ""), location)
    found.set_main_option("script_location", location.replace("%", "%%"))
    found.attributes["connection"] = engine
    for name, default in (
        ("target_metadata", None),
        ("process_revision_directives", None),
        ("include_schemas", True),
    ):
        found.attributes[name] = options.get(name, default)
    return found


@contextmanager
def runner(
    config: Any = None, engine: Any = None, *, pytest_config: pytest.Config | None = None
) -> Iterator[Runner]:
    """A :class:`Runner` outside of a fixture. config: as for the fixture ``alembic_config``."""
    yield Runner(Config.from_raw_config(config), engine, pytest_config)


def create_alembic_fixture(raw_config: Any = None) -> Any:
    """A fixture like ``alembic_runner`` with a configuration of its own, for a second history."""

    @pytest.fixture
    def alembic_fixture(request: pytest.FixtureRequest, alembic_engine: Any) -> Iterator[Runner]:
        with runner(raw_config, alembic_engine, pytest_config=request.config) as running:
            yield running

    return alembic_fixture
