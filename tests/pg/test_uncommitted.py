"""A run that ends with exit code 0 but is never committed gives a warning; no other run does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
from database_urls import with_driver
from older_releases import needs_plugins
from recording_project import WAYS, RecordingProject
from test_lock import environment

ALEMBIC, _ = WAYS
EXECUTES = "    connection.execute(sa.text('SELECT 1'))"
ROLLED_BACK = "Rolled back, and not committed: "
ASYNC = """
import asyncio, os, sqlalchemy as sa
from alembic import context
from sqlalchemy.ext.asyncio import create_async_engine

def migrate(connection):
    connection.execute(sa.text("SELECT 1"))
    context.configure(connection=connection)
    with context.begin_transaction():
        context.run_migrations()

async def run():
    engine = create_async_engine(os.environ["DATABASE_URL"])
    async with engine.connect() as connection:
        await connection.run_sync(migrate)
    await engine.dispose()

asyncio.run(run())
"""


def tables(project: RecordingProject) -> list[str]:
    with project.connect() as connection:
        rows = connection.execute(
            "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
        )
        return [str(name) for (name,) in rows.fetchall()]


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2", "psycopg_async", "asyncpg"])
def test_what_env_py_leaves_uncommitted_is_told(
    tmp_path: Path, database_url: str, driver: str
) -> None:
    url = with_driver(database_url, driver)
    project = RecordingProject(tmp_path / "project", url, count=5)
    if driver in ("psycopg_async", "asyncpg"):
        (project.folder / "env.py").write_text(ASYNC)
    else:
        environment(project, before=EXECUTES)
    done = project.run("upgrade", "head")
    assert done.code == 0, done.said
    assert tables(project) == []
    told = f"{ROLLED_BACK}r0001 to r0005 (5 migrations), because env.py has begun"
    assert done.said.count(told) == 1, done.said
    assert "Call connection.commit() after context.run_migrations()" in done.said
    assert ROLLED_BACK not in project.run("current").said


@pytest.mark.parametrize("configure", ["", "transaction_per_migration=True"])
@pytest.mark.parametrize("driver", ["psycopg", "psycopg2"])
def test_what_a_commit_in_a_migration_leaves_uncommitted_is_told(
    tmp_path: Path, database_url: str, driver: str, configure: str
) -> None:
    body = {2: "    op.get_bind().commit()"}
    project = RecordingProject(tmp_path / "project", database_url, count=4, body=body)
    environment(project, configure=configure)
    done = project.run("upgrade", "head", url=with_driver(database_url, driver))
    assert done.code == 0, done.said
    with project.connect() as connection:
        ((version,),) = connection.execute("TABLE alembic_version").fetchall()
    lost = [f"r{n:04}" for n in range(int(str(version)[1:]) + 1, 5)]
    assert (ROLLED_BACK in done.said) == bool(lost), (version, done.said)
    if lost:
        which = ", ".join(lost) if len(lost) < 4 else f"{lost[0]} to {lost[-1]}"
        assert f"{ROLLED_BACK}{which}" in done.said
        assert "because a migration has ended Alembic's transaction" in done.said


@pytest.mark.parametrize(
    ("connect", "before", "after"),
    [
        ("connect", "", ""),
        ("begin", EXECUTES, ""),
        ("connect", EXECUTES, "    connection.commit()"),
        ("connect", EXECUTES, "    connection.rollback()"),  # its own wish
        ("connect", "    connection.commit()", ""),
    ],
)
def test_what_is_committed_or_rolled_back_on_purpose_is_not_told(
    tmp_path: Path, database_url: str, connect: str, before: str, after: str
) -> None:
    project = RecordingProject(tmp_path / "project", database_url, count=3)
    environment(project, connect=connect, before=before, after=after)
    done = project.run("upgrade", "head", url=with_driver(database_url, "psycopg"))
    assert done.code == 0, done.said
    assert ROLLED_BACK not in done.said
    assert bool(tables(project)) == ("rollback" not in after)


@needs_plugins
@pytest.mark.parametrize("is_committed", [False, True])
def test_a_connection_that_nobody_closes_is_told_of_at_the_end(
    tmp_path: Path, database_url: str, is_committed: bool
) -> None:
    project = RecordingProject(tmp_path / "project", database_url, count=3)
    (project.folder / "env.py").write_text(
        "import os, sqlalchemy as sa\nfrom alembic import context\n"
        "connection = sa.create_engine(os.environ['DATABASE_URL']).connect()\n"
        "connection.execute(sa.text('SELECT 1'))\n"
        "context.configure(connection=connection)\n"
        "context.run_migrations()\n"
        f"kept = connection, {'connection.commit()' if is_committed else 'None'}\n"
        "context.kept = kept\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "alembic", "upgrade", "head"],
        cwd=project.folder,
        env={**os.environ, "DATABASE_URL": with_driver(database_url, "psycopg")},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert (f"{ROLLED_BACK}r0001, r0002, r0003" in done.stderr) == (not is_committed)
    with psycopg.connect(database_url) as connection:
        row = connection.execute("SELECT to_regclass('t1') IS NULL").fetchone()
    assert row == (not is_committed,)
