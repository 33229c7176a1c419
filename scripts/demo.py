"""`make demo`: the sample backend's migrations on a real PostgreSQL, from empty to head.

``DATABASE_URL`` names the database; unset, a private server is started (migrate_ext/testing/embedded.py). It stays up after the demo, so
that one can go on typing, until ``make demo-stop`` (here: ``demo.py stop``). ``.pgdata/server.json`` remembers it.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import psycopg
from sqlalchemy.engine import make_url

from migrate_ext.testing import embedded as server

ROOT = Path(__file__).resolve().parent.parent
STATE = ROOT / ".pgdata" / "server.json"
DATABASE = "backend"
TABLES = """
    SELECT c.relname, CASE c.relkind WHEN 'v' THEN 'view' ELSE count(a.attname) || ' columns' END
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    WHERE n.nspname = current_schema() AND c.relkind IN ('r', 'p', 'v')
    GROUP BY c.relname, c.relkind ORDER BY c.relkind, c.relname
"""


def remembered() -> server.Server | None:
    """The server an earlier demo started, if it still answers."""
    try:
        earlier = server.Server(**json.loads(STATE.read_text()))
        socket.create_connection(("127.0.0.1", earlier.port), timeout=5).close()
    except (OSError, ValueError, TypeError):
        return None
    return earlier


def start() -> server.Server:
    """The demo's server: the one that runs, or a new one with an empty database."""
    running = remembered()
    if running is not None:
        print(f"PostgreSQL of an earlier demo still runs on port {running.port}")
        return running
    stop()
    print("Starting a private PostgreSQL (fsync off, 127.0.0.1 only)")
    home = server.make_home()
    try:
        new = server.boot(home, server.programs(home))
        with psycopg.connect(new.url(driver=""), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {DATABASE}")
        STATE.parent.mkdir(mode=0o700, exist_ok=True)
        STATE.touch(mode=0o600)
        STATE.write_text(json.dumps(asdict(new)))
    except BaseException:
        server.stop(home)
        raise
    return new


def stop() -> None:
    """Stop the server that is remembered and forget it."""
    if STATE.is_file():
        server.stop(json.loads(STATE.read_text())["home"])
        STATE.unlink()
        STATE.parent.rmdir()


def migrate(*arguments: str) -> None:
    """Run one command as the user would type it."""
    print(f"\n$ python scripts/migrate.py {' '.join(arguments)}", flush=True)
    done = subprocess.run([sys.executable, ROOT / "scripts" / "migrate.py", *arguments])
    if done.returncode:
        raise SystemExit(done.returncode)


def demo() -> None:
    private = None
    if os.environ.get("DATABASE_URL"):
        print("DATABASE_URL is set: its database is used; unset it for a private server")
    if not os.environ.get("DATABASE_URL"):
        private = start()
        os.environ["DATABASE_URL"] = private.url(DATABASE)
    migrate("upgrade", "head")
    migrate("current")
    migrate("history")

    print("\nWhat is in the database now:")
    bare = make_url(os.environ["DATABASE_URL"]).set(drivername="postgresql")
    with psycopg.connect(bare.render_as_string(hide_password=False)) as connection:
        for name, what in connection.execute(TABLES):
            print(f"  {name:<24} {what}")

    print("\nGo on from here:\n")
    print("  . .venv/bin/activate")
    if private is not None:
        print(f"  export DATABASE_URL={private.url(DATABASE)}")
    print("  migrate-ext history -v                 # what the migrations do")
    print("  migrate-ext downgrade -1               # take the last one back")
    print("  migrate-ext upgrade head               # and apply it again")
    print('  migrate-ext revision -m "add a table"  # write the next one')
    if private is not None:
        print("  make demo-stop                         # stop the server and delete its data")


if __name__ == "__main__":
    try:
        if sys.argv[1:] == ["stop"]:
            stop()
        else:
            demo()
    except server.ServerFailure as failure:
        raise SystemExit(f"demo: {failure}") from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None
