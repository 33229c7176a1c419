"""Migrated databases from templates: built once for each state of the history, and then cloned.

A template's name contains the key of its state (:class:`~migrate_ext.testing.project.State`), so that it is found by
name. A template for a prefix of a history is found by the keys of the longer history. If there is no template, it is
built under an advisory lock: on a clone of the template of the longest prefix, or on an empty database.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

from alembic.util import CommandError

from migrate_ext.locking import outcome, uncommitted
from migrate_ext.testing.databases import Database, Databases, TemplateGone
from migrate_ext.testing.project import Project, State
from migrate_ext.testing.template_store import TEMPLATE_PREFIX, Template, TemplateStore


class Seeds:
    """Functions of the project that add data to migrated databases; they take a :class:`Database`.

    key: a text that changes if the functions may add other data.
    """

    def __init__(self, functions: Sequence[Callable[[Database], object]], key: str) -> None:
        self.functions = functions
        self.key = key


class AgainBroken(CommandError):
    """A state that could not be built before in this run; its error was raised then."""


class Templates:
    """The templates of one project on one server.

    run: a name that all processes of one test run share. rebuild: use only templates that this run has built. seeds:
    for seeded databases. days, number: how long templates are kept unused, and how many.
    """

    def __init__(
        self,
        databases: Databases,
        project: Project,
        *,
        run: str = "",
        rebuild: bool = False,
        seeds: Seeds | None = None,
        days: float = 14,
        number: int = 50,
    ) -> None:
        self.databases = databases
        self.store = TemplateStore(databases)
        self.project = project
        self.run = run
        self.rebuild = rebuild
        self.seeds = seeds
        self.days, self.number = days, number
        self._found: dict[str, Template] = {}
        self._swept = False
        self.built: list[str] = []  # names, for the report
        self.broken: set[str] = set()  # keys of states that could not be built

    def clone(self, target: str, *, seeded: bool) -> str:
        """Create a database in the state that ``upgrade TARGET`` leads to, and return its name.

        seeded: with the data that the project's seed hook adds. Raises :class:`AgainBroken`, and what a migration
        raises.
        """
        state = self.project.state(target, self.databases.facts)
        if state.key in self.broken:
            raise AgainBroken(f"'upgrade {target}' fails, as it has before in this run")
        while True:
            try:
                return self.store.clone(self.template(state, seeded=seeded))
            except TemplateGone as gone:  # dropped by another process: build it again
                self._found.pop(str(gone), None)
            except Exception:  # a migration may raise anything
                self.broken.add(state.key)
                raise

    def template(self, state: State, *, seeded: bool = False) -> Template:
        """The template of a state, built if it does not exist."""
        seeds = self.seeds if seeded and self.seeds is not None and self.seeds.functions else None
        key = state.key
        if seeds is not None:
            key = hashlib.sha256(f"{key} {seeds.key}".encode()).hexdigest()[:32]
        name = TEMPLATE_PREFIX + key
        found = self._found.get(name) or self._look_up([name])
        if found is None:
            with self.store.building(key):
                found = self._look_up([name])
                if found is None:
                    if seeds is None:
                        found = self._build(name, state)
                    else:
                        found = self._build_seeded(name, self.template(state), seeds)
            self.store.prune(days=self.days, number=self.number)
        return found

    def newest_prefix(self, state: State) -> tuple[int, Template | None]:
        """The template of the longest prefix of `state`'s history: (number of its revisions, template)."""
        names = [TEMPLATE_PREFIX + key for key in state.keys[1:]]
        usable = {n: t for n, t in self.store.find(names).items() if self._is_usable(t)}
        for count in range(len(names), 0, -1):
            template = usable.get(names[count - 1])
            if template is not None:
                return count, template
        return 0, None

    def empty(self) -> str:
        """Create an empty database, and return its name."""
        self._drop_orphans()
        return self.databases.create()

    def _look_up(self, names: list[str]) -> Template | None:
        self._drop_orphans()
        for name, template in self.store.find(names).items():
            if self._is_usable(template):
                self._found[name] = self.store.touch(template)
                return self._found[name]
        return None

    def _is_usable(self, template: Template) -> bool:
        return not self.rebuild or template.run == self.run

    def _drop_orphans(self) -> None:
        """Once per process, drop the databases of killed runs. Not in a run that keeps its databases: it would drop
        those of its own workers that have ended.
        """
        if not self._swept:
            self._swept = True
            if self.databases.keep:
                return
            self.databases.drop_orphans()

    def _build(self, name: str, state: State) -> Template:
        count, prefix = self.newest_prefix(state)
        try:
            build = self.store.clone(prefix) if prefix is not None else self.databases.create()
        except TemplateGone:
            return self._build(name, state)
        try:
            if count < len(state.revisions) or not state.revisions:
                url = self.databases.database(build).url
                self.project.upgrade(url, state.target)
                left = self.project.not_reached(url, state.revisions)
                if left:
                    raise CommandError(
                        f"'upgrade {state.target}' ended without an error, and {outcome.some(left)} "
                        f"is not committed. Either {uncommitted.BY_ENV_PY}; or "
                        f"{uncommitted.BY_A_MIGRATION}."
                    )
            return self._publish(build, name)
        except BaseException:
            self.databases.drop(build)
            raise

    def _build_seeded(self, name: str, plain: Template, seeds: Seeds) -> Template:
        build = self.store.clone(plain)
        database = self.databases.database(build)
        try:
            for function in seeds.functions:
                function(database)
            database.close()
            return self._publish(build, name)
        except BaseException:
            database.close()
            self.databases.drop(build)
            raise

    def _publish(self, build: str, name: str) -> Template:
        if name in self.store.find([name]):  # built by another run: --migrate-ext-rebuild
            self.store.drop(name)
        template = self.store.publish(build, name, self.run, measure=self.rebuild)
        self._found[name] = template
        self.built.append(name)
        return template
