"""Tests written for pytest-alembic run here, where that plugin is not; where it is, its fixtures are left alone."""

from __future__ import annotations

from importlib.util import find_spec

import pytest
from suite import Suite

ENV = """
import sqlalchemy
from alembic import context

engine = context.config.attributes.get("connection")
if engine is None:
    engine = sqlalchemy.create_engine(context.config.get_main_option("sqlalchemy.url"))
with engine.connect() as connection:
    context.configure(connection=connection, target_metadata=context.config.attributes.get("target_metadata"))
    with context.begin_transaction():
        context.run_migrations()
"""
TESTS = """
import pytest
from migrate_ext.testing.runner import create_alembic_fixture

other = create_alembic_fixture({"file": "alembic.ini", "skip_revisions": ["b"]})

def test_steps(alembic_runner):
    assert alembic_runner.current == "base"
    assert alembic_runner.heads == ["c"]
    assert alembic_runner.history.revisions == ["base", "a", "b", "c", "heads"]
    assert alembic_runner.migrate_up_one() == "a"
    assert alembic_runner.migrate_up_before("c") == "b"
    assert alembic_runner.migrate_down_one() == "a"
    assert alembic_runner.roundtrip_next_revision() == "b"
    assert alembic_runner.migrate_up_to("head") == "c"
    assert alembic_runner.migrate_up_one() is None
    assert alembic_runner.migrate_down_before("a") == "b"
    assert alembic_runner.current == "b"
    assert alembic_runner.migrate_down_to("base") == "base"
    assert alembic_runner.current == "base"
    with pytest.raises(ValueError, match="nowhere is not a valid revision"):
        alembic_runner.migrate_down_to("nowhere")

def test_rows(alembic_runner, alembic_engine):
    alembic_runner.migrate_up_to("a")
    alembic_runner.insert_into("a", {"id": 1})
    alembic_runner.insert_into("a", [{"id": 2}, {"id": 3}])
    alembic_runner.insert_into(None, [{"__tablename__": "public.a", "id": 4}])
    table = alembic_runner.table_at_revision("a")
    with alembic_engine.connect() as connection:
        assert sorted(connection.execute(table.select())) == [(1,), (2,), (3,), (4,), (10,)]
    alembic_runner.migrate_up_to("b")
    assert "extra" in alembic_runner.table_at_revision("a").c
    assert "extra" not in alembic_runner.table_at_revision("a", revision="a").c
    with alembic_engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM a").scalar() == 6

def test_commands(alembic_runner):
    assert [line.split(",")[0] for line in alembic_runner.raw_command("history")] == [
        "b -> c (head)", "a -> b", "<base> -> a"]
    with pytest.raises(RuntimeError, match="Can't locate revision"):
        alembic_runner.raw_command("upgrade", "nowhere")
    seen = []
    alembic_runner.migrate_up_to("heads")
    alembic_runner.generate_revision(message="x", autogenerate=True,
        process_revision_directives=lambda context, revision, directives: seen.append(directives[0]))
    assert not seen[0].upgrade_ops.is_empty()
    assert len(alembic_runner.refresh_history().revisions) == 5

def test_another_configuration(other, alembic_engine):
    other.migrate_up_to("heads")
    with alembic_engine.connect() as connection:
        assert connection.exec_driver_sql("TABLE a").keys() == ["id"]
"""
CONFTEST = """
import pytest
import sqlalchemy

@pytest.fixture
def alembic_config():
    return {
        "before_revision_data": {"b": [{"__tablename__": "a", "id": 20}]},
        "at_revision_data": {"a": {"__tablename__": "a", "id": 10}},
        "target_metadata": sqlalchemy.MetaData(),
    }
"""


def history(suite: Suite) -> None:
    suite.write("env.py", ENV)
    suite.write("conftest.py", CONFTEST)
    suite.revision("a", "op.create_table('a', sa.Column('id', sa.Integer))")
    suite.revision(
        "b", "op.add_column('a', sa.Column('extra', sa.Integer))", "op.drop_column('a', 'extra')"
    )
    suite.revision("c")
    suite.write("script.py.mako", "")


def test_what_tests_of_pytest_alembic_call(suite: Suite) -> None:
    history(suite)
    suite.write("test_it.py", TESTS)
    suite.passes().says("4 passed")
    assert suite.databases("c") == []


def test_an_engine_of_ones_own_of_any_database(suite: Suite) -> None:
    history(suite)
    sqlite = "@pytest.fixture\ndef alembic_engine(tmp_path):\n    return sqlalchemy.create_engine(f'sqlite:///{tmp_path}/x')\n"
    suite.write("conftest.py", CONFTEST + sqlite)
    suite.write("test_it.py", TESTS[: TESTS.index("def test_rows")])
    suite.passes(TEST_DATABASE_URL="").says("1 passed")


def test_where_pytest_alembic_is_loaded_its_names_are_its_own(suite: Suite) -> None:
    suite.revisions("a")
    suite.write("pytest_alembic/__init__.py", "")
    suite.write(
        "pytest_alembic/plugin.py",
        "import pytest\n\n@pytest.fixture\ndef alembic_runner():\n    return 'theirs'\n",
    )
    suite.write(
        "test_it.py", "def test_it(alembic_runner):\n    assert alembic_runner == 'theirs'\n"
    )
    path = f"{suite.folder}:{suite.variables['PYTHONPATH']}"
    process = suite.start("-p", "pytest_alembic.plugin", PYTHONPATH=path)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    assert "pytest-alembic is installed" in output


@pytest.mark.skipif(
    find_spec("pytest_alembic") is None or pytest.version_tuple >= (9,),
    reason="pytest-alembic is not installed, or does not load under this pytest",
)
def test_beside_the_real_pytest_alembic_its_fixtures_and_tests_are_its_own(suite: Suite) -> None:
    history(suite)
    suite.write(
        "tests/conftest.py",
        CONFTEST + "@pytest.fixture\ndef alembic_engine(empty_db):\n    return empty_db.engine\n",
    )
    suite.write(
        "tests/test_it.py",
        """
def test_theirs(alembic_runner, migrated_db):
    assert type(alembic_runner).__module__.startswith("pytest_alembic")
    alembic_runner.migrate_up_to("c")
    assert migrated_db.execute("TABLE alembic_version") == [("c",)]
""",
    )
    process = suite.start("--test-alembic", "-k", "theirs or single_head or upgrade", plugins=())
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    assert "3 passed" in output, output
    assert "pytest-alembic is installed" in output
