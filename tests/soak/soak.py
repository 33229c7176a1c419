#!/usr/bin/env python3
"""Many at once, killed, cut off: `make soak` runs all of it and prints a table.

Usage: soak.py [--scale F] [--only WORD...] [--ways WAY...] [--seed N]. At scale 1 the numbers are those of the table in
SECURITY.md; `make test` runs it at a small scale (tests/pg/test_soak.py). A failure prints the seed, which repeats it.

A blow comes at a random time, after a random byte of the conversation with the server, or at a COMMIT: before the server
has it, or just after. Other blows are in a random migration itself. After each, nobody and no advisory lock may be left on the server, the version row must be that of the schema, a success
must have happened, a failure must give its reason and say what was committed, which must be so; and the same command must
go on to the end, running what was left and nothing else. Every output is searched for the database's password.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import itertools
import json
import os
import queue
import random
import re
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "tests" / "support"), str(ROOT)]

import psycopg  # noqa: E402
from connection_pooler import POOLED_ASYNCPG, Pooler, find_pooler, run_pooler  # noqa: E402
from cutting_proxy import COMMIT, Proxy  # noqa: E402
from database_urls import libpq_url, with_driver, with_port  # noqa: E402
from forked_command import Command, check_report  # noqa: E402
from recording_project import ALL_WAYS, MODES, WAYS, RecordingProject, upgrade_of  # noqa: E402

from migrate_ext.locking import lock  # noqa: E402
from migrate_ext.testing import embedded as server  # noqa: E402

DRIVERS = {
    "alembic": ("psycopg", "psycopg2"),
    "migrate_ext": ("psycopg", "psycopg2", "asyncpg", "psycopg_async"),
    "compiled": ("psycopg",),
}
_POINTS = ("time", "byte", "COMMIT")
_END_SECONDS = 30.0  # in which a server lets go of a session whose client is dead


class Place:
    """A project of the soak, and how one of its commands goes when nothing disturbs it."""

    def __init__(self, project: RecordingProject, drivers: tuple[str, ...]) -> None:
        self.project, self.drivers = project, drivers
        self.seconds: dict[str, float] = {}
        self.bytes: dict[str, int] = {}
        self.commits: dict[str, int] = {}


class Soak:
    """One server and what is done to it. outputs: texts searched for the password."""

    def __init__(
        self, private: server.Server, folder: Path, scale: float, seed: int, ways: tuple[str, ...]
    ) -> None:
        self.server, self.folder, self.scale, self.seed = private, folder, scale, seed
        self.ways, self.next_ways = ways, itertools.cycle(ways)
        self._turns = itertools.cycle(itertools.product(ways, MODES))
        self.pooled_drivers = itertools.cycle(("psycopg2", "psycopg", "asyncpg"))
        # `make test` has no time for more.
        self.count = 200 if scale >= 0.01 else 20
        self.numbers = itertools.count()
        self.outputs = 0
        # A server that is stopped at once must keep what it has confirmed.
        self._execute("ALTER SYSTEM SET synchronous_commit = on")
        self._execute("SELECT pg_reload_conf()")

    def times(self, full: int) -> int:
        return max(1, round(full * self.scale))

    def turn(self, *modes: str) -> tuple[str, str]:
        """A way and a mode, out of `modes` where there are any; all come round."""
        return next(turn for turn in self._turns if not modes or turn[1] in modes)

    def seeds(self, full: int) -> Iterator[random.Random]:
        for n in range(self.times(full)):
            yield random.Random(self.seed + n)

    def _execute(self, sql: str) -> None:
        if not hasattr(self, "admin") or self.admin.closed or self.admin.broken:
            self.admin = psycopg.connect(self.server.url(driver=""), autocommit=True)
        self.admin.execute(sql)

    def database(self) -> str:
        name = f"soak_{next(self.numbers)}"
        self._execute(f"CREATE DATABASE {name}")
        return self.server.url(name)

    def drop(self, url: str) -> None:
        name = url.rpartition("/")[2]
        self._execute(f"DROP DATABASE {name} WITH (FORCE)")

    def end_sessions(self, project: RecordingProject) -> None:
        name = project.url.rpartition("/")[2]
        self._execute(
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"
        )

    def planted(
        self,
        way: str,
        mode: str,
        dice: random.Random,
        lines: str,
        *,
        places: tuple[str, ...] = ("before",),
    ) -> tuple[RecordingProject, int]:
        """A project with `lines` in one migration, and which it is; its database is new. places: whether
        they may stand before, behind, or in an autocommit block before what the migration does."""
        count = min(40, self.count)
        n = dice.randint(2, count)  # the first one makes more, which a block would leave half done
        own, place = upgrade_of(mode, n), dice.choice(places)
        if place == "in a block":
            indented = "".join(f"    {line}" for line in lines.splitlines(keepends=True))
            lines = "    with op.get_context().autocommit_block():\n" + indented
        body = f"{own}\n{lines}" if place == "behind" else lines + own
        project = self.project(way, mode, count, body={n: body})
        project.url = self.database()
        return project, n

    def project(self, way: str, mode: str, count: int, **more: object) -> RecordingProject:
        folder = self.folder / f"project_{next(self.numbers)}"
        return RecordingProject(folder, "", way=way, mode=mode, count=count, **more)  # type: ignore[arg-type]

    def places(self, mode: str, count: int, runs: int) -> list[Place]:
        """A project for each way, measured; fewer when there are fewer `runs` to come."""
        found = []
        for way in itertools.islice(self.next_ways, min(runs, len(self.ways))):
            place = Place(self.project(way, mode, count), DRIVERS[way])
            place.project.url = self.database()
            planned = self.measured(place, self.server.port)
            assert way != "compiled" or planned == count
            self.drop(place.project.url)
            found.append(place)
        return found

    def measured(self, place: Place, port: int) -> int:
        """Note how upgrade and downgrade go in an empty database, which it is again. port: of a server, or a
        pooler. Returns how many migrations were compiled."""
        stats = place.project.folder / "stats"
        stats.write_text("{}")
        for command in ("upgrade", "head"), ("downgrade", "base"):
            proxy = Proxy(port, behind=COMMIT, number=sys.maxsize)
            url = with_driver(place.project.url, place.drivers[0])
            url = with_port(url, proxy.port)
            done = place.project.run(*command, url=url, MIGRATE_EXT_STATS=str(stats))
            proxy.close()
            assert done.code == 0, done.said
            place.seconds[command[0]] = done.seconds
            place.bytes[command[0]] = proxy.total
            place.commits[command[0]] = proxy.said
        return int(json.loads(stats.read_text()).get("planned", 0))

    def strike(
        self,
        place: Place,
        dice: random.Random,
        then: Callable[[Command], None] | None,
        *arguments: str,
        port: int = 0,
    ) -> Command:
        """Run a command, and do `then` at some point of it; None: cut its line. port: of a pooler."""
        project, name = place.project, arguments[0]
        driver = dice.choice(place.drivers)
        port = port or self.server.port
        url = with_port(with_driver(project.url, driver), port)
        point = dice.choice(_POINTS if then else _POINTS[1:])
        if point == "time":
            assert then is not None
            command = project.start(*arguments, url=url)
            time.sleep(dice.uniform(0, place.seconds[name]))
            then(command)
            return command.wait()
        victim: queue.SimpleQueue[Command] = queue.SimpleQueue()
        pause = dice.choice((0.0, dice.uniform(0, 0.004)))

        def act() -> None:
            command = victim.get()
            time.sleep(pause)
            assert then is not None
            then(command)

        doing = act if then else None
        if point == "byte":
            after = dice.randrange(place.bytes[name])
            proxy = Proxy(port, after, then=doing)
        else:
            number = dice.randint(1, place.commits[name])
            side = dice.choice(("before", "behind"))
            proxy = Proxy(
                port,
                number=number,
                then=doing,
                **{side: COMMIT},  # type: ignore[arg-type]
            )
        command = project.start(*arguments, url=with_port(url, proxy.port))
        victim.put(command)
        command.wait()
        proxy.close()
        return command

    def searched(self, *commands: Command) -> None:
        for command in commands:
            self.outputs += 1
            assert self.server.password not in command.said, command.said

    def state(self, project: RecordingProject, *, pooled: bool = False) -> int:
        """As :meth:`RecordingProject.state`, when nobody of the command, and no lock, is left on the server.
        pooled: a pooler keeps sessions, which do nothing."""
        project.state()  # one that is still working leaves it consistent as well
        deadline = time.monotonic() + _END_SECONDS
        with project.connect() as connection:
            others = (
                "SELECT (SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
                "AND backend_type = 'client backend' AND pid <> pg_backend_pid() "
                f"AND NOT ({pooled} AND state = 'idle')), (SELECT count(*) FROM pg_locks "
                "WHERE locktype = 'advisory' AND database = "
                "(SELECT oid FROM pg_database WHERE datname = current_database()))"
            )
            while connection.execute(others).fetchone() != (0, 0):
                assert time.monotonic() < deadline, "the server goes on without a client"
                time.sleep(0.005)
        return project.state()

    def goes_on(
        self,
        project: RecordingProject,
        command: Command,
        reason: str = "",
        mend: Callable[[], object] | None = None,
        pooler: Pooler | None = None,
    ) -> int:
        """After a blow to `command`: see the module's text. reason: a pattern of what a failure says.
        mend: takes its cause away. Returns where the blow left the database."""
        name = command.arguments[0]
        start, end = (0, project.count) if name == "upgrade" else (project.count, 0)
        at = self.state(project, pooled=pooler is not None)
        if command.code == 0:
            assert at == end, f"success, but at {at}:\n{command.said}"
        elif command.code != 137:
            assert re.search(reason, command.said, re.IGNORECASE), command.said
            assert command.way == "alembic" or "Traceback" not in command.said, command.said
            check_report(command, start, at)
        if mend is not None:
            mend()
        url = command.environment["DATABASE_URL"] if pooler is not None else project.url
        if pooler is not None:
            url = with_port(url, pooler.port)
        done = project.run(*command.arguments, url=url)
        self.searched(command, done)
        assert done.code == 0, f"at {at}, then:\n{done.said}"
        assert self.state(project, pooled=pooler is not None) == end
        assert done.said.count(f"Running {name}") == abs(end - at), f"at {at}, then:\n{done.said}"
        return at


# What a lost connection is called: by libpq, by asyncpg, by the system.
LOST = (
    "server closed the connection|connection was closed|connection_lost|connection reset"
    "|EOF detected|could not receive data|broken pipe"
)
TERMINATED = "terminating connection|terminated by administrator"
POOLER_GONE = "closed the connection|unexpected"
DOWN = "shutting down|starting up|refused|immediate shutdown|crash of another|recovery mode"


# --- blows ----------------------------------------------------------------------------------------------------------


def at_once(soak: Soak) -> str:
    slowest, runs = 0.0, 0
    rounds = soak.times(50)
    for way, count in itertools.product(soak.ways, (8, 32)):
        projects = {mode: soak.project(way, mode, 20) for mode in MODES}
        for number in range(rounds):
            project = projects[MODES[number % 3]]
            project.url = soak.database()
            commands = [project.start("upgrade", "head") for _ in range(count)]
            for command in commands:
                command.wait(300)
            soak.searched(*commands)
            bad = [command.said for command in commands if command.code]
            assert not bad, f"{len(bad)} of {count} failed: {way}, {project.mode}\n{bad[0]}"
            assert project.state() == project.count
            assert sum(command.said.count("Running upgrade") for command in commands) == 20
            slowest = max(slowest, *(command.seconds for command in commands))
            runs += count
            soak.drop(project.url)
    return f"{runs} runs in {2 * rounds * len(soak.ways)} rounds all exit 0, each migration once; slowest {slowest:.1f} s"


def kill(command: Command) -> None:
    command.send(signal.SIGKILL)


def killed(mode: str, soak: Soak) -> str:
    found: list[int] = []
    places = soak.places(mode, soak.count, soak.times(500))
    runs = 0
    for number, dice in enumerate(soak.seeds(500)):
        place = places[number % len(places)]
        place.project.url = soak.database()
        command = soak.strike(place, dice, kill, "upgrade", "head")
        at = soak.goes_on(place.project, command)
        if command.code == 137:
            found.append(at)
        runs += 1
        soak.drop(place.project.url)
    return (
        f"{runs} kills, {len(found)} in mid-run, at {len(set(found))} places, "
        f"{found.count(soak.count)} of them committed; each rerun at head"
    )


def cut(soak: Soak) -> str:
    runs = hit = doubt = found = 0
    for mode in MODES:
        places = soak.places(mode, min(60, soak.count), soak.times(167))
        for number, dice in enumerate(soak.seeds(167)):
            place = places[number % len(places)]
            project = place.project
            project.url = soak.database()
            for command in ("upgrade", "head"), ("downgrade", "base"):
                done = soak.strike(place, dice, None, *command)
                hit += done.code != 0
                if "in doubt" in done.said:
                    doubt += 1
                    found += "it was committed" in done.said
                soak.goes_on(project, done, LOST)
                runs += 1
            soak.drop(project.url)
    return (
        f"{runs} cuts (upgrade and downgrade), {hit} failed; COMMIT in doubt {doubt}, "
        f"found committed {found}"
    )


def in_mid_run(
    soak: Soak, reason: str, blow: Callable[[RecordingProject], Callable[[random.Random], None]]
) -> tuple[int, int]:
    """`blow` to upgrades: how many there were, and how many failed."""
    full = soak.times(50)
    places = {mode: soak.places(mode, soak.count, full) for mode in MODES[:full]}
    runs = hit = 0
    for number, dice in enumerate(soak.seeds(50)):
        of_mode = places[MODES[number % 3]]
        place = of_mode[number // 3 % len(of_mode)]
        place.project.url = soak.database()
        does = blow(place.project)
        command = soak.strike(place, dice, lambda _, d=dice, f=does: f(d), "upgrade", "head")  # type: ignore[misc]
        hit += command.code != 0
        soak.goes_on(place.project, command, reason)
        runs += 1
        soak.drop(place.project.url)
    return runs, hit


def terminated(soak: Soak) -> str:
    runs, hit = in_mid_run(
        soak, f"{TERMINATED}|{LOST}", lambda project: lambda _: soak.end_sessions(project)
    )
    return f"{runs} terminated, {hit} in mid-run; each a clear error, each rerun at head"


def restarted(soak: Soak) -> str:
    home = Path(soak.server.home)
    found = list(home.glob("wheel/*/pginstall/bin"))
    folder = server.wheel_folder()
    assert found or folder is not None
    control = (found[0] if found else folder / "bin") / "pg_ctl"  # type: ignore[operator]

    def restart(dice: random.Random) -> None:
        how = dice.choice(("fast", "immediate"))
        server.run(
            *(control, "-D", home / "data", "-l", home / "log", "-w", "-m", how, "restart"),
            home=str(home),
        )
        soak.admin.close()

    runs, hit = in_mid_run(soak, f"{TERMINATED}|{LOST}|{DOWN}", lambda _: restart)
    return f"{runs} restarts, {hit} in mid-run; each a clear error, each rerun at head"


# --- blows in a migration ---------------------------------------------------------------------------------------------

REFUSED = """\
CREATE TABLE parent (id int PRIMARY KEY);
CREATE TABLE child (p int REFERENCES parent DEFERRABLE INITIALLY DEFERRED)
"""


def refused(soak: Soak) -> str:
    runs = 0
    turns: set[tuple[str, str]] = set()
    for dice in soak.seeds(150):
        turn = soak.turn()
        insert = "    op.execute('INSERT INTO child VALUES (1)')\n"
        project, n = soak.planted(*turn, dice, insert)
        with project.connect() as connection:
            connection.execute(REFUSED)
        url = with_driver(project.url, dice.choice(DRIVERS[turn[0]]))
        command = project.run("upgrade", "head", url=url)

        def mend(project: RecordingProject = project) -> None:
            with project.connect() as connection:
                connection.execute("INSERT INTO parent VALUES (1)")

        assert command.code, command.said
        assert "The server refused COMMIT" in command.said, command.said
        at = soak.goes_on(project, command, "violates foreign key constraint", mend)
        assert at == (0 if turn[1] == "one" else n - 1)
        turns.add(turn)
        runs += 1
        soak.drop(project.url)
    return f"{runs} refused, in {len(turns)} of 9 ways and modes; each said so, each rerun at head"


# Each transaction that reads the one and writes the other fails when another did so meanwhile, and committed.
READS = "    op.execute('INSERT INTO written SELECT count(*) FROM read')\n"
OTHER = """\
BEGIN ISOLATION LEVEL SERIALIZABLE;
INSERT INTO read SELECT count(*) FROM written;
COMMIT
"""


def serialized(soak: Soak) -> str:
    runs = hit = repeated = 0
    for dice in soak.seeds(150):
        way, mode = soak.turn()
        count = min(40, soak.count)
        body = {n: READS + upgrade_of(mode, n) for n in range(1, count + 1)}
        project = soak.project(way, mode, count, body=body)
        project.url = soak.database()
        name = project.url.rpartition("/")[2]
        isolation = "SET default_transaction_isolation"
        with project.connect() as connection:
            connection.execute("CREATE TABLE read (n int); CREATE TABLE written (n int)")
            connection.execute(f"ALTER DATABASE {name} {isolation} = 'serializable'")

        def other(project: RecordingProject = project) -> None:
            with project.connect() as connection:
                connection.execute(OTHER)

        number = dice.randint(1, 2 if mode == "one" else count)
        proxy = Proxy(soak.server.port, before=COMMIT, number=number, then=other)
        url = with_driver(project.url, dice.choice(DRIVERS[way]))
        retries = dice.choice("03")
        command = project.run(
            *("upgrade", "head"),
            url=with_port(url, proxy.port),
            MIGRATE_EXT_RETRIES=retries,
        )
        proxy.close()
        failed = command.code != 0
        assert not failed or "The server refused COMMIT" in command.said, command.said
        # What env.py commits, and what is behind an autocommit block, is not repeated.
        repeats = retries != "0" and mode != "one" and "half done" not in command.said
        assert not (failed and repeats), command.said
        hit += failed
        repeated += "Repeating, 1 of 3" in command.said
        soak.goes_on(project, command, "could not serialize access")
        runs += 1
        soak.drop(project.url)
    return f"{runs} runs, {hit} refused and said so, {repeated} repeated by themselves; each rerun at head"


LOSSES = ("DISCARD ALL", "SELECT pg_advisory_unlock_all()")


def given_up(soak: Soak) -> str:
    runs = lost = rounds = 0
    for dice in soak.seeds(100):
        way, mode = soak.turn()
        loss = dice.choice(LOSSES)
        pause = dice.choice((0.0, dice.uniform(0.0, 0.3)))
        lines = f"    op.execute({loss!r})\n    op.execute('SELECT pg_sleep({pause:.3f})')\n"
        project, n = soak.planted(way, mode, dice, lines, places=("in a block",))
        # psycopg and asyncpg prepare statements, which DISCARD takes away, under Alembic, too.
        driver = "psycopg2" if loss == LOSSES[0] else dice.choice(DRIVERS[way])
        url = with_driver(project.url, driver)
        commands = [project.start("upgrade", "head", url=url) for _ in range(6)]
        for command in commands:
            command.wait(300)
        soak.searched(*commands)
        for command in commands:
            if command.code:
                assert command.code == 255, command.said
                assert lock.LOST in command.said, command.said
                check_report(command, n - 1, n - 1)
                lost += 1
        assert soak.state(project) == project.count, "\n".join(c.said for c in commands)
        rounds += 1
        runs += len(commands)
        soak.drop(project.url)
    return (
        f"{runs} runs in {rounds} rounds, each migration once; {lost} found the lock taken by another "
        "run and ended, all others exit 0"
    )


CLOSES = (
    "op.get_bind().close()",
    "op.get_bind().connection.close()",
    "op.get_bind().invalidate()",
    "op.get_bind().connection.invalidate()",
)
CLOSED = "closed|invalid|AssertionError"  # the last is SQLAlchemy's, of a connection given back


def closed(soak: Soak) -> str:
    runs = 0
    found: set[tuple[str, str, str]] = set()
    for dice in soak.seeds(150):
        way, mode = soak.turn()
        close = dice.choice(CLOSES)
        lines = f"    if __import__('os').environ.get('BLOW'):\n        {close}\n"
        places = ("before", "behind", "in a block")
        project, n = soak.planted(way, mode, dice, lines, places=places)
        url = with_driver(project.url, dice.choice(DRIVERS[way]))
        command = project.run("upgrade", "head", url=url, BLOW="1")
        assert command.code, f"{close} in r{n:04}:\n{command.said}"
        soak.goes_on(project, command, CLOSED)
        found.add((way, mode, close))
        runs += 1
        soak.drop(project.url)
    return f"{runs} closed, {len(found)} kinds of 36; each an error, each rerun at head"


# --- blows from outside -----------------------------------------------------------------------------------------------


def cancelled(soak: Soak) -> str:
    runs = hit = times = 0
    for dice in soak.seeds(150):
        way, mode = soak.turn()
        project = soak.project(way, mode, min(40, soak.count))
        project.url = soak.database()
        cancel = (
            "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE datname = "
            f"'{project.url.rpartition('/')[2]}'"
        )
        url = with_driver(project.url, dice.choice(DRIVERS[way]))
        command = project.start("upgrade", "head", url=url)
        pause = dice.choice((0.002, 0.02, 0.1))
        while not command.poll():
            time.sleep(dice.uniform(0, pause))
            soak._execute(cancel)
            times += 1
        hit += command.code != 0
        soak.goes_on(project, command, "canceling statement due to user request")
        runs += 1
        soak.drop(project.url)
    return f"{runs} runs, cancelled {times} times, {hit} failed: clear errors, each rerun at head"


def stopped(soak: Soak) -> str:
    runs = rounds = stops = 0
    for dice in soak.seeds(50):
        way, mode = soak.turn()
        project = soak.project(way, mode, min(40, soak.count))
        project.url = soak.database()
        url = with_driver(project.url, dice.choice(DRIVERS[way]))
        commands = [project.start("upgrade", "head", url=url) for _ in range(8)]
        for _ in range(20):
            time.sleep(dice.uniform(0, 0.1))
            running = [command for command in commands if not command.poll()]
            if not running:
                break
            victim = dice.choice(running)
            victim.send(signal.SIGSTOP)
            time.sleep(dice.uniform(0, 0.3))
            victim.send(signal.SIGCONT)
            stops += 1
        all_done(soak, project, commands)
        rounds += 1
        runs += len(commands)
        soak.drop(project.url)
    return f"{runs} runs in {rounds} rounds, stopped {stops} times: all exit 0, each migration once"


def all_done(
    soak: Soak, project: RecordingProject, commands: list[Command], pooler: Pooler | None = None
) -> None:
    """All of a crowd succeed, and each migration is run once."""
    for command in commands:
        command.wait(300)
    soak.searched(*commands)
    bad = [command.said for command in commands if command.code]
    assert not bad, f"{len(bad)} of {len(commands)} failed\n{bad[0]}"
    assert soak.state(project, pooled=pooler is not None) == project.count
    ran = sum(command.said.count("Running upgrade") for command in commands)
    assert ran == project.count, ran


# --- blows to a pooler ------------------------------------------------------------------------------------------------

NO_POOLER = "LEFT OUT: no pgbouncer here (Debian: apt-get install pgbouncer)"


@contextlib.contextmanager
def busy(project: RecordingProject, pooler: Pooler, count: int = 4) -> Iterator[None]:
    """Other clients of the pooler, so that a run's transactions get one session and another."""
    url = libpq_url(with_port(project.url, pooler.port))
    over = threading.Event()
    errors: list[BaseException] = []

    def work() -> None:
        with psycopg.connect(url, prepare_threshold=None) as connection:
            while not over.is_set():
                with connection.transaction():
                    connection.execute("SELECT 1")

    def client() -> None:
        while not over.is_set():
            try:
                work()
            except psycopg.OperationalError:  # the pooler was killed: again
                time.sleep(0.01)
            except BaseException as error:
                errors.append(error)
                return

    threads = [threading.Thread(target=client) for _ in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert not errors, errors


def pooled_project(soak: Soak) -> tuple[RecordingProject, str]:
    """A project, and the driver that it is to use behind a pooler: they take turns."""
    way, mode = soak.turn("one", "each")
    driver = next(soak.pooled_drivers)
    if way == "compiled" and driver == "asyncpg":
        driver = next(soak.pooled_drivers)
    project = soak.project(way, mode, 20)
    if driver == "asyncpg":
        env = POOLED_ASYNCPG.format(each=mode != "one")
        (project.folder / "env.py").write_text(env)
    project.url = soak.database()
    return project, driver


def paused(soak: Soak) -> str:
    if find_pooler() is None:
        return NO_POOLER
    runs = rounds = pauses = 0
    with contextlib.closing(Pooler(soak.server.url())) as pooler:
        for dice in soak.seeds(50):
            project, driver = pooled_project(soak)
            url = with_port(with_driver(project.url, driver), pooler.port)
            with busy(project, pooler):
                commands = [project.start("upgrade", "head", url=url) for _ in range(4)]
                for _ in range(dice.randint(1, 4)):
                    time.sleep(dice.uniform(0, 0.2))
                    pooler.pause(project.url.rpartition("/")[2], dice.uniform(0, 0.2))
                    pauses += 1
                for command in commands:
                    command.wait(300)
            all_done(soak, project, commands, pooler)
            rounds += 1
            runs += len(commands)
            soak.drop(project.url)
    return f"{runs} runs in {rounds} rounds, paused {pauses} times: all exit 0, each migration once"


def pooler_killed(soak: Soak) -> str:
    if find_pooler() is None:
        return NO_POOLER
    runs = hit = doubt = 0
    with contextlib.closing(Pooler(soak.server.url())) as pooler:
        for dice in soak.seeds(50):
            project, driver = pooled_project(soak)
            place = Place(project, (driver,))
            soak.measured(place, pooler.port)
            with busy(project, pooler):
                command = soak.strike(
                    *(place, dice, lambda _: pooler.restart(), "upgrade", "head"), port=pooler.port
                )
            hit += command.code != 0
            doubt += "in doubt" in command.said
            soak.goes_on(project, command, f"{LOST}|{DOWN}|{POOLER_GONE}", pooler=pooler)
            runs += 1
            soak.drop(project.url)
    return f"{runs} restarts, {hit} in mid-run, COMMIT in doubt {doubt}; each rerun at head"


def pooled(soak: Soak) -> str:
    if find_pooler() is None:
        return NO_POOLER
    rounds, runs = soak.times(20), 0
    with run_pooler(soak.server.url()) as port:
        for number in range(rounds):
            way = soak.ways[number % len(soak.ways)]
            mode = ("one", "each")[number // len(soak.ways) % 2]
            project = soak.project(way, mode, 20)
            project.url = soak.database()
            url = with_port(project.url, port)
            commands = [project.start("upgrade", "head", url=url) for _ in range(8)]
            for command in commands:
                command.wait(300)
            soak.searched(*commands)
            bad = [command.said for command in commands if command.code]
            assert not bad, bad[0]
            assert project.state() == 20
            assert sum(command.said.count("Running upgrade") for command in commands) == 20
            soak.drop(project.url)
            runs += 8
    return f"{runs} runs in {rounds} rounds all exit 0, each migration once"


def table_held(soak: Soak) -> str:
    hold = max(3.0, 10.0 * min(1.0, soak.scale))
    worst = 0.0
    for way in WAYS:
        body = {2: "    op.execute('ALTER TABLE busy ADD COLUMN a text')"}
        settings = "migrate_ext_ddl_lock_timeout = 1s\nmigrate_ext_retries = 30\n"
        project = soak.project(way, "one", 2, body=body, settings=settings)
        project.url = soak.database()
        url = libpq_url(project.url)
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
    "SIGKILL, one transaction": functools.partial(killed, "one"),
    "SIGKILL, one transaction each": functools.partial(killed, "each"),
    "SIGKILL, with autocommit blocks": functools.partial(killed, "autocommit"),
    "connection cut after byte n": cut,
    "pg_terminate_backend": terminated,
    "server restart": restarted,
    "pg_cancel_backend": cancelled,
    "COMMIT refused: a deferred foreign key": refused,
    "COMMIT refused: SERIALIZABLE": serialized,
    "lock given up in a block, 6 at once": given_up,
    "connection closed by a migration": closed,
    "SIGSTOP, SIGCONT, 8 at once": stopped,
    "pgbouncer, 8 at once": pooled,
    "pgbouncer paused, 4 at once": paused,
    "pgbouncer killed and started again": pooler_killed,
    "table held, lock_timeout 1s, retries": table_held,
}


def run(
    scale: float, seed: int, *only: str, ways: tuple[str, ...] = ALL_WAYS
) -> list[tuple[str, str, str]]:
    """(test, result, seconds) of each blow; prints as it goes. Raises AssertionError at the first failure."""
    results = []
    with server.temporary_server() as private, tempfile.TemporaryDirectory() as folder:
        soak = Soak(private, Path(folder), scale, seed, ways)
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
    parser.add_argument("--ways", nargs="+", default=ALL_WAYS, choices=ALL_WAYS)
    options = parser.parse_args()
    for name in [n for n in os.environ if n.startswith("PG") or n == "DATABASE_URL"]:
        del os.environ[name]
    print(f"scale {options.scale}, seed {options.seed}, {', '.join(options.ways)}")
    print("| test | result | time |\n|---|---|---|", flush=True)
    run(options.scale, options.seed, *options.only, ways=tuple(options.ways))


if __name__ == "__main__":
    main()
