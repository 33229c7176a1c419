"""Version rows that no run leaves: both programs, with the runtime, do and print what Alembic does and prints."""

from __future__ import annotations

import os
import re
from collections.abc import Callable

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


def run(project: RecordingProject, program: str, url: str, *command: str) -> tuple[int, str, str]:
    variables = {**os.environ, "PYTHONPATH": str(ROOT), "DATABASE_URL": url}
    return run_forked(program, project.folder, command, variables)


@pytest.fixture(scope="module")
def at_head(
    tmp_path_factory: pytest.TempPathFactory, make_shared_database: Callable[[], str]
) -> dict[str, RecordingProject]:
    """For each program a project, and the database that it has brought to r0002."""
    folder, projects = tmp_path_factory.mktemp("version_rows"), {}
    for program in "alembic", "drop-in", "migrate_ext":
        way = "migrate_ext" if program == "migrate_ext" else "alembic"
        url, settings = make_shared_database(), "prepend_sys_path = ."
        project = RecordingProject(folder / program, url, way=way, count=2, settings=settings)
        assert run(project, program, url, "upgrade", "head")[0] == 0
        projects[program] = project
    return projects


@pytest.mark.parametrize("case", ROWS)
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_odd_version_rows_are_what_alembic_makes_of_them(
    at_head: dict[str, RecordingProject],
    make_database: Callable[..., str],
    case: str,
    command: tuple[str, ...],
) -> None:
    """The same exit code, rows, tables and texts; where Alembic has a traceback, ours tells its error."""
    found, outcomes = [], []
    for program, project in at_head.items():
        url = make_database(template=project.url)
        bare = re.sub(r"\+\w+", "", url)
        prepare(bare, *ROWS[case])
        code, *said = run(project, program, url, *command)
        for name, placeholder in (
            (str(project.folder), "<project>"),
            (url.rsplit("/")[-1], "<database>"),
        ):
            said = [text.replace(name, placeholder) for text in said]
        stdout, stderr = said
        found.append(left(bare))
        outcomes.append(Outcome(code, stdout, stderr, 0.0, {}, ()))
    assert found == [found[0]] * 3
    for program, ours in zip((DROP_IN, OURS), outcomes[1:], strict=True):
        verdict = compare(Step(command), program, outcomes[0], ours)
        assert verdict.what == "", verdict.how
