"""Python runs ahead of the server through plain migrations, and nobody can tell: each test would fail without its rule."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from lab import Lab

from migrate_ext import _core, counters

DRIVERS = ("psycopg", "psycopg2")


@pytest.fixture(params=DRIVERS)
def lab(request: pytest.FixtureRequest, tmp_path: Path, database_url: str) -> Lab:
    return Lab(tmp_path / "lab", database_url.replace("://", f"+{request.param}://"))


def create(n: int) -> str:
    return f"op.create_table('t{n}', sa.Column('id', sa.Integer, primary_key=True))"


def test_a_hundred_migrations_are_a_handful_of_waits(lab: Lab) -> None:
    lab.write([create(n) for n in range(100)])
    before = _core.counters()["waits"] + counters.plain_waits
    statements = _core.counters()["statements"]
    outcome = lab.run(True)
    assert outcome.raised == []
    assert _core.counters()["statements"] - statements >= 198
    assert _core.counters()["waits"] + counters.plain_waits - before <= 12
    assert outcome.visible() == lab.run(False).visible()


def test_when_the_second_of_three_fails_the_third_writes_no_file(lab: Lab) -> None:
    lab.write([create(1), "op.execute('SELECT 1/0')", "see('third')"])
    outcome = lab.agree()
    assert outcome.seen == []
    assert "division by zero" in str(outcome.error)
    assert outcome.database == []
    assert [line for line in outcome.log if line.startswith("Running")] == [
        "Running upgrade  -> r0001",
        "Running upgrade r0001 -> r0002",
    ]


@pytest.mark.parametrize("batch", [False, True])
def test_long_messages_are_told_in_full(lab: Lab, batch: bool) -> None:
    long = "x" * 3000
    lab.write([create(1), f"op.execute(\"DO $$ BEGIN RAISE EXCEPTION '{long}'; END $$\")"])
    assert long in str(lab.agree().error)


FAILURES = {
    "syntax": "SELECT 'é' FROM FROM",
    "missing table": "INSERT INTO nosuch VALUES (1)",
    "unique": "INSERT INTO t0 (id) VALUES (1), (1)",
    "check in a function": "DO $$ BEGIN PERFORM 1/0; END $$",
    "division": "SELECT 1 / 0",
    "custom state": "DO $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = 'MY001', HINT = 'h', DETAIL = 'd'; END $$",
    "raised": "DO $$ BEGIN RAISE EXCEPTION 'no'; END $$",
    "column": "ALTER TABLE t0 ADD COLUMN id int",
    "timed out": "SELECT pg_sleep(20)",
    "cut": "SELECT pg_terminate_backend(pg_backend_pid())",
    "cancelled": "SELECT pg_cancel_backend(pg_backend_pid()), pg_sleep(1)",
}


@pytest.mark.parametrize("kind", FAILURES)
def test_an_error_is_the_one_that_alembic_gives(lab: Lab, kind: str) -> None:
    lab.write([create(0), f"{create(1)}\nop.execute({FAILURES[kind]!r})\n{create(2)}", create(3)])
    if kind == "timed out":
        lab.engine_options = {"connect_args": {"options": "-c statement_timeout=1500"}}
    if kind == "cut" and "psycopg2" in lab.url:
        # psycopg2 forgets what the server said and tells what libpq found: docs/differences.md.
        outcome, theirs = lab.run(True), lab.run(False)
        assert [step[0] for step in theirs.raised][0] == outcome.raised[0][0]
        assert outcome.raised[1][2] == "57P01" and outcome.raised[0][-1] is True
        assert (outcome.log, outcome.database) == (theirs.log, theirs.database)
    else:
        outcome = lab.agree()
    file = lab.folder / "versions" / "r0002.py"
    lines = file.read_text().splitlines()
    line = next(n for n, text in enumerate(lines, 1) if "op.execute" in text)
    step = f"upgrade of revision r0002 ({file}, line {line}"
    step += {
        "syntax": ", character 17 of the statement)",
        "missing table": ", character 13 of the statement)",
    }.get(kind, ")")
    assert outcome.error.__dict__["migration_step"] == step
    if sys.version_info >= (3, 11):
        assert outcome.error.__notes__ == [f"[migrate_ext: in {step}]"]


def test_a_deferred_constraint_fails_at_commit_as_it_does_under_alembic(lab: Lab) -> None:
    table = "op.execute('CREATE TABLE t (i int UNIQUE DEFERRABLE INITIALLY DEFERRED)')"
    lab.write([table, "op.execute('INSERT INTO t VALUES (1), (1)')", create(1)])
    outcome = lab.agree()
    assert "duplicate key" in str(outcome.error)
    assert len(outcome.log) > 5 and outcome.database == []


@pytest.mark.parametrize("rows", [0, 2])
def test_a_version_row_that_is_missing_or_doubled_is_found_before_commit(
    lab: Lab, rows: int
) -> None:
    change = "DELETE FROM alembic_version"
    if rows == 2:
        change = "CREATE RULE two AS ON UPDATE TO alembic_version DO ALSO NOTHING"
        change = "ALTER TABLE alembic_version DROP CONSTRAINT alembic_version_pkc"
    body = f"op.execute({change!r})"
    if rows == 2:
        body += "\nop.execute(\"INSERT INTO alembic_version VALUES ('r0001')\")"
    lab.write([create(1), body, create(2)])
    outcome = lab.agree()
    assert str(outcome.error).endswith(f"'r0001' to 'r0002' in 'alembic_version'; {rows} found")
    assert outcome.database == []


def test_python_that_raises_comes_after_the_server(lab: Lab) -> None:
    lab.write([create(1), "op.execute('SELECT 1/0')\nint('x')", create(2)])
    assert "division by zero" in str(lab.agree().error)
    lab.write([create(1), "op.execute('SELECT 1')\nint('x')", create(2)])
    outcome = lab.agree()
    assert isinstance(outcome.error, ValueError)


def test_warnings_come_between_the_log_lines_where_alembic_prints_them(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    import logging
    import warnings

    def show(message: object, *_: object, **__: object) -> None:
        logging.getLogger("alembic.runtime.migration").info("warning: %s", message)

    warning = "op.alter_column('t0', 'id', autoincrement=True)"
    lab.write([create(0), create(1), f"{create(2)}\n{warning}\n{create(3)}", create(4)])
    outcomes = []
    for batched in False, True:
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            monkeypatch.setattr(warnings, "showwarning", show)
            outcomes.append(lab.run(batched))
    assert [line for line in outcomes[0].log if line.startswith("warning: autoinc")]
    assert outcomes[0].visible() == outcomes[1].visible()
