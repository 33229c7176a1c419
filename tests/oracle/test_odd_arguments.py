"""Arguments that are not UTF-8 and output that cannot be written: what alembic says and does, ours says and does, once."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from project import ROOT, copy_project
from twins import Twins

from migrate_ext import hooks

ODD = "ab\udcffcd"  # what Python makes of the bytes ab\xffcd
COMMANDS = [
    ("upgrade", ODD),
    ("upgrade", ODD, "--sql"),
    ("upgrade", f"{ODD}:head", "--sql"),
    ("downgrade", ODD),
    ("stamp", ODD),
    ("show", ODD),
    ("history", "-r", f"a:{ODD}"),
    ("history", "-r", f"{ODD}:"),
    ("history", "-i", "-r", f"{ODD}:current"),
    ("-n", ODD, "heads"),
    ("-c", ODD, "heads"),
    ("-x", ODD, "heads"),
    ("edit", ODD),
    ("merge", ODD, "head"),
]


@pytest.mark.parametrize("command", COMMANDS)
def test_arguments_that_are_not_utf8_get_alembics_answer(
    twins: Twins, command: tuple[str, ...]
) -> None:
    ours = twins.agree(*command)
    assert "Traceback" not in ours.stderr


QUESTIONS = [
    lambda scripts: scripts.get_revision(ODD),
    lambda scripts: scripts.get_revisions((ODD, "head")),
    lambda scripts: list(scripts.walk_revisions(ODD, "head")),
    lambda scripts: list(scripts.iterate_revisions("head", ODD)),
    lambda scripts: scripts.as_revision_number(ODD),
    lambda scripts: scripts.revision_map.get_revision(f"{ODD}@head"),
    lambda scripts: scripts._upgrade_revs("head", ODD),
    lambda scripts: scripts._stamp_revs(ODD, "head"),
    lambda scripts: scripts.get_all_current((ODD,)),
]


@pytest.mark.parametrize("number", range(len(QUESTIONS)))
def test_programs_that_ask_for_a_name_that_is_no_utf8_get_alembics_error(
    tmp_path: Path, number: int
) -> None:
    copy_project(tmp_path / "project")
    config = Config()
    config.set_main_option("script_location", str(tmp_path / "project"))

    def ask() -> tuple[object, str]:
        try:
            return None, repr(QUESTIONS[number](ScriptDirectory.from_config(config)))
        except Exception as error:
            return type(error), str(error)

    theirs = ask()
    with hooks.installed():
        ours = ask()
    assert ours == theirs
    assert not issubclass(theirs[0] or CommandError, UnicodeError)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no full device here")
@pytest.mark.parametrize(
    "command", [("history",), ("history", "-i"), ("current", "-v"), ("heads",)]
)
def test_output_that_cannot_be_written_is_an_error_and_the_command_runs_once(
    tmp_path: Path, database_url: str, command: tuple[str, ...]
) -> None:
    copy_project(tmp_path / "project")
    stats = tmp_path / "stats"
    variables = {
        **os.environ,
        "DATABASE_URL": database_url,
        "PYTHONPATH": str(ROOT),
        "MIGRATE_EXT_STATS": str(stats),
    }
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "migrate_ext", *command],
            cwd=tmp_path / "project",
            env=variables,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
        )
    assert done.returncode != 0
    assert "No space left on device" in done.stderr
    assert done.stderr.count("Context impl PostgresqlImpl") <= 1
    assert '"plain_reasons": {}' in stats.read_text()
