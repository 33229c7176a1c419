"""Frequent commands import no module beyond their list: each further one costs about a millisecond at start."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from sample_project import ROOT, SampleProject

READING = set(
    "__future__ migrate_ext migrate_ext._core migrate_ext.cli migrate_ext.cli.command_line migrate_ext.direct migrate_ext.direct.reading "
    "migrate_ext.project migrate_ext.project.config "
    "migrate_ext.errors migrate_ext.project.ini migrate_ext.project.scripts".split()
)
CONNECTING = READING | set(
    "migrate_ext.direct.database migrate_ext.project.environment migrate_ext.execution migrate_ext.execution.libpq migrate_ext.project.logs "
    "migrate_ext.locking migrate_ext.locking.version_table".split()
)


def imports(arguments: list[str | Path], project: SampleProject | None = None) -> set[str]:
    """The modules that a fresh Python imports, but for those of installed packages' .pth files."""
    done = subprocess.run(
        [sys.executable, "-S", "-X", "importtime", *arguments],
        cwd=project and project.folder,
        env=project and project.variables,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    lines = [x for x in done.stderr.splitlines() if x.startswith("import time:")]
    return {line.rsplit("|", 1)[1].strip() for line in lines}


@pytest.fixture(scope="module")
def python() -> set[str]:
    """What Python imports before it runs anything, and `os`, which the module site brings."""
    # A debug build of Python looks up each codec that is named, even those it has built in.
    return imports(["-c", "import os; b''.decode('ascii')"])


COMMANDS = "history|history -v|heads|heads --resolve-dependencies|branches|show head|show -1|history -r :head"


@pytest.mark.parametrize("command", COMMANDS.split("|"))
def test_a_command_that_reads_imports_nothing_else(
    tmp_path: Path, python: set[str], command: str
) -> None:
    project = SampleProject(tmp_path / "project", "", "thin")
    program = ROOT / "scripts" / "migrate-ext"
    assert imports([program, *command.split()], project) - python == READING


@pytest.fixture
def at_head(tmp_path: Path, database_url: str) -> SampleProject:
    project = SampleProject(tmp_path / "project", database_url, "MIGRATE_EXT=0")
    assert project.run("stamp", "head").code == 0
    del project.variables["MIGRATE_EXT"]
    return project


def test_a_command_that_asks_the_database_imports_nothing_else(
    at_head: SampleProject, python: set[str]
) -> None:
    program = ROOT / "scripts" / "migrate-ext"
    for command in (
        "current", "current -v", "current --check-heads", "upgrade head", "upgrade heads", "history -i",
    ):  # fmt: skip
        assert imports([program, *command.split()], at_head) - python == CONNECTING, command


def test_the_scripts_of_a_project_cost_no_more(at_head: SampleProject, python: set[str]) -> None:
    (at_head.folder / "scripts").mkdir()
    program = at_head.folder / "scripts" / "migrate.py"
    program.write_text((ROOT / "scripts" / "migrate.py").read_text())
    at_head.variables["PYTHONPATH"] = str(ROOT)
    assert imports([program, "heads"], at_head) - python == READING
    assert imports([program, "upgrade", "head"], at_head) - python == CONNECTING


def test_the_package_imports_nothing(python: set[str]) -> None:
    assert imports(["-c", f"import os, sys; sys.path.insert(0, {str(ROOT)!r}); import migrate_ext"]) - python == {
        "__future__", "migrate_ext"
    }  # fmt: skip
