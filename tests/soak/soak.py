#!/usr/bin/env python3
"""Many at once, killed, cut off: `make soak` runs all of it and prints a table.

Usage: soak.py [--scale F] [--only WORD...] [--seed N]. At scale 1 the numbers are those of the table in SECURITY.md;
`make test` runs it at a small scale (tests/pg/test_soak.py). A failure prints the seed, which repeats it.

After each blow the version row must be that of the schema, a success must have happened, and the same command must go
on to the end. Every output is searched for the database's password.
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]

import field  # noqa: E402
import psycopg  # noqa: E402
from field import Command, Field  # noqa: E402

from migrate_ext.testing import embedded as server  # noqa: E402


class Soak:
    """One server and what is done to it. outputs: texts searched for the password."""

    def __init__(self, private: server.Server, folder: Path, scale: float, seed: int) -> None:
        self.server, self.folder, self.scale, self.seed = private, folder, scale, seed
        self.numbers = itertools.count()
        self.outputs = 0
        self.admin = psycopg.connect(private.url(driver=""), autocommit=True)

    def times(self, full: int) -> int:
        return max(1, round(full * self.scale))

    def seeds(self, full: int) -> Iterator[random.Random]:
        for n in range(self.times(full)):
            yield random.Random(self.seed + n)

    def database(self) -> str:
        name = f"soak_{next(self.numbers)}"
        if self.admin.closed or self.admin.broken:
            self.admin = psycopg.connect(self.server.url(driver=""), autocommit=True)
        self.admin.execute(f"CREATE DATABASE {name}")
        return self.server.url(name)

    def drop(self, url: str) -> None:
        name = url.rpartition("/")[2]
        self.admin.execute(f"DROP DATABASE {name} WITH (FORCE)")

    def project(self, way: str, mode: str, count: int, **more: object) -> Field:
        folder = self.folder / f"project_{next(self.numbers)}"
        return Field(folder, "", way=way, mode=mode, count=count, **more)  # type: ignore[arg-type]

    def searched(self, *commands: Command) -> None:
        for command in commands:
            self.outputs += 1
            assert self.server.password not in command.said, command.said

    def goes_on(self, project: Field, command: Command, *again: str) -> None:
        """After a blow to `command`, whose way was to head (or base): see the module's text."""
        end = project.count if "head" in again else 0
        at = project.state()
        assert command.code != 0 or at == end, f"success, but at {at}:\n{command.said}"
        if command.code not in (0, 137) and at == end and "Traceback" in command.said:
            # It failed and is there all the same: COMMIT was in doubt, or was before the end.
            assert "in doubt" in command.said or "Committed" in command.said, command.said
        done = project.run(*again)
        self.searched(command, done)
        assert done.code == 0, f"at {at}, then:\n{done.said}"
        assert project.state() == end


# --- blows ----------------------------------------------------------------------------------------------------------


def at_once(soak: Soak) -> str:
    slowest, runs = 0.0, 0
    rounds = soak.times(50)
    for way, count in itertools.product(field.WAYS, (8, 32)):
        projects = {mode: soak.project(way, mode, 20) for mode in field.MODES}
        for number in range(rounds):
            project = projects[field.MODES[number % 3]]
            project.url = soak.database()
            commands = [project.start("upgrade", "head") for _ in range(count)]
            for command in commands:
                command.wait(300)
            soak.searched(*commands)
            bad = [command.said for command in commands if command.code]
            assert not bad, f"{len(bad)} of {count} failed: {way}, {project.mode}\n{bad[0]}"
            assert project.state() == project.count
            slowest = max(slowest, *(command.seconds for command in commands))
            runs += count
            soak.drop(project.url)
    return f"{runs} runs in {4 * rounds} rounds all exit 0, each migration once; slowest {slowest:.1f} s"


def killed(soak: Soak) -> str:
    said = []
    for mode in field.MODES:
        places: set[int] = set()
        projects = [soak.project(way, mode, 200) for way in field.WAYS]
        last = dict.fromkeys(field.WAYS, 2.0)
        runs = 0
        for number, dice in enumerate(soak.seeds(500)):
            project = projects[number % 2]
            project.url = soak.database()
            command = project.start("upgrade", "head")
            time.sleep(dice.uniform(0, last[project.way]))
            command.send(signal.SIGKILL)
            command.wait()
            if command.code == 0:
                last[project.way] = command.seconds
            places.add(project.state())
            soak.goes_on(project, command, "upgrade", "head")
            runs += 1
            soak.drop(project.url)
        said.append(f"{mode}: {runs} kills, {len(places)} places")
    return "; ".join(said)


def cut(soak: Soak) -> str:
    runs = doubt = found = 0
    for mode, way in itertools.product(("one", "each"), field.WAYS):
        project = soak.project(way, mode, 60)
        project.url = soak.database()
        totals = {}
        for command, target in (("upgrade", "head"), ("downgrade", "base")):
            proxy = field.Proxy(soak.server.port)
            done = project.run(command, target, url=field.with_port(project.url, proxy.port))
            assert done.code == 0, done.said
            totals[command], _ = proxy.total, proxy.close()
        soak.drop(project.url)
        for dice in soak.seeds(125):
            project.url = soak.database()
            for command, target in (("upgrade", "head"), ("downgrade", "base")):
                total = totals[command]
                # Every other one near the end, where COMMIT is.
                after = dice.choice((dice.randrange(total), total - dice.randrange(200)))
                proxy = field.Proxy(soak.server.port, after)
                done = project.run(command, target, url=field.with_port(project.url, proxy.port))
                proxy.close()
                if "in doubt" in done.said:
                    doubt += 1
                    checked = "it was committed" in done.said
                    found += checked
                    at = project.state()
                    if mode == "one":
                        assert checked == (at == (60 if target == "head" else 0)), done.said
                soak.goes_on(project, done, command, target)
                runs += 1
            soak.drop(project.url)
    return f"{runs} cuts (upgrade and downgrade); COMMIT in doubt {doubt}, found committed {found}"


def terminated(soak: Soak) -> str:
    runs = hit = 0
    for number, dice in enumerate(soak.seeds(50)):
        mode = field.MODES[number % 3]
        project = soak.project(field.WAYS[number % 2], mode, 200)
        project.url = soak.database()
        name = project.url.rpartition("/")[2]
        command = project.start("upgrade", "head")
        time.sleep(dice.uniform(0.1, 1.5))
        soak.admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,)
        )
        command.wait()
        hit += command.code != 0
        if command.code != 0:
            assert "terminating connection" in command.said or "connect" in command.said, (
                command.said
            )
        soak.goes_on(project, command, "upgrade", "head")
        runs += 1
        soak.drop(project.url)
    return f"{runs} terminated, {hit} in mid-run; each a clear error, each rerun at head"


def restarted(soak: Soak) -> str:
    runs = hit = 0
    home = Path(soak.server.home)
    found = list(home.glob("wheel/*/pginstall/bin"))
    folder = server.wheel_folder()
    assert found or folder is not None
    control = (found[0] if found else folder / "bin") / "pg_ctl"  # type: ignore[operator]
    for number, dice in enumerate(soak.seeds(50)):
        mode = field.MODES[number % 3]
        project = soak.project(field.WAYS[number % 2], mode, 200)
        project.url = soak.database()
        command = project.start("upgrade", "head")
        time.sleep(dice.uniform(0.1, 1.5))
        how = dice.choice(("fast", "immediate"))
        server.run(
            *(control, "-D", home / "data", "-l", home / "log", "-w", "-m", how, "restart"),
            home=str(home),
        )
        command.wait()
        hit += command.code != 0
        soak.goes_on(project, command, "upgrade", "head")
        runs += 1
        soak.admin.close()
        soak.admin = psycopg.connect(soak.server.url(driver=""), autocommit=True)
        soak.drop(project.url)
    return f"{runs} restarts, {hit} in mid-run; each rerun at head"


def pooled(soak: Soak) -> str:
    if field.find_pooler() is None:
        return "LEFT OUT: no pgbouncer here (Debian: apt-get install pgbouncer)"
    rounds, runs = soak.times(20), 0
    with field.pooler(soak.server.url()) as port:
        for number in range(rounds):
            way, mode = field.WAYS[number % 2], ("one", "each")[number // 2 % 2]
            project = soak.project(way, mode, 20)
            project.url = soak.database()
            url = field.with_port(project.url, port)
            commands = [project.start("upgrade", "head", url=url) for _ in range(8)]
            for command in commands:
                command.wait(300)
            soak.searched(*commands)
            bad = [command.said for command in commands if command.code]
            assert not bad, bad[0]
            assert project.state() == 20
            runs += 8
    return f"{runs} runs in {rounds} rounds all exit 0, each migration once"


def table_held(soak: Soak) -> str:
    hold = max(3.0, 10.0 * min(1.0, soak.scale))
    worst = 0.0
    for way in field.WAYS:
        body = {2: "    op.execute('ALTER TABLE busy ADD COLUMN a text')"}
        settings = "migrate_ext_ddl_lock_timeout = 1s\nmigrate_ext_retries = 30\n"
        project = soak.project(way, "one", 2, body=body, settings=settings)
        project.url = soak.database()
        url = field.bare(project.url)
        waits: list[float] = []
        stop = threading.Event()

        def application(
            url: str = url, waits: list[float] = waits, stop: threading.Event = stop
        ) -> None:
            with psycopg.connect(url, autocommit=True) as connection:
                while not stop.is_set():
                    started = time.monotonic()
                    connection.execute("SELECT count(*) FROM busy")
                    waits.append(time.monotonic() - started)
                    time.sleep(0.02)

        with psycopg.connect(url) as holder:
            holder.execute("CREATE TABLE busy (id int)")
            holder.commit()
            holder.execute("SELECT * FROM busy")
            thread = threading.Thread(target=application)
            command = project.start("upgrade", "head")
            thread.start()
            time.sleep(hold)
            assert not command.poll(), command.text()
            holder.rollback()
            command.wait()
            stop.set()
            thread.join()
        soak.searched(command)
        assert command.code == 0, command.said
        assert "Repeating, 2 of 30" in command.said
        worst = max(worst, *waits)
        assert worst <= 1.5, f"the application waited {worst:.2f} s"
    return f"held {hold:.0f} s: succeeds after; longest wait of the application {worst:.2f} s (bound 1.5)"


BLOWS: dict[str, Callable[[Soak], str]] = {
    "8 and 32 at once, both ways in": at_once,
    "SIGKILL at a random moment": killed,
    "connection cut after byte n": cut,
    "pg_terminate_backend": terminated,
    "server restart": restarted,
    "pgbouncer, 8 at once": pooled,
    "table held, lock_timeout 1s, retries": table_held,
}


def run(scale: float, seed: int, *only: str) -> list[tuple[str, str, str]]:
    """(test, result, seconds) of each blow; prints as it goes. Raises AssertionError at the first failure."""
    results = []
    with server.temporary_server() as private, tempfile.TemporaryDirectory() as folder:
        soak = Soak(private, Path(folder), scale, seed)
        for name, blow in BLOWS.items():
            if not only or any(word in name for word in only):
                started = time.monotonic()
                result = blow(soak)
                results.append((name, result, f"{time.monotonic() - started:.0f} s"))
                print("| " + " | ".join(results[-1]) + " |", flush=True)
        results.append(("outputs searched for the password", f"{soak.outputs}, 0 hits", ""))
        print("| " + " | ".join(results[-1]) + " |", flush=True)
        soak.admin.close()
    return results


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", default=[], metavar="WORD")
    options = parser.parse_args()
    for name in [n for n in os.environ if n.startswith("PG") or n == "DATABASE_URL"]:
        del os.environ[name]
    print(f"scale {options.scale}, seed {options.seed}")
    print("| test | result | time |\n|---|---|---|", flush=True)
    run(options.scale, options.seed, *options.only)


if __name__ == "__main__":
    main()
