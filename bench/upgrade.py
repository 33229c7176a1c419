"""``python bench/upgrade.py``: what an upgrade costs, as ratios against Alembic and psql measured in the same run.

Needs a PostgreSQL server: ``TEST_DATABASE_URL``, of a database whose owner may create others; and ``psql``. Figures are the
least of several whole processes, run in turns. The server is named in the first line. ``--rows``, ``--script`` and ``--revisions`` make it shorter.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import project
import psycopg
from databases import Databases
from sqlalchemy.engine import URL, make_url

ROOT = Path(__file__).parents[1]
PYTHON = sys.executable
ALEMBIC = (PYTHON, "-m", "alembic.config", "-c", "classic.ini", "upgrade", "head")
DROP_IN = (PYTHON, "-m", "alembic", "-c", "classic.ini", "upgrade", "head")
CLASSIC = (PYTHON, "-m", "migrate_ext", "-c", "classic.ini", "upgrade", "head")
THIN = (PYTHON, "-m", "migrate_ext", "upgrade", "head")
OTHER = """\
    op.get_bind().execute(sa.text("CREATE TABLE t{number} (id int)"))
    assert op.get_bind().execute(sa.text("SELECT count(*) FROM t{number}")).scalar() == 0"""
BULK = """\
    table = op.create_table("t", sa.Column("id", sa.Integer), sa.Column("name", sa.String(50)))
    op.bulk_insert(table, [{"id": n, "name": f"name {n}"} for n in range(ROWS)])"""
SCRIPT = """\
    from pathlib import Path
    op.execute(Path("script.sql").read_text())"""


class Cost:
    """The least of several runs of one program. ``seconds``; ``kilobytes``: its peak memory."""

    def __init__(self) -> None:
        self.seconds = float("inf")
        self.kilobytes = 0


class Bench:
    """One project, on a database of its own for each run."""

    def __init__(self, folder: Path, admin: URL, rounds: int) -> None:
        self.folder = folder
        self.admin = admin
        self.rounds = rounds
        self.databases = Databases(admin.render_as_string(hide_password=False))
        self.stats = folder / "stats.json"

    def __enter__(self) -> Bench:
        return self

    def __exit__(self, *_: object) -> None:
        self.databases.drop()

    def once(self, command: tuple[str, ...], port: int | None, driver: str) -> Cost:
        """One whole process on an empty database. port: of the proxy, if the way goes through one."""
        self.stats.unlink(missing_ok=True)
        url = self.admin.set(database=self.databases.fresh())
        if port is not None:
            url = url.set(host="127.0.0.1", port=port)
        words = [
            url.set(drivername="postgresql").render_as_string(hide_password=False)
            if w == "URL"
            else w
            for w in command
        ]
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "DATABASE_URL": url.set(drivername=driver).render_as_string(hide_password=False),
        }
        if command == ALEMBIC:
            environment["MIGRATE_EXT"] = "0"
        else:
            environment["MIGRATE_EXT_STATS"] = str(self.stats)
        begin = time.perf_counter()
        process = subprocess.Popen(
            words,
            cwd=self.folder,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        assert process.stderr is not None
        said = process.stderr.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(said.decode())
        cost = Cost()
        cost.seconds, cost.kilobytes = time.perf_counter() - begin, usage.ru_maxrss
        return cost

    def least(
        self,
        *commands: tuple[str, ...],
        port: int | None = None,
        driver: str = "postgresql+psycopg",
    ) -> list[Cost]:
        """The least of each command, measured in turns."""
        best = [Cost() for _ in commands]
        for _ in range(self.rounds):
            for cost, command in zip(best, commands, strict=True):
                found = self.once(command, port, driver)
                if found.seconds < cost.seconds:
                    cost.seconds, cost.kilobytes = found.seconds, found.kilobytes
        return best

    def counted(self) -> str:
        found = json.loads(self.stats.read_text())
        return ", ".join(
            f"{found[k]} {k}" for k in ("waits", "batches", "statements", "plain_statements")
        )


@contextmanager
def delayed(admin: URL, milliseconds: float) -> Iterator[int]:
    """The port of a proxy before the server (bench/delay.py)."""
    with subprocess.Popen(
        [
            PYTHON,
            ROOT / "bench" / "delay.py",
            admin.host or "127.0.0.1",
            str(admin.port or 5432),
            str(milliseconds),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None and process.stdin is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.stdin.close()


def show(title: str, ours: Cost, theirs: Cost, goal: str, than: str = "alembic") -> None:
    print(
        f"{title:42} {theirs.seconds:7.2f} s {ours.seconds:7.2f} s {ours.seconds / theirs.seconds:6.2f}x {than:8} goal {goal}"
    )


def small(folder: Path, admin: URL, rounds: int, revisions: int) -> None:
    """One DDL each, with which the server has little to do."""
    made = project.make(folder, revisions, project.CREATE_SMALL_TABLE)
    bench = Bench(made, admin, rounds)
    theirs, drop_in, classic, thin = bench.least(ALEMBIC, DROP_IN, CLASSIC, THIN)
    show(f"{revisions} small tables, under alembic", drop_in, theirs, "0.5x (aim 0.4x)")
    show(f"{revisions} small tables, classic env.py", classic, theirs, "0.5x (aim 0.4x)")
    show(f"{revisions} small tables, direct", thin, theirs, "0.45x")
    sql = subprocess.run(
        (*THIN, "--sql"),
        cwd=made,
        env={**os.environ, "PYTHONPATH": str(ROOT), "DATABASE_URL": "postgresql://"},
        check=True,
        capture_output=True,
    ).stdout
    (made / "upgrade.sql").write_bytes(sql)
    compile_ = (PYTHON, "-m", "migrate_ext", "compile")
    subprocess.run(
        compile_,
        cwd=made,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=True,
        stdout=subprocess.DEVNULL,
    )
    psql, planned = bench.least(
        ("psql", "-q", "-v", "ON_ERROR_STOP=1", "-f", "upgrade.sql", "URL"), THIN
    )
    show(f"{revisions} small tables, compiled", planned, psql, "0.8x (aim 0.6x)", "psql -f")


def many(folder: Path, admin: URL, rounds: int, revisions: int) -> None:
    """One DDL each: a table with a key from a sequence."""
    with Bench(project.make(folder, revisions), admin, rounds) as bench:
        for driver in "psycopg", "psycopg2":
            theirs, classic, thin = bench.least(
                ALEMBIC, CLASSIC, THIN, driver=f"postgresql+{driver}"
            )
            show(
                f"{revisions} migrations, {driver}, classic env.py",
                classic,
                theirs,
                "0.5x (aim 0.4x)",
            )
            show(f"{revisions} migrations, {driver}, direct", thin, theirs, "0.45x")
            print(f"{'':42} direct: {bench.counted()}")
        with delayed(admin, 5) as port:
            theirs, classic = bench.least(ALEMBIC, CLASSIC, port=port)
            show(f"{revisions} migrations, 5 ms away", classic, theirs, "0.15x (aim 0.1x)")
            print(f"{'':42} classic: {bench.counted()} (goal: 30 waits between the migrations)")


def one_sided(folder: Path, admin: URL, rounds: int, rows: int, megabytes: int) -> None:
    """What no batch can make faster must not become slower."""
    with Bench(project.make(folder / "other", 200, OTHER), admin, rounds) as bench:
        theirs, ours = bench.least(ALEMBIC, CLASSIC)
    show("200 migrations that are all 'other'", ours, theirs, "1.0x")
    bulk = project.make(folder / "bulk", 1, BULK.replace("ROWS", str(rows)))
    with Bench(bulk, admin, rounds) as bench:
        theirs, ours = bench.least(ALEMBIC, CLASSIC)
    show(f"bulk_insert of {rows:,} rows", ours, theirs, "1.0x")
    script = project.make(folder / "script", 1, SCRIPT)
    line = "INSERT INTO big VALUES ('" + "x" * 1000 + "');\n"
    size = megabytes * 1024 * 1024
    with (script / "script.sql").open("w") as file:
        file.write("CREATE TABLE big (t text);\n")
        for _ in range(size // len(line)):
            file.write(line)
    psql = ("psql", "--single-transaction", "-q", "-f", "script.sql", "URL")
    with Bench(script, admin, rounds) as bench:
        theirs, ours = bench.least(psql, CLASSIC)
    with Bench(project.make(folder / "nothing", 1, "    pass"), admin, rounds) as nothing:
        (base,) = nothing.least(CLASSIC)
    show(f"op.execute of a {megabytes} MB script", ours, theirs, "1.1x", "psql -f")
    more = (ours.kilobytes - base.kilobytes) / 1024
    print(f"{'':42} memory: {more:.0f} MB more than an empty migration; goal script + 32 MB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--revisions", type=int, default=1000)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--script", type=int, default=50, help="megabytes")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    address = os.environ.get("TEST_DATABASE_URL")
    if not address:
        raise SystemExit("set TEST_DATABASE_URL, for example postgresql://user@localhost/postgres")
    project.compile_package()
    admin = make_url(address).set(drivername="postgresql")
    with psycopg.connect(admin.render_as_string(hide_password=False)) as connection:
        server = connection.info.server_version // 10000
    print(
        f"PostgreSQL {server} at {admin.host}:{admin.port or 5432}; least of {arguments.rounds} (theirs, ours, ratio)"
    )
    with tempfile.TemporaryDirectory() as folder:
        small(Path(folder) / "small", admin, arguments.rounds, arguments.revisions)
        many(Path(folder) / "many", admin, arguments.rounds, arguments.revisions)
        one_sided(Path(folder), admin, arguments.rounds, arguments.rows, arguments.script)


if __name__ == "__main__":
    main()
