"""``python bench/pytest_plugin.py``: what the pytest plugin costs, as ratios against programs measured in the same run.

Needs a PostgreSQL server: ``TEST_DATABASE_URL`` of a database whose owner may create others. ``PYTEST_ALEMBIC`` names a Python with
pytest 8, pytest-alembic, Alembic and psycopg, for a comparison with that plugin.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import project
import psycopg

ROOT = Path(__file__).parents[1]
MODELS = """
import sqlalchemy as sa

metadata = sa.MetaData()
for number in range({revisions}):
    sa.Table(
        f"t{{number}}",
        metadata,
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=50), server_default="x", nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
"""
TESTS = """
import json
import os
import time

import psycopg
import pytest


@pytest.mark.parametrize("n", range({count}))
def test_ours(migrated_db, n):
    pass


@pytest.mark.parametrize("n", range({count}))
def test_bare(n):
    with psycopg.connect(os.environ["TEST_DATABASE_URL"], autocommit=True) as connection:
        connection.execute("DROP DATABASE IF EXISTS bench_bare")
        name, comment = connection.execute(
            "SELECT datname::text, shobj_description(oid, 'pg_database') FROM pg_database "
            "WHERE starts_with(datname::text, 'migrate_ext_t_') ORDER BY oid DESC LIMIT 1"
        ).fetchone()
        strategy = json.loads(comment)["strategy"]
        statement = f'CREATE DATABASE bench_bare TEMPLATE "{{name}}"' + (f" STRATEGY {{strategy}}" if strategy else "")
        begin = time.perf_counter()
        connection.execute(statement)
        taken = time.perf_counter() - begin
        connection.execute("DROP DATABASE bench_bare")
    with open("bare", "a") as file:
        print(taken, file=file)
"""
CONFTEST = """
import time


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: item.callspec.params["n"])  # in turns


def pytest_runtest_logreport(report):
    if report.when == "setup" and "test_ours" in report.nodeid:
        with open("ours", "a") as file:
            print(report.duration, file=file)
"""
THEIR_CONFTEST = """
import os

import pytest
import sqlalchemy


@pytest.fixture
def alembic_config():
    return {"file": "classic.ini"}


@pytest.fixture
def alembic_engine():
    return sqlalchemy.create_engine(os.environ["DATABASE_URL"])
"""


class Bench:
    def __init__(self, folder: Path, server: str, revisions: int) -> None:
        self.folder = project.make(folder / "project", revisions)
        (self.folder / "bench_models.py").write_text(MODELS.format(revisions=revisions))
        self.server = server
        self.url = server.rpartition("/")[0] + "/bench_pytest_plugin"
        self.variables = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "TEST_DATABASE_URL": server,
            "DATABASE_URL": self.url.replace("postgresql://", "postgresql+psycopg://"),
        }

    def run(self, *command: str, **variables: str) -> float:
        """Seconds of a whole process, which must succeed."""
        begin = time.perf_counter()
        done = subprocess.run(
            command,
            cwd=self.folder,
            env={**self.variables, **variables},
            capture_output=True,
            text=True,
        )
        taken = time.perf_counter() - begin
        if done.returncode:
            raise SystemExit(
                f"{' '.join(command)} failed:\n{done.stdout[-4000:]}{done.stderr[-4000:]}"
            )
        return taken

    def alembic(self) -> float:
        """``alembic upgrade head`` into a fresh database, without us."""
        self.fresh()
        return self.run(
            sys.executable,
            "-m",
            "alembic.config",
            "-c",
            "classic.ini",
            "upgrade",
            "head",
            MIGRATE_EXT="0",
        )

    def fresh(self, *, again: bool = True) -> None:
        with psycopg.connect(self.server, autocommit=True) as connection:
            connection.execute("DROP DATABASE IF EXISTS bench_pytest_plugin WITH (FORCE)")
            if again:
                connection.execute("CREATE DATABASE bench_pytest_plugin")

    def databases(self, count: int) -> tuple[float, float]:
        """Medians of the seconds that ``migrated_db`` takes, and of a bare CREATE DATABASE from the same template."""
        (self.folder / "conftest.py").write_text(CONFTEST)
        (self.folder / "test_it.py").write_text(TESTS.format(count=count))
        self.run(sys.executable, "-m", "pytest", "-q")  # builds the template
        for name in ("ours", "bare"):
            (self.folder / name).unlink()
        self.run(sys.executable, "-m", "pytest", "-q")
        ours, bare = (
            [float(line) for line in (self.folder / name).read_text().split()]
            for name in ("ours", "bare")
        )
        return statistics.median(ours[1:]), statistics.median(bare[1:])  # the first imports, too

    def checks(self, *arguments: str) -> float:
        """``pytest --migrations``, with no template there before."""
        (self.folder / "test_it.py").unlink(missing_ok=True)
        (self.folder / "conftest.py").write_text("")
        return self.run(
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "--migrations",
            "--migrate-ext-rebuild",
            *arguments,
        )

    def theirs(self, python: str) -> float:
        (self.folder / "tests").mkdir(exist_ok=True)
        (self.folder / "tests" / "conftest.py").write_text(THEIR_CONFTEST)
        total = 0.0
        # Its four tests share the database that alembic_engine gives: a fresh one for each.
        for name in (
            "single_head_revision",
            "upgrade",
            "model_definitions_match_ddl",
            "up_down_consistency",
        ):
            self.fresh()
            total += self.run(
                python, "-m", "pytest", "-q", "--test-alembic", "-p", "no:migrate_ext", "-o",
                f"pytest_alembic_include={name}", "tests", MIGRATE_EXT="0",
            )  # fmt: skip
        return total

    def collecting(self, rounds: int) -> tuple[float, float]:
        """Medians of the seconds to collect a suite that does not use us: with the plugin, and without."""
        folder = self.folder / "other"
        folder.mkdir(exist_ok=True)
        (folder / "pytest.ini").write_text("[pytest]\n")
        for number in range(20):
            (folder / f"test_{number}.py").write_text(
                "\n".join(f"def test_{n}(): pass" for n in range(10))
            )
        command = (
            sys.executable,
            "-m",
            "pytest",
            "--collect-only",
            "-q",
            "--rootdir=other",
            "other",
        )
        found: dict[tuple[str, ...], list[float]] = {(): [], ("-p", "no:migrate_ext"): []}
        for _ in range(rounds):
            for options, times in found.items():
                times.append(self.run(*command, *options))
        with_us, without = (statistics.median(times) for times in found.values())
        return with_us, without


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--revisions", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    server = os.environ.get("TEST_DATABASE_URL")
    if not server:
        raise SystemExit("set TEST_DATABASE_URL, for example postgresql://user@localhost/postgres")
    project.compile_package()
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), server.replace("+psycopg", ""), arguments.revisions)
        try:
            print(f"{arguments.revisions} linear revisions, one CREATE TABLE each")
            alembic = [bench.alembic() for _ in range(arguments.rounds)]
            checks = []
            for _ in range(arguments.rounds):
                checks.append(bench.checks())
                alembic.append(bench.alembic())
            base = min(alembic)
            print(f"alembic upgrade head, fresh database   {base * 1000:8.0f} ms")
            ours, bare = bench.databases(15)
            print(
                f"migrated_db, median                    {ours * 1000:8.1f} ms   1/{base / ours:.0f} of alembic"
            )
            print(
                f"CREATE DATABASE ... TEMPLATE, median   {bare * 1000:8.1f} ms   ours is {ours / bare:.2f}x"
            )
            print(
                f"pytest --migrations                    {min(checks) * 1000:8.0f} ms   {min(checks) / base:.2f}x alembic"
            )
            python = os.environ.get("PYTEST_ALEMBIC")
            if python:
                theirs = bench.theirs(python)
                print(
                    f"pytest-alembic, its four tests         {theirs * 1000:8.0f} ms   {theirs / base:.2f}x alembic"
                )
            with_us, without = bench.collecting(40)
            print(
                f"collecting 200 tests that do not use us: {(with_us - without) * 1000:+.1f} ms of {without * 1000:.0f} ms"
            )
            print(json.dumps({"alembic": alembic, "checks": checks}))
        finally:
            bench.fresh(again=False)


if __name__ == "__main__":
    main()
