"""Test suites of other projects, from their sdists, and the outcome of each test with and without the runtime."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from xml.etree import ElementTree

SUPPORT = Path(__file__).parent  # has install_runtime
# What the runtime cannot be active without: graphs of revisions built, or SQL sent by the executor.
ACTIVE = ("graph_builds", "statements", "plain_statements")


def download(requirement: str, folder: Path) -> Path:
    """The sdist of ``name==version``, from pip's index, in `folder`; it stays there for the next time.

    Raises :class:`RuntimeError` with pip's words when it cannot be had.
    """
    name, _, version = requirement.partition("==")
    pattern = f"{name.replace('-', '_')}-{version}.tar.gz"
    if not any(folder.glob(pattern)):
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        command.append("--no-build-isolation")  # setuptools is here, and enough to read a name
        done = subprocess.run(
            [*command, f"--no-binary={name}", f"--dest={folder}", requirement],
            capture_output=True,
            text=True,
        )
        if done.returncode != 0:
            raise RuntimeError(f"{requirement} cannot be had from pip's index: {done.stderr}")
    (archive,) = folder.glob(pattern)
    return archive


def unpack(archive: Path, folder: Path) -> Path:
    """Unpack an sdist into the new folder `folder`; returns the one folder in it."""
    with tarfile.open(archive) as tar:
        tar.extraction_filter = getattr(tarfile, "data_filter", None)  # not in early 3.10 and 3.11
        tar.extractall(folder)
    return next(path for path in folder.iterdir() if path.is_dir())


class Run:
    """What became of a suite.

    ``outcomes``
        of each test: its id to "passed", "skipped", "failure" or "error", with what it recorded.
    ``counters``
        of all processes of the run together; empty where none had loaded the runtime.
    ``log``
        what pytest printed.
    """

    def __init__(self, report: Path, stats: Path, log: str) -> None:
        self.log = log
        self.outcomes: dict[str, tuple[str, ...]] = {}
        for case in ElementTree.parse(report).iter("testcase"):
            name = f"{case.get('classname')}::{case.get('name')}"
            kinds = [child.tag for child in case if child.tag in ("skipped", "failure", "error")]
            recorded = [str(item.get("value")) for item in case.iter("property")]
            # Some ids are two tests' own.
            self.outcomes[name] = (*self.outcomes.get(name, ()), *(kinds or ["passed"]), *recorded)
        self.counters: Counter[str] = Counter()
        for line in stats.read_text().splitlines() if stats.exists() else []:
            counted = json.loads(line)
            self.counters.update({k: v for k, v in counted.items() if isinstance(v, int)})

    @property
    def active(self) -> bool:
        return any(self.counters[name] for name in ACTIVE)

    def count(self, *kinds: str) -> int:
        return sum(kind in kinds for found in self.outcomes.values() for kind in found)


def run(
    python: str | Path,
    suite: Path,
    name: str,
    *arguments: str,
    active: bool,
    variables: Mapping[str, str] = {},
) -> Run:
    """Run a suite in the folder `suite`, with the runtime or without a trace of it.

    python: the interpreter of its environment. name: of this run, for its files beside the folder. arguments:
    pytest's. variables: added to the environment. Raises :class:`RuntimeError` with pytest's words when
    it did not come to a report.
    """
    report, stats = (suite.parent / f"{name}.{suffix}" for suffix in ("xml", "json"))
    plugin: Sequence[str] = ("install_runtime",) if active else ("no:migrate_ext",)
    done = subprocess.run(
        [str(python), "-m", "pytest", "-q", f"--junit-xml={report}", "-p", *plugin, *arguments],
        cwd=suite,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(SUPPORT), os.environ.get("PYTHONPATH", "")]),
            "MIGRATE_EXT_STATS": str(stats),
            "MIGRATE_EXT": "1" if active else "0",
            **variables,
        },
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    log = done.stdout + done.stderr
    if not report.exists():
        raise RuntimeError(log)
    return Run(report, stats, log)


def difference(theirs: Run, ours: Run) -> list[str]:
    """What `ours`, with the runtime, has otherwise than `theirs`: a line for each test; [] when all is the same.

    A run in which the runtime did nothing, or one without it in which it did something, is a difference, too.
    """
    found = []
    for name in dict.fromkeys([*theirs.outcomes, *ours.outcomes]):
        before, after = theirs.outcomes.get(name), ours.outcomes.get(name)
        if before != after:
            found.append(f"{name}: {before} without the runtime, {after} with it")
    if not theirs.outcomes:
        found.append("no test ran")
    if theirs.counters:
        found.append(f"the runtime was loaded where it should not be: {dict(theirs.counters)}")
    if not ours.active:
        found.append(f"the runtime was not active: {dict(ours.counters)}")
    return found
