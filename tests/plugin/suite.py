"""Test suites of projects that use the plugin, run as their authors run them: pytest in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from sample_project import ROOT, run_forked
from sqlalchemy.engine import URL

ENV = """
from migrate_ext import environment

environment(metadata="models:metadata")
"""
# Hypothesis' imports all of its library; pytest-alembic's fixtures would take the place of ours.
PLUGINS = [
    option
    for name in (
        "cacheprovider",
        "hypothesispytest",
        "pytest_alembic",
        "pytest_postgresql",
        "asyncio",
    )
    for option in ("-p", f"no:{name}")
]
MODELS = "import sqlalchemy as sa\n\nmetadata = sa.MetaData()\n"
INI = """
[alembic]
script_location = %(here)s
prepend_sys_path = %(here)s
path_separator = os
"""
REVISION = '''"""{id}"""
import os

import sqlalchemy as sa
from alembic import op
{top}
revision = {id!r}
down_revision = {down!r}


def note(what):
    with open(os.environ["TRACE"], "a") as trace:
        trace.write(what + "\\n")


def upgrade():
    note("{id}")
    {up}


def downgrade():
    note("-{id}")
    {down_body}
'''


class Suite:
    """A project with migrations that write down when they run, and its test suite."""

    def __init__(self, pytester: pytest.Pytester, url: URL, trace: Path) -> None:
        self.pytester = pytester
        self.folder = pytester.path
        self.server = url
        self.trace_file = trace
        self.variables = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("PYTEST_", "MIGRATE_EXT"))},
            "TEST_DATABASE_URL": url.render_as_string(hide_password=False).replace("+psycopg", ""),
            "TRACE": str(trace),
            "PYTHONPATH": str(ROOT),
        }
        self._written = 0
        self.write("alembic.ini", INI)
        self.write("env.py", ENV)
        self.write("models.py", MODELS)
        (self.folder / "versions").mkdir()
        self.last: str | None = None
        self._before = frozenset(self._all())

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name == "env.py":  # keys are of contents: so this test meets no other's templates
            text += f"\n# {self.folder}\n"
        path.write_text(text)
        # Bytecode is of a file's date in whole seconds, and tests change files within one.
        self._written += 1
        os.utime(path, (self._written, self._written))
        return path

    def revision(
        self, id_: str, up: str = "", down: str = "", *, top: str = "", after: object = ...
    ) -> Path:
        """Add a revision, which makes a table of its name unless told otherwise, at the end of the history."""
        text = REVISION.format(
            id=id_,
            down=self.last if after is ... else after,
            top=top,
            up=up or f'op.create_table("{id_}", sa.Column("id", sa.Integer, primary_key=True))',
            down_body=down or f'op.drop_table("{id_}")',
        )
        self.last = id_
        return self.write(f"versions/{id_}.py", text)

    def revisions(self, *ids: str) -> None:
        for id_ in ids:
            self.revision(id_)

    def start(
        self, *arguments: str, plugins: Sequence[str] = PLUGINS, **variables: str
    ) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "pytest", *plugins, *arguments],
            cwd=self.folder,
            env={**self.variables, **variables},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *arguments: str, **variables: str) -> Outcome:
        code, stdout, stderr = run_forked(
            "pytest", self.folder, [*PLUGINS, *arguments], {**self.variables, **variables}
        )
        return Outcome(code, stdout + stderr)

    def passes(self, *arguments: str, **variables: str) -> Outcome:
        outcome = self.run(*arguments, **variables)
        assert outcome.code == 0, outcome.output
        return outcome

    def compile(self) -> None:
        """In a process of its own: what was imported for it is part of a plan."""
        command = [sys.executable, "-m", "migrate_ext", "compile"]
        subprocess.run(command, cwd=self.folder, env=self.variables, check=True)

    def ran(self) -> list[str]:
        """What the migrations have written down since this was last asked."""
        lines = self.trace_file.read_text().split() if self.trace_file.exists() else []
        self.trace_file.unlink(missing_ok=True)
        return lines

    def connect(self) -> psycopg.Connection[tuple[object, ...]]:
        url = self.server.set(drivername="postgresql")
        return psycopg.connect(url.render_as_string(hide_password=False), autocommit=True)

    def databases(self, kind: str = "") -> list[str]:
        """The plugin's databases that are there since the test began: templates (t), or those of processes (c)."""
        return [name for name in self._all() if name not in self._before and kind in name[12:13]]

    def _all(self) -> list[str]:
        with self.connect() as connection:
            rows = connection.execute(
                "SELECT datname::text FROM pg_database WHERE datname ~ '^migrate_ext_[tc]_' ORDER BY 1"
            ).fetchall()
        return [str(name) for (name,) in rows]

    def drop_all(self) -> None:
        with self.connect() as connection:
            for name in self.databases():
                identifier = sql.Identifier(name)
                connection.execute(
                    sql.SQL("ALTER DATABASE {} IS_TEMPLATE false").format(identifier)
                )
                connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(identifier))


class Outcome:
    """How a run of pytest ended."""

    def __init__(self, code: int, output: str) -> None:
        self.code = code
        self.output = output

    def says(self, *parts: str) -> None:
        for part in parts:
            assert part in self.output, self.output
