"""Single steps of a history: up one revision, down one revision, on one database.

Alembic runs ``env.py`` once for a command, and ``env.py`` opens a connection. A :class:`Walk` makes one such run last: it
goes on in a thread of its own, which stands still between the steps, each of which is one transaction. An ``env.py`` that
keeps all of a run in one transaction of its own cannot be watched from outside, so it gets a run for each step
(:class:`Steps`), as typing one command after the other would.
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

_END_SECONDS = 60.0  # for env.py to come to its end


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
        self.version_table = ""  # as SQL; of the last of them

    def _note(self, context: Any) -> None:
        self.runs += 1
        quote = context.dialect.identifier_preparer.quote
        names = (context.version_table_schema, context.version_table)
        self.version_table = ".".join(quote(name) for name in names if name)

    def version_rows(self) -> set[str] | None:
        """What can be seen from outside in the version table; None where there is no such table."""
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
        """A revision's file, executed. Raises what that raises."""
        script = self.scripts.get_revision(id_)
        if "module" in vars(script):
            return script.module
        with self.project.around(self.database.url):
            return script.module

    def _step(self, id_: str, up: bool) -> Any:
        script = self.scripts.get_revision(id_)
        return revisions.RevisionStep(self.scripts.revision_map, script, up)

    def close(self) -> None:
        """Nothing is open between steps."""


class Walk(Steps):
    """One run of ``env.py`` for all steps.

    Only while a step is taken does the run's surrounding hold (environment variables, working folder): between steps
    the process is as if there were no run.
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
        except BaseException as error:  # handed over to the thread that asked
            self._done.put(error)
        else:
            self._done.put(None)

    def _steps(self, heads: Any, context: Any) -> Iterator[Any]:
        """What Alembic takes for its plan. It may ask anew for a plan whose first step it has not run."""
        self._note(context)
        if self._thread is None:
            return  # the run is over, and env.py calls run_migrations() once more
        while True:
            if self._asked is None:
                self._done.put(None)  # the step before is committed: Alembic asks for the next
                self._asked = self._todo.get()
            if self._asked is None:
                return
            context.impl.memo.clear()  # the types that this run has made: another command would not know
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
        """Whether what was done can be seen from outside."""
        return not self.database.execute(
            "SELECT FROM pg_stat_activity WHERE datname = current_database() "
            "AND pid <> pg_backend_pid() AND xact_start IS NOT NULL AND backend_type = 'client backend'"
        )

    def close(self) -> None:
        """End the run; its connection is closed."""
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
