"""``python bench/run.py``: what commands cost, as ratios against other programs measured in the same run.

Needs a PostgreSQL server: ``TEST_DATABASE_URL`` or DATABASE_URL of a database whose owner may create others. Each figure is the
least of several whole processes, run in turns.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import project
import psycopg

ROOT = Path(__file__).parents[1]
PYTHON = sys.executable
PASS = (PYTHON, "-c", "pass")
ALEMBIC = (PYTHON, "-m", "alembic.config")
OURS = (PYTHON, "-m", "migrate_ext")


class Bench:
    """Runs commands in one project against one database."""

    def __init__(self, folder: Path, admin: str, rounds: int) -> None:
        self.folder = folder
        self.admin = admin
        self.rounds = rounds
        self.database = f"migrate_ext_bench_{os.getpid()}"
        base, _, _ = admin.rpartition("/")
        self.url = f"{base}/{self.database}"
        self.stats = folder / "stats.json"

    def fresh_database(self) -> None:
        with psycopg.connect(self.admin, autocommit=True) as connection:
            connection.execute(f'DROP DATABASE IF EXISTS "{self.database}" WITH (FORCE)')
            connection.execute(f'CREATE DATABASE "{self.database}"')

    def drop_database(self) -> None:
        with psycopg.connect(self.admin, autocommit=True) as connection:
            connection.execute(f'DROP DATABASE IF EXISTS "{self.database}" WITH (FORCE)')

    def once(self, command: tuple[str, ...]) -> float:
        """Seconds of one whole process."""
        self.stats.unlink(missing_ok=True)
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "DATABASE_URL": self.url.replace("postgresql://", "postgresql+psycopg://"),
            "MIGRATE_EXT_STATS": str(self.stats),
            "MIGRATE_EXT": "0" if command[:3] == ALEMBIC else "1",
        }
        begin = time.perf_counter()
        subprocess.run(command, cwd=self.folder, env=environment, check=True, capture_output=True)
        return time.perf_counter() - begin

    def least(self, commands: list[tuple[str, ...]], fresh: bool = False) -> list[float]:
        """The least time of each command, measured in turns."""
        best = [float("inf")] * len(commands)
        for _ in range(self.rounds):
            for index, command in enumerate(commands):
                if fresh:
                    self.fresh_database()
                best[index] = min(best[index], self.once(command))
        return best


def measure(revisions: int, admin: str, rounds: int) -> None:
    """Print a table for a project of `revisions` linear revisions."""
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(project.make(Path(folder) / "project", revisions), admin, rounds)
        try:
            print(f"\n{revisions:,} linear revisions, one CREATE TABLE each; least of {rounds}")
            print(f"{'':32} {'alembic':>9} {'ours':>9} {'ratio':>7}   python -c pass")
            bench.fresh_database()
            for words in ("history", "heads", "show head", "branches"):
                row(bench, words)
            row(bench, "upgrade head", "upgrade head, from empty", fresh=True)
            counted = json.loads(bench.stats.read_text())
            row(bench, "current")
            row(bench, "upgrade head", "upgrade head, nothing to do")
            shown = {k: counted[k] for k in ("batches", "statements", "waits", "plain_statements")}
            print(f"upgrade head from empty, ours: {shown}")
        finally:
            bench.drop_database()


def row(bench: Bench, words: str, title: str | None = None, fresh: bool = False) -> None:
    command = tuple(words.split())
    theirs, nothing, ours = bench.least(
        [(*ALEMBIC, "-c", "classic.ini", *command), PASS, (*OURS, *command)], fresh
    )
    print(
        f"{title or words:32} {theirs * 1000:6.0f} ms {ours * 1000:6.1f} ms {ours / theirs:6.3f}x"
        f"   {ours / nothing:.1f}x of {nothing * 1000:.1f} ms"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--revisions", type=int, nargs="*", default=[1000])
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    admin = os.environ.get("TEST_DATABASE_URL") or os.environ.get("DATABASE_URL")
    if not admin:
        raise SystemExit("set TEST_DATABASE_URL, for example postgresql://user@localhost/postgres")
    for revisions in arguments.revisions:
        measure(revisions, admin.replace("+psycopg", ""), arguments.rounds)


if __name__ == "__main__":
    main()
