"""Single steps of a history: up one revision, down one revision, on one database.

Alembic runs ``env.py`` once per command, and ``env.py`` opens a connection. A :class:`Walk` uses one such run for all
steps: it runs in a thread, which blocks between the steps, and each step is one transaction. If ``env.py`` does a whole
run in one transaction of its own, other connections cannot see its steps; then each step gets a run of its own
(:class:`Steps`), like one command after the other.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from alembic.runtime.environment import EnvironmentContext

from migrate_ext.dropin import script as revisions
from migrate_ext.testing.databases import Database
from migrate_ext.testing.project import Project

if TYPE_CHECKING:
    from alembic.config import Config

_END_SECONDS = 60.0  # how long to wait for the end of env.py


def _run(config: Config, scripts: revisions.ScriptDirectory, steps: Any) -> None:
    with EnvironmentContext(config, scripts, fn=steps):
        scripts.run_env()


def _each_in_its_transaction(arguments: dict[str, Any]) -> None:
    arguments["transaction_per_migration"] = True


class Steps:
    """One run of ``env.py`` for each step."""

    def __init__(self, project: Project, database: Database) -> None:
        self.project = project
        self.database = database
        with project.around(database.url):
            self.scripts = revisions.ScriptDirectory.from_config(project.config(database.url))
        self.runs = 0  # how often env.py has called run_migrations() in one run
        self.version_table = ""  # as SQL; that of the last call

    def _note(self, context: Any) -> None:
        self.runs += 1
        quote = context.dialect.identifier_preparer.quote
        names = (context.version_table_schema, context.version_table)
        self.version_table = ".".join(quote(name) for name in names if name)

    def version_rows(self) -> set[str] | None:
        """The committed rows of the version table; None if it does not exist."""
        table = self.version_table.replace("'", "''")
        if not self.database.execute(f"SELECT to_regclass('{table}') IS NOT NULL")[0][0]:
            return None
        rows = self.database.execute(f"SELECT version_num FROM {self.version_table}")
        return {str(row[0]) for row in rows}

    def go(self, id_: str, *, up: bool) -> None:
        """Run one revision's ``upgrade`` or ``downgrade``. Raises what it raises."""
        self.runs = 0

        def steps(heads: Any, context: Any) -> list[Any]:
            self._note(context)
            return [self._step(id_, up)]

        self.project.run(
            self.database.url,
            lambda config: _run(config, self.scripts, steps),
            prepare=_each_in_its_transaction,
        )

    def module(self, id_: str) -> Any:
        """The module of a revision, executed. Raises what that raises."""
        script = self.scripts.get_revision(id_)
        if "module" in vars(script):
            return script.module
        with self.project.around(self.database.url):
            return script.module

    def _step(self, id_: str, up: bool) -> Any:
        script = self.scripts.get_revision(id_)
        return revisions.RevisionStep(self.scripts.revision_map, script, up)

    def close(self) -> None:
        """Does nothing: between steps nothing is open."""


class Walk(Steps):
    """One run of ``env.py`` for all steps.

    The environment variables and the working folder of the run are set only during a step: between steps the process
    is unchanged.
    """

    def __init__(self, project: Project, database: Database) -> None:
        super().__init__(project, database)
        self._todo: SimpleQueue[tuple[str, bool] | None] = SimpleQueue()
        self._done: SimpleQueue[BaseException | None] = SimpleQueue()
        self._asked: tuple[str, bool] | None = None
        self._config = project.config(database.url)
        self._thread: threading.Thread | None = threading.Thread(
            target=self._work, name="migrate_ext walk", daemon=True
        )
        with project.around(database.url, _each_in_its_transaction):
            self._thread.start()
            self._wait()

    def _work(self) -> None:
        try:
            _run(self._config, self.scripts, self._steps)
        except BaseException as error:  # raised in the thread that waits
            self._done.put(error)
        else:
            self._done.put(None)

    def _steps(self, heads: Any, context: Any) -> Iterator[Any]:
        """The steps that Alembic runs. It may call this again if it has not run the first step."""
        self._note(context)
        if self._thread is None:
            return  # the run is over, and env.py calls run_migrations() once more
        while True:
            if self._asked is None:
                self._done.put(None)  # Alembic requests the next step: the one before is committed
                self._asked = self._todo.get()
            if self._asked is None:
                return
            context.impl.memo.clear()  # types that this run has created: a new command would not know them
            yield self._step(*self._asked)
            self._asked = None

    def _wait(self) -> None:
        thread, error = self._thread, None
        while True:
            try:
                error = self._done.get(timeout=1)
                break
            except Empty:
                if thread is None or not thread.is_alive():
                    raise RuntimeError("the run of env.py has ended without an answer") from None
        if error is not None:
            self._thread = None
            raise error

    def go(self, id_: str, *, up: bool) -> None:
        with self.project.around(self.database.url, _each_in_its_transaction):
            self._todo.put((id_, up))
            self._wait()

    def is_committed(self) -> bool:
        """Whether the steps done so far are committed: no other session is in a transaction."""
        return not self.database.execute(
            "SELECT FROM pg_stat_activity WHERE datname = current_database() "
            "AND pid <> pg_backend_pid() AND xact_start IS NOT NULL AND backend_type = 'client backend'"
        )

    def close(self) -> None:
        """End the run, which closes its connection."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        with self.project.around(self.database.url, _each_in_its_transaction):
            self._todo.put(None)
            thread.join(_END_SECONDS)
        if thread.is_alive():
            raise RuntimeError(
                f"env.py has not ended {_END_SECONDS:.0f} s after its last migration"
            )
