"""A statement that gets lost inside the executor must end the run: each test plants one loss, and nothing may be committed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from alembic.util import CommandError
from in_process_project import InProcessProject
from recording_project import RecordingProject

from migrate_ext import _core
from migrate_ext.dropin import run
from migrate_ext.errors import InternalError
from migrate_ext.execution import executor
from migrate_ext.execution import statement as statements
from migrate_ext.plans import run as plans

LOST = "CREATE TABLE lost"


class Leaky:
    """A session that loses what `lose` says: the rest goes to the real one."""

    def __init__(self, session: _core.Session, lose: Callable[..., Any]) -> None:
        self.session = session
        self.lose = lose

    def __getattr__(self, name: str) -> Any:
        return getattr(self.session, name)

    def submit(self, sql: str, *arguments: Any) -> Any:
        return self.lose(self.session, sql, *arguments)


def swallow(session: _core.Session, sql: str, *arguments: Any) -> Any:
    return [] if sql.startswith(LOST) else session.submit(sql, *arguments)


def invent(session: _core.Session, sql: str, *arguments: Any) -> Any:
    """A result that nobody gave."""
    results = swallow(session, sql, *arguments)
    return [*results, ("CREATE TABLE", -1)] if sql.startswith(LOST) else results


def repeat(session: _core.Session, sql: str, *arguments: Any) -> Any:
    if sql.startswith("CREATE TABLE twice"):
        session.submit(sql.replace("twice", "again"), *arguments)
    return session.submit(sql, *arguments)


def forget(session: _core.Session, sql: str, *arguments: Any) -> Any:
    """All that waits is thrown away when the next one comes, as once happened."""
    if sql.startswith("CREATE TABLE after"):
        session.abandon()
    return session.submit(sql, *arguments)


@pytest.fixture(params=["one", "each"])
def project(request: pytest.FixtureRequest, tmp_path: Path, database_url: str) -> InProcessProject:
    project = InProcessProject(tmp_path / "project", database_url.replace("://", "+psycopg://"))
    project.configure = {"transaction_per_migration": request.param == "each"}
    project.write(
        [
            "op.execute('CREATE TABLE first (i int)')",
            "op.execute('CREATE TABLE lost (i int)')\nop.execute('CREATE TABLE twice (i int)')",
            "op.execute('CREATE TABLE after (i int)')",
        ]
    )
    return project


MADE = {"r0001": {"first"}, "r0002": {"lost", "twice"}, "r0003": {"after"}}


def fails(project: InProcessProject) -> None:
    """The run fails, and no version row says that a migration ran of which something is missing.

    Where results no longer belong to their statements, the check of a version row may come first.
    """
    outcome = project.run(True)
    if isinstance(outcome.error, InternalError):
        assert "MIGRATE_EXT=0" in str(outcome.error)
    else:
        assert isinstance(outcome.error, CommandError), outcome.error
    there = {str(row[0]) for row in outcome.database} - {"alembic_version", "alembic_version_pkc"}
    versions = [row[1] for row in outcome.database if row[0] == "alembic_version" and len(row) == 2]
    last = str(versions[0]).strip("()") if versions else ""
    assert there == {name for revision, names in MADE.items() if revision <= last for name in names}
    assert project.configure["transaction_per_migration"] or not there


@pytest.mark.parametrize("lose", [swallow, invent, repeat, forget])
def test_a_statement_that_the_session_loses_or_sends_twice_stops_the_commit(
    project: InProcessProject, lose: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = executor.Executor.__init__

    def make(self: executor.Executor, *arguments: Any) -> None:
        made(self, *arguments)
        self.session = Leaky(self.session, lose)  # type: ignore[assignment]

    monkeypatch.setattr(executor.Executor, "__init__", make)
    fails(project)


def test_a_statement_that_the_executor_forgets_stops_the_commit(
    project: InProcessProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit = executor.Executor._submit

    def take(self: executor.Executor, statement: statements.Statement, sql: str, **kw: Any) -> bool:
        return sql.startswith(LOST) or submit(self, statement, sql, **kw)

    monkeypatch.setattr(executor.Executor, "_submit", take)
    fails(project)


def test_a_batch_abandoned_without_an_error_stops_the_commit(
    project: InProcessProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    rendered = run._Run._rendered

    def give_up(self: Any, construct: Any) -> Any:
        if str(construct).startswith("CREATE TABLE twice"):
            self.executor.abandon()
        return rendered(self, construct)

    monkeypatch.setattr(run._Run, "_rendered", give_up)
    fails(project)


def test_a_directive_that_is_never_queued_stops_the_commit(
    project: InProcessProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = run._Run.__init__

    def make(self: Any, *arguments: Any) -> None:
        made(self, *arguments)
        submit = self.executor.submit

        def pretend(rendered: str, *more: Any, **kw: Any) -> Any:
            return True if rendered.startswith(LOST) else submit(rendered, *more, **kw)

        self.executor.submit = pretend

    monkeypatch.setattr(run._Run, "__init__", make)
    fails(project)


def test_a_result_that_is_never_checked_stops_the_commit(
    project: InProcessProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    confirm = executor.Executor._confirm
    dropped: list[object] = []

    def skip(self: executor.Executor, results: Any) -> None:
        if results and not dropped:
            dropped.append(self._queue.popleft())
            self._pending -= 1
            results = results[1:]
        confirm(self, results)

    monkeypatch.setattr(executor.Executor, "_confirm", skip)
    fails(project)
    assert dropped


def test_the_ledger_accepts_a_run_without_a_planted_loss(project: InProcessProject) -> None:
    assert project.agree().raised == []


class LeakyPlan:
    """A session that loses one statement, and says that it ran."""

    def __init__(self, session: _core.Session) -> None:
        self.session = session

    def __getattr__(self, name: str) -> Any:
        return getattr(self.session, name)

    def run_batch(self, statements: list[str]) -> list[tuple[str, int]]:
        at = next((i for i, sql in enumerate(statements) if "TABLE t2" in sql), len(statements))
        results = self.session.run_batch([*statements[:at], *statements[at + 1 :]])
        return [*results[:at], *[("CREATE TABLE", -1)][: len(statements) - at], *results[at:]]


@pytest.mark.parametrize("mode", ["one", "each"])
def test_a_statement_that_a_compiled_plan_loses_stops_the_commit(
    tmp_path: Path, database_url: str, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = RecordingProject(
        tmp_path / "project", database_url, way="compiled", mode=mode, count=5
    )
    made = plans.Runner.__init__

    def make(self: plans.Runner, *arguments: Any) -> None:
        made(self, *arguments)
        self.session = LeakyPlan(self.session)  # type: ignore[assignment]

    monkeypatch.setattr(plans.Runner, "__init__", make)
    done = project.run("upgrade", "head")  # in a fork of this process
    assert done.code == 1 and "internal error of migrate_ext" in done.said, done.said
    with project.connect() as connection:
        found = connection.execute("SELECT to_regclass('t1')::text, to_regclass('t3')").fetchone()
    assert found == ("t1" if mode == "each" else None, None)
    monkeypatch.undo()
    assert project.run("upgrade", "head").code == 0
    assert project.state() == 5
