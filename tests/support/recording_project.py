"""A project of many small migrations whose database tells what ran: for the soak and the tests of the lock."""

from __future__ import annotations

import os
from pathlib import Path

import psycopg
from database_urls import libpq_url
from forked_command import Command

WAYS = ("alembic", "migrate_ext")
ALL_WAYS = (*WAYS, "compiled")
MODES = ("one", "each", "autocommit")
THIN = """\
from migrate_ext import environment
environment(metadata="tables:metadata", transaction_per_migration={each})
"""
CLASSIC = """\
import os
from alembic import context
from sqlalchemy import create_engine, pool
from tables import metadata
from sqlalchemy.engine import make_url
config = context.config
if config.config_file_name is not None:
    from logging.config import fileConfig
    fileConfig(config.config_file_name)
engine = create_engine(os.environ["DATABASE_URL"], poolclass=pool.NullPool)
with engine.connect() as connection:
    context.configure(
        connection=connection, target_metadata=metadata, transaction_per_migration={each}
    )
    with context.begin_transaction():
        context.run_migrations()
"""
INI = """\
[alembic]
script_location = .
path_separator = os
{settings}
[loggers]
keys = root,alembic
[handlers]
keys = console
[formatters]
keys = plain
[logger_root]
level = WARNING
handlers = console
[logger_alembic]
level = INFO
handlers =
qualname = alembic
[handler_console]
class = StreamHandler
args = (sys.stderr,)
formatter = plain
[formatter_plain]
format = %(levelname)-5.5s [%(name)s] %(message)s
"""
REVISION = '''\
"""migration {n}"""
from alembic import op
import sqlalchemy as sa
revision = "{revision}"
down_revision = {down!r}


def upgrade():
{upgrade}


def downgrade():
{downgrade}
'''
# `ran` has a row for each migration that was run and not taken back: twice would show.
FIRST = '    op.execute("CREATE TABLE ran (n integer NOT NULL)")\n'
TABLE_UP = """\
    op.create_table("t{n}", {columns})
    op.execute("INSERT INTO ran VALUES ({n})")"""
# A key and a text make a table four files on the server's disk: every tenth has them.
COLUMNS = 'sa.Column("id", sa.Integer, primary_key={key}), sa.Column("a", sa.{type})'
TABLE_DOWN = """\
    op.drop_table("t{n}")
    op.execute("DELETE FROM ran WHERE n = {n}")"""
INDEX_UP = """\
    with op.get_context().autocommit_block():
        op.create_index("i{n}", "t{table}", ["a"], postgresql_concurrently=True, if_not_exists=True)
    op.execute("INSERT INTO ran VALUES ({n})")"""
INDEX_DOWN = """\
    with op.get_context().autocommit_block():
        op.drop_index("i{n}", postgresql_concurrently=True, if_exists=True)
    op.execute("DELETE FROM ran WHERE n = {n}")"""
EVERY = 10  # in mode "autocommit", each so many migrations make an index


def upgrade_of(mode: str, n: int) -> str:
    """The body of the `n`-th upgrade, as :class:`RecordingProject` has it."""
    return INDEX_UP if mode == "autocommit" and n % EVERY == 0 else TABLE_UP


class RecordingProject:
    """A project with `count` migrations in a new folder, and its database.

    way: ``alembic`` with a classic env.py, ``migrate_ext`` with a thin one, or that ``compiled``. mode: ``one`` transaction,
    one for ``each`` migration, or each with ``autocommit`` blocks in between. settings: lines for the ini
    file. body: replaces the upgrades, by number.
    """

    def __init__(
        self,
        folder: Path,
        url: str,
        *,
        way: str = "alembic",
        mode: str = "one",
        count: int = 200,
        settings: str = "",
        body: dict[int, str] | None = None,
    ) -> None:
        self.folder, self.url, self.mode, self.count = folder, url, mode, count
        self.way = "alembic" if way == "alembic" else "migrate_ext"
        (folder / "versions").mkdir(parents=True)
        (folder / "alembic.ini").write_text(INI.format(settings=settings))
        (folder / "tables.py").write_text("import sqlalchemy\nmetadata = sqlalchemy.MetaData()\n")
        (folder / "script.py.mako").write_text("")
        env = CLASSIC if way == "alembic" else THIN
        (folder / "env.py").write_text(env.format(each=mode != "one"))
        for n in range(1, count + 1):
            index = mode == "autocommit" and n % EVERY == 0
            up, down = (INDEX_UP, INDEX_DOWN) if index else (TABLE_UP, TABLE_DOWN)
            if body and n in body:
                up = body[n]
            full = n % EVERY == 1
            columns = COLUMNS.format(key=full, type="Text" if full else "Integer")
            first, last = (FIRST, '\n    op.drop_table("ran")') if n == 1 else ("", "")
            (folder / "versions" / f"r{n:04}.py").write_text(
                REVISION.format(
                    n=n,
                    revision=f"r{n:04}",
                    down=f"r{n - 1:04}" if n > 1 else None,
                    upgrade=first + up.format(n=n, table=n - 1, columns=columns),
                    downgrade=down.format(n=n) + last,
                )
            )
        if way == "compiled":
            done = self.run("compile", url="postgresql+psycopg://")
            assert done.code == 0, done.said

    def start(self, *command: str, url: str = "", **variables: str) -> Command:
        environment = {**os.environ, "DATABASE_URL": url or self.url, **variables}
        return Command(self.way, self.folder, command, environment)

    def run(self, *command: str, url: str = "", **variables: str) -> Command:
        return self.start(*command, url=url, **variables).wait()

    def connect(self) -> psycopg.Connection[tuple[object, ...]]:
        return psycopg.connect(libpq_url(self.url), autocommit=True)

    def state(self) -> int:
        """The number of the database's revision. Asserts that the schema is that of this revision."""
        with self.connect() as connection:
            connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")  # one snapshot for all
            names = {
                str(name)
                for (name,) in connection.execute(
                    "SELECT relname FROM pg_class WHERE relkind = 'r' "
                    "AND relnamespace = 'public'::regnamespace"
                )
            }
            rows: list[tuple[object, ...]] = []
            if "alembic_version" in names:
                rows = connection.execute("SELECT version_num FROM alembic_version").fetchall()
            assert len(rows) < 2, rows
            at = int(str(rows[0][0])[1:]) if rows else 0
            ran = []
            if "ran" in names:
                ran = [n for (n,) in connection.execute("SELECT n FROM ran ORDER BY n").fetchall()]
            indexes = {
                str(name)
                for (name,) in connection.execute(
                    "SELECT c.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid "
                    "WHERE i.indisvalid AND NOT i.indisprimary "
                    "AND c.relnamespace = 'public'::regnamespace"
                )
            }
        assert ran == list(range(1, at + 1)), f"version {at}, ran {ran}"
        every = EVERY if self.mode == "autocommit" else self.count + 1
        tables = {f"t{n}" for n in range(1, at + 1) if n % every}
        assert {name for name in names if name[0] == "t"} == tables
        # An autocommit block is committed before its version row, and taken back after it: one more or less.
        made = {f"i{n}" for n in range(every, at + 1, every)}
        assert made ^ indexes <= {f"i{at}", f"i{at + 1}"}, (at, made, indexes)
        return at
