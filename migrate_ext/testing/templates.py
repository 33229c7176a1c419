"""Migrated databases from templates: built once for each state of the history, and cloned from then on.

A template's name holds the key of its state (:class:`~migrate_ext.testing.project.State`), so that looking one up is
looking up a name, and a template whose history is a prefix of another's is found among the keys of the longer one. Who
finds none builds it, under an advisory lock: on a clone of the newest prefix there is, or on an empty database.
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
    """What a project adds to migrated databases: functions that take a :class:`Database`.

    key: a text that differs if they would leave other data.
    """

    def __init__(self, functions: Sequence[Callable[[Database], object]], key: str) -> None:
        self.functions = functions
        self.key = key


class AgainBroken(CommandError):
    """A state that could not be made before; its error was raised then."""


class Templates:
    """The templates of one project on one server.

    run: a name that all processes of one test run have in common. rebuild: use only what this run has built. seeds:
    for the databases that tests get. days, number: how long, and how many, templates are kept.
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
        self.broken: set[str] = set()  # keys of states that could not be made

    def clone(self, target: str, *, seeded: bool) -> str:
        """Make a database in the state that ``upgrade TARGET`` leads to; its name.

        seeded: with what the project's seed hook adds.
        """
        state = self.project.state(target, self.databases.facts)
        if state.key in self.broken:
            raise AgainBroken(f"'upgrade {target}' fails, as it has before in this run")
        while True:
            try:
                return self.store.clone(self.template(state, seeded=seeded))
            except TemplateGone as gone:  # dropped under us: make it again
                self._found.pop(str(gone), None)
            except Exception:  # a migration's, of any kind
                self.broken.add(state.key)
                raise

    def template(self, state: State, *, seeded: bool = False) -> Template:
        """The template of a state, built if it is not there."""
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
        """The template with the longest history that `state` begins with: its number of revisions, and it."""
        names = [TEMPLATE_PREFIX + key for key in state.keys[1:]]
        usable = {n: t for n, t in self.store.find(names).items() if self._is_usable(t)}
        for count in range(len(names), 0, -1):
            template = usable.get(names[count - 1])
            if template is not None:
                return count, template
        return 0, None

    def empty(self) -> str:
        """Make an empty database; its name."""
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
        """Once: what killed runs have left. A run that keeps its databases would take those of its own workers."""
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
        if name in self.store.find([name]):  # one that may not be used: --migrate-ext-rebuild
            self.store.drop(name)
        template = self.store.publish(build, name, self.run, measure=self.rebuild)
        self._found[name] = template
        self.built.append(name)
        return template
