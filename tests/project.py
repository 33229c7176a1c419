"""Copies of the sample project, for tests that change its files, and quick runs of commands in them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
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


_zygote: subprocess.Popen[str] | None = None


def run_forked(
    program: str, folder: Path, command: Sequence[str], variables: Mapping[str, str]
) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of ``alembic`` or ``migrate_ext``, from a fork of zygote.py.

    folder: where it runs; the files of its output lie beside it. variables: its whole environment.
    """
    global _zygote
    if _zygote is None:
        _zygote = subprocess.Popen(
            [sys.executable, ROOT / "tests" / "zygote.py"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
    assert _zygote.stdin is not None
    assert _zygote.stdout is not None
    files = [folder.with_suffix(suffix) for suffix in (".out", ".err")]
    request = [program, str(folder), list(command), dict(variables), [str(file) for file in files]]
    print(json.dumps(request), file=_zygote.stdin, flush=True)
    code = int(_zygote.stdout.readline())
    return code, files[0].read_text(), files[1].read_text()
