"""Packages and C layers import only those below them; commands that only read files import neither Alembic nor SQLAlchemy."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Collection
from pathlib import Path

import pytest
from sample_project import ROOT

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


# The packages of migrate_ext from below: each may import those before it. docs/architecture.md says what each is for.
GROUND = ("migrate_ext._core", "migrate_ext.errors", "migrate_ext.counters")
PACKAGES = (
    "project execution locking plans direct dropin rendering testing verify cli".split()
)  # fmt: skip
# What a person, Alembic or another process starts; they may import everything.
PROGRAMS = ("migrate_ext", "migrate_ext.__main__", "migrate_ext.plugin", "migrate_ext.verify.child")


def modules() -> dict[str, Path]:
    found = {}
    for path in (ROOT / "migrate_ext").rglob("*.py"):
        if "templates" not in path.parts:
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imported_by(path: Path, known: Collection[str]) -> set[str]:
    """The modules of migrate_ext that a file imports, wherever in it: in functions, for types."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, path
            for name in node.names:
                whole = f"{node.module}.{name.name}"
                # The version is a constant, for which the root package imports nothing.
                if whole != "migrate_ext.__version__":
                    found.add(whole if whole in known else str(node.module))
    return {name for name in found if name.split(".")[0] == "migrate_ext"}


def floor(name: str) -> int:
    if name in GROUND:
        return 0
    return len(PACKAGES) + 1 if name in PROGRAMS else PACKAGES.index(name.split(".")[1]) + 1


def test_no_package_imports_one_above_it() -> None:
    known = {*modules(), "migrate_ext._core"}
    for name, path in modules().items():
        for other in imported_by(path, known):
            assert floor(other) <= floor(name), f"{name} imports {other}"


def test_no_module_imports_itself_by_way_of_others() -> None:
    known = {*modules(), "migrate_ext._core"}
    left = {
        name: imported_by(path, known) & modules().keys() - {name}
        for name, path in modules().items()
    }
    while lowest := {name for name, others in left.items() if not others & left.keys()}:
        left = {name: others for name, others in left.items() if name not in lowest}
    assert not left


def test_each_package_says_what_it_is_for() -> None:
    for name in PACKAGES:
        tree = ast.parse((ROOT / "migrate_ext" / name / "__init__.py").read_text())
        assert ast.get_docstring(tree), name


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
