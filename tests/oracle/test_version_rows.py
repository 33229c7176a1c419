"""Version rows that no run leaves: both programs, with the runtime, do and print what Alembic does and prints."""

from __future__ import annotations

import os
import re
from pathlib import Path

import psycopg
import pytest
from recording_project import RecordingProject
from sample_project import ROOT, run_forked

from migrate_ext.verify.compare import compare
from migrate_ext.verify.sides import DROP_IN, OURS, Outcome, Step

ROWS = {
    "NULL": ("TABLE", "(NULL)"),
    "NULL beside a revision": ("TABLE", "('r0002'), (NULL)"),
    "NULL twice": ("TABLE", "(NULL), (NULL)"),
    "one twice": ("TABLE", "('r0001'), ('r0001')"),
    "the head twice": ("TABLE", "('r0002'), ('r0002')"),
    "an ancestor as well": ("TABLE", "('r0001'), ('r0002')"),
    "a view at head": ("VIEW", "'r0002'"),
    "a view below it": ("VIEW", "'r0001'"),
}
COMMANDS = [
    ("current",),
    ("current", "-v"),
    ("history", "-i"),
    ("upgrade", "head"),
    ("upgrade", "r0001"),
    ("downgrade", "-1"),
    ("downgrade", "base"),
    ("stamp", "head"),
    ("stamp", "--purge", "head"),
    ("check",),
]


def prepare(url: str, kind: str, rows: str) -> None:
    """The schema of r0002, and these version rows."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("DROP TABLE alembic_version")
        if kind == "VIEW":
            connection.execute(
                f"CREATE VIEW alembic_version AS SELECT DISTINCT {rows}::text AS version_num"
            )
        else:
            connection.execute("CREATE TABLE alembic_version (version_num varchar(32))")
            connection.execute(f"INSERT INTO alembic_version VALUES {rows}")


def left(url: str) -> tuple[object, ...]:
    with psycopg.connect(url) as connection:
        versions = connection.execute("TABLE alembic_version").fetchall()
        tables = connection.execute(
            "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace ORDER BY 1"
        ).fetchall()
    return sorted(map(repr, versions)), tables


@pytest.mark.parametrize("case", ROWS)
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_odd_version_rows_are_what_alembic_makes_of_them(
    tmp_path: Path, database_url: str, case: str, command: tuple[str, ...]
) -> None:
    """The same exit code, rows, tables and texts; where Alembic has a traceback, ours tells its error."""
    url = re.sub(r"\+\w+", "", database_url)
    found, outcomes = [], []
    for program in "alembic", "drop-in", "migrate_ext":
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
        way = "migrate_ext" if program == "migrate_ext" else "alembic"
        settings = "prepend_sys_path = ."
        project = RecordingProject(
            tmp_path / program, database_url, way=way, count=2, settings=settings
        )
        variables = {**os.environ, "PYTHONPATH": str(ROOT), "DATABASE_URL": database_url}
        assert run_forked(program, project.folder, ("upgrade", "head"), variables)[0] == 0
        prepare(url, *ROWS[case])
        code, *said = run_forked(program, project.folder, command, variables)
        stdout, stderr = (text.replace(str(project.folder), "<project>") for text in said)
        found.append(left(url))
        outcomes.append(Outcome(code, stdout, stderr, 0.0, {}, ()))
    assert found == [found[0]] * 3
    for program, ours in zip((DROP_IN, OURS), outcomes[1:], strict=True):
        verdict = compare(Step(command), program, outcomes[0], ours)
        assert verdict.what == "", verdict.how
