"""Version rows that no run leaves: what Alembic makes of them, ours makes of them, by both ways in."""

from __future__ import annotations

import re
from pathlib import Path

import psycopg
import pytest
from field import Field

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
    """The same outcome, the same rows, the same tables."""
    url = re.sub(r"\+\w+", "", database_url)
    found = []
    for way in "stock", "alembic", "migrate_ext":
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
        project = Field(
            tmp_path / way, database_url, way="alembic" if way == "stock" else way, count=2
        )
        variables = {"MIGRATE_EXT": "0"} if way == "stock" else {}
        assert project.run("upgrade", "head", **variables).code == 0
        prepare(url, *ROWS[case])
        done = project.run(*command, **variables)
        found.append((done.code == 0, left(url)))
        assert way == "stock" or done.code == 0 or "FAILED" in done.said or way == "alembic"
    assert found[1] == found[0]
    assert found[2] == found[0]
