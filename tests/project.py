"""Copies of the sample project, for tests that change its files."""

from __future__ import annotations

import shutil
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
