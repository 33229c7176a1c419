"""The same project twice, once under ``alembic`` and once under ``migrate-ext``, and what each left to see."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import psycopg

ROOT = Path(__file__).parents[2]
PROJECT = ("env.py", "alembic.ini", "script.py.mako", "versions", "lib", "models")

ALEMBIC = (sys.executable, "-m", "alembic.config")
MIGRATE_EXT = (sys.executable, "-m", "migrate_ext")


@dataclass
class Outcome:
    """What one command showed and left behind, with paths and dates made equal."""

    code: int
    stdout: str
    stderr: str
    files: dict[str, str] = field(default_factory=dict)


class Twin:
    """One copy of a project, one database, one program."""

    def __init__(self, folder: Path, url: str, program: tuple[str, ...]) -> None:
        self.folder = folder
        self.url = url
        self.program = program

    def run(self, *command: str, **environment: str | None) -> Outcome:
        """Run a command; `environment` overrides variables, None removes one."""
        variables: dict[str, str] = {**os.environ, "DATABASE_URL": self.url, "COLUMNS": "100"}
        variables["PYTHONPATH"] = str(ROOT)
        for name, value in environment.items():
            if value is None:
                variables.pop(name, None)
            else:
                variables[name] = value
        done = subprocess.run(
            [*self.program, *command],
            cwd=self.folder,
            env=variables,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=120,
        )
        return Outcome(
            done.returncode, self.same(done.stdout), self.same(done.stderr), self.files()
        )

    def files(self) -> dict[str, str]:
        return {
            path.name: self.same(path.read_text())
            for path in sorted((self.folder / "versions").glob("*.py"))
        }

    def same(self, text: str) -> str:
        """`text` without what must differ: the folder, the database, the time, the program's name, a set's order."""
        text = text.replace(str(self.folder), "<project>")
        text = text.replace(self.url.rsplit("/", 1)[1], "<database>")
        text = re.sub(r"usage: \S+", "usage: <program>", text)
        text = re.sub(r"(Create Date: ).*", r"\1<now>", text)
        text = re.sub(
            r"(Branches into: )(.*)", lambda m: m[1] + ", ".join(sorted(m[2].split(", "))), text
        )
        return re.sub(
            r"((?:^ +-> .*\n)+)", lambda m: "".join(sorted(m[1].splitlines(True))), text, flags=re.M
        )

    def versions(self) -> list[str]:
        """The rows of the version table, sorted; empty when there is no table."""
        with psycopg.connect(self.url.replace("+psycopg", "").replace("+psycopg2", "")) as connection:
            if connection.execute("SELECT to_regclass('alembic_version')").fetchone() == (None,):
                return []
            rows = connection.execute("SELECT version_num FROM alembic_version").fetchall()
        return sorted(row[0] for row in rows)


class Twins:
    """Two twins that must not be told apart."""

    def __init__(self, folder: Path, make_database: Callable[[], str], dump: Callable[[str], str]):
        self.dump = dump
        self.both: list[Twin] = []
        for name, program in (("alembic", ALEMBIC), ("migrate_ext", MIGRATE_EXT)):
            project = folder / name
            project.mkdir()
            for part in PROJECT:
                source = ROOT / part
                if source.is_dir():
                    ignore = shutil.ignore_patterns("__pycache__")
                    shutil.copytree(source, project / part, ignore=ignore)
                else:
                    shutil.copy(source, project / part)
            self.both.append(Twin(project, make_database(), program))

    @property
    def ours(self) -> Twin:
        return self.both[1]

    def edit(self, change: Callable[[Path], None]) -> None:
        """Make the same change in both projects."""
        for twin in self.both:
            change(twin.folder)

    def agree(self, *command: str, schema: bool = True, **environment: str | None) -> Outcome:
        """Run a command in both; assert that texts, exit code, files, schema and version rows are the same."""
        theirs, ours = (twin.run(*command, **environment) for twin in self.both)
        assert ours.code == theirs.code, (ours.stdout + ours.stderr, theirs.stdout + theirs.stderr)
        assert ours.stdout == theirs.stdout
        assert ours.stderr == theirs.stderr
        assert ours.files == theirs.files
        if schema:
            self.agree_on_database()
        return ours

    def agree_on_database(self) -> None:
        theirs, ours = self.both
        assert ours.versions() == theirs.versions()
        assert self.dump(ours.url) == self.dump(theirs.url)
