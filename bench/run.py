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
import sysconfig
import tempfile
import time
from pathlib import Path

import project
from databases import Databases

ROOT = Path(__file__).parents[1]

# Where the time of a reading command goes, and of one that connects: what the command does, step by step.
LAPS = """
import time; laps = [("", time.perf_counter())]
def lap(name): laps.append((name, time.perf_counter()))
import sys, os
from migrate_ext.cli import command_line as cli
from migrate_ext.direct import reading as commands
lap("import of the commands")
from migrate_ext.project.config import Config
config = Config("alembic.ini", "pyproject.toml", "alembic"); lap("configuration")
from migrate_ext import _core
folder = config.version_locations(config.script_location())[0]
names, records = _core.scan_folder(folder); lap("listing, reading and scanning the files")
graph = _core.Graph(records); lap("graph")
walk = graph.iterate("heads", "base", inclusive=True); lap("walk")
text = graph.describe(walk, records, branches=True, doc=True, parents=True); lap("text")
from migrate_ext.direct import database as direct; lap("import of what connects")
from migrate_ext.execution import libpq
library = libpq.find(); lap("loading libpq (in another thread, while files are read)")
url = os.environ["DATABASE_URL"]
session = _core.Session.connect(_core.parse_url(url), library); lap("connecting (likewise)")
session.version_heads("alembic_version"); lap("the two questions")
session.close(); lap("closing")
for (_, before), (name, after) in zip(laps, laps[1:]):
    print(f"{name}\\t{(after - before) * 1000}")
"""


class Bench:
    """Runs commands in one project."""

    def __init__(self, folder: Path, admin: str, rounds: int) -> None:
        self.folder = folder
        self.admin = admin
        self.rounds = rounds
        self.databases = Databases(admin)
        self.url = admin
        self.stats = folder / "stats.json"
        self.python = str(self.make_environment())
        self.nothing = (self.python, "-c", "pass")
        self.alembic = (self.python, "-m", "alembic.config")
        self.ours = (self.python, str(ROOT / "scripts" / "migrate-ext"))

    def make_environment(self) -> Path:
        """A Python that starts as one does where packages are installed: the finder of an editable installation costs
        as much as starting Python."""
        folder = self.folder.parent / "environment"
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
        packages = next(folder.glob("lib/python*/site-packages"))
        (packages / "bench.pth").write_text(f"{ROOT}\n{sysconfig.get_path('purelib')}\n")
        return folder / "bin" / "python"

    def fresh_database(self) -> None:
        """From here on, a new one."""
        self.url = f"{self.admin.rpartition('/')[0]}/{self.databases.fresh()}"

    def environment(self) -> dict[str, str]:
        # Bytecode is kept, as after an installation.
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "MIGRATE_EXT"))}
        return {**kept, "DATABASE_URL": self.url.replace("postgresql://", "postgresql+psycopg://")}

    def once(self, command: tuple[str, ...], **variables: str) -> float:
        """Seconds of one whole process. ``URL`` in `command` is the database's."""
        words = [self.url if word == "URL" else word for word in command]
        environment = {**self.environment(), **variables}
        if command[:3] == self.alembic:
            environment["MIGRATE_EXT"] = "0"
        begin = time.perf_counter()
        subprocess.run(words, cwd=self.folder, env=environment, check=True, capture_output=True)
        return time.perf_counter() - begin

    def memory(self, command: tuple[str, ...]) -> float:
        """Peak resident memory of one process, in MiB."""
        process = subprocess.Popen(
            command, cwd=self.folder, env=self.environment(), stdout=subprocess.DEVNULL
        )
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0
        return used.ru_maxrss / 1024

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
            bench.fresh_database()
            bench.once((*bench.ours, "upgrade", "head"), MIGRATE_EXT_STATS=str(bench.stats))
            counted = json.loads(bench.stats.read_text())
            row(bench, "current")
            row(bench, "upgrade head", "upgrade head, nothing to do")
            shown = {k: counted[k] for k in ("batches", "statements", "waits", "plain_statements")}
            print(f"upgrade head from empty, ours: {shown}")
            nothing, heads = bench.memory(bench.nothing), bench.memory((*bench.ours, "heads"))
            print(f"peak memory of heads: {heads:.1f} MiB, {heads / nothing:.2f}x python -c pass")
            compiled(bench)
            laps(bench)
        finally:
            bench.databases.drop()


def row(bench: Bench, words: str, title: str | None = None, fresh: bool = False) -> None:
    command = tuple(words.split())
    theirs, nothing, ours = bench.least(
        [(*bench.alembic, "-c", "classic.ini", *command), bench.nothing, (*bench.ours, *command)],
        fresh,
    )
    print(
        f"{title or words:32} {theirs * 1000:6.0f} ms {ours * 1000:6.1f} ms {ours / theirs:6.3f}x"
        f"   {ours / nothing:.1f}x of {nothing * 1000:.1f} ms"
    )


def compiled(bench: Bench) -> None:
    """``upgrade head`` by a plan, against psql with the same SQL, and the DDL alone as one request."""
    bench.once((*bench.ours, "compile"))
    script = bench.folder / "upgrade.sql"
    done = subprocess.run(
        (*bench.ours, "upgrade", "head", "--sql"),
        cwd=bench.folder,
        env=bench.environment(),
        check=True,
        capture_output=True,
        text=True,
    )
    script.write_text(done.stdout)
    ddl = "".join(
        statement + ";" for statement in done.stdout.split(";") if "CREATE TABLE t" in statement
    )
    (bench.folder / "ddl.py").write_text(
        "import sys, time\nfrom migrate_ext import _core\nfrom migrate_ext.execution import libpq\n"
        f"session = _core.Session.connect(_core.parse_url(sys.argv[1]), libpq.find())\n"
        f"session.query({ddl!r})\n"
    )
    psql, ours, alone = bench.least(
        [
            ("psql", "-q", "-v", "ON_ERROR_STOP=1", "-f", str(script), "URL"),
            (*bench.ours, "upgrade", "head"),
            (bench.python, "ddl.py", "URL"),
        ],
        fresh=True,
    )
    print(
        f"upgrade head, compiled: {ours * 1000:.0f} ms, {ours / psql:.2f}x psql -f ({psql * 1000:.0f} ms), "
        f"{ours / alone:.2f}x the DDL alone as one request ({alone * 1000:.0f} ms)"
    )
    (bench.folder / "versions.plan").unlink()


def laps(bench: Bench) -> None:
    """Where each millisecond goes: the least of each step."""
    best: dict[str, float] = {}
    for _ in range(bench.rounds):
        done = subprocess.run(
            (bench.python, "-c", LAPS),
            cwd=bench.folder,
            env=bench.environment(),
            check=True,
            capture_output=True,
            text=True,
        )
        for line in done.stdout.splitlines():
            name, _, value = line.partition("\t")
            best[name] = min(best.get(name, float("inf")), float(value))
    nothing = min(bench.once(bench.nothing) for _ in range(bench.rounds))
    print(f"{nothing * 1000:8.2f} ms  starting and ending Python")
    for name, value in best.items():
        print(f"{value:8.2f} ms  {name}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--revisions", type=int, nargs="*", default=[1000])
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    admin = os.environ.get("TEST_DATABASE_URL") or os.environ.get("DATABASE_URL")
    if not admin:
        raise SystemExit("set TEST_DATABASE_URL, for example postgresql://user@localhost/postgres")
    project.compile_package()
    for revisions in arguments.revisions:
        measure(revisions, admin.replace("+psycopg", ""), arguments.rounds)


if __name__ == "__main__":
    main()
