"""Every command on the sample prints and leaves what alembic prints and leaves."""

from __future__ import annotations

import inspect
import re
import shutil
from pathlib import Path

import pytest
from alembic import command as alembic_command
from paired_projects import PairedProjects
from sample_project import ROOT


def sample_revisions() -> list[str]:
    """Ids of the sample's revisions, read from their files."""
    files = (ROOT / "versions").glob("*.py")
    return sorted(re.search(r'^revision: str = "(\w+)"', f.read_text(), re.M)[1] for f in files)


REVISIONS = sample_revisions()
# Alembic has it since 1.17.1; here it is there with every Alembic.
HAS_CHECK_HEADS = "check_heads" in inspect.signature(alembic_command.current).parameters

READ_ONLY = [
    ("history",),
    ("history", "-v"),
    ("history", "--verbose", "-r", "base:head"),
    ("history", "-r", f"{REVISIONS[0]}:"),
    ("history", "-r", f":{REVISIONS[0]}"),
    ("history", "-r", "-3:"),
    ("history", "-r-3:"),
    ("history", "-r", "head-3:head"),
    ("history", "-r", "nonsense"),
    ("history", "-r", "nonsense:"),
    ("heads",),
    ("heads", "-v"),
    ("heads", "--resolve-dependencies"),
    ("branches",),
    ("branches", "-v"),
    ("show", "head"),
    ("show", "heads"),
    ("show", "base"),
    ("show", "head-2"),
    ("show", "zzzz"),
    ("show", "ab"),
    ("show", "-h"),
    ("--help",),
    ("upgrade", "--help"),
    (),
    ("nonsense",),
    ("upgrade",),
    ("history", "--nonsense"),
    ("history", "--verb"),
    ("-q", "history"),
    ("-c", "missing.ini", "history"),
    ("-n", "missing", "history"),
    ("--raiseerr", "heads"),
]


@pytest.mark.parametrize("command", READ_ONLY, ids=" ".join)
def test_reading_commands_print_what_alembic_prints(
    unchanged_pair: PairedProjects, command: tuple[str, ...]
) -> None:
    unchanged_pair.agree(*command, schema=False, DATABASE_URL=None)


@pytest.mark.parametrize("revision", REVISIONS)
def test_show_of_each_revision(unchanged_pair: PairedProjects, revision: str) -> None:
    unchanged_pair.agree("show", revision, schema=False, DATABASE_URL=None)
    unchanged_pair.agree("show", revision[:5], schema=False, DATABASE_URL=None)


def test_up_and_down_in_one_go(pair: PairedProjects) -> None:
    pair.agree("current")
    pair.agree("upgrade", "head")
    pair.agree("upgrade", "head")
    for command in ("current",), ("current", "-v"), ("check",):
        pair.agree(*command)
    if HAS_CHECK_HEADS:
        pair.agree("current", "--check-heads")
    for range_ in ":current", "current:", "-1:current":
        pair.agree("history", f"-r{range_}")
    pair.agree("history", "-i")
    pair.agree("history", "-i", "-v")
    pair.agree("show", "current")
    pair.agree("downgrade", "base")
    pair.agree("downgrade", "base")
    if HAS_CHECK_HEADS:
        pair.agree("current", "-c")
    pair.agree("upgrade", "head")


def test_up_and_down_step_by_step(pair: PairedProjects) -> None:
    for _ in REVISIONS:
        pair.agree("upgrade", "+1")
        pair.agree("current", schema=False)
    pair.agree("upgrade", "+1")
    for _ in REVISIONS:
        pair.agree("downgrade", "-1")
        pair.agree("current", schema=False)
    pair.agree("downgrade", "-1")


def test_targets_of_every_form(pair: PairedProjects) -> None:
    pair.agree("upgrade", "+2")
    pair.agree("upgrade", "+1")
    for revision in REVISIONS:
        pair.agree("upgrade", revision[:6])
    pair.agree("upgrade", "heads")
    pair.agree("upgrade", "head-1")
    for revision in reversed(REVISIONS):
        pair.agree("downgrade", revision)
    for target in "zzzz", "ab", "+1000", "-1000", "head+1", "a:b", "nosuch@head":
        pair.agree("upgrade", target)
        pair.agree("downgrade", target)


def test_stamp(pair: PairedProjects) -> None:
    pair.agree("stamp", "head")
    pair.agree("stamp", "head")
    for revision in REVISIONS:
        pair.agree("stamp", revision)
        pair.agree("current", schema=False)
    pair.agree("stamp", "base")
    pair.agree("stamp", "--purge", "head")
    pair.agree("stamp", "--purge", REVISIONS[0], REVISIONS[-1])
    pair.agree("stamp", "zzzz")
    pair.agree("stamp", "heads", "--sql")


def test_ensure_version(pair: PairedProjects) -> None:
    pair.agree("ensure_version")
    pair.agree("ensure_version")
    pair.agree("ensure_version", "--sql")


def test_offline_sql(pair: PairedProjects) -> None:
    pair.agree("upgrade", "head", "--sql")
    pair.agree("upgrade", f"{REVISIONS[0]}:head", "--sql", "--tag", "x")
    pair.agree("downgrade", "head:base", "--sql")
    pair.agree("downgrade", "base", "--sql")
    pair.agree("upgrade", "head", "--sql", DATABASE_URL=None)


def test_new_revisions(pair: PairedProjects) -> None:
    pair.agree("revision", "-m", "an empty one", "--rev-id", "aaaa1111")
    pair.agree("revision", "--autogenerate", "-m", "too early", "--rev-id", "bbbb2222")
    pair.agree("upgrade", "head")
    pair.agree("revision", "--autogenerate", "-m", "nothing to do", "--rev-id", "cccc3333")

    def add_table(folder: Path) -> None:
        models = folder / "models" / "orm"
        (models / "gadgets.py").write_text(
            "from sqlalchemy import String\n"
            "from sqlalchemy.dialects import postgresql\n"
            "from sqlalchemy.orm import Mapped, mapped_column\n"
            "from lib.database import Base\n\n\n"
            "class Gadget(Base):\n"
            '    __tablename__ = "gadgets"\n'
            "    id: Mapped[int] = mapped_column(primary_key=True)\n"
            "    name: Mapped[str] = mapped_column(String(40), server_default='50%', index=True)\n"
            "    parts: Mapped[dict] = mapped_column(postgresql.JSONB)\n"
        )
        with (models / "__init__.py").open("a") as file:
            file.write("\nfrom models.orm import gadgets  # noqa\n")

    pair.edit(add_table)
    pair.agree("upgrade", "head")
    pair.agree("check")
    pair.agree("revision", "--autogenerate", "-m", "gadgets, 100%", "--rev-id", "dddd4444")
    pair.agree("upgrade", "head")
    pair.agree("check")
    pair.agree("downgrade", "-1")


def test_branches_and_merges(pair: PairedProjects) -> None:
    pair.agree("revision", "-m", "left", "--rev-id", "aaaa1111", "--branch-label", "left")
    pair.agree("revision", "-m", "right", "--rev-id", "bbbb2222", "--head", REVISIONS[0])
    pair.agree(
        "revision", "-m", "right", "--rev-id", "bbbb2222", "--head", REVISIONS[0], "--splice"
    )
    pair.agree("heads")
    pair.agree("upgrade", "head")
    pair.agree("upgrade", "left@head")
    pair.agree("upgrade", "heads")
    pair.agree("current")
    pair.agree("downgrade", "left@-1")
    pair.agree("upgrade", "left@+1")
    pair.agree("stamp", "head")
    pair.agree("merge", "heads", "-m", "together", "--rev-id", "cccc3333")
    pair.agree("upgrade", "head")
    pair.agree("downgrade", "-1")
    pair.agree("history")
    pair.agree("branches", "-v")
    pair.agree("downgrade", "base")


def test_list_templates_has_ours_beside_alembics(pair: PairedProjects) -> None:
    theirs, ours = (side.run("list_templates") for side in pair.both)
    both = ours.stdout.splitlines(True)
    thin = [line for line in both if line.startswith("thin - ")]
    assert len(thin) == 1
    assert (
        both.index(thin[0]) == both.index("Templates are used via the 'init' command, e.g.:\n") - 2
    )
    both.remove(thin[0])
    assert ("".join(both), ours.stderr, ours.code) == (theirs.stdout, theirs.stderr, theirs.code)
    off = pair.ours.run("list_templates", MIGRATE_EXT="0")
    assert (off.stdout, off.code) == (theirs.stdout, theirs.code)
    pair.agree("init", "--help", schema=False)


def test_a_template_project_made_by_init(pair: PairedProjects) -> None:
    pair.agree("init", "made", "-t", "generic", schema=False)
    pair.agree("init", "versions", schema=False)
    pair.agree("init", "other", "-t", "nosuch", schema=False)


def test_edit_opens_the_editor(pair: PairedProjects) -> None:
    pair.agree("edit", "head", EDITOR="cat", schema=False)
    pair.agree("edit", "zzzz", EDITOR="cat", schema=False)


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2"])
def test_a_classic_env_py(pair: PairedProjects, driver: str) -> None:
    """A project that keeps Alembic's usual env.py sees no difference either."""
    pair.edit(
        lambda folder: shutil.copy(ROOT / "tests" / "oracle" / "classic_env.py", folder / "env.py")
    )
    for side in pair.both:
        side.url = side.url.replace("+psycopg", f"+{driver}")
    for command in (
        ("current",),
        ("upgrade", "head"),
        ("current",),
        ("check",),
        ("downgrade", "-2"),
        ("history", "-i"),
        ("upgrade", "head", "--sql"),
        ("stamp", "head"),
        ("stamp", "head-2"),
        ("upgrade", "head"),
        ("downgrade", "base"),
    ):
        pair.agree(*command)
