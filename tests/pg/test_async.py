"""Migrations under ``run_sync``: batched as elsewhere, and the event loop goes on while the server works."""

from __future__ import annotations

from pathlib import Path

import pytest
from lab import Lab

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
def lab(tmp_path: Path, database_url: str) -> Lab:
    lab = Lab(tmp_path / "lab", database_url.replace("://", "+psycopg_async://"))
    (lab.folder / "env.py").write_text(ENV)
    lab.configure = {"user_module_prefix": ""}
    return lab


def test_async_psycopg_is_batched(lab: Lab) -> None:
    lab.write(
        [
            *[create(n) for n in range(50)],
            "see(op.get_bind().scalar(sa.text('SELECT count(*) FROM t7')))",
        ]
    )
    before = _core.counters()["statements"], _core.counters()["waits"] + counters.plain_waits
    outcome = lab.run(True)
    assert outcome.raised == []
    assert _core.counters()["statements"] - before[0] >= 100
    assert _core.counters()["waits"] + counters.plain_waits - before[1] <= 20
    assert outcome.visible() == lab.run(False).visible()


@pytest.mark.parametrize("bad", ["SELECT 1/0", "SELECT pg_terminate_backend(pg_backend_pid())"])
def test_async_psycopgs_errors_are_its_own(lab: Lab, bad: str) -> None:
    lab.write([create(1), f"{create(2)}\nop.execute({bad!r})", create(3)])
    outcome = lab.agree()
    assert "revision r0002" in outcome.error.__dict__["migration_step"]


def test_the_loop_runs_while_the_server_works(lab: Lab) -> None:
    lab.write([create(1), "op.execute('SELECT pg_sleep(1)')", create(2)])
    assert lab.run(True).raised == []
    assert len(lab.configure["user_module_prefix"]) > 20
