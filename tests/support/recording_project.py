"""What the soak and the tests of the lock share: a project of many small migrations whose database tells
what ran, commands in forks of this process, a proxy that cuts, a pooler.

Commands run in forks, because the imports behind them would otherwise be most of the time; each fork is a
whole command line in its folder and environment, as a shell would have started it.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import psycopg.rows

WAYS = ("alembic", "migrate_ext")
ALL_WAYS = (*WAYS, "compiled")
MODES = ("one", "each", "autocommit")
COMMIT = rb"COMMIT;?\0"  # as drivers send it

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


def libpq_url(url: str) -> str:
    """As libpq takes it."""
    return "postgresql" + url[url.index("://") :]


def with_driver(url: str, driver: str) -> str:
    return f"postgresql+{driver}{url[url.index('://') :]}"


def with_port(url: str, port: int) -> str:
    scheme, _, rest = url.partition("://")
    address, slash, path = rest.partition("/")
    who, at, _ = address.rpartition("@")
    return f"{scheme}://{who}{at}127.0.0.1:{port}{slash}{path}"


# --- commands -------------------------------------------------------------------------------------------------------


@dataclass
class Command:
    """A command that runs, or ran: ``code`` is that of a shell (137: killed), ``said`` all its output."""

    way: str
    folder: Path
    arguments: Sequence[str]
    environment: dict[str, str]
    code: int | None = None
    said: str = ""
    started: float = field(default_factory=time.monotonic)
    seconds: float = 0.0

    def __post_init__(self) -> None:
        handle, self.output = tempfile.mkstemp(prefix="said-", dir=self.folder)
        preload()
        self.pid = os.fork()
        if self.pid == 0:
            os._exit(self._child(handle))
        os.close(handle)

    def _child(self, output: int) -> int:
        code: object = 1
        try:
            os.setsid()
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(output, 1)
            os.dup2(output, 2)
            sys.stdout = open(1, "w", closefd=False)
            sys.stderr = open(2, "w", closefd=False)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            os.environ.clear()
            os.environ.update(self.environment)
            os.chdir(self.folder)
            logging.root.handlers.clear()  # the test runner's own
            sys.path.insert(0, str(self.folder))
            if self.way == "alembic":
                import alembic.config

                import migrate_ext

                migrate_ext.install()  # as its plugin does in a process of its own
                sys.argv = ["alembic", *self.arguments]
                code = alembic.config.main(prog="alembic")  # type: ignore[func-returns-value]
            else:
                from migrate_ext.cli import main

                code = main(list(self.arguments))
                if "MIGRATE_EXT_STATS" in self.environment:  # no atexit here
                    from migrate_ext import counters

                    Path(self.environment["MIGRATE_EXT_STATS"]).write_text(
                        json.dumps(counters.stats())
                    )
        except SystemExit as stop:
            code = stop.code
        except KeyboardInterrupt:
            traceback.print_exc()
            code = 130
        except BaseException:
            traceback.print_exc()
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        return code & 0xFF if isinstance(code, int) else int(code is not None)

    def poll(self) -> bool:
        """Whether it has ended."""
        if self.code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self._ended(status)
        return self.code is not None

    def wait(self, timeout: float = 120.0) -> Command:
        deadline = time.monotonic() + timeout
        while not self.poll():
            if time.monotonic() > deadline:
                os.kill(self.pid, signal.SIGKILL)
                os.waitpid(self.pid, 0)
                raise AssertionError(f"hangs: {self.arguments}\n{Path(self.output).read_text()}")
            time.sleep(0.002)
        return self

    def send(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def text(self) -> str:
        """What it has said so far."""
        return Path(self.output).read_text(errors="replace") if self.code is None else self.said

    def _ended(self, status: int) -> None:
        code = os.waitstatus_to_exitcode(status)
        self.seconds = time.monotonic() - self.started
        self.said = Path(self.output).read_text(errors="replace")
        os.unlink(self.output)
        self.code = 128 - code if code < 0 else code


def wait_until(happened: Callable[[], bool], *commands: Command) -> None:
    """Within 30 s, and while all of `commands` still run."""
    deadline = time.monotonic() + 30
    while not happened():
        ended = any(command.poll() for command in commands)
        said = "\n\n".join(command.text() for command in commands)
        assert time.monotonic() < deadline and not ended, said
        time.sleep(0.01)


def check_report(command: Command, start: int, at: int) -> None:
    """Assert that what a failed command says of what was committed is so. start, at: where it began and ended."""
    undoing = command.arguments[0] == "downgrade"
    committed = re.search(r"Committed: ([^.]*)\.", command.said)
    doubt = re.search(r"outcome is in doubt\. (It could not be checked)?", command.said)
    checked = re.search(r"the database is at (base|r\d{4})", command.said)
    refused = "The server refused COMMIT, and rolled its transaction back." in command.said
    half_done = re.search(r"(r\d{4}) was left half done", command.said)
    assert not (refused and doubt), command.said
    said = start
    if committed:
        said = int(re.findall(r"r(\d{4})", committed[1])[-1]) - undoing
    if doubt and doubt[1]:
        assert abs(at - said) <= 1 or said == start, f"it is at {at}:\n{command.said}"
        return
    if checked:
        assert said in (start, at), f"it is at {at}:\n{command.said}"
        said = 0 if checked[1] == "base" else int(checked[1][1:])
    assert said == at, f"it is at {at}:\n{command.said}"
    if half_done:
        assert int(half_done[1][1:]) == at + (not undoing), f"it is at {at}:\n{command.said}"


_preloaded = False


def preload() -> None:
    """Import, once, what commands import."""
    global _preloaded
    if _preloaded:
        return
    _preloaded = True
    import asyncpg  # noqa: F401
    import psycopg2  # noqa: F401
    import sqlalchemy.dialects.postgresql.asyncpg
    import sqlalchemy.dialects.postgresql.psycopg
    import sqlalchemy.dialects.postgresql.psycopg2
    import sqlalchemy.ext.asyncio  # noqa: F401

    from migrate_ext.dropin import environment, run  # noqa: F401


def find_pooler() -> str | None:
    """The path of pgbouncer; None where there is none."""
    return shutil.which("pgbouncer", path=os.environ.get("PATH", "") + ":/usr/sbin")


# --- a line that is cut ---------------------------------------------------------------------------------------------


class Proxy:
    """A TCP proxy on 127.0.0.1 that cuts a connection, or does something else, at one point of it.

    after: bytes in both directions together, over all connections; None: never. before, behind: a pattern of
    what the client says, the `number`-th time; without or with passing it on. then: is called instead of
    cutting, and all goes on. ``total``: bytes seen. ``said``: the times that the pattern was.
    ``answered``: all that the server said.
    """

    def __init__(
        self,
        port: int,
        after: int | None = None,
        *,
        before: bytes = b"",
        behind: bytes = b"",
        number: int = 1,
        then: Callable[[], None] | None = None,
    ) -> None:
        self.to, self.after, self.total, self.cut = port, after, 0, False
        self.pattern = re.compile(before or behind)
        self.passes, self.number, self.said = not before, number, 0
        self.then = then
        self.answered = b""
        self.error: BaseException | None = None
        self.lock = threading.Lock()
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = int(self.listener.getsockname()[1])
        self.ends: list[socket.socket] = [self.listener]
        self.threads: list[threading.Thread] = []
        self._start(self._accept)

    def _start(self, function: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=function, args=arguments, daemon=True)
        self.threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            self.ends.append(client)
            try:
                server = socket.create_connection(("127.0.0.1", self.to))
            except OSError:  # it is down at the moment
                client.shutdown(socket.SHUT_RDWR)
                continue
            self.ends.append(server)
            severed = threading.Event()  # set before the server can answer what was passed last
            for a, b in ((client, server), (server, client)):
                self._start(self._pump, a, b, a is client, severed)

    def _left(self, data: bytes, asks: bool) -> int:
        """How much of `data` passes before the point that was asked for; -1: it is not there."""
        with self.lock:
            start = self.total
            self.total += len(data)
            if not asks:
                self.answered += data
            if self.cut:
                return -1
            if self.after is not None and self.total > self.after:
                self.cut = True
                return max(0, self.after - start)
            if asks and self.pattern.pattern:
                found = len(self.pattern.findall(data))
                self.said += found
                if found and self.said >= self.number and self.after is None:
                    self.cut = True
                    return len(data) if self.passes else 0
        return -1

    def _pump(
        self, source: socket.socket, target: socket.socket, asks: bool, severed: threading.Event
    ) -> None:
        try:
            while data := source.recv(65536):
                left = self._left(data, asks)
                if severed.is_set():
                    break
                if left < 0:
                    target.sendall(data)
                    continue
                if self.then is None:
                    severed.set()
                target.sendall(data[:left])
                if self.then is None:
                    break
                self.then()
                target.sendall(data[left:])
        except OSError:
            pass
        except BaseException as error:
            self.error = error
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        for end in self.ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        for thread in self.threads:
            thread.join(60)
        for end in self.ends:
            end.close()
        if self.error is not None:
            raise self.error


# --- pgbouncer ------------------------------------------------------------------------------------------------------

POOLER = """\
[databases]
* = host=127.0.0.1 port={port} user={user}{password}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {listen}
unix_socket_dir =
auth_type = trust
auth_file = {folder}/users
admin_users = {user}
pool_mode = {mode}
default_pool_size = {size}
max_client_conn = 200
ignore_startup_parameters = extra_float_digits
logfile = {folder}/log
pidfile = {folder}/pid
"""


class Pooler:
    """A pgbouncer before the server of `url`, which can be paused, and started again on its port."""

    def __init__(self, url: str, mode: str = "transaction", size: int = 4) -> None:
        program = find_pooler()
        assert program is not None
        parts = urlsplit(url)
        self.url = url
        self.size = size
        self.folder = Path(tempfile.mkdtemp(prefix="migrate_ext-pooler-", dir="/tmp"))
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = int(probe.getsockname()[1])
        (self.folder / "users").write_text(f'"{parts.username}" ""\n')
        (self.folder / "ini").write_text(
            POOLER.format(
                port=parts.port or 5432,
                user=parts.username,
                password=f" password={parts.password}" if parts.password else "",
                listen=self.port,
                folder=self.folder,
                mode=mode,
                size=size,
            )
        )
        self.command = [program, str(self.folder / "ini")]
        if os.geteuid() == 0:
            for path in (self.folder, *self.folder.iterdir()):
                shutil.chown(path, "nobody")
            self.command[1:1] = ["-u", "nobody"]
        self.start()

    def start(self) -> None:
        null = subprocess.DEVNULL
        self.process = subprocess.Popen(self.command, stdout=null, stderr=null)
        deadline = time.monotonic() + 20
        while True:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", self.port)).close()
                return
            log = self.folder / "log"
            assert time.monotonic() < deadline and self.process.poll() is None, (
                log.read_text() if log.exists() else "pgbouncer said nothing"
            )
            time.sleep(0.02)

    def restart(self) -> None:
        """Kill it, with all its connections, and start it again."""
        self.process.kill()
        self.process.wait()
        (self.folder / "pid").unlink(missing_ok=True)
        self.start()

    def pause(self, database: str, seconds: float) -> None:
        """``PAUSE`` waits for the open transactions; until ``RESUME`` no other begins.

        Not while a session of the database's pool is still to log in: pgbouncer 1.18 takes its end for a server that
        lets nobody in, and turns its clients away for ``server_login_retry``.
        """
        deadline = time.monotonic() + 60
        with self._admin() as admin:
            while True:
                pools = [row for row in admin.execute("SHOW POOLS") if row["database"] == database]
                if sum(row["sv_active"] + row["sv_idle"] for row in pools) == self.size:
                    break
                assert time.monotonic() < deadline, pools
                time.sleep(0.005)
            admin.execute("PAUSE")
            time.sleep(seconds)
            admin.execute("RESUME")

    def _admin(self) -> psycopg.Connection[dict[str, Any]]:
        url = with_port(libpq_url(self.url), self.port).rpartition("/")[0] + "/pgbouncer"
        rows = psycopg.rows.dict_row
        return psycopg.connect(url, autocommit=True, prepare_threshold=None, row_factory=rows)

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(timeout=20)
        shutil.rmtree(self.folder, ignore_errors=True)


@contextlib.contextmanager
def run_pooler(url: str, *, mode: str = "transaction", size: int = 4) -> Iterator[int]:
    """A pgbouncer before the server of `url`, for as long as the block: its port."""
    with contextlib.closing(Pooler(url, mode, size)) as found:
        yield found.port


# An env.py, which asyncpg needs behind a pooler: no statement may have a name that stays.
POOLED_ASYNCPG = """\
import asyncio, os, uuid
from alembic import context
from logging.config import fileConfig
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool
fileConfig(context.config.config_file_name)

def migrate(connection):
    context.configure(connection=connection, transaction_per_migration={each})
    with context.begin_transaction():
        context.run_migrations()

async def run():
    engine = create_async_engine(
        os.environ["DATABASE_URL"],
        poolclass=NullPool,
        connect_args={{
            "statement_cache_size": 0,
            "prepared_statement_name_func": lambda: f"__asyncpg_{{uuid.uuid4()}}__",
        }},
    )
    try:
        async with engine.connect() as connection:
            await connection.run_sync(migrate)
    finally:
        await engine.dispose()

asyncio.run(run())
"""
