"""Alembic's own tests of the installed version, from its sdist, with and without the runtime."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from importlib.metadata import version
from pathlib import Path
from xml.etree import ElementTree

import pytest

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Alembic's sdist, unpacked."""
    folder = tmp_path_factory.mktemp("sdist")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary=:all:"]
    requirement = f"alembic=={version('alembic')}"
    done = subprocess.run(
        [*command, f"--dest={folder}", requirement], capture_output=True, text=True
    )
    assert done.returncode == 0, f"{requirement} cannot be had from pip's index: {done.stderr}"
    (archive,) = folder.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        tar.extractall(folder, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
    return next(path for path in folder.iterdir() if path.is_dir())


def outcomes(sdist: Path, name: str, *options: str, active: bool) -> tuple[dict[str, str], Path]:
    """What became of each test: its id to "passed", "skipped", "failure" or "error"."""
    report, stats = sdist / f"{name}.xml", sdist / f"{name}.json"
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parent), str(HERE.parents[1])]),
        "MIGRATE_EXT_STATS": str(stats),
        "MIGRATE_EXT": "1" if active else "0",
    }
    if active:
        options = ("-p", "alembic_suite_plugin", *options)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", f"--junit-xml={report}", *options, "tests"],
        cwd=sdist,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert report.exists(), done.stdout + done.stderr
    found = {}
    for case in ElementTree.parse(report).iter("testcase"):
        kinds = [child.tag for child in case if child.tag in ("skipped", "failure", "error")]
        found[f"{case.get('classname')}::{case.get('name')}"] = kinds[0] if kinds else "passed"
    return found, stats


def test_alembics_tests_cannot_tell_whether_the_runtime_is_installed(sdist: Path) -> None:
    theirs, theirs_stats = outcomes(sdist, "theirs", active=False)
    ours, stats = outcomes(sdist, "ours", active=True)
    assert not theirs_stats.exists()  # not a line of ours was loaded
    assert ours == theirs
    assert len(ours) > 1500
    assert '"graph_builds": 0' not in stats.read_text()
