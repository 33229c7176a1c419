"""Alembic's own tests of the installed version, from its sdist, with and without the runtime.

On SQLite: scripts/compat.py does the same on other databases, and with other versions, drivers and suites.
"""

from __future__ import annotations

import sys
from importlib.metadata import version
from pathlib import Path

import third_party_suites
from sample_project import ROOT

SDISTS = ROOT / "build" / "compat" / "sdists"  # of `make compat`; kept


def test_alembics_tests_cannot_tell_whether_the_runtime_is_installed(tmp_path: Path) -> None:
    archive = third_party_suites.download(f"alembic=={version('alembic')}", SDISTS)
    suite = third_party_suites.unpack(archive, tmp_path / "suite")
    theirs, ours = (
        third_party_suites.run(sys.executable, suite, f"active-{active}", "tests", active=active)
        for active in (False, True)
    )
    assert third_party_suites.difference(theirs, ours) == []
    assert ours.count("passed") > 1500
    assert ours.counters["graph_builds"] > 0
