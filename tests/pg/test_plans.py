"""A plan is what rendering would have sent, or it is not used."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from project import Project


class Planned(Project):
    """A copy of the sample that can tell which way a command went."""

    def planned(self, *command: str, code: int = 0, **variables: str) -> tuple[int, list[str]]:
        """Run a command; the migrations that ran from the plan, and why one was not used."""
        note = self.folder / "stats"
        note.unlink(missing_ok=True)
        done = self.run(*command, MIGRATE_EXT_STATS=str(note), **variables)
        assert done.code == code, done.stdout + done.stderr
        stats = json.loads(note.read_text().splitlines()[-1])
        reasons = [r.removeprefix("plan: ") for r in stats["plain_reasons"] if "plan: " in r]
        return stats["planned"], reasons

    def compile(self) -> None:
        done = self.run("compile")
        assert done.code == 0, done.stdout + done.stderr


def copy_of(folder: Path, url: str, versions: Path | None = None) -> Planned:
    project = Planned(folder, url, "thin")
    if versions is not None:
        shutil.rmtree(folder / "versions")
        shutil.copytree(versions, folder / "versions")
    return project


Pair: TypeAlias = Callable[..., tuple[Planned, Project]]


@pytest.fixture
def pair(tmp_path: Path, make_database: Callable[[], str]) -> Pair:
    """Makes two projects of the same revisions, the first compiled; `way`: how the other runs."""
    made = 0

    def make(bodies: dict[str, str], way: str = "MIGRATE_EXT=0") -> tuple[Planned, Project]:
        nonlocal made
        made += 1
        ours = copy_of(tmp_path / f"planned{made}", make_database())
        theirs = Project(tmp_path / f"rendered{made}", make_database(), way)
        for project in (ours, theirs):
            write(project, bodies)
        ours.compile()
        return ours, theirs

    return make


def write(project: Project, bodies: dict[str, str]) -> None:
    """One line of revisions; a body is that of upgrade, a line ``---``, that of downgrade."""
    shutil.rmtree(project.folder / "versions")
    (project.folder / "versions").mkdir()
    down = None
    for revision, body in bodies.items():
        up, _, undo = body.partition("\n---\n")
        text = "".join(f"    {line}\n" for line in up.splitlines())
        back = "".join(f"    {line}\n" for line in (undo or "pass").splitlines())
        (project.folder / "versions" / f"{revision}.py").write_text(
            f'"""the {revision}"""\nimport sqlalchemy as sa\nfrom alembic import op\n'
            f"revision = {revision!r}\ndown_revision = {down!r}\n\n\ndef upgrade():\n{text}\n\ndef downgrade():\n{back}"
        )
        down = revision


def same(ours: Project, theirs: Project, text: str) -> str:
    return text.replace(str(theirs.folder), str(ours.folder)).replace(
        theirs.url.rsplit("/", 1)[1], ours.url.rsplit("/", 1)[1]
    )


PIECES = (
    'op.create_table("{t}", sa.Column("id", sa.Integer, primary_key=True), sa.Column("a", sa.Text, index=True), '
    'sa.Column("b", sa.String(9), index=True, server_default="5%0"))\n---\nop.drop_table("{t}")',
    'op.create_table("{t}", sa.Column("e", sa.Enum("x", "y", name="{t}_e")), comment="it\'s")\n'
    'op.add_column("{t}", sa.Column("n", sa.Numeric(5, 2), nullable=True))\n---\n'
    'op.drop_table("{t}")\nop.execute("DROP TYPE {t}_e")',
    'op.execute("CREATE TABLE {t} (a int); INSERT INTO {t} VALUES (1), (2)")\n---\nop.drop_table("{t}")',
    'op.execute("CREATE TABLE {t} AS SELECT 50 % 7 AS a, \'é:x\' AS b")\n---\nop.execute(sa.text("DROP TABLE {t}"))',
    'op.create_table("{t}", sa.Column("a", sa.Integer))\nop.create_unique_constraint(None, "{t}", ["a"])\n'
    'with op.get_context().autocommit_block():\n'
    '    op.create_index("{t}_i", "{t}", ["a"], postgresql_concurrently=True)\n---\nop.drop_table("{t}")',
    'op.execute("""CREATE FUNCTION {t}() RETURNS int LANGUAGE plpgsql AS $$BEGIN RETURN 1; END$$""")\n---\n'
    'op.execute("DROP FUNCTION {t}()")',
    'op.create_table("{t}", sa.Column("a", sa.Integer))\nwith op.batch_alter_table("{t}") as b:\n'
    '    b.alter_column("a", type_=sa.BigInteger(), nullable=False)\n---\nop.drop_table("{t}")',
    "pass",
)  # fmt: skip
NOT_CONSTANT = (
    'op.create_table("{t}", sa.Column("a", sa.Integer))\nop.get_bind().execute(sa.text("INSERT INTO {t} VALUES (7)"))\n'
    '---\nop.drop_table("{t}")',
    'if op.get_bind().execute(sa.text("SELECT 1")).scalar():\n    op.create_table("{t}", sa.Column("a", sa.Integer))\n'
    '---\nop.drop_table("{t}")',
    't = op.create_table("{t}", sa.Column("a", sa.Integer))\nop.bulk_insert(t, [{{"a": 1}}, {{"a": 2}}])\n---\n'
    'op.drop_table("{t}")',
)  # fmt: skip


@given(st.lists(st.sampled_from(PIECES + NOT_CONSTANT), min_size=1, max_size=6))
@settings(
    max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_a_plan_and_rendering_lead_to_the_same(
    pair: Pair,
    pg_dump: Callable[..., str],
    pieces: list[str],
) -> None:
    bodies = {f"r{n}": piece.format(t=f"t{n}") for n, piece in enumerate(pieces)}
    ours, theirs = pair(bodies)
    constant = not any(piece in NOT_CONSTANT for piece in pieces)
    for command in ("upgrade", "head"), ("downgrade", "base"), ("upgrade", "heads"):
        count, reasons = ours.planned(*command)
        rendered = theirs.run(*command)
        # A function that is not in the plan: the whole run is rendered.
        undone = command[0] == "downgrade"
        assert count == (len(pieces) if constant or undone else 0), reasons
        assert pg_dump(ours.url) == pg_dump(theirs.url)
        assert pg_dump(ours.url, "--data-only") == pg_dump(theirs.url, "--data-only")
        assert rendered.code == 0


def test_the_sample_by_its_plan(
    tmp_path: Path, make_database: Callable[[], str], pg_dump: Callable[..., str]
) -> None:
    """A few revisions at a time: those that are constant from the plan, the others rendered."""
    ours = copy_of(tmp_path / "planned", make_database())
    theirs = Project(tmp_path / "rendered", make_database(), "MIGRATE_EXT=0")
    ours.compile()
    total = 0
    order = re.findall(r"-> (\w+)", theirs.run("history").stdout)[::-1]
    targets = [("upgrade", revision) for revision in order[1::2]]
    targets += [("upgrade", "head"), ("downgrade", order[9]), ("downgrade", order[0])]
    for command in targets:
        done = theirs.run(*command)
        count, _ = ours.planned(*command, code=done.code)
        total += count
        assert pg_dump(ours.url) == pg_dump(theirs.url)
    assert total >= 12


def test_what_a_person_sees_is_the_same(
    pair: Pair,
) -> None:
    ours, theirs = pair(
        {"a": 'op.create_table("t", sa.Column("a", sa.Integer))', "b": PIECES[4].format(t="u"), "c": "pass"}
    )  # fmt: skip
    for command in ("upgrade", "head"), ("downgrade", "a"), ("upgrade", "+1"):
        done = theirs.run(*command, MIGRATE_EXT="0")
        mine = ours.run(*command)
        assert (mine.code, mine.stdout) == (done.code, done.stdout)
        assert mine.stderr == same(ours, theirs, done.stderr)


@pytest.mark.parametrize(
    ("body", "kept"),
    [
        ('op.execute("SELECT 1")\nop.execute("SELECT no_such")\nop.execute("SELECT 2")', False),
        ('op.create_table("t", sa.Column("a", sa.Integer))', False),
        ('op.execute("DO $$BEGIN RAISE EXCEPTION \'no\' USING DETAIL = \'d\', HINT = \'h\'; END$$")', False),
        ('with op.get_context().autocommit_block():\n    op.execute("SELECT no_such")', True),
        ('op.execute("DELETE FROM alembic_version")', False),
    ],
)  # fmt: skip
def test_an_error_is_told_as_the_rendering_way_tells_it(pair: Pair, body: str, kept: bool) -> None:
    ours, theirs = pair(
        {"a": 'op.create_table("t", sa.Column("a", sa.Integer))', "b": body, "c": "pass"}, "thin"
    )
    code = theirs.run("upgrade", "head").code
    assert ours.planned("upgrade", "head", code=code) == (0, [])
    done = ours.run("upgrade", "head")
    rendered = theirs.run("upgrade", "head")
    assert done.code == rendered.code != 0
    assert done.said == same(ours, theirs, rendered.said)
    assert done.stderr.count("Running upgrade") == rendered.stderr.count("Running upgrade")
    assert ours.database() == theirs.database()
    assert (("alembic_version",) in ours.database()) == kept


# What a plan was made from -> how it is changed. Each makes the plan stale.
CHANGES: dict[str, Callable[[Planned], None]] = {
    "a byte of a migration": lambda p: p.edit("versions/a.py", '"""the a"""', '"""the A"""'),
    "a naming convention": lambda p: p.edit("lib/database.py", '"uq_', '"uniq_'),
    "a model": lambda p: p.edit("models/orm/audit.py", '"""', '"""x'),
    "a new model": lambda p: (p.folder / "models" / "orm" / "new.py").write_text(""),  # type: ignore[func-returns-value]
    "an option": lambda p: p.edit("env.py", "compare_type=True", "compare_type=False"),
    "an option that may reach the SQL": lambda p: p.edit(
        "env.py", "compare_type=True", "transactional_ddl=True"
    ),
    "another metadata": lambda p: p.edit("env.py", "models.orm", "models"),
    "a byte of the plan": lambda p: p.edit("versions.plan", "CREATE TABLE t", "CREATE TABLE s"),
    "a plan that is cut off": lambda p: p.edit("versions.plan", "\nend ", "\nEND "),
    "no plan": lambda p: (p.folder / "versions.plan").unlink(),
    "a version of a dependency": lambda p: p.edit("versions.plan", "key package sqlalchemy-", "key package sqlalchemy-0"),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_a_plan_that_was_made_from_something_else_is_not_used(pair: Pair, change: str) -> None:
    ours, _ = pair({"a": 'op.create_table("t", sa.Column("a", sa.Integer))'})
    assert ours.run("compile", "--check").code == 0
    CHANGES[change](ours)
    if change == "a version of a dependency":
        reseal(ours.folder / "versions.plan")
    assert ours.run("compile", "--check").code == 255
    count, reasons = ours.planned("upgrade", "head")
    assert count == 0
    assert len(reasons) == 1
    assert ("t",) in ours.database()


def reseal(path: Path) -> None:
    """Give a changed plan the hash that belongs to it."""
    body = path.read_bytes().rpartition(b"end ")[0]
    path.write_bytes(body + b"end " + hashlib.sha256(body).hexdigest().encode() + b"\n")


def test_a_plan_is_not_used_when_it_must_not_be(
    pair: Pair,
) -> None:
    ours, _ = pair(
        {
            "a": 'op.create_table("t", sa.Column("a", sa.Text, server_default="é"))\n---\nop.drop_table("t")'
        }
    )
    database = ours.url.rsplit("/", 1)[1]
    with ours.connect() as connection:
        connection.execute(f'ALTER DATABASE "{database}" SET standard_conforming_strings = off')
    assert ours.planned("upgrade", "head") == (0, ["standard_conforming_strings is off"])
    with ours.connect() as connection:
        connection.execute(f'ALTER DATABASE "{database}" RESET standard_conforming_strings')
    assert ours.planned("downgrade", "base", "--no-plan") == (0, ["--no-plan"])
    assert ours.planned("upgrade", "head") == (1, [])
    assert ours.planned("upgrade", "head") == (0, [])


def test_one_transaction_a_migration(
    pair: Pair,
) -> None:
    ours, _ = pair({"a": "pass", "b": 'op.execute("SELECT no_such")'})
    ours.edit("env.py", "compare_type=True", "compare_type=True, transaction_per_migration=True")
    ours.compile()
    assert ours.planned("upgrade", "head", code=1) == (0, [])
    assert ours.database()[-1] == ("a",)


def test_compiling_says_what_is_rendered_each_time_and_why(
    pair: Pair,
) -> None:
    ours, _ = pair({"a": NOT_CONSTANT[1].format(t="t"), "b": "pass"})
    done = ours.run("compile")
    assert "a upgrade is rendered each time: line 9: a If statement\n" in done.stdout
    assert "3 of 4 functions are constant\n" in done.stdout
    assert ours.run("compile", "--check", DATABASE_URL="").code == 0


def test_a_classic_env_py_has_no_plans(tmp_path: Path, database_url: str) -> None:
    project = Planned(tmp_path / "project", database_url, "classic")
    project.run("compile").failed(255, "env.py is not a thin one")
