"""``python bench/dropin.py``: `alembic` with the runtime installed, against the same with ``MIGRATE_EXT=0``, in one run.

Whole processes, in turns; each figure is the least of several. "above" is the time above a bare ``import alembic.config``, without
us; "all" where with us the command takes less than that import (its end, too, is shorter). Alembic executes every revision file:
in a fresh image, or with ``PYTHONDONTWRITEBYTECODE``, as containers have it, it compiles them each time ("no bytecode"); where it
may write ``__pycache__`` beside them, once ("warm"). Alembic and migrate_ext themselves have their bytecode in both. Needs a
PostgreSQL server for the last row: ``TEST_DATABASE_URL`` or DATABASE_URL of a database whose owner may create others.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import project
from graph import Record, merges

ROOT = Path(__file__).parents[1]
ALEMBIC = (sys.executable, "-m", "alembic.config", "-c", "classic.ini")
IMPORT = (sys.executable, "-c", "import alembic.config")


def seconds(
    command: tuple[str, ...], folder: Path, on: bool, url: str | None, warm: bool = True
) -> float:
    """Of one whole process. warm: it may write and use the revision files' bytecode."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "MIGRATE_EXT": "1" if on else "0"}
    environment["DATABASE_URL"] = url or ""
    if not warm:
        environment["PYTHONDONTWRITEBYTECODE"] = "1"
    begin = time.perf_counter()
    subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True)
    return time.perf_counter() - begin


def rows(title: str, folder: Path, words: str, rounds: int, url: str | None = None) -> None:
    """Print one command's lines, without and with the revision files' bytecode."""
    shutil.rmtree(folder / "versions" / "__pycache__", ignore_errors=True)
    row(f"{title}, no bytecode", folder, words, rounds, url, warm=False)
    seconds((*ALEMBIC, *words.split()), folder, False, url)  # leaves it
    row(f"{title}, warm", folder, words, rounds, url)


def row(
    title: str,
    folder: Path,
    words: str,
    rounds: int,
    url: str | None = None,
    *,
    warm: bool = True,
) -> None:
    """Print one command's line."""
    command = (*ALEMBIC, *words.split())
    cases = [(command, False), (command, True), (IMPORT, False), (IMPORT, True)]
    best = [float("inf")] * len(cases)
    for _ in range(rounds):
        for index, (line, on) in enumerate(cases):
            best[index] = min(best[index], seconds(line, folder, on, url, warm))
    off, on, bare, bare_on = best
    above = f"{(off - bare) / (on - bare):.1f}x" if on > bare else "all"
    print(
        f"{title:52} {off * 1000:7.0f} ms {on * 1000:7.0f} ms {on / off:6.2f}x {above:>8}"
        f" {(on - off) * 1000:+8.1f} ms   import {bare * 1000:.0f}, {bare_on * 1000:.0f}",
        flush=True,
    )


def with_records(folder: Path, records: list[Record]) -> Path:
    """A project whose graph is `records`."""
    made = project.make(folder, 0)
    for revision, down, labels, depends in records:
        (made / "versions" / f"{revision}.py").write_text(
            f'"""{revision}"""\nrevision = {revision!r}\ndown_revision = {down!r}\n'
            f"branch_labels = {labels!r}\ndepends_on = {depends!r}\n\n\n"
            "def upgrade():\n    pass\n\n\ndef downgrade():\n    pass\n"
        )
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--without-10000", action="store_true")
    arguments = parser.parse_args()
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # an installation has its bytecode
    project.compile_package()
    admin = os.environ.get("TEST_DATABASE_URL") or os.environ.get("DATABASE_URL")
    print(f"{'':52} {'off':>10} {'on':>10} {'ratio':>7} {'above':>8} {'difference':>11}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        made = project.make(folder / "1000", 1000)
        row("list_templates", made, "list_templates", 4 * arguments.rounds)
        rows("history, 1,000 linear", made, "history", arguments.rounds)
        rows("heads, 1,000 linear", made, "heads", arguments.rounds)
        if admin:
            nothing_to_do(made, admin, arguments.rounds)
        else:
            print("upgrade head, nothing to do: left out, TEST_DATABASE_URL is not set")
        merging = with_records(folder / "merges", merges(3000))
        few = max(arguments.rounds // 2, 1)
        rows("history, 3,000, a merge every third", merging, "history", few)
        if not arguments.without_10000:
            shutil.rmtree(made)
            made = project.make(folder / "10000", 10_000)
            rows("history, 10,000 linear", made, "history", few)
            rows("heads, 10,000 linear", made, "heads", few)


def nothing_to_do(made: Path, admin: str, rounds: int) -> None:
    import psycopg  # only where there is a server

    database = f"migrate_ext_bench_{os.getpid()}"
    admin = admin.replace("+psycopg", "")
    url = f"{admin.rpartition('/')[0]}/{database}".replace("postgresql:", "postgresql+psycopg:")
    with psycopg.connect(admin, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{database}"')
        try:
            seconds((*ALEMBIC, "upgrade", "head"), made, True, url)
            rows("upgrade head, nothing to do, 1,000 linear", made, "upgrade head", rounds, url)
        finally:
            connection.execute(f'DROP DATABASE "{database}" WITH (FORCE)')


if __name__ == "__main__":
    main()
