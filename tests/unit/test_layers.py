"""A layer knows the one below it; commands that only read files pay for nothing else."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from project import ROOT

# Folder of csrc -> prefixes that its files may not include.
FORBIDDEN = {
    "core": ("Python.h", "libpq", "postgres", "pq/", "py/"),
    "pq": ("Python.h", "py/"),
    "py": (),
}


def included(path: Path) -> list[str]:
    return re.findall(r'^\s*#\s*include\s*[<"]([^>"]+)', path.read_text(), re.M)


@pytest.mark.parametrize("folder", FORBIDDEN)
def test_a_layer_includes_none_above_it(folder: str) -> None:
    files = sorted((ROOT / "csrc" / folder).glob("*.[ch]"))
    assert files
    for path in files:
        wrong = [name for name in included(path) if name.startswith(FORBIDDEN[folder] or ("-",))]
        assert wrong == [], path


def test_python_h_is_included_only_in_the_binding() -> None:
    files = sorted((ROOT / "csrc").rglob("*.[ch]"))
    assert {path.parent.name for path in files if "Python.h" in included(path)} == {"py"}


def module_of(path: str) -> str:
    """``core/scan`` of core/scan.h, of core/scan.c, and of core/scan_internal.h."""
    return re.sub(r"(_internal)?\.[ch]$", "", path)


def test_no_module_of_c_includes_itself_by_way_of_others() -> None:
    root = ROOT / "csrc"
    below: dict[str, set[str]] = {}
    for path in root.rglob("*.[ch]"):
        own = module_of(str(path.relative_to(root)))
        ours = {module_of(name) for name in included(path) if (root / name).is_file()}
        below.setdefault(own, set()).update(ours - {own})
    while lowest := {module for module, needs in below.items() if not needs & below.keys()}:
        below = {module: needs for module, needs in below.items() if module not in lowest}
    assert below == {}, "these include each other"


LOADED = """
import sys
{}
print([n for n in sys.modules if n.split(".")[0] in ("alembic", "sqlalchemy", "mako", "logging")])
"""


def loaded_by(code: str) -> str:
    """What of Alembic and SQLAlchemy is imported after `code` ran, in the sample."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MIGRATE_EXT")}
    done = subprocess.run(
        [sys.executable, "-c", LOADED.format(code)],
        cwd=ROOT,
        env={**environment, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()[-1]


def test_import_brings_neither_alembic_nor_sqlalchemy() -> None:
    assert loaded_by("import migrate_ext") == "[]"


@pytest.mark.parametrize("command", ["history", "heads", "branches", "show head"])
def test_reading_commands_import_neither_alembic_nor_sqlalchemy(command: str) -> None:
    run = f"from migrate_ext.cli import main; assert main({command.split()}) == 0"
    assert loaded_by(run) == "[]"
