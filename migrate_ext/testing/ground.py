"""The database on which checks move through the history, and the exceptions of a check."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import psycopg
from alembic import command
from alembic.util import CommandError
from sqlalchemy.exc import DBAPIError

from migrate_ext import errors
from migrate_ext.execution import driver_errors
from migrate_ext.execution.plain import reason_not_plain
from migrate_ext.execution.plain_bytecode import looks_plain
from migrate_ext.testing import catalogue, rows
from migrate_ext.testing.catalogue import Catalogue, State
from migrate_ext.testing.project import Project
from migrate_ext.testing.templates import Templates

if TYPE_CHECKING:
    from migrate_ext.testing.databases import Database
    from migrate_ext.testing.walk import Steps


_MAY_CHANGE_ROWS = re.compile(rb"execute|bulk_insert|get_bind|run_sync")


class Failed(Exception):
    """A check has found a defect; the text is for the user."""


class Skipped(Exception):
    """A check cannot be run, because of its settings or of a defect that another check reports."""


class BorrowedDatabase:
    """A database in the state of a target, dropped at the end of the block."""

    def __init__(self, templates: Templates, target: str) -> None:
        self.templates = templates
        self.target = target

    def __enter__(self) -> Database:
        templates = self.templates
        if self.target == "base":
            name = templates.empty()
        else:
            try:
                name = templates.clone(self.target, seeded=False)
            except (CommandError, DBAPIError) as error:
                raise Skipped(f"upgrade {self.target} fails: {told(error)}") from error
        self.database = templates.databases.database(name)
        return self.database

    def __exit__(self, *_: object) -> None:
        self.database.close()
        self.templates.databases.drop(self.database.name)


class NotReversible(Exception):
    """A revision has no downgrade, as its file shows; the text says how."""


class Ground:
    """A database on which revisions are tried one after the other, in the order of ``upgrade heads``.

    It starts as a clone of the template of the longest prefix of the state that is needed. After a failure it starts
    again, on a new database; from the first failure on, a copy is kept to start from.
    """

    def __init__(self, project: Project, templates: Templates) -> None:
        self.project = project
        self.templates = templates
        self.databases = templates.databases
        self.order = [revision.id for revision in project.history.revisions]
        self.index = {id_: number for number, id_ in enumerate(self.order)}
        self.position = 0
        self.database: Database = None  # type: ignore[assignment]  # until reach()
        self._steps: Steps | None = None
        self._one_run: bool | None = None  # env.py commits after each step; None: unknown
        self._runs = 0  # how often env.py calls run_migrations(); not known before the first step
        self._catalogue: Catalogue | None = None
        self._schema: State | None = None
        self.base: State | None = None  # the schema before the first revision, if it started there
        self._trunk: tuple[str, int] | None = None
        self._failures = 0
        self._stopped_by: str | None = None

    def where(self, id_: str) -> str:
        """A revision with its file, for messages."""
        path = self.project.history.revisions[self.index[id_]].path
        return f"{id_} ({os.path.relpath(path)})"

    def reach(self, id_: str) -> None:
        """Move to the state before a revision. Raises :class:`Skipped` if an earlier revision cannot be run."""
        index = self.index[id_]
        if self._stopped_by is not None and index > self.index[self._stopped_by]:
            raise Skipped(f"its history cannot be run: {self.where(self._stopped_by)} fails")
        if self.database is None or self.position > index:
            self._begin(index)
        self._climb(index)

    def _climb(self, index: int) -> None:
        while self.position < index:
            on_the_way = self.order[self.position]
            try:
                self.go(on_the_way, up=True)
            except Failed as error:
                raise Skipped(
                    f"its history cannot be run: {self.where(on_the_way)} fails"
                ) from error

    def _begin(self, index: int) -> None:
        self.leave()
        if self._failures:
            trunk, self._trunk = self._trunk, None
            if trunk is not None and trunk[1] > index:
                self.databases.drop(trunk[0])
                trunk = None
            name, self.position = trunk or self._nearest(index)
            self._stand_on(name)
            self._climb(index)
            self._end_run()
            self._stop_reading()
            self._trunk = (name, self.position)
            self._stand_on(self._copy_of(name))
            return
        name, self.position = self._nearest(index)
        self._stand_on(name)
        if self.position == 0:
            self.base = self.schema()

    def _nearest(self, index: int) -> tuple[str, int]:
        """A new database in the state before revision number `index`, or as near to it as a template exists; and the
        number of its revisions.
        """
        whole = self.project.state("heads", self.databases.facts)
        state = whole._replace(revisions=whole.revisions[:index], keys=whole.keys[: index + 1])
        count, template = self.templates.newest_prefix(state)
        if template is None:
            name = self.templates.empty()
            self.project.run(self.databases.database(name).url, command.ensure_version)
            return name, 0
        return self.templates.store.clone(template), count

    def _stand_on(self, name: str) -> None:
        self.database = self.databases.database(name)
        self._catalogue = Catalogue(self.database.dsn)
        self._schema = None

    def schema(self) -> State:
        """The present schema of the database."""
        if self._schema is None:
            self._schema = self._read()
        return self._schema

    def _read(self) -> State:
        assert self._catalogue is not None
        return self._catalogue.read()

    def go(self, id_: str, *, up: bool, again: bool = False) -> None:
        """Run one revision up or down. Raises :class:`Failed`, :class:`NotReversible`.

        again: it has already succeeded once.
        """
        from migrate_ext.testing.walk import Steps, Walk

        try:
            if self._steps is None:
                # The first step shows how often env.py calls run_migrations(): a Walk is one call.
                kind = Steps if self._one_run is False or self._runs == 0 else Walk
                self._steps = kind(self.project, self.database)
            if not up and not hasattr(self._steps.module(id_), "downgrade"):
                raise NotReversible("it has no downgrade()")
            self._steps.go(id_, up=up)
        except NotReversible:
            raise
        except Exception as error:
            self._steps = None
            reason = None if up else not_reversible(error)
            if reason is None or (self._schema is not None and self._read() != self._schema):
                self.leave()
            if reason is not None:
                raise NotReversible(reason) from error
            if up and not again:
                self._stopped_by = id_
            raise Failed(self._told(error, id_, up, again)) from error
        self.position += 1 if up else -1
        self._schema = None
        steps = self._steps
        if self._runs == 0:
            self._runs = steps.runs
            self._end_run()
            if self._runs > 1:
                self._one_run = False
        elif self._one_run is None:
            assert isinstance(steps, Walk)
            self._one_run = steps.is_committed()
            if not self._one_run:
                self._end_run()
        rows = steps.version_rows()
        if up and rows is not None and id_ not in rows:
            self.leave()
            self._stopped_by = id_
            raise Failed(
                f"the upgrade of {self.where(id_)} ends without an error, and its version row is not "
                f"committed (the version table has: {', '.join(sorted(rows)) or 'nothing'}): a "
                "migration has ended Alembic's transaction with a commit() or rollback() of its own. "
                "Use op.get_context().autocommit_block() there"
            )

    def _told(self, error: BaseException, id_: str, up: bool, again: bool) -> str:
        revision = self.project.history.revisions[self.index[id_]]
        parent = " ".join(revision.down) or "base"
        what = "upgrade" if up else "downgrade"
        commands = [f"alembic upgrade {parent}", f"alembic upgrade {id_}"]
        if parent == "base":
            del commands[0]
        if again or not up:
            commands.append(f"alembic downgrade {parent}")
        if again:
            commands.append(f"alembic upgrade {id_}")
        twice = ", after it was upgraded and downgraded," if again else ""
        return (
            f"{what} of {self.where(id_)}{twice} fails\n{told(error)}\n"
            f"reproduce: on an empty database, {' && '.join(commands)}"
        )

    def changes_only_schema(self, id_: str) -> bool:
        """Whether a revision certainly changes no rows. False if in doubt."""
        with open(self.project.history.revisions[self.index[id_]].path, "rb") as file:
            source = file.read()
        if _MAY_CHANGE_ROWS.search(source):
            return False
        functions = self._functions(id_)
        if functions is not None and all(map(looks_plain, functions)):
            return True
        reasons = [reason_not_plain(source, name) for name in ("upgrade", "downgrade")]
        return all(reason is None or "no function" in reason for reason in reasons)

    def _functions(self, id_: str) -> list[Any] | None:
        """``upgrade`` and ``downgrade`` of a revision, if a run is open that can load it; else None."""
        if self._steps is None:
            return None
        try:
            module = self._steps.module(id_)
        except Exception:
            return None  # running the revision will report the error
        return [vars(module)[name] for name in ("upgrade", "downgrade") if hasattr(module, name)]

    def copy(self) -> Ground:
        """Another ground, with a copy of this database in the same state; dropped at the end of a block."""
        self._end_run()
        other = Ground(self.project, self.templates)
        other.position = self.position
        other._one_run, other._runs = self._one_run, self._runs
        self._stop_reading()
        other._stand_on(self._copy_of(self.database.name))
        self._catalogue = Catalogue(self.database.dsn)
        return other

    def _copy_of(self, name: str) -> str:
        self.databases.disconnect(name)  # an engine of env.py may keep its connection in a pool
        return self.databases.create(name)

    def __enter__(self) -> Ground:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _end_run(self) -> None:
        steps, self._steps = self._steps, None
        if steps is not None:
            steps.close()

    def _stop_reading(self) -> None:
        if self._catalogue is not None:
            self._catalogue.close()
            self._catalogue = None

    @contextmanager
    def at_heads(self, spoils: bool) -> Iterator[Database | None]:
        """This database, if all revisions were tried, else None. spoils: drop it after the block."""
        if self.database is not None and self.position == len(self.order) - 1:
            try:
                self._climb(len(self.order))  # the last revision was tried on a copy
            except Skipped:
                pass  # this has dropped the database
        if self.database is None or self.position < len(self.order):
            yield None
            return
        self._end_run()
        try:
            yield self.database
        finally:
            self._schema = None
            if spoils:
                self._drop()

    def leave(self) -> None:
        """Drop this database, which is in no state of the history. The next step starts on another one."""
        if self.database is not None:
            self._failures += 1
            self._drop()

    def _drop(self) -> None:
        self._end_run()
        self._stop_reading()
        self.databases.drop(self.database.name)
        self.database = None  # type: ignore[assignment]

    def close(self) -> None:
        """Drop the databases."""
        if self.database is not None:
            self._drop()
        if self._trunk is not None:
            self.databases.drop(self._trunk[0])
            self._trunk = None


class Statements(io.StringIO):
    """Collects the statements of offline mode: Alembic writes one at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.statements: list[str] = []

    def write(self, text: str) -> int:
        if text.strip():
            self.statements.append(text)
        return len(text)

    def made_at_once(self, database: Database) -> State | None:
        """The schema that they create when sent as one string; None if that fails, as it may although they can be sent
        one by one.
        """
        try:
            database.connect(autocommit=True).execute("".join(self.statements))
        except psycopg.Error:
            return None
        return catalogue.read(database.dsn)

    def made_one_by_one(self, database: Database) -> State:
        """The schema that they create when sent one by one. Raises :class:`Failed`."""
        connection = database.connect(autocommit=True)
        for statement in self.statements:
            try:
                connection.execute(statement)
            except Exception as error:
                raise Failed(
                    f"the SQL of 'upgrade heads --sql' fails\n{error}\n[SQL: {statement.strip()}]"
                ) from error
        return catalogue.read(database.dsn)


def insert(database: Database, data: rows.Data) -> None:
    if callable(data):
        data(database)
        return
    with database.engine.begin() as connection:
        rows.insert(connection, data)
    database.engine.dispose()


def not_reversible(error: BaseException) -> str | None:
    """How a downgrade shows that it is not implemented; None for any other error."""
    if isinstance(error, NotImplementedError):
        return "NotImplementedError"
    if isinstance(
        error, (AttributeError, errors.BrokenFile)
    ) and "has no attribute 'downgrade'" in str(error):
        return "it has no downgrade()"
    return None


def told(error: BaseException) -> str:
    """A text about an error of a migration, with its file, its line and the statement."""
    lines = []
    place = getattr(error, "migration_step", None)
    path, line = errors.blamed_line(error)
    if place is None and path is not None:
        place = f"{os.path.relpath(path)}, line {line}"
    if place is not None:
        lines.append(f"in {place}:")
    original = getattr(error, "orig", None) or error
    lines.append(f"{type(original).__name__}: {str(original).strip()}")
    statement = getattr(error, "statement", None)
    if statement:
        lines.append(f"[SQL: {statement.strip()}]")
        if _ROLE.match(statement) and driver_errors.sqlstate(original) == "42710":
            lines.append(_ROLES_STAY)
    return "\n".join(lines)


_ROLE = re.compile(r"\s*CREATE\s+(ROLE|USER|GROUP)\b", re.IGNORECASE)
_ROLES_STAY = (
    "Roles belong to the whole server, not to a database: this one was made when the migration ran "
    "in another. Make it only if it is not there: docs/testing.md, 'Roles'"
)


def up_to_minimum(project: Project, minimum: str | None) -> frozenset[str]:
    """The revisions that are not downgraded: up to `minimum`."""
    return frozenset(project.history.up_to(minimum)) if minimum else frozenset()
