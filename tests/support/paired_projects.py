"""The same project twice, once run by ``alembic`` and once by ``migrate-ext``, and what can be seen of each run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from sample_project import ROOT, copy_project, run_forked

from migrate_ext.verify import texts

MIGRATE_EXT = (sys.executable, "-m", "migrate_ext")


@dataclass
class Outcome:
    """What one command showed and left behind, with paths and dates made equal."""

    code: int
    stdout: str
    stderr: str
    files: dict[str, str] = field(default_factory=dict)


class ProjectSide:
    """One copy of a project, one database."""

    _started: set[tuple[str, str, str]] = set()  # command, driver, and text of env.py

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self.url = url

    def run(self, *command: str, **environment: str | None) -> Outcome:
        """Run a command; `environment` overrides variables, None removes one."""
        variables: dict[str, str] = {**os.environ, "DATABASE_URL": self.url, "COLUMNS": "100"}
        variables["PYTHONPATH"] = str(ROOT)
        variables["PYTHONHASHSEED"] = "0"  # the order of Alembic's sets, in both
        for name, value in environment.items():
            if value is None:
                variables.pop(name, None)
            else:
                variables[name] = value
        code, stdout, stderr = self.process(command, variables)
        if command == ("current",):  # several heads: a set
            stdout = "".join(sorted(stdout.splitlines(True)))
        return Outcome(code, self.same(stdout), self.same(stderr), self.files())

    def process(self, command: tuple[str, ...], variables: dict[str, str]) -> tuple[int, str, str]:
        """Exit code, stdout and stderr of migrate-ext: in a process of its own where a command, with this env.py and
        driver, is the first of its name.

        When it comes again, in a fork: starting is what it had before, and most of what it costs.
        """
        name = command[0] if command else ""
        env = self.folder / "env.py"
        start = (name, self.url.partition("://")[0], env.read_text() if env.exists() else "")
        if start in self._started:
            return run_forked("migrate_ext", self.folder, command, variables)
        self._started.add(start)
        done = subprocess.run(
            [*MIGRATE_EXT, *command],
            cwd=self.folder,
            env=variables,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=120,
        )
        return done.returncode, done.stdout, done.stderr

    def files(self) -> dict[str, str]:
        return {
            path.name: self.same(path.read_text())
            for path in sorted((self.folder / "versions").glob("*.py"))
        }

    def same(self, text: str) -> str:
        """`text` without what must differ: the folder, the database, the time, the program's name, a set's order."""
        text = text.replace(str(self.folder), "<project>")
        text = text.replace(self.url.rsplit("/", 1)[1], "<database>")
        text = texts.hints(text)
        text = re.sub(r"(usage: |^)(alembic|migrate-ext)( |: )", r"\1<program>\3", text, flags=re.M)
        text = re.sub(r"\nOf migrate-ext:\n.*", "", text, flags=re.S)
        if "usage: " in text:
            text = " ".join(text.split())
        return texts.sets(re.sub(r"(Create Date: ).*", r"\1<now>", text))

    def connect(self) -> psycopg.Connection[tuple[Any, ...]]:
        return psycopg.connect(re.sub(r"\+psycopg2?", "", self.url))

    def versions(self) -> list[str]:
        """The rows of the version table, sorted; empty when there is no table."""
        with self.connect() as connection:
            if connection.execute("SELECT to_regclass('alembic_version')").fetchone() == (None,):
                return []
            rows = connection.execute("SELECT version_num FROM alembic_version").fetchall()
        return sorted(row[0] for row in rows)

    def last_written(self) -> int:
        """The next transaction id of the server: while it stays the same, nothing was written in any database."""
        with self.connect() as connection:
            row = connection.execute(
                "SELECT txid_snapshot_xmax(txid_current_snapshot())"
            ).fetchone()
        assert row is not None
        return int(row[0])


class AlembicSide(ProjectSide):
    """The one that Alembic runs, in forks of one process for all tests."""

    def process(self, command: tuple[str, ...], variables: dict[str, str]) -> tuple[int, str, str]:
        return run_forked("alembic", self.folder, command, variables)


class PairedProjects:
    """Two projects that must not be told apart."""

    def __init__(self, folder: Path, make_database: Callable[[], str], dump: Callable[[str], str]):
        self.dump = dump
        self.agreed = -1  # ProjectSide.last_written when the databases were last compared
        self.both: list[ProjectSide] = []
        for side in (AlembicSide, ProjectSide):
            project = folder / ("alembic" if side is AlembicSide else "migrate_ext")
            copy_project(project)
            self.both.append(side(project, make_database()))

    @property
    def ours(self) -> ProjectSide:
        return self.both[1]

    def edit(self, change: Callable[[Path], None]) -> None:
        """Make the same change in both projects."""
        for side in self.both:
            change(side.folder)

    def agree(self, *command: str, schema: bool = True, **environment: str | None) -> Outcome:
        """Run a command in both; assert that texts, exit code, files, schema and version rows are the same."""
        theirs, ours = (side.run(*command, **environment) for side in self.both)
        if "Traceback (most recent call last)" in theirs.stderr:
            # Alembic's way to fail where it has no message of its own. Ours is a clear one.
            assert ours.code != 0
            assert "FAILED: " in ours.stdout + ours.stderr
            assert "Traceback" not in ours.stderr
        else:
            assert ours.stdout == theirs.stdout
            assert ours.stderr == theirs.stderr
            assert ours.code == theirs.code
        assert ours.files == theirs.files
        if schema:
            self.agree_on_database()
        return ours

    def agree_on_database(self) -> None:
        theirs, ours = self.both
        if (written := ours.last_written()) == self.agreed:
            return
        assert ours.versions() == theirs.versions()
        assert self.dump(ours.url) == self.dump(theirs.url)
        self.agreed = written
