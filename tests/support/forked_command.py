"""Commands in forks of this process, and what they must say when they fail.

The imports behind a command would otherwise be most of its time. Each fork is a whole command line in its folder and
environment, as a shell would have started it.
"""

from __future__ import annotations

import contextlib
import gc
import json
import logging
import os
import re
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path


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
        gc.freeze()  # else the child's collector would write to, and so copy, all pages of this process
        self.pid = os.fork()
        if self.pid == 0:
            os._exit(self._child(handle))
        gc.unfreeze()
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
