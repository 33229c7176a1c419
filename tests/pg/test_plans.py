"""A plan sends what rendering would have sent, or it is not used."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sample_project import SampleProject

from migrate_ext.plans import key
from migrate_ext.project.config import Config
from migrate_ext.project.environment import Settings


class Planned(SampleProject):
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


Pair: TypeAlias = Callable[..., tuple[Planned, SampleProject]]


@pytest.fixture
def pair(tmp_path: Path, make_database: Callable[[], str]) -> Pair:
    """Makes two projects of the same revisions, the first compiled; `way`: how the other runs."""
    made = 0

    def make(bodies: dict[str, str], way: str = "MIGRATE_EXT=0") -> tuple[Planned, SampleProject]:
        nonlocal made
        made += 1
        ours = copy_of(tmp_path / f"planned{made}", make_database())
        theirs = SampleProject(tmp_path / f"rendered{made}", make_database(), way)
        theirs.forked = True
        for project in (ours, theirs):
            write(project, bodies)
        ours.compile()
        return ours, theirs

    return make


def write(project: SampleProject, bodies: dict[str, str]) -> None:
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


def same(ours: SampleProject, theirs: SampleProject, text: str) -> str:
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
    # Alembic makes the others run, and what has an autocommit block.
    mixed = sum(piece in PIECES and "autocommit" not in piece for piece in pieces)
    for command in ("upgrade", "head"), ("downgrade", "base"), ("upgrade", "heads"):
        count, reasons = ours.planned(*command)
        rendered = theirs.run(*command)
        undone = command[0] == "downgrade"
        assert count == (len(pieces) if constant or undone else mixed), reasons
        assert pg_dump(ours.url, "--inserts") == pg_dump(theirs.url, "--inserts")
        assert rendered.code == 0


def test_the_sample_by_its_plan(
    tmp_path: Path, make_database: Callable[[], str], pg_dump: Callable[..., str]
) -> None:
    """A few revisions at a time: those that are constant from the plan, the others rendered."""
    ours = copy_of(tmp_path / "planned", make_database())
    theirs = SampleProject(tmp_path / "rendered", make_database(), "MIGRATE_EXT=0")
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


def test_a_run_from_a_plan_prints_what_alembic_prints(
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


FAILING = [
    ('op.execute("SELECT 1")\nop.execute("SELECT \'%\', no_such")\nop.execute("SELECT 2")', False),
    ('op.create_table("t", sa.Column("a", sa.Integer))', False),
    ('op.execute("DO $$BEGIN RAISE EXCEPTION \'no\' USING DETAIL = \'d\', HINT = \'h\'; END$$")', False),
    ('with op.get_context().autocommit_block():\n    op.execute("SELECT no_such")', True),
    ('op.execute("DELETE FROM alembic_version")', False),
]  # fmt: skip


@pytest.mark.parametrize(
    ("body", "kept", "mixed"), [(*case, False) for case in FAILING] + [(*FAILING[0], True)]
)
def test_an_error_is_told_as_the_rendering_way_tells_it(
    pair: Pair, body: str, kept: bool, mixed: bool
) -> None:
    last = "op.get_bind()" if mixed else "pass"
    first = 'op.create_table("t", sa.Column("a", sa.Text, server_default=":x 5%"))'
    ours, theirs = pair({"a": first, "b": body, "c": last}, "thin")
    code = theirs.run("upgrade", "head").code
    reasons = ["a migration that is not in it"] if mixed else []
    assert ours.planned("upgrade", "head", code=code) == (mixed * (2 - kept), reasons)
    done = ours.run("upgrade", "head")
    rendered = theirs.run("upgrade", "head")
    assert done.code == rendered.code != 0
    assert done.said == same(ours, theirs, rendered.said)
    assert done.stderr.count("Running upgrade") == rendered.stderr.count("Running upgrade")
    assert ours.database() == theirs.database()
    assert (("alembic_version",) in ours.database()) == kept


@pytest.mark.parametrize("driver", ["psycopg2", "asyncpg"])
def test_a_migration_in_the_plan_is_not_executed_when_others_of_the_run_are(
    pair: Pair, driver: str, pg_dump: Callable[..., str]
) -> None:
    """asyncpg: without the executor, too."""
    body = 'op.create_table("{t}", sa.Column("a", sa.Text, server_default="a:b::c \\:d %s %%"))'
    ours, theirs = pair({"a": body.format(t="t"), "b": "op.get_bind()", "c": body.format(t="u")})
    for project in (ours, theirs):
        project.variables["DATABASE_URL"] = project.url.replace("+psycopg", f"+{driver}")
    ours.edit("versions/c.py", "import sqlalchemy", "print('executed')\nimport sqlalchemy")
    ours.compile()
    assert "executed" not in ours.run("upgrade", "a").stdout
    done = ours.run("upgrade", "head")
    assert done.code == 0 and "executed" not in done.stdout
    assert theirs.run("upgrade", "head").code == 0
    assert pg_dump(ours.url) == pg_dump(theirs.url)
    assert "executed" in ours.run("downgrade", "base", "--no-plan").stdout


def test_a_migration_that_changes_rendering_keeps_the_plan_from_being_used(pair: Pair) -> None:
    ours, _ = pair({"a": 'op.create_table("t", sa.Column("a", sa.Integer))', "b": "op.get_bind()"})
    ours.edit(
        "versions/b.py",
        "from alembic import op",
        "from alembic import op\nfrom sqlalchemy.ext.compiler import compiles\n"
        "@compiles(sa.Integer)\ndef bigger(*_, **__):\n    return 'BIGINT'",
    )
    ours.compile()
    reasons = ["a migration that is not in it", "a @compiles for Integer"]
    assert ours.planned("upgrade", "head") == (0, reasons)
    with ours.connect() as connection:
        row = connection.execute("SELECT pg_typeof(max(a))::text FROM t").fetchone()
    assert row == ("bigint",)


def test_a_plan_that_is_not_up_to_date_is_not_used(pair: Pair) -> None:
    ours, _ = pair({"a": 'op.create_table("t", sa.Column("a", sa.Integer))'})
    assert ours.run("compile", "--check").code == 0
    ours.edit("versions/a.py", '"""the a"""', '"""the A"""')
    ours.run("compile", "--check").failed(255, "versions.plan is not up to date")
    assert ours.planned("upgrade", "head") == (0, ["a revision file was changed"])
    assert ("t",) in ours.database()


ENVIRONMENT = {
    "metadata": "lib.database:Base.metadata", "models": "models.orm",
    "configure": {"compare_type": True, "compare_server_default": True},
}  # fmt: skip


def test_a_plan_is_not_used_when_anything_it_was_compiled_from_has_changed(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a process for each change: what a command asks before it uses a plan."""
    ours, _ = pair({"a": 'op.create_table("t", sa.Column("a", sa.Integer))'})
    monkeypatch.chdir(ours.folder)

    def answer(**changes: object) -> str:
        named: dict[str, Any] = {**ENVIRONMENT, **changes}
        environment = Settings("X", named["metadata"], named["models"], named["configure"])
        found = key.load(Config("alembic.ini", "pyproject.toml", "alembic"), environment)
        return found if isinstance(found, str) else "used"

    assert answer() == "used"
    for name in "lib/database.py", "models/__init__.py", "models/orm/audit.py":
        path = ours.folder / name
        before = path.read_bytes()
        path.write_bytes(before + b"#")
        assert answer() == f"{name} was changed"
        path.unlink()
        assert answer() != "used"
        path.write_bytes(before)
    new = ours.folder / "models" / "orm" / "new.py"
    new.write_text("")
    assert answer() == "models/orm has other modules"
    new.unlink()
    settings = "other settings in env.py, or another migrate_ext"
    assert answer(models=None) == answer(metadata="lib:x") == settings
    assert answer(configure={"compare_type": False, "compare_server_default": True}) == settings
    assert answer(configure={"transactional_ddl": True}) == "the option transactional_ddl"
    assert answer() == "used"

    plan = ours.folder / "versions.plan"
    before = plan.read_bytes()
    for package in rb"(package sqlalchemy-)", rb"(package alembic-)":
        plan.write_bytes(sealed(re.sub(package, rb"\g<1>0", before, flags=re.I)))
        assert answer().startswith("another version than ")
    for at in range(0, len(before), 97):
        changed = bytearray(before)
        changed[at] ^= 1
        plan.write_bytes(changed)
        assert answer() != "used"
    plan.unlink()
    assert answer() == "none"


def sealed(data: bytes) -> bytes:
    """A changed plan with the hash that belongs to it."""
    body = data.rpartition(b"end ")[0]
    return body + b"end " + hashlib.sha256(body).hexdigest().encode() + b"\n"


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
    assert "a upgrade is rendered each time: line 9: the attribute get_bind\n" in done.stdout
    assert "3 of 4 functions are constant\n" in done.stdout
    assert ours.run("compile", "--check", DATABASE_URL="").code == 0


def test_a_classic_env_py_has_no_plans(tmp_path: Path, database_url: str) -> None:
    project = Planned(tmp_path / "project", database_url, "classic")
    project.run("compile").failed(255, "env.py is not a thin one")
