"""Copies of the sample project, for tests that change its files, and commands run in them by the fork server."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib.util import cache_from_source
from pathlib import Path

import psycopg
from sqlalchemy.engine import make_url

ROOT = Path(__file__).parents[2]
PARTS = ("env.py", "alembic.ini", "script.py.mako", "versions", "lib", "models")


def copy_project(to: Path) -> None:
    """Copy the migration environment and what it imports into the new folder `to`."""
    to.mkdir()
    for part in PARTS:
        source = ROOT / part
        if source.is_dir():
            shutil.copytree(source, to / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, to / part)


_fork_server: subprocess.Popen[str] | None = None


def run_forked(
    program: str,
    folder: Path,
    command: Sequence[str],
    variables: Mapping[str, str],
    output: Path | None = None,
) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of ``alembic`` or ``migrate_ext``, from a fork of fork_server.py.

    folder: where it runs. variables: its whole environment. output: its output goes to files of this name with
    the suffixes .out and .err; they lie beside the folder if it is left out.
    """
    global _fork_server
    if _fork_server is None:
        _fork_server = subprocess.Popen(
            [sys.executable, ROOT / "tests" / "support" / "fork_server.py"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "0"},
        )
    assert _fork_server.stdin is not None
    assert _fork_server.stdout is not None
    files = [(output or folder).with_suffix(suffix) for suffix in (".out", ".err")]
    request = [program, str(folder), list(command), dict(variables), [str(file) for file in files]]
    print(json.dumps(request), file=_fork_server.stdin, flush=True)
    code = int(_fork_server.stdout.readline())
    return code, files[0].read_text(), files[1].read_text()


class Done:
    """How a command ended. ``said`` is what it printed, Alembic's log lines aside."""

    def __init__(self, code: int, stdout: str, stderr: str) -> None:
        self.code = code
        self.stdout = stdout
        self.stderr = stderr
        self.said = re.sub(r"^(INFO |ERROR) +\[alembic.*\n", "", stdout + stderr, flags=re.M)

    def failed(self, code: int, *words: str) -> None:
        """Assert that this is one clear message with `words` in it, in their order."""
        assert self.code == code, self.stdout + self.stderr
        assert "Traceback" not in self.stdout + self.stderr
        assert self.said.count("FAILED: ") == 1, self.said
        assert re.search(".*".join(map(re.escape, words)), self.said, re.S), self.said


class SampleProject:
    """A copy of the sample, or of another project, with the `way` to run it, on the database of `url`."""

    def __init__(self, folder: Path, url: str, way: str, other: Path | None = None) -> None:
        if other:
            shutil.copytree(other, folder, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            copy_project(folder)
        self.folder = folder
        self.url = url
        self.forked = way != "thin"  # where all imports of Alembic would be paid for
        self.variables = {**os.environ, "PYTHONPATH": str(ROOT), "DATABASE_URL": url}
        if way == "MIGRATE_EXT=0":
            self.variables["MIGRATE_EXT"] = "0"
        elif way == "classic":
            shutil.copy(ROOT / "tests" / "oracle" / "classic_env.py", folder / "env.py")

    def start(self, *command: str, **variables: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "migrate_ext", *command],
            cwd=self.folder,
            env={**self.variables, **variables},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *command: str, **variables: str) -> Done:
        if self.forked:
            environment = {**self.variables, **variables}
            return Done(*run_forked("migrate_ext", self.folder, command, environment))
        process = self.start(*command, **variables)
        stdout, stderr = process.communicate(timeout=60)
        return Done(process.returncode, stdout, stderr)

    def connect(self) -> psycopg.Connection[tuple[object, ...]]:
        url = make_url(self.url).set(drivername="postgresql")
        return psycopg.connect(url.render_as_string(hide_password=False), autocommit=True)

    def database(self) -> list[tuple[object, ...]]:
        """All that a migration could leave: relations, types, functions, the version rows."""
        with self.connect() as connection:
            found = connection.execute(
                "SELECT relname::text FROM pg_class WHERE relnamespace = 'public'::regnamespace "
                "UNION ALL SELECT typname::text FROM pg_type "
                "WHERE typnamespace = 'public'::regnamespace "
                "UNION ALL SELECT proname::text FROM pg_proc "
                "WHERE pronamespace = 'public'::regnamespace ORDER BY 1"
            ).fetchall()
            if ("alembic_version",) in found:
                found += connection.execute("TABLE alembic_version").fetchall()
        return found

    def only(self, **bodies: str) -> None:
        """Replace the versions by one line of revisions, given with the bodies of their upgrade."""
        shutil.rmtree(self.folder / "versions")
        (self.folder / "versions").mkdir()
        down = None
        for revision, body in bodies.items():
            self.revision(revision, body, down=repr(down))
            down = revision

    def revision(
        self, revision: str, body: str = "pass", *, down: str, top: str = "", name: str = ""
    ) -> None:
        lines = "".join(f"    {line}\n" for line in body.splitlines())
        path = self.folder / "versions" / f"{name or revision}.py"
        # Python takes bytecode for new that is of a file of this length, written in this second.
        Path(cache_from_source(str(path))).unlink(missing_ok=True)
        path.write_text(
            f'"""{revision}"""\nimport sqlalchemy as sa\nfrom alembic import op\n'
            f"revision = {revision!r}\ndown_revision = {down}\n{top}\n\n\n"
            f"def upgrade():\n{lines}\n\ndef downgrade():\n    pass\n"
        )

    def line(self, revision: str, text: str) -> str:
        """``file, line n`` of the line with `text` in a revision, as messages name it."""
        path = self.folder / "versions" / f"{revision}.py"
        lines = path.read_text().splitlines()
        return f"{path}, line {next(n for n, line in enumerate(lines, 1) if text in line)}"

    def edit(self, name: str, old: str, new: str) -> None:
        path = self.folder / name
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))
