"""Template databases on a server: found, published, cloned, dropped when nobody uses them.

A template's database is named ``migrate_ext_t_<key>``. It becomes a template in one transaction: it is renamed, closed
to connections, and described by a comment. So there is no incomplete template, whenever a run dies.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import psycopg
from psycopg import sql

from migrate_ext.testing.databases import MAX_DOOMED, Databases

# The first of the two numbers of our advisory locks, for builders. databases.py has the one for owners.
_BUILD_LOCK = 0x6D5F6275
TEMPLATE_PREFIX = "migrate_ext_t_"
_STRATEGIES = ("wal_log", "file_copy")  # since PostgreSQL 15
_REFRESH = 3600  # seconds after which a template's last use is recorded again

# Settings whose value is a list of names, which are quoted one by one.
_LISTS = frozenset(
    ("search_path", "temp_tablespaces", "session_preload_libraries", "local_preload_libraries")
)


class Template(NamedTuple):
    """A finished template: the name of its database, and the data in its comment.

    made, used: seconds since the epoch. strategy: the fastest way to clone it; None if the server has only one. size:
    in bytes. settings: those of ``ALTER DATABASE ... SET``, which clones do not inherit, as (role or "", setting). run:
    the run that built it.
    """

    name: str
    made: float
    used: float
    strategy: str | None
    size: int
    settings: tuple[tuple[str, str], ...]
    run: str


class TemplateStore:
    """The templates of one server."""

    def __init__(self, databases: Databases) -> None:
        self.databases = databases

    def clone(self, template: Template) -> str:
        """Create a copy of a template, and return its name. Raises :class:`~migrate_ext.testing.databases.TemplateGone`."""
        name = self.databases.create(template.name, template.strategy)
        for role, setting in template.settings:
            variable, _, value = setting.partition("=")
            who = sql.SQL("ROLE {} IN DATABASE {}" if role else "DATABASE {}").format(
                *([sql.Identifier(role)] if role else []), sql.Identifier(name)
            )
            # As in pg_dump: the elements of a list (search_path) are quoted one by one.
            parts = value.split(", ") if variable in _LISTS else [value]
            values = sql.SQL(", ").join(sql.Literal(part.strip('"')) for part in parts)
            self.databases.query(
                sql.SQL("ALTER {} SET {} TO {}").format(
                    who, sql.Identifier(*variable.split(".")), values
                )
            )
        return name

    def find(self, names: Iterable[str] | None = None) -> dict[str, Template]:
        """The finished templates by name; all of them, or those in `names`."""
        found = self.databases.query(
            "SELECT datname::text, shobj_description(oid, 'pg_database') FROM pg_database "
            "WHERE starts_with(datname::text, %s) AND (%s::text[] IS NULL OR datname = ANY(%s))",
            [TEMPLATE_PREFIX, *[list(names) if names is not None else None] * 2],
        )
        return {
            name: template for name, comment in found if (template := _described(name, comment))
        }

    @contextmanager
    def building(self, key: str) -> Iterator[None]:
        """A block that only one process at a time can be in, of all that use this server with this key."""
        number = int(key[:8], 16) - 2**31
        self.databases.query("SELECT pg_advisory_lock(%s, %s)", [_BUILD_LOCK, number])
        try:
            yield
        finally:
            if not self.databases.admin.closed:
                self.databases.query("SELECT pg_advisory_unlock(%s, %s)", [_BUILD_LOCK, number])

    def publish(self, build: str, name: str, run: str, *, measure: bool = False) -> Template:
        """Turn a finished database into the template `name`.

        build: its present name. measure: find the fastest way to clone it, even if known for a template of its size.
        """
        self.databases.disconnect(build)
        size = int(self.databases.query("SELECT pg_database_size(%s::text)", [build])[0][0])
        known = [t for t in self.find().values() if size / 2 < t.size < size * 2]
        if known and not measure:
            strategy = max(known, key=lambda template: template.made).strategy
        else:
            strategy = self._fastest_strategy(build)
        settings = self.databases.query(
            "SELECT coalesce(r.rolname::text, ''), unnest(s.setconfig) FROM pg_db_role_setting s "
            "JOIN pg_database d ON d.oid = s.setdatabase LEFT JOIN pg_roles r ON r.oid = s.setrole "
            "WHERE d.datname = %s",
            [build],
        )
        now = time.time()
        template = Template(name, now, now, strategy, size, tuple(settings), run)
        with self.databases.admin.transaction():
            for statement in (
                sql.SQL("ALTER DATABASE {} RENAME TO {}").format(
                    sql.Identifier(build), sql.Identifier(name)
                ),
                sql.SQL("ALTER DATABASE {} IS_TEMPLATE true ALLOW_CONNECTIONS false").format(
                    sql.Identifier(name)
                ),
                self._comment(template),
            ):
                self.databases.admin.execute(statement)
        return template

    def _comment(self, template: Template) -> sql.Composed:
        text = json.dumps({**template._asdict(), "by": "migrate_ext"})
        return sql.SQL("COMMENT ON DATABASE {} IS {}").format(
            sql.Identifier(template.name), sql.Literal(text)
        )

    def touch(self, template: Template) -> Template:
        """Record the use of a template, unless that was done recently."""
        now = time.time()
        if now - template.used < _REFRESH:
            return template
        template = template._replace(used=now)
        with self.building(template.name[len(TEMPLATE_PREFIX) :]):
            if template.name in self.find([template.name]):
                self.databases.query(self._comment(template))
        return template

    def drop(self, name: str) -> None:
        """Drop a template, if it exists."""
        try:
            self.databases.query(
                sql.SQL("ALTER DATABASE {} IS_TEMPLATE false").format(sql.Identifier(name))
            )
        except psycopg.errors.InvalidCatalogName:
            return
        self.databases.drop_now(name)

    def prune(self, *, days: float, number: int) -> list[str]:
        """Drop templates that were not used for `days`, and the least recently used ones beyond `number`.

        Templates whose use was recorded within the last two hours stay. Returns the names of those dropped.
        """
        now = time.time()
        by_use = sorted(self.find().values(), key=lambda template: -template.used)
        old = [
            template.name
            for index, template in enumerate(by_use)
            if now - template.used
            > (_REFRESH * 2 if index >= number else max(days * 86400, _REFRESH * 2))
        ]
        for name in old:
            self.drop(name)
        return old

    def _fastest_strategy(self, build: str) -> str | None:
        """The faster way to copy this database on this server: each is tried, twice if they are close."""
        if self.databases.version < 150000:
            return None
        best: dict[str, float] = {}
        for _ in range(2):
            for strategy in _STRATEGIES:
                begin = time.perf_counter()
                name = self.databases.create(build, strategy)
                taken = time.perf_counter() - begin
                self.databases.doom(name)
                best[strategy] = min(taken, best.get(strategy, taken))
            if max(best.values()) > 1.3 * min(best.values()):
                break
        self.databases.sweep(leave=MAX_DOOMED)
        return min(best, key=lambda strategy: best[strategy])


def _described(name: str, comment: str | None) -> Template | None:
    """A template as its comment describes it; None if the database is not a template of ours."""
    try:
        found: Mapping[str, Any] = json.loads(comment or "")
        settings = tuple((str(role), str(setting)) for role, setting in found["settings"])
        return Template(
            name,
            float(found["made"]),
            float(found["used"]),
            found["strategy"],
            int(found["size"]),
            settings,
            str(found["run"]),
        )
    except (ValueError, KeyError, TypeError):
        return None
