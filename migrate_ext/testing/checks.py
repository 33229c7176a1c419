"""The tests that every migration folder should have; :mod:`migrate_ext.testing.collect` makes pytest items of them.

A check returns if it passes. Otherwise it raises :class:`Failed`, with a message for the user, or :class:`Skipped`.
"""

from __future__ import annotations

import subprocess
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from alembic import command
from alembic.util import CommandError

from migrate_ext.testing import catalogue, rows
from migrate_ext.testing.catalogue import State, difference
from migrate_ext.testing.ground import (
    BorrowedDatabase,
    Failed,
    Ground,
    NotReversible,
    Skipped,
    Statements,
    insert,
    not_reversible,
    told,
    up_to_minimum,
)
from migrate_ext.testing.history import Revision
from migrate_ext.testing.project import Project
from migrate_ext.testing.templates import Templates

if TYPE_CHECKING:
    from migrate_ext.testing.databases import Database


def check_files(project: Project) -> None:
    """Every id is unique, every parent exists, there is no cycle, and every file can be read."""
    found = project.read_files()
    problems = [f"{path}: {problem}" for path, problem in found.broken]
    ids = Counter(revision.id for revision in found.revisions)
    for id_, count in ids.items():
        if count > 1:
            paths = ", ".join(r.path for r in found.revisions if r.id == id_)
            problems.append(f"the revision {id_} is in {count} files: {paths}")
    for revision in found.revisions:
        for kind, names in (
            ("down_revision", revision.down),
            ("depends_on", revision.depends_on),
        ):
            problems += [
                f"{revision.path}: {kind} names {name}, which is in no file"
                for name in names
                if not _is_there(name, found.revisions)
            ]
    cycle = _cycle({r.id: r.parents for r in found.revisions})
    if cycle:
        problems.append(f"revisions in a circle: {' -> '.join(cycle)}")
    if problems:
        raise Failed("\n".join(problems))


def _is_there(name: str, all_: list[Revision]) -> bool:
    """Whether `name` names a revision; it may be a label, or the beginning of an id."""
    return any(name == r.id or name in r.labels or r.id.startswith(name) for r in all_)


def _cycle(parents: Mapping[str, tuple[str, ...]]) -> list[str]:
    """The revisions of a cycle, the first one also at the end; empty if there is no cycle."""
    left = {id_: {p for p in of if p in parents} for id_, of in parents.items()}
    while free := [id_ for id_, of in left.items() if not of]:
        for id_ in free:
            del left[id_]
        for of in left.values():
            of.difference_update(free)
    if not left:
        return []
    path = [next(iter(left))]
    while path[-1] not in path[:-1]:
        path.append(min(left[path[-1]]))
    return path[path.index(path[-1]) :][::-1]


def check_heads(project: Project) -> None:
    """There is at most one head for each branch label, and one without a label."""
    history = project.history
    heads_of: dict[str, list[str]] = {}
    for head in dict.fromkeys(history.heads):  # check_files reports duplicate ids
        for label in history.labels(head) or [""]:
            heads_of.setdefault(label, []).append(head)
    problems = [
        f"{len(heads)} heads{f' of the branch {label}' if label else ''}: {', '.join(heads)}\n"
        f"join them: alembic merge -m 'merge' {' '.join(heads)}"
        for label, heads in heads_of.items()
        if len(heads) > 1
    ]
    if problems:
        raise Failed("\n".join(problems))


def check_plans(project: Project) -> None:
    """Compiled plans are up to date: ``migrate-ext compile --check``.

    In a process of its own: a plan depends on the modules that are imported for it, and here many are already imported.
    """
    if project.plan_file() is None:
        raise Skipped("there is no plan file; 'migrate-ext compile' writes one")
    done = subprocess.run(
        [sys.executable, "-m", "migrate_ext", "-c", project.file, "compile", "--check"],
        cwd=project.folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise Failed(f"{done.stdout}{done.stderr}\nreproduce: migrate-ext compile --check")


# -------------------------------------------------------------------------------------------------
# Checks on databases


class Checks:
    """The checks that need databases; one object for all items of a process.

    data: revision -> rows to insert before it. minimum: the oldest revision that can be downgraded to, or None.
    """

    def __init__(
        self,
        project: Project,
        templates: Templates,
        data: Mapping[str, rows.Data],
        minimum: str | None,
    ) -> None:
        self.project = project
        self.templates = templates
        self.databases = templates.databases
        self.data = data
        self._ground = Ground(project, templates)
        self._irreversible = up_to_minimum(project, minimum)

    def close(self) -> None:
        self._ground.close()

    def check_revision(self, id_: str) -> None:
        """Upgrade to one revision from its parent, with the project's data; downgrade, and upgrade again: each state
        has the same schema both times.
        """
        ground = self._ground
        ground.reach(id_)
        if id_ not in self.data and ground.changes_only_schema(id_):
            self._up_down_up(id_, ground)
            return
        # On a copy: it changes data twice, and the next revision must find data that was changed once.
        with ground.copy() as other:
            if id_ in self.data:
                insert(other.database, self.data[id_])
            self._up_down_up(id_, other)

    def _up_down_up(self, id_: str, ground: Ground) -> None:
        before = ground.schema()
        ground.go(id_, up=True)
        first = ground.schema()
        if id_ in self._irreversible:
            return
        try:
            ground.go(id_, up=False)
        except NotReversible as reason:
            warnings.warn(
                f"{id_} cannot be downgraded ({reason}); the ini option migrate_ext_minimum_downgrade says that "
                "this is meant",
                stacklevel=2,
            )
            return
        changed = difference(
            before, ground.schema(), ("before the upgrade", "after upgrade and downgrade")
        )
        if changed:
            ground.leave()
            raise Failed(
                f"the downgrade of {ground.where(id_)} does not undo its upgrade\n{changed}"
            )
        ground.go(id_, up=True, again=True)
        changed = difference(
            first, ground.schema(), ("after the upgrade", "after upgrade, downgrade, upgrade")
        )
        if changed:
            ground.leave()
            raise Failed(f"{ground.where(id_)} does another thing the second time\n{changed}")

    def check_models(self) -> None:
        """The models match the database that the migrations create: ``alembic check``."""
        self._on_heads(self._check_models)

    def _check_models(self, database: Database) -> None:
        try:
            self.project.run(database.url, lambda config: command.check(config))
        except CommandError as error:
            sql = self.project.missing_sql(database.url)
            raise Failed(
                f"{error}\n-- what 'revision --autogenerate' would add, as SQL:\n{sql}"
            ) from error

    def check_base(self) -> None:
        """``downgrade base`` leaves nothing behind."""
        if self._irreversible:
            raise Skipped("migrate_ext_minimum_downgrade: the base is out of reach")
        self._on_heads(self._check_base, spoils=True)

    def _check_base(self, database: Database) -> None:
        try:
            self.project.run(database.url, lambda config: command.downgrade(config, "base"))
        except Exception as error:
            reason = not_reversible(error)
            if reason is not None:
                raise Skipped(f"a revision cannot be downgraded ({reason})") from error
            raise Failed(self._told(error, "downgrade base")) from error
        left = difference(
            self._ground.base or self._read_base(),
            catalogue.read(database.dsn),
            ("in an empty database", "left behind"),
        )
        if left:
            raise Failed(f"'downgrade base' leaves something behind\n{left}")

    def _read_base(self) -> State:
        with self._database("base") as empty:
            self.project.run(empty.url, command.ensure_version)
            return catalogue.read(empty.dsn)

    def check_offline(self) -> None:
        """``upgrade heads --sql`` succeeds, and its SQL creates the same schema as ``upgrade heads``."""
        statements = Statements()
        with self._database("base") as database:
            try:
                self.project.run(
                    database.url,
                    lambda config: command.upgrade(config, "heads", sql=True),
                    output=statements,
                )
            except Exception as error:
                raise Failed(self._told(error, "upgrade heads --sql")) from error
            offline = statements.made_at_once(database)
        if offline is not None:
            try:
                self._compare_with_heads(offline)
                return
            except Failed:
                pass  # sent as one string, all statements are parsed before the first runs: that may be the cause
        with self._database("base") as database:
            offline = statements.made_one_by_one(database)
        self._compare_with_heads(offline)

    def _compare_with_heads(self, offline: State) -> None:
        def compare(online: Database) -> None:
            changed = difference(
                catalogue.read(online.dsn), offline, ("online", "by the offline SQL")
            )
            if changed:
                raise Failed(
                    f"'upgrade heads --sql' makes another schema than 'upgrade heads'\n{changed}"
                )

        self._on_heads(compare)

    def _on_heads(self, check: Callable[[Database], None], *, spoils: bool = False) -> None:
        """Run a check on a database at the heads: first on the one on which all revisions were tried, if it exists.

        A failure there counts only if the check also fails on a database that ``upgrade heads`` has made. spoils: the
        check changes the database.
        """
        with self._ground.at_heads(spoils) as database:
            if database is not None:
                try:
                    check(database)
                    return
                except (Failed, Skipped):
                    pass
        with self._database("heads") as database:
            check(database)

    def _database(self, target: str) -> BorrowedDatabase:
        return BorrowedDatabase(self.templates, target)

    def _told(self, error: BaseException, command: str) -> str:
        return f"{told(error)}\nreproduce: on a database at the heads, alembic {command}"
