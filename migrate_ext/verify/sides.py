"""One side of a comparison: runs the project's history with one program, command by command, on its own scratch
databases.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
from psycopg import sql

from migrate_ext.testing.databases import Databases
from migrate_ext.verify.places import Cannot, Project
from migrate_ext.verify.snapshot import Snapshot, take

STOCK, DROP_IN, OURS = "alembic", "drop-in", "migrate-ext"
# In names of kept databases.
_KEPT = {STOCK: "alembic_alone", DROP_IN: "alembic", OURS: "migrate_ext"}
_CHILD = str(Path(__file__).with_name("child.py"))


class Step(NamedTuple):
    """One command of the history. looks: whether to read the databases after it."""

    words: tuple[str, ...]
    looks: bool = True

    def __str__(self) -> str:
        return " ".join(self.words)


class Outcome(NamedTuple):
    """The output of a command, and the databases after it. counters: the runtime's; empty if it did nothing."""

    code: int
    stdout: str
    stderr: str
    seconds: float
    counters: dict[str, Any]
    databases: tuple[Snapshot, ...]


def steps(start: str | None) -> list[Step]:
    """The commands that are compared, from the revision `start` or the beginning of the history."""
    return [
        Step(("history", "-v"), looks=False),
        Step(("heads",), looks=False),
        Step(("branches", "-v"), looks=False),
        Step(("upgrade", f"{start}:heads" if start else "heads", "--sql")),
        Step(("upgrade", "heads")),
        Step(("current", "-v")),
        Step(("upgrade", "heads")),
        Step(("downgrade", start or "base")),
        Step(("upgrade", "heads")),
    ]


class Side:
    """One side. program: ``STOCK``, ``DROP_IN`` or ``OURS``. seed: of Python's hashes, and so of the order of sets.

    Creates its databases. Raises :class:`Cannot` if the server does not allow that.
    """

    def __init__(self, program: str, project: Project, databases: Databases, seed: int = 0) -> None:
        self.program = program
        self._databases, self._project = databases, project
        self.names: list[str] = []
        self._folder = tempfile.TemporaryDirectory(prefix="migrate_ext-verify-")
        try:
            for _ in project.targets:
                self.names.append(_created(databases))
            base = databases.url(self.names[0])
            self._setting = project.setting(self.names, base)
            self.dsns = [databases.database(name).dsn for name in self.names]
        except BaseException:
            self.close()
            raise
        self._refused, self._stats, self._options = (
            Path(self._folder.name, name) for name in ("refused", "stats", "options")
        )
        self._options.write_text(json.dumps({project.ini: self._setting.options}))
        self._environment = self._variables(seed)

    def _variables(self, seed: int) -> dict[str, str]:
        steering = ("MIGRATE_EXT", "MIGRATE_EXT_STATS", "PYTHONHASHSEED")
        found = {name: value for name, value in os.environ.items() if name not in steering}
        if self._project.embedded:
            found = {name: value for name, value in found.items() if not name.startswith("PG")}
            url = self._databases.url(self.names[0])
            found |= {"PGHOST": str(url.host), "PGPORT": str(url.port)}
            found |= {"PGUSER": str(url.username), "PGPASSWORD": str(url.password)}
        found |= self._setting.variables
        found |= {
            "PGDATABASE": self.names[0],  # the database of a URL without a name
            "PYTHONHASHSEED": str(seed),
            "COLUMNS": "100",
            "MIGRATE_EXT_STATS": str(self._stats),
            "MIGRATE_EXT_VERBOSE": "false",
        }
        return found

    def run(self, step: Step, program: str | None = None) -> Outcome:
        """Run a command, and read the databases after it.

        program: instead of the side's own. Raises :class:`Cannot` if it tried to connect to another database.
        """
        program = program or self.program
        command = [sys.executable, _CHILD, sys.path[0], program, ",".join(self.names)]
        command += [str(self._refused), str(self._options)]
        begin = time.perf_counter()
        done = subprocess.run(
            [*command, *self._setting.arguments, *step.words],
            env={**self._environment, **({"MIGRATE_EXT": "0"} if program == STOCK else {})},
            capture_output=True,
            stdin=subprocess.DEVNULL,
        )
        seconds = time.perf_counter() - begin
        stdout, stderr = (
            text.decode(errors="backslashreplace") for text in (done.stdout, done.stderr)
        )
        if self._refused.exists():
            raise Cannot(_refusal(self._refused.read_text().split("\n")[0], step))
        snapshots = tuple(take(dsn) for dsn in self.dsns) if step.looks else ()
        return Outcome(
            done.returncode,
            self._same(stdout),
            self._same(stderr),
            seconds,
            self._counted(),
            snapshots,
        )

    def _counted(self) -> dict[str, Any]:
        with suppress(FileNotFoundError):
            lines = self._stats.read_text().splitlines()
            self._stats.unlink()
            return add(json.loads(line) for line in lines)
        return {}

    def _same(self, text: str) -> str:
        """`text` with the names of the scratch databases replaced by the same text on all sides."""
        for number, name in enumerate(self.names, 1):
            text = text.replace(name, f"<database {number}>")
        return text

    def close(self) -> None:
        """Drop the databases, unless they are to be kept."""
        for number, name in enumerate(self.names, 1):
            if self._databases.keep:
                # Under its present name the next run of verify would drop it, because it has no owner.
                kept = f"migrate_ext_verify_{secrets.token_hex(3)}_{_KEPT[self.program]}_{number}"
                self._databases.disconnect(name)
                statement = sql.SQL("ALTER DATABASE {} RENAME TO {}")
                self._databases.query(statement.format(sql.Identifier(name), sql.Identifier(kept)))
                name = kept
            self._databases.drop(name)
        self._folder.cleanup()


def add(counted: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """The sums of the counters of several processes."""
    total: dict[str, Any] = {}
    for counters in counted:
        for name, value in counters.items():
            if isinstance(value, dict):
                total[name] = add((total.get(name, {}), value))
            else:
                total[name] = total.get(name, 0) + value
    return total


def connected(databases: Databases) -> None:
    """Connect, and drop the databases of killed runs. Raises :class:`Cannot` if the server cannot be used."""
    try:
        databases.drop_orphans()
    except psycopg.errors.InsufficientPrivilege:
        pass  # they belong to another role, which can drop them
    except psycopg.OperationalError as error:
        raise Cannot(
            f"the server of the project's URL cannot be used: {str(error).strip()}\n"
            "Start it, or use a server of verify's own with --embedded"
        ) from error


def _created(databases: Databases) -> str:
    try:
        return databases.create()
    except psycopg.errors.InsufficientPrivilege as error:
        who = databases.admin.info.user
        raise Cannot(
            f"the role {who!r} may not create databases: ALTER ROLE {who} CREATEDB, or use a server "
            "of verify's own with --embedded"
        ) from error


def _refusal(name: str, step: Step) -> str:
    return (
        f"'{step}' tried to use the database {name!r}, which is not a scratch database; the connection was "
        "refused, and nothing was sent there. The project gets its URL from a place that verify does not know: "
        "name the environment variable that it reads with --url-variable NAME (or NAME=FORM, with {url}, "
        "{database}, {host}, {port}, {user}, {password} in the form)"
    )
