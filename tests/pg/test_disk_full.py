"""A full disk, of the server or of the client, is named; what was committed stays, and the same command goes on later."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from recording_project import ALL_WAYS, RecordingProject
from sample_project import ROOT

from migrate_ext.testing import embedded

BIG = """\
    op.execute("CREATE TABLE big TABLESPACE small AS "
               "SELECT repeat('x', 1000) AS a FROM generate_series(1, 10000)")"""


@pytest.fixture
def small_disk(
    tmp_path: Path, private_server: embedded.Server
) -> Iterator[tuple[str, list[str], str]]:
    """The URL of a database whose tablespace ``small`` has 2 MB; what makes it larger."""
    mount = shutil.which("mount")
    if os.geteuid() != 0 or mount is None:
        pytest.skip("only root can mount a small disk")
    place = Path(private_server.home) / "small"
    place.mkdir()
    user, group = embedded.server_user()
    options = f"size=2m,uid={user},gid={group},mode=700"
    mounted = subprocess.run([mount, "-t", "tmpfs", "-o", options, "tmpfs", place])
    if mounted.returncode != 0:
        pytest.skip("this machine lets nobody mount a small disk")
    try:
        with psycopg.connect(private_server.url(driver=""), autocommit=True) as connection:
            connection.execute("CREATE DATABASE full_disk")
            connection.execute(f"CREATE TABLESPACE small LOCATION '{place}'")
            larger = [mount, "-o", "remount,size=64m", str(place)]
            yield private_server.url("full_disk"), larger, str(place)
            connection.execute("DROP DATABASE full_disk WITH (FORCE)")
            connection.execute("DROP TABLESPACE small")
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)
        place.rmdir()


@pytest.mark.parametrize("way", ALL_WAYS)
def test_a_full_disk_of_the_server(
    tmp_path: Path, small_disk: tuple[str, list[str], str], way: str
) -> None:
    url, larger, _ = small_disk
    project = RecordingProject(tmp_path / "p", url, way=way, mode="each", count=4, body={3: BIG})
    done = project.run("upgrade", "head")
    assert done.code == 1, done.said
    assert "No space left on device" in done.said
    assert "Committed: r0001, r0002. All else was rolled back; the same command" in done.said
    assert project.state() == 2
    subprocess.run(larger, check=True)
    assert project.run("upgrade", "head").code == 0
    with project.connect() as connection:
        assert connection.execute("SELECT count(*) FROM big").fetchone() == (10_000,)


def test_a_full_disk_under_the_plan_file_leaves_the_old_one(
    tmp_path: Path, database_url: str
) -> None:
    project = RecordingProject(tmp_path / "p", database_url, way="compiled", count=2)
    plan = project.folder / "versions.plan"
    before = plan.read_bytes()
    (project.folder / "versions.plan.new").symlink_to("/dev/full")
    done = project.run("compile")
    assert done.code == 255
    assert f"FAILED: {plan} cannot be written: No space left on device\n" in done.said
    assert not os.path.lexists(f"{plan}.new")
    assert plan.read_bytes() == before


def test_a_full_disk_under_the_counters_fails_no_command(tmp_path: Path) -> None:
    (tmp_path / "versions").mkdir()
    (tmp_path / "alembic.ini").write_text("[alembic]\nscript_location = .\npath_separator = os\n")
    done = subprocess.run(
        [sys.executable, "-m", "migrate_ext", "heads"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "MIGRATE_EXT_STATS": "/dev/full"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0
    assert done.stderr == "MIGRATE_EXT_STATS: /dev/full: No space left on device\n"
