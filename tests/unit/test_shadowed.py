"""In a source folder without a built extension, which hides the installed package, each program says how to build it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from older_releases import needs_plugins
from sample_project import ROOT

LIBRARIES = sysconfig.get_path("purelib")
SAID = "shadows the installed package, and its C core is not built: build it in place with `make build`"


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkout")
    left_out = shutil.ignore_patterns("_core*.so", "__pycache__")
    for name in "migrate_ext", "scripts", "versions", "lib", "models":
        shutil.copytree(ROOT / name, folder / name, ignore=left_out)
    for name in "alembic.ini", "env.py", "setup.py":
        shutil.copy(ROOT / name, folder)
    return folder


def run(checkout: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A fresh Python, without what an editable installation puts in front of all folders."""
    return subprocess.run(
        [sys.executable, "-S", *arguments],
        cwd=checkout,
        env={**os.environ, "PYTHONPATH": os.pathsep.join((str(checkout), LIBRARIES))},
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize(
    "command", ["heads", "current", "upgrade head", "revision -m x", "compile"]
)
@pytest.mark.parametrize("program", ["scripts/migrate.py", "scripts/migrate-ext", "-m migrate_ext"])
def test_a_program_says_how_to_build_it(checkout: Path, program: str, command: str) -> None:
    done = run(checkout, *program.split(), *command.split())
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"FAILED: the source folder {checkout / 'migrate_ext'} {SAID}")
    assert "Traceback" not in done.stderr


@needs_plugins
def test_alembic_warns_and_runs_by_itself(checkout: Path) -> None:
    done = run(checkout, "-c", "import alembic.config; alembic.config.main(['heads'])")
    assert done.returncode == 0
    assert "(head)" in done.stdout
    assert SAID in done.stderr


def test_doctor_names_it(checkout: Path) -> None:
    assert SAID in run(checkout, "-m", "migrate_ext", "doctor").stdout


def test_an_installation_without_a_core_is_to_be_installed_anew(checkout: Path) -> None:
    (checkout / "setup.py").rename(checkout / "no_setup.py")
    try:
        done = run(checkout, "-m", "migrate_ext", "heads")
    finally:
        (checkout / "no_setup.py").rename(checkout / "setup.py")
    assert done.returncode == 1
    assert done.stderr.endswith("has no C core for this Python: install migrate_ext anew\n")
