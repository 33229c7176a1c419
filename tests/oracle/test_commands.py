"""Every command on the sample: what alembic shows and leaves behind, and what we do, must be the same."""

from __future__ import annotations

import inspect
import re
import shutil
from pathlib import Path

import pytest
from alembic import command as alembic_command
from project import ROOT
from twins import Twins


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
def test_reading_commands_print_what_alembic_prints(twins: Twins, command: tuple[str, ...]) -> None:
    twins.agree(*command, schema=False, DATABASE_URL=None)


@pytest.mark.parametrize("revision", REVISIONS)
def test_show_of_each_revision(twins: Twins, revision: str) -> None:
    twins.agree("show", revision, schema=False, DATABASE_URL=None)
    twins.agree("show", revision[:5], schema=False, DATABASE_URL=None)


def test_up_and_down_in_one_go(twins: Twins) -> None:
    twins.agree("current")
    twins.agree("upgrade", "head")
    twins.agree("upgrade", "head")
    for command in ("current",), ("current", "-v"), ("check",):
        twins.agree(*command)
    if HAS_CHECK_HEADS:
        twins.agree("current", "--check-heads")
    for range_ in ":current", "current:", "-1:current":
        twins.agree("history", f"-r{range_}")
    twins.agree("history", "-i")
    twins.agree("history", "-i", "-v")
    twins.agree("show", "current")
    twins.agree("downgrade", "base")
    twins.agree("downgrade", "base")
    if HAS_CHECK_HEADS:
        twins.agree("current", "-c")
    twins.agree("upgrade", "head")


def test_up_and_down_step_by_step(twins: Twins) -> None:
    for _ in REVISIONS:
        twins.agree("upgrade", "+1")
        twins.agree("current", schema=False)
    twins.agree("upgrade", "+1")
    for _ in REVISIONS:
        twins.agree("downgrade", "-1")
        twins.agree("current", schema=False)
    twins.agree("downgrade", "-1")


def test_targets_of_every_form(twins: Twins) -> None:
    twins.agree("upgrade", "+2")
    twins.agree("upgrade", "+1")
    for revision in REVISIONS:
        twins.agree("upgrade", revision[:6])
    twins.agree("upgrade", "heads")
    twins.agree("upgrade", "head-1")
    for revision in reversed(REVISIONS):
        twins.agree("downgrade", revision)
    for target in "zzzz", "ab", "+1000", "-1000", "head+1", "a:b", "nosuch@head":
        twins.agree("upgrade", target)
        twins.agree("downgrade", target)


def test_stamp(twins: Twins) -> None:
    twins.agree("stamp", "head")
    twins.agree("stamp", "head")
    for revision in REVISIONS:
        twins.agree("stamp", revision)
        twins.agree("current", schema=False)
    twins.agree("stamp", "base")
    twins.agree("stamp", "--purge", "head")
    twins.agree("stamp", "--purge", REVISIONS[0], REVISIONS[-1])
    twins.agree("stamp", "zzzz")
    twins.agree("stamp", "heads", "--sql")


def test_ensure_version(twins: Twins) -> None:
    twins.agree("ensure_version")
    twins.agree("ensure_version")
    twins.agree("ensure_version", "--sql")


def test_offline_sql(twins: Twins) -> None:
    twins.agree("upgrade", "head", "--sql")
    twins.agree("upgrade", f"{REVISIONS[0]}:head", "--sql", "--tag", "x")
    twins.agree("downgrade", "head:base", "--sql")
    twins.agree("downgrade", "base", "--sql")
    twins.agree("upgrade", "head", "--sql", DATABASE_URL=None)


def test_new_revisions(twins: Twins) -> None:
    twins.agree("revision", "-m", "an empty one", "--rev-id", "aaaa1111")
    twins.agree("revision", "--autogenerate", "-m", "too early", "--rev-id", "bbbb2222")
    twins.agree("upgrade", "head")
    twins.agree("revision", "--autogenerate", "-m", "nothing to do", "--rev-id", "cccc3333")

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

    twins.edit(add_table)
    twins.agree("upgrade", "head")
    twins.agree("check")
    twins.agree("revision", "--autogenerate", "-m", "gadgets, 100%", "--rev-id", "dddd4444")
    twins.agree("upgrade", "head")
    twins.agree("check")
    twins.agree("downgrade", "-1")


def test_branches_and_merges(twins: Twins) -> None:
    twins.agree("revision", "-m", "left", "--rev-id", "aaaa1111", "--branch-label", "left")
    twins.agree("revision", "-m", "right", "--rev-id", "bbbb2222", "--head", REVISIONS[0])
    twins.agree(
        "revision", "-m", "right", "--rev-id", "bbbb2222", "--head", REVISIONS[0], "--splice"
    )
    twins.agree("heads")
    twins.agree("upgrade", "head")
    twins.agree("upgrade", "left@head")
    twins.agree("upgrade", "heads")
    twins.agree("current")
    twins.agree("downgrade", "left@-1")
    twins.agree("upgrade", "left@+1")
    twins.agree("stamp", "head")
    twins.agree("merge", "heads", "-m", "together", "--rev-id", "cccc3333")
    twins.agree("upgrade", "head")
    twins.agree("downgrade", "-1")
    twins.agree("history")
    twins.agree("branches", "-v")
    twins.agree("downgrade", "base")


def test_list_templates_has_ours_beside_alembics(twins: Twins) -> None:
    theirs, ours = (twin.run("list_templates") for twin in twins.both)
    both = ours.stdout.splitlines(True)
    thin = [line for line in both if line.startswith("thin - ")]
    assert len(thin) == 1
    assert (
        both.index(thin[0]) == both.index("Templates are used via the 'init' command, e.g.:\n") - 2
    )
    both.remove(thin[0])
    assert ("".join(both), ours.stderr, ours.code) == (theirs.stdout, theirs.stderr, theirs.code)
    off = twins.ours.run("list_templates", MIGRATE_EXT="0")
    assert (off.stdout, off.code) == (theirs.stdout, theirs.code)
    twins.agree("init", "--help", schema=False)


def test_a_template_project_made_by_init(twins: Twins) -> None:
    twins.agree("init", "made", "-t", "generic", schema=False)
    twins.agree("init", "versions", schema=False)
    twins.agree("init", "other", "-t", "nosuch", schema=False)


def test_edit_opens_the_editor(twins: Twins) -> None:
    twins.agree("edit", "head", EDITOR="cat", schema=False)
    twins.agree("edit", "zzzz", EDITOR="cat", schema=False)


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2"])
def test_a_classic_env_py(twins: Twins, driver: str) -> None:
    """A project that keeps Alembic's usual env.py sees no difference either."""
    twins.edit(
        lambda folder: shutil.copy(ROOT / "tests" / "oracle" / "classic_env.py", folder / "env.py")
    )
    for twin in twins.both:
        twin.url = twin.url.replace("+psycopg", f"+{driver}")
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
        twins.agree(*command)
