"""A minute of the soak (`make soak` runs all of it)."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from recording_project import WAYS, RecordingProject

sys.path.append(str(Path(__file__).parents[1] / "soak"))
import soak


def test_a_killed_or_cut_run_leaves_the_version_of_the_schema() -> None:
    assert len(soak.run(0.002, 1, "SIGKILL", "cut", "terminate", "restart")) == 7


def test_a_run_disturbed_by_its_migrations_or_a_pooler_leaves_the_version_of_the_schema() -> None:
    blows = ("cancel", "COMMIT", "lock given", "closed by", "SIGSTOP", "paused", "started again")
    assert len(soak.run(0.002, 1, *blows)) == 9


ONCE = """\
CREATE SEQUENCE once;
CREATE TABLE checked (n int);
CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF nextval('once') = 1 THEN RAISE EXCEPTION 'once' USING ERRCODE = '40001'; END IF;
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER fails AFTER INSERT ON checked
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION fail()
"""


@pytest.mark.parametrize("way", WAYS)
def test_a_commit_that_was_refused_and_repeated_is_no_reason_of_a_later_failure(
    tmp_path: Path, database_url: str, way: str
) -> None:
    body = {
        2: "    op.execute('INSERT INTO checked VALUES (1)')",
        4: "    op.execute('SELECT 1 / 0')",
    }
    project = RecordingProject(
        tmp_path / "it", database_url, way=way, mode="each", count=4, body=body
    )
    with project.connect() as connection:
        connection.execute(ONCE)
    done = project.run("upgrade", "head", MIGRATE_EXT_RETRIES="1")
    assert done.code == 1, done.said
    assert "once. Repeating, 1 of 1." in done.said
    assert "Committed: r0001, r0002, r0003." in done.said
    assert "refused COMMIT" not in done.said
