"""Whoever looks at statements on a driver's connection or cursor sees them all: a batch passes by nobody's code.

One case for each way in which logging and tracing libraries put themselves between SQLAlchemy and a driver.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import psycopg2.extensions
import psycopg2.extras
import pytest
import sqlalchemy
from in_process_project import InProcessProject
from sqlalchemy.engine import default
from test_async import ENV as ASYNC_ENV

from migrate_ext import _core, counters

BODIES = [
    "op.create_table('t0', sa.Column('id', sa.Integer))",
    "op.execute('CREATE TABLE t1 ()')\nop.get_bind().execute(sa.text('SELECT 1'))",
    "op.execute('CREATE TABLE t2 ()')",
]
seen: list[str] = []


def note(sql: Any) -> None:
    """What the lock and SQLAlchemy ask for themselves is not what migrations send."""
    text = sql.decode() if isinstance(sql, bytes) else str(sql)
    if not any(word in text for word in ("pg_catalog", "current_schema", "pg_type", "show ")):
        seen.append(" ".join(text.split()))


def watching(original: Callable[..., Any]) -> Callable[..., Any]:
    def execute(self: Any, sql: Any, *args: Any, **kw: Any) -> Any:
        note(sql)
        return original(self, sql, *args, **kw)

    return execute


class Cursor(psycopg.Cursor[Any]):
    execute = watching(psycopg.Cursor.execute)


class AsyncCursor(psycopg.AsyncCursor[Any]):
    execute = watching(psycopg.AsyncCursor.execute)


class Connection(psycopg.Connection[Any]):
    def cursor(self, *args: Any, **kw: Any) -> Any:
        return Cursor(self)


class Cursor2(psycopg2.extensions.cursor):
    def execute(self, sql: Any, vars: Any = None) -> None:
        note(sql)
        super().execute(sql, vars)


class Connection2(psycopg2.extensions.connection):
    def cursor(self, *args: Any, **kw: Any) -> Any:
        return super().cursor(*args, **{**kw, "cursor_factory": Cursor2})


class Proxy:
    """A wrapper as tracers make them: it is no driver's class at all."""

    def __init__(self, wrapped: Any) -> None:
        self.__dict__["wrapped"] = wrapped

    def __getattr__(self, name: str) -> Any:
        return getattr(self.wrapped, name)

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        return self.wrapped.__class__

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.wrapped, name, value)

    def cursor(self, *args: Any, **kw: Any) -> Any:
        return CursorProxy(self.wrapped.cursor(*args, **kw))


class CursorProxy(Proxy):
    def execute(self, sql: Any, *args: Any) -> Any:
        note(sql)
        return self.wrapped.execute(sql, *args)

    def __iter__(self) -> Any:
        return iter(self.wrapped)


def factory(
    project: InProcessProject,
    patch: pytest.MonkeyPatch,
    *,
    cursor: Any = None,
    connection: Any = None,
) -> None:
    arguments: dict[str, Any] = {}
    if cursor is not None:
        arguments["cursor_factory"] = cursor
    if connection is not None:
        arguments["connection_factory"] = connection
    project.engine_options = {"connect_args": arguments}


def created_by(project: InProcessProject, make: Callable[[str], Any]) -> None:
    project.engine_options = {"creator": lambda: make(project.bare)}


def set_on_the_object(url: str) -> Any:
    connection = psycopg.connect(url)
    connection.cursor = lambda *args, **kw: Cursor(connection)  # type: ignore[method-assign]
    return connection


def cursor_on_the_object(url: str) -> Any:
    connection = psycopg.connect(url)
    connection.cursor_factory = Cursor
    return connection


def cursor2_on_the_object(url: str) -> Any:
    connection = psycopg2.connect(url)
    connection.cursor_factory = Cursor2
    return connection


def patched(owner: Any, name: str) -> Callable[[InProcessProject, pytest.MonkeyPatch], None]:
    def patch_it(_: InProcessProject, patch: pytest.MonkeyPatch) -> None:
        patch.setattr(owner, name, watching(getattr(owner, name)))

    return patch_it


def patched_dialect(_: InProcessProject, patch: pytest.MonkeyPatch) -> None:
    original = default.DefaultDialect.do_execute

    def do_execute(self: Any, cursor: Any, sql: str, *args: Any) -> None:
        note(sql)
        original(self, cursor, sql, *args)

    patch.setattr(default.DefaultDialect, "do_execute", do_execute)


def listening(_: InProcessProject, patch: pytest.MonkeyPatch) -> None:
    """On all engines, as SQLCommenter and error trackers do."""

    def before(_: Any, __: Any, sql: str, *args: Any) -> None:
        note(sql)

    sqlalchemy.event.listen(sqlalchemy.Engine, "before_cursor_execute", before)
    patch.setattr(
        InProcessProject,
        "stop",
        lambda: sqlalchemy.event.remove(sqlalchemy.Engine, "before_cursor_execute", before),
        raising=False,
    )


def on_the_connection(name: str) -> Callable[[InProcessProject, pytest.MonkeyPatch], None]:
    """A method of SQLAlchemy's connection, replaced on the one object."""

    def patch_it(project: InProcessProject, _: pytest.MonkeyPatch) -> None:
        def replace(connection: Any) -> None:
            original = getattr(connection, name)

            def replaced(*args: Any, **kw: Any) -> Any:
                seen.append(name)
                return original(*args, **kw)

            setattr(connection, name, replaced)

        project.connected = replace

    return patch_it


def patched_adapter(project: InProcessProject, patch: pytest.MonkeyPatch) -> None:
    """The cursors of SQLAlchemy's adapter around an async connection."""
    from sqlalchemy.dialects.postgresql.psycopg import AsyncAdapt_psycopg_cursor

    for owner in AsyncAdapt_psycopg_cursor.__mro__:
        if "execute" in vars(owner):
            patch.setattr(owner, "execute", watching(vars(owner)["execute"]))
            return


WAYS: dict[str, tuple[str, Callable[[InProcessProject, pytest.MonkeyPatch], None]]] = {
    "psycopg: a cursor class": ("psycopg", lambda project, p: factory(project, p, cursor=Cursor)),
    "psycopg: a connection class": (
        "psycopg",
        lambda project, p: created_by(project, Connection.connect),
    ),
    "psycopg: a proxy": (
        "psycopg",
        lambda project, p: created_by(project, lambda url: Proxy(psycopg.connect(url))),
    ),
    "psycopg: a method of one object": (
        "psycopg",
        lambda project, p: created_by(project, set_on_the_object),
    ),
    "psycopg: a factory of one object": (
        "psycopg",
        lambda project, p: created_by(project, cursor_on_the_object),
    ),
    "psycopg: the cursor's execute is patched": ("psycopg", patched(psycopg.Cursor, "execute")),
    "psycopg: a base's generator is patched": (
        "psycopg",
        patched(psycopg.Cursor.__mro__[1], "_execute_gen"),
    ),
    "async psycopg: a cursor class": (
        "psycopg_async",
        lambda project, p: factory(project, p, cursor=AsyncCursor),
    ),
    "async psycopg: its execute is patched": (
        "psycopg_async",
        patched(psycopg.AsyncCursor, "execute"),
    ),
    "psycopg2: a cursor class": (
        "psycopg2",
        lambda project, p: factory(project, p, cursor=Cursor2),
    ),
    "psycopg2: a connection class": (
        "psycopg2",
        lambda project, p: factory(project, p, connection=Connection2),
    ),
    "psycopg2: a factory of one object": (
        "psycopg2",
        lambda project, p: created_by(project, cursor2_on_the_object),
    ),
    "SQLAlchemy: the connection's execute is patched": (
        "psycopg",
        patched(sqlalchemy.Connection, "execute"),
    ),
    **{
        f"SQLAlchemy: {name} is replaced on the connection": ("psycopg", on_the_connection(name))
        for name in ("execute", "_execute_ddl", "_execute_context")
    },
    "SQLAlchemy: the async adapter's execute is patched": ("psycopg_async", patched_adapter),
    "SQLAlchemy: the dialect's do_execute is patched": ("psycopg", patched_dialect),
    "SQLAlchemy: a listener on all engines": ("psycopg2", listening),
}


@pytest.mark.parametrize("way", WAYS)
def test_classes_that_intercept_statements_see_each_of_them(
    way: str, tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver, prepare = WAYS[way]
    project = InProcessProject(tmp_path / "project", database_url.replace("://", f"+{driver}://"))
    if driver == "psycopg_async":
        (project.folder / "env.py").write_text(ASYNC_ENV)
        project.configure = {"user_module_prefix": ""}
    project.write(BODIES)
    prepare(project, monkeypatch)
    before = dict(counters.plain_reasons)
    found = []
    try:
        for batched in False, True:
            seen.clear()
            outcome = project.run(batched)
            assert outcome.raised == []
            found.append(list(seen))
    finally:
        getattr(InProcessProject, "stop", lambda: None)()
    assert found[0] == found[1] and found[0]
    assert any("t2" in sql for sql in found[0]) or "on the connection" in way
    assert counters.plain_reasons != before


def test_a_patch_that_a_migration_makes_is_seen_from_then_on(
    tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = InProcessProject(tmp_path / "project", database_url.replace("://", "+psycopg://"))
    original = psycopg.Cursor.execute
    monkeypatch.setattr(psycopg.Cursor, "execute", original)  # put back afterwards
    patch = "import psycopg, test_foreign_classes as t\npsycopg.Cursor.execute = t.watching(psycopg.Cursor.execute)"
    project.write([BODIES[0], patch, BODIES[1], BODIES[2]])
    found = []
    for batched in False, True:
        seen.clear()
        psycopg.Cursor.execute = original  # type: ignore[method-assign]
        assert project.run(batched).raised == []
        found.append([sql for sql in seen if "Composed" not in sql])  # not this test's own
    assert found[0] == found[1] and len(found[0]) >= 4


@pytest.mark.parametrize(
    "arguments",
    [
        {"cursor_factory": psycopg2.extras.RealDictCursor},
        {"connection_factory": psycopg2.extras.MinTimeLoggingConnection},
    ],
)
def test_connections_and_cursors_of_psycopg2_extras_are_not_borrowed(
    tmp_path: Path, database_url: str, arguments: dict[str, Any]
) -> None:
    project = InProcessProject(tmp_path / "project", database_url.replace("://", "+psycopg2://"))
    project.write(BODIES)
    project.engine_options = {"connect_args": arguments}
    before = _core.counters()["statements"]
    project.run(True)
    assert _core.counters()["statements"] == before


@pytest.mark.parametrize("cursor", [psycopg.Cursor, psycopg.ClientCursor])
def test_the_drivers_own_cursors_are_batched(
    tmp_path: Path, database_url: str, cursor: Any
) -> None:
    project = InProcessProject(tmp_path / "project", database_url.replace("://", "+psycopg://"))
    project.write(BODIES)
    project.engine_options = {"connect_args": {"cursor_factory": cursor}}
    before = _core.counters()["statements"]
    assert project.agree().raised == []
    assert _core.counters()["statements"] > before
