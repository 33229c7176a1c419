"""A run in a REPEATABLE READ transaction with an old snapshot does not repeat what another run has done since."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest
import sqlalchemy
from in_process_project import InProcessProject

BODIES = [
    "op.create_table('t', sa.Column('id', sa.Integer))",
    "op.execute('INSERT INTO t VALUES (1)')",
    "op.execute('INSERT INTO t VALUES (2)')",
]
CREATE = (
    "CREATE TABLE alembic_version (version_num varchar(32) PRIMARY KEY); CREATE TABLE t (id int);"
)
# What another run commits behind the snapshot: before, then meanwhile.
OTHERS = {
    "from nothing": ("", CREATE + "INSERT INTO alembic_version VALUES ('r0001')"),
    "from base": (CREATE, "INSERT INTO alembic_version VALUES ('r0002'); INSERT INTO t VALUES (1)"),
    "one step": (
        CREATE + "INSERT INTO alembic_version VALUES ('r0001')",
        "UPDATE alembic_version SET version_num = 'r0002'; INSERT INTO t VALUES (1)",
    ),
    "to the head": (
        CREATE + "INSERT INTO alembic_version VALUES ('r0001')",
        "UPDATE alembic_version SET version_num = 'r0003'; INSERT INTO t VALUES (1), (2)",
    ),
    "back to base": (
        CREATE + "INSERT INTO alembic_version VALUES ('r0002'); INSERT INTO t VALUES (1)",
        "DELETE FROM alembic_version",
    ),
    "back from the head": (
        CREATE + "INSERT INTO alembic_version VALUES ('r0003'); INSERT INTO t VALUES (1)",
        "UPDATE alembic_version SET version_num = 'r0002'",
    ),
}


@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("driver", ["psycopg", "psycopg2"])
def test_a_run_in_an_old_snapshot_never_migrates_twice(
    tmp_path: Path, database_url: str, driver: str, other: str
) -> None:
    before, meanwhile = OTHERS[other]
    project = InProcessProject(tmp_path / "project", database_url.replace("://", f"+{driver}://"))
    project.write(BODIES)
    project.engine_options = {"isolation_level": "REPEATABLE READ"}

    def run_another(connection: sqlalchemy.Connection) -> None:
        with psycopg.connect(project.bare, autocommit=True) as others:
            others.execute(before.encode())
            connection.execute(sqlalchemy.text("SELECT count(*) FROM pg_class")).all()
            others.execute(meanwhile.encode())

    project.connected = run_another
    outcome = project.agree()  # with the server's refusal, or with nothing to do, as under Alembic
    rows = [row for row in outcome.database if row[0] == "t" and len(row) == 2]
    assert len(rows) == len(set(rows))
