"""``python bench/tenants.py``: the tenant loop of Alembic's cookbook, one ``run_migrations`` a schema in one process.

`alembic` with the runtime, against the same with ``MIGRATE_EXT=0``, in turns; whole processes, each figure is the least of
several. Needs a PostgreSQL server: ``TEST_DATABASE_URL``, of a database whose owner may create others. ``--indexes`` first makes so many
indexes in a schema of their own: large catalogues are slow where all of one is read.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import project
import psycopg
from databases import Databases
from sqlalchemy.engine import make_url

ROOT = Path(__file__).parents[1]
ENV = """\
import os

from alembic import context
from sqlalchemy import create_engine, text

with create_engine(os.environ["DATABASE_URL"]).connect() as connection:
    for number in range(int(os.environ["TENANTS"])):
        connection.execute(text(f"SET search_path TO tenant_{number}"))
        connection.commit()
        connection.dialect.default_schema_name = f"tenant_{number}"
        context.configure(connection=connection)
        with context.begin_transaction():
            context.run_migrations()
"""
BODY = """\
    op.create_table("t{number}", sa.Column("a", sa.Integer()))"""
COMMAND = (sys.executable, "-m", "alembic", "-c", "classic.ini")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tenants", type=int, default=300)
    parser.add_argument("--indexes", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--driver", default="psycopg")
    arguments = parser.parse_args()
    project.compile_package()
    databases = Databases(os.environ["TEST_DATABASE_URL"])
    with tempfile.TemporaryDirectory() as name:
        folder = project.make(Path(name) / "project", 3, BODY)
        (folder / "classic" / "env.py").write_text(ENV)
        admin = make_url(os.environ["TEST_DATABASE_URL"])
        to = admin.set(drivername="postgresql", database=databases.fresh())
        url = to.render_as_string(hide_password=False)
        try:
            fill(url, arguments.tenants, arguments.indexes)
            url = url.replace("://", f"+{arguments.driver}://", 1)
            measure(folder, url, arguments.tenants, arguments.rounds)
        finally:
            databases.drop()


def fill(url: str, tenants: int, indexes: int) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        for number in range(tenants):
            connection.execute(f"CREATE SCHEMA tenant_{number}")
        connection.execute("CREATE SCHEMA large")
        for number in range(0, indexes, 500):
            connection.execute(f"CREATE TABLE large.t{number} (a int)")
            for index in range(number, min(number + 500, indexes)):
                connection.execute(f"CREATE INDEX i{index} ON large.t{number} (a)")


def measure(folder: Path, url: str, tenants: int, rounds: int) -> None:
    variables = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "DATABASE_URL": url,
        "TENANTS": str(tenants),
    }

    def run(on: bool, *command: str) -> float:
        began = time.perf_counter()
        subprocess.run(
            (*COMMAND, *command),
            cwd=folder,
            env={**variables, "MIGRATE_EXT": str(int(on))},
            check=True,
            capture_output=True,
        )
        return time.perf_counter() - began

    run(False, "upgrade", "head")
    best = {(case, on): float("inf") for case in ("nothing", "one") for on in (False, True)}
    for _ in range(rounds):
        for on in (False, True):
            nothing = run(on, "upgrade", "head")
            run(False, "downgrade", "-1")
            one = run(on, "upgrade", "head")
            for case, seconds in (("nothing", nothing), ("one", one)):
                best[case, on] = min(best[case, on], seconds)
    for case in ("nothing", "one"):
        theirs, ours = best[case, False], best[case, True]
        print(
            f"{tenants} schemas, {case} due: Alembic {theirs:.2f} s, here {ours:.2f} s, "
            f"{ours / theirs:.2f}x"
        )


if __name__ == "__main__":
    main()
