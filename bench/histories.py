"""``python bench/histories.py``: ``upgrade head`` over a history with the shapes of real ones, as ratios against Alembic.

The shares below were counted on 2026-11-27 in the 2,367 revision files that come in the packages of 21 projects on the
package index (aiida-core, apache-airflow-core, apache-superset, arize-phoenix, buildbot, dagster, fittrackee, flexmeasures,
galaxy-data, ironic, langflow-base, mlflow, neutron, octavia, open-webui, optuna, pgadmin4, prefect, rucio, skypilot, zenml):
each file under the first shape that its ``upgrade()`` has, with the number of directives that such functions have in the mean.
Nothing here is to be changed so that a figure gets better.

Needs a PostgreSQL server: ``TEST_DATABASE_URL``, of a database whose owner may create others. Figures are the least of several
whole processes, run in turns; after each pair the two schemas must be equal.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import project
import psycopg
from databases import Databases
from sqlalchemy.engine import make_url
from upgrade import delayed

ROOT = Path(__file__).parents[1]

# In the order of the file's count: share in a thousand, and the body. {n} is the migration's number.
SHAPES: dict[str, tuple[int, str]] = {
    "straight": (
        237,
        """
op.create_table("t{n}", sa.Column("id", sa.Integer(), nullable=False), sa.Column("name", sa.String(50)),
    sa.Column("created", sa.DateTime(), server_default=sa.text("now()")), sa.PrimaryKeyConstraint("id"))
op.create_index(op.f("ix_t{n}_name"), "t{n}", ["name"], unique=False)
""",
    ),
    "batch": (
        172,
        """
with op.batch_alter_table("wide", schema=None) as batch_op:
    batch_op.add_column(sa.Column("a{n}", sa.Integer(), nullable=True))
    batch_op.add_column(sa.Column("b{n}", sa.Text(), server_default="x"))
    batch_op.create_index("ix_wide_a{n}", ["a{n}"], unique=False)
    batch_op.create_unique_constraint("uq_wide_b{n}", ["a{n}", "b{n}"])
""",
    ),
    "guard by inspection": (
        109,
        """
inspector = sa.inspect(op.get_bind())
if "t{n}" not in inspector.get_table_names():
    op.create_table("t{n}", sa.Column("id", sa.Integer(), primary_key=True))
columns = [column["name"] for column in inspector.get_columns("wide")]
if "c{n}" not in columns:
    op.add_column("wide", sa.Column("c{n}", sa.Integer()))
    op.create_index("ix_wide_c{n}", "wide", ["c{n}"])
""",
    ),
    "empty": (95, "pass\n"),
    "imported helper or type": (
        74,
        """
add_columns("wide", sa.Column("d{n}", StringId(36)), sa.Column("e{n}", Document()))
""",
    ),
    "session": (
        73,
        """
session = Session(bind=op.get_bind())
op.add_column("wide", sa.Column("f{n}", sa.Integer()))
for number, in session.execute(sa.text("SELECT id FROM seeds ORDER BY id")).all():
    session.execute(sa.text("UPDATE seeds SET name = 'n' WHERE id = :id"), {"id": number})
session.commit()
op.alter_column("wide", "f{n}", server_default="1")
""",
    ),
    "guard by dialect": (
        71,
        """
if op.get_bind().dialect.name == "postgresql":
    op.execute("CREATE TABLE t{n} (id int, name text)")
    op.execute("CREATE INDEX ix_t{n} ON t{n} (name)")
""",
    ),
    "autocommit block": (
        39,
        """
with op.get_context().autocommit_block():
    op.add_column("wide", sa.Column("g{n}", sa.Integer()))
""",
    ),
    "bind.execute": (
        23,
        """
conn = op.get_bind()
conn.execute(sa.text("UPDATE seeds SET name = 'u{n}' WHERE name IS NULL"))
op.add_column("wide", sa.Column("h{n}", sa.Integer()))
""",
    ),
    "reads rows": (
        22,
        """
conn = op.get_bind()
op.create_table("t{n}", sa.Column("id", sa.Integer(), primary_key=True), sa.Column("name", sa.Text()))
op.create_index("ix_t{n}_name", "t{n}", ["name"])
rows = conn.execute(sa.text("SELECT id, name FROM seeds")).fetchall()
for row in rows:
    op.execute(f"INSERT INTO t{n} VALUES ({row.id}, 'r')")
op.create_foreign_key("fk_t{n}", "t{n}", "seeds", ["id"], ["id"])
op.alter_column("t{n}", "name", nullable=True)
""",
    ),
    "loop": (
        20,
        """
for table in ("seeds", "wide"):
    op.add_column(table, sa.Column("i{n}", sa.DateTime(timezone=True)))
    op.create_index(f"ix_{table}_i{n}", table, ["i{n}"])
""",
    ),
    "try": (
        19,
        """
try:
    op.add_column("wide", sa.Column("j{n}", sa.Integer()))
    op.create_index("ix_wide_j{n}", "wide", ["j{n}"])
    op.execute("UPDATE wide SET j{n} = 0")
    op.alter_column("wide", "j{n}", nullable=False)
except NotImplementedError:
    logger.warning("not on this database")
op.create_table("t{n}", sa.Column("id", sa.Integer()))
""",
    ),
    "helper of the file": (
        18,
        """
_add("wide", "k{n}")
_add("seeds", "k{n}")
""",
    ),
    "bulk_insert": (
        11,
        """
table = op.create_table("t{n}", sa.Column("id", sa.Integer()), sa.Column("name", sa.String(20)))
op.bulk_insert(table, [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}])
op.create_index("ix_t{n}", "t{n}", ["id"])
""",
    ),
    "another condition": (
        10,
        """
if application.FEATURE:
    for letter in "abc":
        op.add_column("wide", sa.Column(f"{letter}l{n}", sa.Integer()))
        op.create_index(f"ix_wide_{letter}l{n}", "wide", [f"{letter}l{n}"])
""",
    ),
    "log": (
        5,
        """
logger.info("adding columns")
for letter in "abcd":
    op.add_column("wide", sa.Column(f"{letter}m{n}", sa.Integer()))
    op.alter_column("wide", f"{letter}m{n}", server_default="0")
logger.info("done")
""",
    ),
    "type that is created": (
        2,
        """
kind = postgresql.ENUM("a", "b", name="kind{n}", create_type=False)
kind.create(op.get_bind(), checkfirst=True)
op.add_column("wide", sa.Column("o{n}", kind))
""",
    ),
}
TOP = """
import logging

import application
from application import Document, StringId, add_columns
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import Session

logger = logging.getLogger("alembic.runtime.migration.bench")


def _add(table, name):
    op.add_column(table, sa.Column(name, sa.Integer()))
    op.create_index(f"ix_{table}_{name}", table, [name])
"""
APPLICATION = """
import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

FEATURE = True


def StringId(length):
    return sa.String(length).with_variant(postgresql.VARCHAR(length), "postgresql")


class Document(sa.types.TypeDecorator):
    impl = sa.Text
    cache_ok = True

    def load_dialect_impl(self, dialect):
        return dialect.type_descriptor(postgresql.JSONB() if dialect.name == "postgresql" else sa.Text())


def add_columns(table, *columns):
    for column in columns:
        op.add_column(table, column)
"""
FIRST = """
op.create_table("seeds", sa.Column("id", sa.Integer(), primary_key=True), sa.Column("name", sa.Text()))
op.execute("INSERT INTO seeds SELECT generate_series(1, 5)")
op.create_table("wide", sa.Column("id", sa.Integer(), primary_key=True))
"""
ENV = """
import os

import sqlalchemy
from alembic import context

engine = sqlalchemy.create_engine(os.environ["DATABASE_URL"], poolclass=sqlalchemy.pool.NullPool)
with engine.connect() as connection:
    context.configure(connection=connection, transaction_per_migration={each})
    with context.begin_transaction():
        context.run_migrations()
"""
ASYNC_ENV = """
import asyncio, os

import sqlalchemy
from alembic import context
from sqlalchemy.ext.asyncio import create_async_engine

def migrate(connection):
    context.configure(connection=connection, transaction_per_migration={each})
    with context.begin_transaction():
        context.run_migrations()

async def run():
    engine = create_async_engine(os.environ["DATABASE_URL"], poolclass=sqlalchemy.pool.NullPool)
    async with engine.connect() as connection:
        await connection.run_sync(migrate)
    await engine.dispose()

asyncio.run(run())
"""
# Title: driver, async, one transaction per migration.
DRIVERS = {
    "psycopg": ("psycopg", False, False),
    "psycopg2": ("psycopg2", False, False),
    "psycopg2, a transaction each": ("psycopg2", False, True),
    "psycopg, asyncio": ("psycopg", True, False),
    "asyncpg": ("asyncpg", True, False),
}
GOALS = {
    "psycopg": (0.65, 0.35),
    "psycopg2": (0.65, 0.4),
    "psycopg2, a transaction each": (0.9, 0.6),
    "psycopg, asyncio": (0.65, 0.35),
    "asyncpg": (0.75, 0.4),
}


def bodies(count: int) -> list[str]:
    """As many migrations, in an order that is always the same."""
    total = sum(share for share, _ in SHAPES.values())
    found: list[str] = []
    for share, body in SHAPES.values():
        found += [body] * round(count * share / total)
    random.Random(20).shuffle(found)
    return [FIRST, *found]


def make(folder: Path, count: int, *, is_async: bool, each: bool) -> Path:
    """A project with a classic env.py and as many revisions."""
    made = project.make(folder, 0)
    (made / "classic" / "env.py").write_text((ASYNC_ENV if is_async else ENV).format(each=each))
    (made / "application.py").write_text(APPLICATION)
    parent = None
    for number, body in enumerate(bodies(count)):
        revision = f"{number:012x}"
        lines = "".join(f"    {line}\n" for line in body.replace("{n}", str(number)).splitlines())
        (made / "versions" / f"{revision}_step.py").write_text(
            f'"""step"""\nfrom alembic import op\nimport sqlalchemy as sa\n{TOP}\n\nrevision = "{revision}"\n'
            f"down_revision = {parent!r}\n\n\ndef upgrade():\n{lines}\n\ndef downgrade():\n    pass\n"
        )
        parent = revision
    return made


class Runs:
    """Pairs of runs of one project, each on a database of its own."""

    def __init__(self, folder: Path, admin: str, driver: str) -> None:
        self.folder = folder
        self.driver = driver
        self.url = make_url(admin).set(drivername="postgresql")
        self.databases = Databases(self.url.render_as_string(hide_password=False))
        self.stats = folder / "stats.json"

    def once(self, with_ours: bool, port: int | None) -> tuple[float, str]:
        """Seconds of one whole process, and the name of its database."""
        name = self.databases.fresh()
        url = self.url.set(database=name, drivername=f"postgresql+{self.driver}")
        if port is not None:
            url = url.set(host="127.0.0.1", port=port)
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "DATABASE_URL": url.render_as_string(hide_password=False),
            "MIGRATE_EXT": str(int(with_ours)),
        }
        if with_ours:
            environment["MIGRATE_EXT_STATS"] = str(self.stats)
        command = (sys.executable, "-m", "alembic", "-c", "classic.ini", "upgrade", "head")
        began = time.perf_counter()
        done = subprocess.run(command, cwd=self.folder, env=environment, capture_output=True)
        seconds = time.perf_counter() - began
        if done.returncode:
            raise SystemExit(done.stderr.decode())
        return seconds, name

    def schema(self, name: str) -> str:
        url = self.url.set(database=name).render_as_string(hide_password=False)
        dump = ("pg_dump", "--restrict-key=bench", "-d", url)
        return subprocess.run(dump, check=True, capture_output=True, text=True).stdout

    def pairs(self, rounds: int, port: int | None) -> tuple[float, float]:
        best = [float("inf"), float("inf")]
        for number in range(rounds):
            schemas = []
            for ours in (False, True):
                seconds, name = self.once(ours, port)
                best[ours] = min(best[ours], seconds)
                if number == 0:
                    schemas.append(self.schema(name))
            if number == 0 and schemas[0] != schemas[1]:
                raise SystemExit("the two schemas differ")
        return best[0], best[1]

    def counted(self) -> str:
        found = json.loads(self.stats.read_text().splitlines()[-1])
        statements, plain = found["statements"], found["plain_statements"]
        return f"{statements} of {statements + plain} statements in batches, {found['waits']} waits"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--revisions", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--delays", type=float, nargs="*", default=[0, 1, 5], help="milliseconds")
    parser.add_argument("--only", nargs="*", default=list(DRIVERS), choices=list(DRIVERS))
    arguments = parser.parse_args()
    admin = os.environ.get("TEST_DATABASE_URL")
    if not admin:
        raise SystemExit("set TEST_DATABASE_URL, for example postgresql://user@localhost/postgres")
    project.compile_package()
    with psycopg.connect(make_url(admin).set(drivername="postgresql").render_as_string(False)) as c:
        print(
            f"PostgreSQL {c.info.server_version // 10000}; {arguments.revisions} revisions; least of {arguments.rounds}"
        )
    print("| driver | ms | Alembic | here | ratio | goal |\n|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as temporary:
        for title in arguments.only:
            driver, is_async, each = DRIVERS[title]
            folder = Path(temporary) / title.replace(" ", "_").replace(",", "")
            runs = Runs(
                make(folder, arguments.revisions, is_async=is_async, each=each), admin, driver
            )
            try:
                for delay in arguments.delays:
                    if delay:
                        with delayed(runs.url, delay) as port:
                            theirs, ours = runs.pairs(arguments.rounds, port)
                    else:
                        theirs, ours = runs.pairs(arguments.rounds, None)
                    goal = {0: GOALS[title][0], 5: GOALS[title][1]}.get(delay, "")
                    print(
                        f"| {title} | {delay:g} | {theirs:.2f} s | {ours:.2f} s | {ours / theirs:.2f}x | {goal} |",
                        flush=True,
                    )
                print(f"| {title}: {runs.counted()} |", flush=True)
            finally:
                runs.databases.drop()


if __name__ == "__main__":
    main()
