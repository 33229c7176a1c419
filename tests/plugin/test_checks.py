"""Each built-in test fails on a project that has exactly its defect, names the revision, and passes on one that has none."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from sample_project import ROOT, copy_project
from suite import Outcome, Suite

DATA = """
import pytest

@pytest.fixture(scope="session")
def migrate_ext_data():
    return {"e": {"a": [{"id": 7}]}, "f": lambda database: database.execute("INSERT INTO a VALUES (8)")}
"""
OWN_TRANSACTION = """
import os
import sqlalchemy
from alembic import context
from models import metadata

if context.is_offline_mode():
    context.configure(dialect_name="postgresql", target_metadata=metadata)
    with context.begin_transaction():
        context.run_migrations()
else:
    engine = sqlalchemy.create_engine(os.environ["DATABASE_URL"])
    with engine.begin() as connection:
        context.configure(connection=connection, target_metadata=metadata)
        context.run_migrations()
"""
MODELS = """
import sqlalchemy as sa

metadata = sa.MetaData()
for name in "abcef":
    sa.Table(name, metadata, sa.Column("id", sa.Integer, primary_key=True))
sa.Table("only_a_model", metadata, sa.Column("id", sa.Integer, primary_key=True))
"""
VERDICTS = {
    "files": "PASSED",
    "heads": "PASSED",
    "revision[a]": "PASSED",
    "revision[b]": "FAILED",
    "revision[c]": "FAILED",
    "revision[d]": "FAILED",
    "revision[e]": "FAILED",
    "revision[f]": "PASSED",
    "models": "FAILED",
    "base": "FAILED",
    "offline": "FAILED",
}


def verdicts(outcome: Outcome) -> dict[str, str]:
    """What ``pytest -v`` says of each built-in test."""
    alone = re.findall(r"^\S*::(\S+) (PASSED|FAILED|SKIPPED|ERROR)", outcome.output, re.M)
    of_workers = re.findall(r"\] (PASSED|FAILED|SKIPPED|ERROR) \S*::(\S+)", outcome.output)
    return {**dict(alone), **{name: verdict for verdict, name in of_workers}}


def defective(suite: Suite) -> Suite:
    suite.write("models.py", MODELS)
    suite.write("tests/conftest.py", DATA)
    suite.revision("a")
    suite.revision(
        "b",
        "op.create_table('b', sa.Column('id', sa.Integer, primary_key=True)); op.execute('CREATE SEQUENCE left_over')",
        "op.drop_table('b'); op.execute('ALTER SEQUENCE left_over RENAME TO still_there')",
    )
    suite.revision(
        "c",
        "op.create_table('c', sa.Column('id', sa.Integer, primary_key=True)); op.execute('INSERT INTO a VALUES (1)')",
    )
    suite.revision(
        "d",
        "n = op.get_bind().scalar(sa.text('SELECT count(*) FROM a')); op.execute('INSERT INTO a VALUES (%s)' % (n + 100)); op.create_table('d', sa.Column(f'c{n}', sa.Integer))",
    )
    suite.revision(
        "e",
        "op.create_table('e', sa.Column('id', sa.Integer, primary_key=True)); op.execute('DELETE FROM a WHERE id < 100 AND 1 / (id - 7) > 5')",
    )
    suite.revision("f")
    return suite


def test_each_defect_fails_its_own_test_and_is_told_as_sql(suite: Suite) -> None:
    outcome = defective(suite).run("--migrations", "-v")
    assert verdicts(outcome) == VERDICTS, outcome.output
    outcome.says(
        "the downgrade of b (versions/b.py) does not undo its upgrade",
        "-- only after upgrade and downgrade:",
        "CREATE SEQUENCE public.still_there;",
        "upgrade of c (versions/c.py), after it was upgraded and downgraded, fails",
        'duplicate key value violates unique constraint "a_pkey"',
        "[SQL: INSERT INTO a VALUES (1)]",
        "alembic upgrade b && alembic upgrade c && alembic downgrade b && alembic upgrade c",
        "d (versions/d.py) does another thing the second time",
        "ALTER TABLE public.d ADD COLUMN c",
        "upgrade of e (versions/e.py) fails",
        "division by zero",
        "CREATE TABLE only_a_model",
        "'downgrade base' leaves something behind",
        "alembic upgrade heads --sql",
        "again: pytest 'tests/conftest.py::revision[b]'",
    )
    assert re.search(r"versions/c\.py, line \d+", outcome.output)
    assert suite.databases("c") == []


@pytest.mark.parametrize("workers", ["0", "4"])
def test_an_env_py_with_a_transaction_of_its_own_and_workers_give_the_same_verdicts(
    suite: Suite, workers: str
) -> None:
    if workers == "0":
        suite.write("env.py", OWN_TRANSACTION)
    outcome = defective(suite).run("--migrations", "-v", "-n", workers)
    assert verdicts(outcome) == VERDICTS, outcome.output
    assert suite.databases("c") == []


def test_items_are_independent_of_their_order_and_found_by_their_names(suite: Suite) -> None:
    names = [
        "revision[f]",
        "revision[d]",
        "revision[e]",
        "revision[a]",
        "revision[c]",
        "revision[b]",
    ]
    nodes = [f"tests/conftest.py::{name}" for name in names]
    outcome = defective(suite).run("-v", *nodes)
    assert verdicts(outcome) == {name: VERDICTS[name] for name in names}, outcome.output


def test_what_cannot_be_downgraded_is_a_warning_and_what_fails_hides_only_what_follows(
    suite: Suite,
) -> None:
    suite.write("conftest.py", "")
    suite.revisions("a")
    suite.revision("b", down="raise NotImplementedError")
    path = suite.revision("c")
    path.write_text(path.read_text().partition("def downgrade")[0])
    suite.revision("d", "op.execute('SELECT nothing')")
    suite.revision("e")
    outcome = suite.run("--migrations", "-v")
    assert verdicts(outcome) == {
        "files": "PASSED",
        "heads": "PASSED",
        "revision[a]": "PASSED",
        "revision[b]": "PASSED",
        "revision[c]": "PASSED",
        "revision[d]": "FAILED",
        "revision[e]": "SKIPPED",
        "models": "SKIPPED",
        "base": "SKIPPED",
        "offline": "FAILED",
    }, outcome.output
    outcome.says(
        "b cannot be downgraded (NotImplementedError)",
        "c cannot be downgraded (it has no downgrade())",
        "upgrade of d (versions/d.py) fails",
        'column "nothing" does not exist',
        "alembic upgrade c && alembic upgrade d",
    )
    suite.write(
        "pytest.ini", "[pytest]\nmigrate_ext_minimum_downgrade = c\nmigrate_ext_tests = revision\n"
    )
    outcome = suite.run("-v", "-W", "error")
    assert verdicts(outcome)["revision[b]"] == "PASSED", outcome.output
    assert "cannot be downgraded" not in outcome.output


def test_they_are_listed_under_the_file_that_is_named(suite: Suite) -> None:
    suite.write("conftest.py", "")
    suite.write("checks/conftest.py", "")
    suite.write(
        "pytest.ini",
        "[pytest]\nmigrate_ext_tests = revision\nmigrate_ext_tests_file = checks/conftest.py\n",
    )
    suite.revisions("a")
    suite.passes("--migrations", "-v").says("checks/conftest.py::revision[a] PASSED")


# For each check a change to a history without a defect, a -> b, and a model that goes with it.
TABLE = "op.create_table('b', sa.Column('id', sa.Integer, primary_key=True))"
DEFECTS: dict[str, Callable[[Suite], object]] = {
    "none": lambda suite: None,
    "files": lambda suite: suite.write(
        "versions/twin.py", (suite.folder / "versions/b.py").read_text()
    ),
    "heads": lambda suite: suite.revision("c", "pass", "pass", after="a"),
    "plans": lambda suite: suite.revision("b", f"{TABLE}; op.execute('SELECT 1')", after="a"),
    "revision[b]": lambda suite: suite.revision(
        # it fails on the row that the project gives
        "b",
        f"{TABLE}; op.execute('INSERT INTO a VALUES (7)')",
        "op.drop_table('b'); op.execute('DELETE FROM a WHERE id = 7')",
        after="a",
    ),
    "models": lambda suite: suite.write("models.py", MODELS.replace("abcef", "ab")),
    # it keeps a table in which there are rows, as there are after another revision
    "base": lambda suite: (
        suite.revision(
            "a",
            down="rows = op.get_bind().scalar(sa.text('SELECT count(*) FROM a'))\n"
            "    op.rename_table('a', 'kept') if rows else op.drop_table('a')",
            after=None,
        ),
        suite.revision(
            "c", "op.execute('INSERT INTO a VALUES (1) ON CONFLICT DO NOTHING')", "pass", after="b"
        ),
    ),
    "offline": lambda suite: suite.revision("b", f"op.get_context().as_sql or {TABLE}", after="a"),
}


@pytest.mark.parametrize("name", DEFECTS)
def test_a_defect_fails_its_own_test_and_no_other(suite: Suite, name: str) -> None:
    suite.write("models.py", MODELS.replace("abcef", "ab").rpartition("sa.Table")[0])
    suite.write("conftest.py", DATA.replace('"e"', '"b"').replace('"f"', '"c"'))
    suite.revisions("a", "b")
    if name == "plans":
        suite.compile()
    DEFECTS[name](suite)
    outcome = suite.run("--migrations", "-v")
    failed = [check for check, verdict in verdicts(outcome).items() if verdict != "PASSED"]
    assert failed == ([] if name == "none" else [name]), outcome.output


def test_files_that_make_no_history_are_all_named(suite: Suite) -> None:
    suite.write("conftest.py", "")
    suite.revisions("a")
    shutil.copy(suite.folder / "versions/a.py", suite.folder / "versions/twin.py")
    suite.revision("lost", after="nowhere")
    suite.revision("x", after="y")
    suite.revision("y", after="x")
    suite.write("versions/stray.py", "import os\n")
    outcome = suite.run("--migrations", "-v")
    assert verdicts(outcome) == {"files": "FAILED"}, outcome.output
    outcome.says(
        "the revision a is in 2 files",
        "down_revision names nowhere, which is in no file",
        "revisions in a circle: ",
        "versions/stray.py: ",
    )


def test_two_heads_fail_unless_each_has_its_label(suite: Suite) -> None:
    suite.write("conftest.py", "")
    suite.revision("a", top="branch_labels = ('one',)", after=None)
    suite.revision("b", top="branch_labels = ('two',)", after=None)
    outcome = suite.run("--migrations", "-v", "-k", "heads")
    assert verdicts(outcome) == {"heads": "PASSED"}, outcome.output
    suite.revision("c", after="b")
    suite.revision("d", after="b")
    outcome = suite.run("--migrations", "-v", "-k", "heads")
    assert verdicts(outcome) == {"heads": "FAILED"}, outcome.output
    outcome.says("2 heads of the branch two: c, d", "alembic merge -m 'merge' c d")


def test_offline_sql_that_makes_another_schema_fails(suite: Suite) -> None:
    suite.write("conftest.py", "")
    suite.revision(
        "a", "op.get_context().as_sql or op.create_table('a', sa.Column('id', sa.Integer))"
    )
    outcome = suite.run("--migrations", "-v", "-k", "offline")
    assert verdicts(outcome) == {"offline": "FAILED"}
    outcome.says("-- only online:", "CREATE TABLE public.a;")


def test_a_stale_plan_fails_and_no_plan_is_no_failure(suite: Suite) -> None:
    suite.write("conftest.py", "")
    suite.write("pytest.ini", "[pytest]\nmigrate_ext_tests = plans\n")
    suite.revision("a")
    suite.passes("--migrations", "-rs").says("1 skipped", "there is no plan file")
    suite.compile()
    assert verdicts(suite.passes("--migrations", "-v")) == {"plans": "PASSED"}
    suite.revision("a", "op.execute('SELECT 1')", after=None)
    outcome = suite.run("--migrations", "-v")
    assert verdicts(outcome) == {"plans": "FAILED"}, outcome.output
    outcome.says("versions.plan is not up to date", "migrate-ext compile --check")


def test_one_line_of_configuration_makes_them_part_of_the_suite(suite: Suite) -> None:
    suite.write("pytest.ini", "[pytest]\nmigrate_ext_tests = revision heads\n")
    suite.write("tests/conftest.py", "")
    suite.write("tests/test_it.py", "def test_mine():\n    pass\n")
    suite.revisions("a")
    everything = {"heads": "PASSED", "revision[a]": "PASSED", "test_mine": "PASSED"}
    assert verdicts(suite.passes("-v")) == everything
    assert verdicts(suite.passes("-v", "tests/test_it.py")) == {"test_mine": "PASSED"}
    for named in (["tests/test_it.py"], ["tests"], ["tests/conftest.py", "tests/test_it.py"]):
        outcome = suite.passes("-v", "--migrations", *named)
        assert verdicts(outcome) == everything
        outcome.says("3 passed")
    assert verdicts(suite.passes("-v", "-m", "not migrations")) == {"test_mine": "PASSED"}
    suite.write("pytest.ini", "[pytest]\nmigrate_ext_tests = reversion\n")
    suite.run("--migrations").says(
        "reversion", "expected all, or some of files heads plans revision"
    )


def test_a_project_without_a_conftest_has_them_under_its_configuration_file(suite: Suite) -> None:
    suite.write("pytest.ini", "[pytest]\nmigrate_ext_tests = revision\n")
    suite.revisions("a")
    outcome = suite.passes("-v", "--migrations")
    assert verdicts(outcome) == {"revision[a]": "PASSED"}
    suite.passes("alembic.ini::revision[a]").says("1 passed")


def test_the_sample_passes(suite: Suite, tmp_path: Path) -> None:
    shutil.rmtree(suite.folder)
    copy_project(suite.folder)
    suite.write("tests/conftest.py", "")
    outcome = suite.passes("--migrations", "-v", "-W", "error")
    assert len(list((ROOT / "versions").glob("*.py"))) + 5 == len(verdicts(outcome))
    assert set(verdicts(outcome).values()) == {"PASSED"}


def test_the_example_project_of_the_documentation(suite: Suite) -> None:
    shutil.rmtree(suite.folder)
    shutil.copytree(Path(__file__).parent / "example", suite.folder)
    found = verdicts(suite.passes("-v"))
    assert len(found) == 11
    assert set(found.values()) == {"PASSED"}


def test_what_is_found_where_all_revisions_were_tried_is_found_on_a_database_of_its_own(
    suite: Suite,
) -> None:
    suite.write("conftest.py", "")
    suite.write(
        "models.py", MODELS.replace('"abcef"', '"a"') + 'sa.Table("c", metadata, sa.Column("id"))\n'
    )
    suite.revision("a")
    down = "op.create_check_constraint('small', 'a', 'id < 5')"
    suite.revision("b", "op.drop_constraint('small', 'a')", down)
    a = "op.create_table('a', sa.Column('id', sa.Integer, sa.CheckConstraint('id < 5', name='small')))"
    suite.revision("a", a, after=None)
    suite.revision("c", "op.execute('INSERT INTO a VALUES (7)')", "pass", after="b")
    suite.revision(
        "d", "op.get_context().as_sql or op.execute('CREATE TABLE d ()')", "op.drop_table('d')"
    )
    whole = verdicts(suite.run("--migrations", "-v"))
    assert {name for name, verdict in whole.items() if verdict == "FAILED"} == {
        "models",
        "offline",
        "base",
    }
    for name in ("models", "offline", "base"):
        alone = verdicts(suite.run("-v", "--migrate-ext-rebuild", f"conftest.py::{name}"))
        assert alone == {name: "FAILED"}


def test_the_built_in_tests_alone_run_each_migration_on_as_few_databases_as_they_can(
    suite: Suite,
) -> None:
    suite.write("conftest.py", "")
    suite.write("models.py", MODELS.replace('"abcef"', '"ab"').rpartition("sa.Table")[0])
    suite.revision("a")
    suite.revision("b")
    suite.passes("--migrations")
    tried, offline, base = (
        "a -a a a b -b b b",
        "a b",
        "-b -a",
    )  # each on a copy, then on to the next
    assert " ".join(suite.ran()) == f"{tried} {offline} {base}"
    assert suite.databases() == []
