"""Installations of migrate_ext and Alembic, damaged ones too, for programs to run in."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Mapping
from pathlib import Path

from sample_project import ROOT

# Else a program cannot load the extension that `make sanitize` has built.
SANITIZERS = {
    name: value
    for name, value in os.environ.items()
    if name in ("LD_PRELOAD", "ASAN_OPTIONS", "LSAN_OPTIONS", "UBSAN_OPTIONS", "PYTHONMALLOC")
}

# What a copy leaves out: bytecode that another process is writing. The rest fits, because files keep their dates.
UNFINISHED = "*.pyc.*"


class Site:
    """A folder of installed packages that comes before the environment's own, and programs that see it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()

    def add(self, package: str, version: str, entry_points: str = "") -> None:
        """What pip leaves beside a package."""
        info = self.folder / f"{package}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n"
        )
        (info / "entry_points.txt").write_text(entry_points)

    def install_ours(self) -> Path:
        """A copy of migrate_ext with its entry point; returns the package's folder."""
        self.add("migrate_ext", "0.1.0", "[alembic.plugins]\nmigrate_ext = migrate_ext.plugin\n")
        package = self.folder / "migrate_ext"
        shutil.copytree(ROOT / "migrate_ext", package, ignore=shutil.ignore_patterns(UNFINISHED))
        return package

    def install_alembic(self, version: str) -> Path:
        """A copy of the installed Alembic that says it is `version`; returns the package's folder."""
        import alembic

        package = self.folder / "alembic"
        source = Path(alembic.__file__).parent
        shutil.copytree(source, package, ignore=shutil.ignore_patterns(UNFINISHED, "testing"))
        (package / "__init__.py").write_text(
            (package / "__init__.py").read_text().replace(alembic.__version__, version)
        )
        self.add("alembic", version)
        return package

    def run(
        self, code: str, *options: str, environment: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run Python code in the folder of the site."""
        return self.python(*options, "-c", code, environment=environment)

    def python(
        self, *arguments: str, environment: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run Python with these arguments in the folder of the site."""
        # -S: our editable installation in the environment's site-packages would mend what is broken here.
        path = [self.folder, ROOT / "tests" / "support", sysconfig.get_path("purelib")]
        return subprocess.run(
            [sys.executable, "-S", *arguments],
            cwd=self.folder,
            env={
                **SANITIZERS,
                "PYTHONPATH": os.pathsep.join(map(str, path)),
                **(environment or {}),
            },
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
        )
