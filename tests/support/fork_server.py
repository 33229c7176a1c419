"""A fork server: runs ``alembic``, ``python -m migrate_ext`` and ``python -m pytest`` in forks of a process that has imported Alembic.

Reads one JSON line a command: program (``alembic``: without our runtime; ``drop-in``: with it;
``migrate_ext``, ``pytest``), folder, arguments (for the first two, ``FILE.py`` is a program that uses Alembic), environment,
files for stdout and stderr; answers with the exit code. Of migrate_ext nothing is imported before.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import runpy
import sys
import traceback

os.environ["MIGRATE_EXT"] = "0"  # the children say what they want

# What commands and env.py files import later.
import logging.config  # noqa: F401

import alembic.config
import asyncpg  # noqa: F401
import psycopg  # noqa: F401
import psycopg2  # noqa: F401
import pytest  # noqa: F401
import sqlalchemy.dialects.postgresql.asyncpg
import sqlalchemy.dialects.postgresql.psycopg
import sqlalchemy.dialects.postgresql.psycopg2
import sqlalchemy.ext.asyncio
import sqlalchemy.orm  # noqa: F401
from alembic_patches import patched_attributes


def child(
    program: str,
    folder: str,
    arguments: list[str],
    environment: dict[str, str],
    files: list[str],
) -> int:
    """What a fresh process of the program does; returns its exit code."""
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for number, file in enumerate(files, 1):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    os.environ.clear()
    os.environ.update(environment)
    sys.dont_write_bytecode = "PYTHONDONTWRITEBYTECODE" in environment
    os.chdir(folder)
    sys.argv = [program, *arguments]
    code: object = 0
    try:
        if program in ("drop-in", "pytest"):
            import migrate_ext

            migrate_ext.install()  # as it would have come with the import of Alembic
        if program in ("alembic", "drop-in") and arguments[:1] and arguments[0].endswith(".py"):
            runpy.run_path(arguments[0], run_name="__main__")
        elif program in ("alembic", "drop-in"):
            alembic.config.main(prog="alembic")
        else:
            sys.path[0] = folder
            runpy.run_module(program, run_name="__main__", alter_sys=True)
    except SystemExit as stop:
        code = stop.code
    except BaseException:
        traceback.print_exc()
        code = 1
    if program in ("alembic", "drop-in") and bool(patched_attributes()) != (program == "drop-in"):
        print(f"{program} ran with the classes of the other", file=sys.stderr)
        code = 98
    atexit._run_exitfuncs()  # migrate_ext's counters are written there
    sys.stdout.flush()
    sys.stderr.flush()
    return code & 0xFF if isinstance(code, int) else int(code is not None)


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    gc.collect()
    gc.freeze()  # else the collector of each child would write to, and so copy, all pages of this process
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            os._exit(child(*json.loads(line)))
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), file=answers, flush=True)


if __name__ == "__main__":
    main()
