"""Unusual histories that the built-in tests judge rightly: several runs in one env.py, privileges, missing commits, roles."""

from __future__ import annotations

import re
import secrets

from suite import Suite
from test_checks import verdicts

TENANTS = """
import os
import sqlalchemy as sa
from alembic import context

engine = sa.create_engine(os.environ["DATABASE_URL"])
with engine.connect() as connection:
    for schema in "one", "two":
        connection.execute(sa.text(f"CREATE SCHEMA IF NOT EXISTS {schema}"))
        connection.execute(sa.text(f"SET search_path TO {schema}"))
        connection.commit()
        connection.dialect.default_schema_name = schema
        context.configure(connection=connection)
        with context.begin_transaction():
            context.run_migrations()
"""
UNCOMMITTED = """
import os
import sqlalchemy as sa
from alembic import context

engine = sa.create_engine(os.environ["DATABASE_URL"])
with engine.connect() as connection:
    connection.execute(sa.text("SELECT 1"))
    context.configure(connection=connection)
    with context.begin_transaction():
        context.run_migrations()
"""
USES = """
import pytest

@pytest.mark.parametrize("n", range(20))
def test_uses(migrated_db, n):
    assert migrated_db.execute("SELECT 1")
"""


def test_an_env_py_with_several_runs_is_tried_and_does_not_hang(suite: Suite) -> None:
    suite.write("env.py", TENANTS)
    for id_ in "abc":
        suite.revision(id_)
    suite.revision("d", "op.create_table('d')", "pass")
    found = verdicts(suite.run("--migrations", "-v", "-k", "revision"))
    assert found == {
        **{f"revision[{id_}]": "PASSED" for id_ in "abc"},
        "revision[d]": "FAILED",
    }


def test_a_grant_that_is_taken_back_is_no_difference(suite: Suite) -> None:
    suite.revision("a")
    suite.revision(
        "b",
        "op.execute('GRANT SELECT, INSERT ON a TO PUBLIC'); "
        "op.execute('GRANT SELECT (id) ON a TO PUBLIC'); "
        "op.execute('GRANT CREATE ON SCHEMA public TO PUBLIC')",
        "op.execute('REVOKE SELECT, INSERT ON a FROM PUBLIC'); "
        "op.execute('REVOKE SELECT (id) ON a FROM PUBLIC'); "
        "op.execute('REVOKE CREATE ON SCHEMA public FROM PUBLIC')",
    )
    suite.revision(
        "c",
        "op.execute('CREATE FUNCTION f() RETURNS int LANGUAGE sql AS $$ SELECT 1 $$'); "
        "op.execute('CREATE SEQUENCE s'); op.execute('CREATE TYPE e AS ENUM ()')",
        "op.execute('DROP FUNCTION f'); op.execute('DROP SEQUENCE s'); op.execute('DROP TYPE e')",
    )
    suite.revision(
        "d",
        "op.execute('REVOKE EXECUTE ON FUNCTION f FROM PUBLIC'); "
        "op.execute('GRANT USAGE ON SEQUENCE s TO PUBLIC'); "
        "op.execute('REVOKE USAGE ON TYPE e FROM PUBLIC')",
        "op.execute('GRANT EXECUTE ON FUNCTION f TO PUBLIC'); "
        "op.execute('REVOKE USAGE ON SEQUENCE s FROM PUBLIC'); "
        "op.execute('GRANT USAGE ON TYPE e TO PUBLIC')",
    )
    suite.revision("e", "op.execute('GRANT DELETE ON a TO PUBLIC')", "pass")
    found = verdicts(suite.run("--migrations", "-v", "-k", "revision"))
    assert found == {
        **{f"revision[{id_}]": "PASSED" for id_ in "abcd"},
        "revision[e]": "FAILED",
    }


def test_what_env_py_leaves_uncommitted_is_no_template(suite: Suite) -> None:
    suite.write("env.py", UNCOMMITTED)
    suite.revision("a")
    suite.write("test_it.py", USES)
    for _ in range(2):  # it is not kept, either
        outcome = suite.run("test_it.py")
        assert "'upgrade heads' ended without an error, and a is not committed" in outcome.output
        assert "Call connection.commit() after context.run_migrations()" in outcome.output
        assert "20 errors" in outcome.output


def test_a_revision_that_commits_by_itself_fails(suite: Suite) -> None:
    suite.revision("a")
    suite.revision("b", "op.create_table('b'); op.get_bind().commit()", "op.drop_table('b')")
    suite.revision("c")
    outcome = suite.run("--migrations", "-v", "-k", "revision")
    found = verdicts(outcome)
    assert found["revision[a]"] == "PASSED"
    assert found["revision[b]"] == "FAILED"
    assert "its version row is not" in outcome.output


def test_one_broken_migration_is_told_once(suite: Suite) -> None:
    suite.revision("a", "op.execute('SELECT 1 / 0')")
    suite.write("test_it.py", USES)
    output = suite.run("test_it.py", "-rN").output  # without the summary
    assert output.count("[SQL: SELECT 1 / 0]") == 1
    assert output.count("'upgrade heads' fails, as it has before in this run") >= 19
    assert len(output.splitlines()) < 120


def test_a_role_that_is_there_already_is_explained(suite: Suite) -> None:
    role = f"role_{secrets.token_hex(6)}"
    suite.revision("a", f"op.execute('CREATE ROLE {role}')", f"op.execute('DROP ROLE {role}')")
    suite.write("test_it.py", USES)
    try:
        assert "20 passed" in suite.run("test_it.py").output
        path = suite.folder / "versions" / "a.py"
        path.write_text(path.read_text() + "\n# changed\n")
        output = suite.run("test_it.py").output
        assert "Roles belong to the whole server" in output
        assert re.search(r"docs/testing\.md, 'Roles'", output)
    finally:
        with suite.connect() as connection:
            connection.execute(f"DROP ROLE IF EXISTS {role}")
