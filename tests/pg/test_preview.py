"""``upgrade --plan`` shows what would run, and which locks it takes, and changes nothing."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy
from sample_project import SampleProject

from migrate_ext.rendering import preview

BODIES = {
    "a": 'op.create_table("t", sa.Column("id", sa.Integer, primary_key=True), sa.Column("a", sa.Text, index=True))\n'
    'op.execute("INSERT INTO t VALUES (1, \'50%; --\')")  # c',
    "b": 'with op.get_context().autocommit_block():\n'
    '    op.create_index("i", "t", ["a"], postgresql_concurrently=True)\nop.execute("COMMENT ON TABLE t IS \'x\' -- c")',
    "c": 'op.execute("""CREATE FUNCTION f() RETURNS int LANGUAGE plpgsql AS $$BEGIN RETURN 1; END$$;""")',
}  # fmt: skip


def test_executing_what_it_shows_leads_to_the_same(
    tmp_path: Path, make_database: Callable[[], str], pg_dump: Callable[..., str]
) -> None:
    shown, done = (SampleProject(tmp_path / name, make_database(), "thin") for name in ("a", "b"))
    for project in (shown, done):
        project.only(**BODIES)
        project.edit("env.py", "compare_type=True", "transaction_per_migration=True")
    before = pg_dump(shown.url)
    script = shown.run("upgrade", "head", "--plan").stdout
    assert pg_dump(shown.url) == before
    assert script.endswith("-- 3 migrations\n")
    assert re.findall("Running upgrade (.*)", script) == [" -> a, a", "a -> b, b", "b -> c, c"]
    with shown.connect() as connection:
        for statement in re.split(
            r";\n(?=$|[-A-Z\n])", re.sub(r"^-- .*\n", "", script, flags=re.M)
        ):
            if statement.strip():
                connection.execute(statement.encode())
    assert done.run("upgrade", "head").code == 0
    assert pg_dump(shown.url) == pg_dump(done.url)
    assert pg_dump(shown.url, "--data-only") == pg_dump(done.url, "--data-only")
    assert shown.run("upgrade", "head", "--plan").stdout == "-- 0 migrations\n"
    assert "downgrade c -> b" in shown.run("downgrade", "-1", "--plan").stdout


def test_a_preview_marks_what_is_not_known_before_the_run_and_ends_in_rollback(
    tmp_path: Path, database_url: str
) -> None:
    project = SampleProject(tmp_path / "project", database_url, "thin")
    project.only(a="op.get_bind().execute(sa.text('SELECT 1')).scalar()")
    script = project.run("upgrade", "head", "--plan").stdout
    assert re.search(r"-- NOT KNOWN before it runs: line \d+: ", script)
    assert script.endswith("ROLLBACK;\n-- 1 migrations, 1 of them not known\n")


def test_a_preview_is_for_the_databases_own_server_and_warns_as_the_run_does(
    tmp_path: Path, database_url: str
) -> None:
    project = SampleProject(tmp_path / "project", database_url, "thin")
    computed = "sa.Column('c', sa.Integer, sa.Computed('1'))"
    project.only(
        a=f"op.create_table('t', {computed})\nop.alter_column('t', 'c', autoincrement=True)"
    )
    shown = project.run("upgrade", "head", "--plan")
    if shown.code and sqlalchemy.__version__.startswith("2.0."):
        return  # it renders no such column
    done = project.run("upgrade", "head")
    warned = [re.findall(r"^.*Warning: .*$", one.stderr, re.M) for one in (shown, done)]
    assert warned[0] == warned[1]
    assert any("autoincrement" in line for line in warned[0])
    with project.connect() as connection:
        connection.execute("DROP TABLE t, alembic_version")
        connection.execute(re.sub(r"^-- .*\n", "", shown.stdout, flags=re.M).encode())


def test_a_classic_env_py_is_told_that_this_needs_a_thin_one(
    tmp_path: Path, database_url: str
) -> None:
    project = SampleProject(tmp_path / "project", database_url, "classic")
    project.run("upgrade", "head", "--plan").failed(255, "env.py is not a thin one")


STATEMENTS = [
    "CREATE TABLE n (a int PRIMARY KEY, u int REFERENCES u (id))",
    "ALTER TABLE t ADD COLUMN x int",
    "ALTER TABLE t ADD CONSTRAINT fk FOREIGN KEY (a) REFERENCES u (id) NOT VALID",
    "ALTER TABLE t VALIDATE CONSTRAINT c",
    "ALTER TABLE t ALTER COLUMN a SET STATISTICS 50",
    "ALTER TABLE t ALTER COLUMN a TYPE bigint",
    "ALTER TABLE t DISABLE TRIGGER ALL",
    "CREATE INDEX j ON t (a)",
    "CREATE UNIQUE INDEX j ON t (a)",
    "DROP TABLE t",
    "TRUNCATE t",
    "CREATE TRIGGER x BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()",
    "CREATE POLICY p ON t",
    "COMMENT ON TABLE t IS 'x'",
    "COMMENT ON COLUMN t.a IS 'x'",
    "INSERT INTO t VALUES (2)",
    "UPDATE t SET a = 3",
    "DELETE FROM t",
    "LOCK TABLE t IN EXCLUSIVE MODE",
    "CREATE TYPE e AS ENUM ('x')",
    "SET LOCAL statement_timeout = 0",
    "SELECT 1",
]


@pytest.mark.parametrize("statement", STATEMENTS)
def test_the_locks_are_those_that_the_server_takes(
    tmp_path: Path, database_url: str, statement: str
) -> None:
    project = SampleProject(tmp_path / "project", database_url, "thin")
    with project.connect() as connection:
        connection.execute("CREATE TABLE u (id int PRIMARY KEY); CREATE TABLE t (a int)")
        connection.execute("ALTER TABLE t ADD CONSTRAINT c CHECK (a > 0) NOT VALID")
        connection.execute("BEGIN")
        connection.execute(statement.encode())
        taken = connection.execute(
            "SELECT mode, relation::regclass::text FROM pg_locks JOIN pg_class ON pg_class.oid = relation "
            "WHERE pid = pg_backend_pid() AND relkind = 'r' AND relnamespace = 'public'::regnamespace"
        ).fetchall()
        if statement == "DROP TABLE t":  # its name is gone
            taken = [("AccessExclusiveLock", "t")]
        connection.execute("ROLLBACK")
    expected = preview.locks(statement)
    assert expected is not None
    strongest = "AccessShare RowShare RowExclusive ShareUpdateExclusive Share ShareRowExclusive Exclusive AccessExclusive"
    order = [f"{name}Lock" for name in strongest.split()]
    found: dict[str, str] = {}
    for mode, table in taken:
        assert isinstance(mode, str) and isinstance(table, str)
        found[table] = max(found.get(table, order[0]), mode, key=order.index)
    ours = {
        table: "".join(word.capitalize() for word in mode.split()) + "Lock"
        for mode, table in expected
    }
    assert ours == found
