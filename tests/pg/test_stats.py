"""MIGRATE_EXT_STATS tells which way the work went: files read, batches sent, what took the plain path and why."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from sample_project import SampleProject

FILES = 18


class Counted(SampleProject):
    """A project whose commands give their counters."""

    def stats(self, *command: str, **variables: str) -> dict[str, Any]:
        file = self.folder / "stats"
        done = self.run(*command, MIGRATE_EXT_STATS=str(file), **variables)
        assert done.code == 0, done.stderr
        (line,) = file.read_text().splitlines()
        file.unlink()
        counted: dict[str, Any] = json.loads(line)
        return counted


@pytest.fixture
def project(tmp_path: Path, database_url: str) -> Counted:
    return Counted(tmp_path / "project", database_url, "thin")


def test_reading_commands_execute_no_file_and_ask_no_server(project: Counted) -> None:
    for command in ("history", "-v"), ("heads",), ("branches",), ("show", "head"):
        assert project.stats(*command, DATABASE_URL="") == {
            "files_scanned": FILES,
            "files_executed": 0,
            "planned": 0,
            "graph_builds": 1,
            "batches": 0,
            "statements": 0,
            "waits": 0,
            "plain_statements": 0,
            "plain_reasons": {},
            "span_ends": {},
        }


def test_upgrade_sends_fewer_batches_than_statements(project: Counted) -> None:
    before = project.stats("current")
    assert before["files_executed"] == before["batches"] == before["plain_statements"] == 0
    up = project.stats("upgrade", "head")
    assert 0 < up["batches"] < up["statements"]
    assert up["files_executed"] == FILES
    assert up["files_scanned"] == FILES
    # Each batch may wait once or twice, or find its answer already there.
    assert up["plain_statements"] <= up["waits"]
    assert up["waits"] <= up["plain_statements"] + 2 * up["batches"] + 12
    assert up["plain_reasons"].pop("upgrade: migrations to run") == 1
    assert up["plain_reasons"].pop("plan: none") == 1
    assert up["plain_reasons"].pop("migration: a with block") == 2
    assert all(r.startswith(("migration: ", "statement: ")) for r in up["plain_reasons"]), up[
        "plain_reasons"
    ]
    for command in ("current",), ("upgrade", "head"), ("stamp", "head"):
        after = project.stats(*command)
        assert after["files_executed"] == after["batches"] == after["plain_statements"] == 0
        assert after["plain_reasons"] == {}
        assert after["waits"] <= 12


def test_a_declined_command_says_why(project: Counted) -> None:
    reasons = project.stats("history", "--verb")["plain_reasons"]
    assert reasons == {"command line: an option for argparse": 1}
    assert project.stats("heads", MIGRATE_EXT="0")["plain_reasons"] == {
        "command line: MIGRATE_EXT=0": 1
    }


def test_the_one_file_that_only_python_can_read_is_executed(project: Counted) -> None:
    project.revision("aaaa1111", down="'fc48864' + 'acdf7'")
    counted = project.stats("history")
    assert (counted["files_scanned"], counted["files_executed"]) == (FILES, 1)


def test_verbose_lists_the_slowest_statements(project: Counted) -> None:
    done = project.run("upgrade", "head", "-v")
    assert done.code == 0 and " s; the slowest:\n" in done.stderr
    done = project.run("downgrade", "--verbose", "-1")
    assert done.code == 0 and "  downgrade of revision fc48864acdf7 (" in done.stderr
    assert "the slowest" not in project.run("upgrade", "head").stderr
