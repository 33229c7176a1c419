"""Arguments that are not UTF-8 and output that cannot be written give alembic's error, and the command runs once."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from paired_projects import AlembicSide, PairedProjects, ProjectSide
from sample_project import ROOT, copy_project, run_forked
from sqlalchemy.engine import URL

from migrate_ext.dropin import hooks

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
    unchanged_pair: PairedProjects, command: tuple[str, ...]
) -> None:
    ours = unchanged_pair.agree(*command)
    assert "Traceback" not in ours.stderr


class DropIn(ProjectSide):
    """``alembic`` with the runtime."""

    def process(self, command: tuple[str, ...], variables: dict[str, str]) -> tuple[int, str, str]:
        return run_forked("drop-in", self.folder, command, variables)


PARTS = st.sampled_from(
    [
        ODD,
        "\udcff",
        "a",
        "head",
        "heads",
        "base",
        ":",
        "@",
        "+1",
        "-1",
        "-",
        "+",
        "\n",
        "\x01",
        "é",
        " ",
        "",
    ]
    + ["aaaa1111", "x" * 3000, "%", "{}", "'", '"', "\\", "*", "--", "1e3"]
)
ARGUMENT = st.lists(PARTS, max_size=4).map("".join)
TEMPLATES = st.sampled_from(
    [
        ("show", "{}"),
        ("history", "-r", "{}"),
        ("history", "-r{}"),
        ("heads", "{}"),
        ("current", "{}"),
        ("upgrade", "{}", "--sql"),
        ("downgrade", "{}", "--sql"),
        ("downgrade", "{}:base", "--sql"),
        ("stamp", "{}", "--sql"),
        ("stamp", "{}", "head", "--sql"),
        ("revision", "-m", "{}", "--rev-id", "made"),
        ("revision", "-m", "m", "--rev-id", "x{}"),  # an empty one is any
        ("merge", "-m", "{}", "--rev-id", "made", "head", "base"),
        ("-x", "{}", "heads"),
        ("edit", "{}"),
        ("{}",),
    ]
)


@pytest.fixture(scope="module")
def three(
    tmp_path_factory: pytest.TempPathFactory, server_url: URL
) -> Iterator[tuple[ProjectSide, ...]]:
    """The sample project three times: stock ``alembic``, ``alembic`` with us, ``migrate-ext``."""
    made = []
    for kind in (AlembicSide, DropIn, ProjectSide):
        folder = tmp_path_factory.mktemp(kind.__name__) / "project"
        copy_project(folder)
        made.append(kind(folder, server_url.render_as_string(hide_password=False)))
    yield tuple(made)


@given(template=TEMPLATES, argument=ARGUMENT)
@settings(
    max_examples=int(os.environ.get("MIGRATE_EXT_EXAMPLES", "60")),
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
def test_any_argument_gets_alembics_answer(
    three: tuple[ProjectSide, ...], template: tuple[str, ...], argument: str
) -> None:
    command = tuple(word.replace("{}", argument) for word in template)
    before = {path.name for side in three for path in (side.folder / "versions").glob("*.py")}
    theirs, dropin, ours = (side.run(*command, EDITOR="true") for side in three)
    for outcome in (theirs, dropin, ours):  # a template that cannot be written tells a file's name
        outcome.stdout = re.sub(r"see \S+\.txt", "see <file>", outcome.stdout)
        outcome.stderr = re.sub(r"see \S+\.txt", "see <file>", outcome.stderr)
    for side in three:
        for path in (side.folder / "versions").glob("*.py"):
            if path.name not in before:
                path.unlink()
    assert (dropin.code, dropin.stdout, dropin.files) == (theirs.code, theirs.stdout, theirs.files)
    # Where it has no words, ours may have some.
    assert last_line(dropin.stderr).startswith(last_line(theirs.stderr))
    assert ours.files == theirs.files
    if "Traceback" in theirs.stderr:
        assert "FAILED: " in ours.stdout + ours.stderr
        assert "Traceback" not in ours.stderr
        return
    if theirs.code == 2:  # usage: it lists the commands, of which we have more
        assert ours.code == 2
        return
    assert (ours.code, ours.stdout, ours.stderr) == (theirs.code, theirs.stdout, theirs.stderr)


def last_line(text: str) -> str:
    return text.rstrip().rpartition("\n")[2]


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
        "PYTHONUNBUFFERED": "",  # else Alembic does not notice
        "DATABASE_URL": database_url,
        "PYTHONPATH": str(ROOT),
        "MIGRATE_EXT_STATS": str(stats),
    }

    def run(module: str, active: str) -> subprocess.CompletedProcess[str]:
        with open("/dev/full", "w") as full:
            return subprocess.run(
                [sys.executable, "-m", module, *command],
                cwd=tmp_path / "project",
                env={**variables, "MIGRATE_EXT": active},
                stdout=full,
                stderr=subprocess.PIPE,
                text=True,
                timeout=60,
            )

    stock, dropin = run("alembic", "0"), run("alembic", "1")
    stats.unlink(missing_ok=True)
    ours = run("migrate_ext", "1")
    for done in dropin, ours:
        # Python's own: at its end it finds that the rest is not written.
        assert done.returncode == stock.returncode == 120
        assert "No space left on device" in done.stderr
        assert done.stderr.count("Context impl PostgresqlImpl") <= 1
    assert '"plain_reasons": {}' in stats.read_text()
