"""Migrations under ``run_sync`` are batched too, and the event loop runs while the server works."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from in_process_project import InProcessProject

from migrate_ext import _core, counters

pytest.importorskip("greenlet")

ENV = """
import asyncio
from alembic import context
from sqlalchemy.ext.asyncio import AsyncEngine

attributes = context.config.attributes

def migrate(connection):
    context.configure(connection=connection, **attributes["configure"])
    with context.begin_transaction():
        context.run_migrations()

async def tick():
    while True:
        await asyncio.sleep(0.01)
        attributes["configure"]["user_module_prefix"] += "x"

async def run():
    ticking = asyncio.ensure_future(tick())
    try:
        async with AsyncEngine(attributes["engine"]).connect() as connection:
            await connection.run_sync(migrate)
    finally:
        ticking.cancel()

asyncio.run(run())
"""


def create(n: int) -> str:
    return f"op.create_table('t{n}', sa.Column('id', sa.Integer, primary_key=True))"


@pytest.fixture
def project(tmp_path: Path, database_url: str) -> InProcessProject:
    project = InProcessProject(
        tmp_path / "project", database_url.replace("://", "+psycopg_async://")
    )
    (project.folder / "env.py").write_text(ENV)
    project.configure = {"user_module_prefix": ""}
    return project


def test_async_psycopg_is_batched(project: InProcessProject) -> None:
    project.write(
        [
            *[create(n) for n in range(50)],
            "see(op.get_bind().scalar(sa.text('SELECT count(*) FROM t7')))",
        ]
    )
    before = _core.counters()["statements"], _core.counters()["waits"] + counters.plain_waits
    outcome = project.run(True)
    assert outcome.raised == []
    assert _core.counters()["statements"] - before[0] >= 100
    assert _core.counters()["waits"] + counters.plain_waits - before[1] <= 20
    assert outcome.visible() == project.run(False).visible()


@pytest.mark.parametrize("bad", ["SELECT 1/0", "SELECT pg_terminate_backend(pg_backend_pid())"])
def test_async_psycopgs_errors_are_its_own(project: InProcessProject, bad: str) -> None:
    project.write([create(1), f"{create(2)}\nop.execute({bad!r})", create(3)])
    outcome = project.agree()
    assert "revision r0002" in outcome.error.__dict__["migration_step"]


def test_the_event_loop_runs_while_the_server_works(project: InProcessProject) -> None:
    project.write([create(1), "op.execute('SELECT pg_sleep(1)')", create(2)])
    assert project.run(True).raised == []
    assert len(project.configure["user_module_prefix"]) > 20


CANCELLED = """
import psycopg

async def stop():
    bare = attributes["configure"]["bare"]
    async with await psycopg.AsyncConnection.connect(bare, autocommit=True) as other:
        works = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()"
        while (await (await other.execute(works)).fetchone())[0] == 0:
            pass
    task.cancel()
    attributes["configure"]["cancelled"] = len(attributes["configure"]["user_module_prefix"])

async def cancelled():
    global task
    task = asyncio.ensure_future(run())
    await stop()
    await task

asyncio.run(cancelled())
"""


def test_a_cancelled_task_does_not_block_the_loop_while_the_server_stops(
    project: InProcessProject,
) -> None:
    """What was cancelled goes on for another second: its error is caught on the server."""
    env = project.folder / "env.py"
    env.write_text(env.read_text().replace("asyncio.run(run())", CANCELLED))
    project.configure["bare"] = project.bare
    # The server's postmaster signals the process and its group: one request may cancel twice.
    again = "EXCEPTION WHEN query_canceled THEN"
    stubborn = (
        f"PERFORM pg_sleep(20); {again} BEGIN PERFORM pg_sleep(1); {again} PERFORM pg_sleep(1); END"
    )
    project.write([create(1), f"op.execute('DO $$ BEGIN {stubborn}; END $$')", create(2)])
    outcome = project.run(True)
    assert isinstance(outcome.error, asyncio.CancelledError)
    assert outcome.database == []
    ticks = len(project.configure["user_module_prefix"]) - project.configure["cancelled"]
    assert ticks > 20
