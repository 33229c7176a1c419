"""Two runs in two threads of one program do not disturb each other: each has its own connection and outcome."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from recording_project import RecordingProject

from migrate_ext import _core
from migrate_ext.dropin import hooks
from migrate_ext.execution import libpq


def migrate(project: RecordingProject, url: str, target: str) -> None:
    """As a program does it that calls no command."""
    script = ScriptDirectory(str(project.folder))

    def steps(heads: object, _: object) -> object:
        if target == "base":
            return script._downgrade_revs("base", heads)
        return script._upgrade_revs(target, heads)

    engine = sa.create_engine(url)
    try:
        with engine.connect() as connection:
            context = MigrationContext.configure(
                connection,
                opts={
                    "fn": steps,
                    "script": script,
                    "transaction_per_migration": project.mode != "one",
                },
            )
            with context.begin_transaction():
                context.run_migrations(operations=Operations(context))
    finally:
        engine.dispose()


BODY = """\
    operations.create_table("t{n}", sa.Column("id", sa.Integer, primary_key=True), sa.Column("a", sa.Text))
    operations.execute("INSERT INTO ran VALUES ({n})")"""


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2"])
@pytest.mark.parametrize("same", [True, False], ids=["one database", "two databases"])
def test_two_contexts_in_two_threads(
    tmp_path: Path, make_database: object, driver: str, same: bool
) -> None:
    urls = [make_database() for _ in range(1 if same else 2)]  # type: ignore[operator]
    projects = [
        RecordingProject(tmp_path / str(n), urls[n % len(urls)], count=15) for n in range(2)
    ]
    for project in projects:
        for path in (project.folder / "versions").glob("*.py"):
            text = path.read_text().replace("def upgrade():", "def upgrade(operations):")
            text = text.replace("def downgrade():", "def downgrade(operations):")
            path.write_text(text.replace("    op.", "    operations."))
    failed: list[BaseException] = []

    def run(project: RecordingProject) -> None:
        try:
            migrate(project, project.url.replace("+psycopg:", f"+{driver}:"), "heads")
        except BaseException as error:
            failed.append(error)

    hooks.install()
    try:
        threads = [threading.Thread(target=run, args=(project,)) for project in projects]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    finally:
        hooks.uninstall()
    assert failed == []
    assert [project.state() for project in projects] == [15, 15]


# Our own session in a transaction, and a driver's connection with a batch on its way; then a child.
FORK = """
import gc, os, sys
import psycopg, psycopg2
from migrate_ext import _core
from migrate_ext.execution import libpq

url, driver, child = sys.argv[1:]
own = _core.Session.connect(_core.parse_url(url), libpq.find())
own.begin()
own.query("CREATE TEMP TABLE kept AS SELECT 1")
connection = {"psycopg": psycopg, "psycopg2": psycopg2}[driver].connect(url)
connection.cursor().execute("SELECT 1")
lent = _core.Session.borrow(*libpq.of_driver(connection), libpq.owner(connection))
lent.submit("CREATE TEMP TABLE sent AS SELECT 1 FROM pg_sleep(0.2)")
assert lent.pending == 1
pid = os.fork()
if pid == 0:
    exec(child)
    sys.exit(7)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
while lent.pending:
    lent.wait()
lent.run_batch(["INSERT INTO sent VALUES (2)"])
cursor = connection.cursor()
cursor.execute("SELECT count(*) FROM sent")
print(cursor.fetchall(), own.query("SELECT count(*) FROM kept"), own.in_transaction)
"""


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2"])
@pytest.mark.parametrize(
    "child",
    ["pass", "del own, lent; gc.collect()", "lent.abandon(); lent.close(); own.close()"],
    ids=["exits", "collects", "closes"],
)
def test_a_child_leaves_the_sessions_of_its_parent_alone(
    database_url: str, driver: str, child: str
) -> None:
    # What the child leaves alone is a leak in it: a build that looks for leaks need not tell of it.
    options = f"{os.environ.get('ASAN_OPTIONS', '')}:detect_leaks=0"
    done = subprocess.run(
        [sys.executable, "-c", FORK, database_url, driver, child],
        env={**os.environ, "ASAN_OPTIONS": options},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.stdout == "[(2,)] [('1',)] True\n", done.stderr


def test_sessions_leave_nothing_behind(database_url: str) -> None:
    """Blocks of the interpreter, over calls that answer and calls that fail."""
    import contextlib
    import gc

    session = _core.Session.connect(_core.parse_url(database_url), libpq.find())

    def call() -> None:
        session.query("select 1, null, 'x'")
        with contextlib.suppress(Exception):
            session.query("select 1/0")
        session.begin()
        session.version_create("v")
        session.version_apply([("insert", "a"), ("update", "a", "b")], "v")
        session.version_heads("v")
        session.run_batch(["select 1", "do $$begin raise notice 'x'; end$$"])
        with contextlib.suppress(Exception):
            session.run_batch(["select 1", "select 1/0", "select 2"])
        session.rollback()
        session.notices()

    count = getattr(sys, "gettotalrefcount", sys.getallocatedblocks)
    for _ in range(10):
        call()
    grown: list[int] = []
    while not grown or (min(grown) >= 25 and len(grown) < 20):  # other threads allocate, too
        gc.collect()
        before = count()
        for _ in range(50):
            call()
        gc.collect()
        grown.append(count() - before)
    session.close()
    assert min(grown) < 25, grown  # a block of each call would be 50
