"""pgbouncer, where it is installed: started, paused and restarted before a server."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import psycopg.rows
from database_urls import libpq_url, with_port


def find_pooler() -> str | None:
    """The path of pgbouncer; None where there is none."""
    return shutil.which("pgbouncer", path=os.environ.get("PATH", "") + ":/usr/sbin")


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
