"""Python renders plain migrations ahead of the server, and nothing visible differs: each test fails without its rule."""

from __future__ import annotations

import gc
import logging
import re
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy
from alembic import op
from alembic.ddl.impl import DefaultImpl
from alembic.operations import Operations
from alembic.operations.ops import ExecuteSQLOp
from in_process_project import InProcessProject
from sqlalchemy import event

from migrate_ext import _core, counters
from migrate_ext.locking import lock

DRIVERS = ("psycopg", "psycopg2")


@pytest.fixture(params=DRIVERS)
def project(request: pytest.FixtureRequest, tmp_path: Path, database_url: str) -> InProcessProject:
    return InProcessProject(
        tmp_path / "project", database_url.replace("://", f"+{request.param}://")
    )


def create(n: int) -> str:
    return f"op.create_table('t{n}', sa.Column('id', sa.Integer, primary_key=True))"


def test_a_hundred_migrations_are_a_handful_of_waits(project: InProcessProject) -> None:
    project.write([create(n) for n in range(100)])
    before = _core.counters()["waits"] + counters.plain_waits
    statements = _core.counters()["statements"]
    outcome = project.run(True)
    assert outcome.raised == []
    assert _core.counters()["statements"] - statements >= 198
    assert _core.counters()["waits"] + counters.plain_waits - before <= 12
    assert outcome.visible() == project.run(False).visible()


def test_garbage_is_collected_rarely_in_a_run_and_as_before_after_it(
    project: InProcessProject,
) -> None:
    project.write(
        [create(0), "import gc\nsee(gc.get_threshold()[0] > 700)", "op.execute('SELECT 1/0')"]
    )
    before = gc.get_threshold()
    assert project.run(True).seen == [str(before[0] > 0)]
    assert gc.get_threshold() == before
    gc.set_threshold(123_456, 7, 8)  # a project that knows better
    try:
        project.write([create(0), "import gc\nsee(gc.get_threshold()[:2])"])
        assert project.run(True).seen == ["(123456, 7)"]
    finally:
        gc.set_threshold(*before)


def test_when_the_second_of_three_fails_the_third_writes_no_file(project: InProcessProject) -> None:
    project.write([create(1), "op.execute('SELECT 1/0')", "see('third')"])
    outcome = project.agree()
    assert outcome.seen == []
    assert "division by zero" in str(outcome.error)
    assert outcome.database == []
    assert [line for line in outcome.log if line.startswith("Running")] == [
        "Running upgrade  -> r0001",
        "Running upgrade r0001 -> r0002",
    ]


@pytest.mark.parametrize("batch", [False, True])
def test_long_messages_are_told_in_full(project: InProcessProject, batch: bool) -> None:
    long = "x" * 3000
    project.write([create(1), f"op.execute(\"DO $$ BEGIN RAISE EXCEPTION '{long}'; END $$\")"])
    assert long in str(project.agree().error)


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
def test_an_error_is_the_one_that_alembic_gives(project: InProcessProject, kind: str) -> None:
    project.write(
        [create(0), f"{create(1)}\nop.execute({FAILURES[kind]!r})\n{create(2)}", create(3)]
    )
    if kind == "timed out":
        project.engine_options = {"connect_args": {"options": "-c statement_timeout=1500"}}
    if kind == "cut" and "psycopg2" in project.url:
        # psycopg2 forgets what the server said and tells what libpq found: docs/differences.md.
        outcome, theirs = project.run(True), project.run(False)
        assert [step[0] for step in theirs.raised][0] == outcome.raised[0][0]
        assert outcome.raised[1][2] == "57P01" and outcome.raised[0][-1] is True
        assert "server closed the connection unexpectedly" in str(theirs.error)
        assert theirs.raised[1][2] is None and "server closed" not in str(outcome.error)
        assert (outcome.log, outcome.database) == (theirs.log, theirs.database)
    else:
        outcome = project.agree()
    file = project.folder / "versions" / "r0002.py"
    lines = file.read_text().splitlines()
    line = next(n for n, text in enumerate(lines, 1) if "op.execute" in text)
    step = f"upgrade of revision r0002 ({file}, line {line}"
    step += {
        "syntax": ", character 17 of the statement)",
        "missing table": ", character 13 of the statement)",
        "cut": "); the last one confirmed is r0001",
    }.get(kind, ")")
    assert outcome.error.__dict__["migration_step"] == step
    if sys.version_info >= (3, 11):
        assert outcome.error.__notes__ == [f"[migrate_ext: in {step}]"]


def test_a_deferred_constraint_fails_at_commit_as_it_does_under_alembic(
    project: InProcessProject,
) -> None:
    table = "op.execute('CREATE TABLE t (i int UNIQUE DEFERRABLE INITIALLY DEFERRED)')"
    project.write([table, "op.execute('INSERT INTO t VALUES (1), (1)')", create(1)])
    outcome = project.agree()
    assert "duplicate key" in str(outcome.error)
    assert len(outcome.log) > 5 and outcome.database == []


@pytest.mark.parametrize("rows", [0, 2])
def test_a_version_row_that_is_missing_or_doubled_is_found_before_commit(
    project: InProcessProject, rows: int
) -> None:
    change = "DELETE FROM alembic_version"
    if rows == 2:
        change = "CREATE RULE two AS ON UPDATE TO alembic_version DO ALSO NOTHING"
        change = "ALTER TABLE alembic_version DROP CONSTRAINT alembic_version_pkc"
    body = f"op.execute({change!r})"
    if rows == 2:
        body += "\nop.execute(\"INSERT INTO alembic_version VALUES ('r0001')\")"
    project.write([create(1), body, create(2)])
    outcome = project.agree()
    assert str(outcome.error).endswith(f"'r0001' to 'r0002' in 'alembic_version'; {rows} found")
    assert outcome.database == []


def test_an_error_of_the_server_is_reported_before_a_later_one_of_python(
    project: InProcessProject,
) -> None:
    project.write([create(1), "op.execute('SELECT 1/0')\nint('x')", create(2)])
    assert "division by zero" in str(project.agree().error)
    project.write([create(1), "op.execute('SELECT 1')\nint('x')", create(2)])
    outcome = project.agree()
    assert isinstance(outcome.error, ValueError)


def test_warnings_come_between_the_log_lines_where_alembic_prints_them(
    project: InProcessProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    import logging
    import warnings

    def show(message: object, *_: object, **__: object) -> None:
        logging.getLogger("alembic.runtime.migration").info("warning: %s", message)

    warning = "op.alter_column('t0', 'id', autoincrement=True)"
    project.write([create(0), create(1), f"{create(2)}\n{warning}\n{create(3)}", create(4)])
    outcomes = []
    for batched in False, True:
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            monkeypatch.setattr(warnings, "showwarning", show)
            outcomes.append(project.run(batched))
    assert [line for line in outcomes[0].log if line.startswith("warning: autoinc")]
    assert outcomes[0].visible() == outcomes[1].visible()


COMPUTED = "sa.Column('c{n}', sa.Integer, sa.Computed('1'))"
WARNS = [
    f"op.create_table('t', sa.Column('id', sa.Integer), {COMPUTED.format(n=1)})",
    f"op.add_column('t', {COMPUTED.format(n=2)})\nop.add_column('t', {COMPUTED.format(n=3)})",
    # one that is waited for, one that has a mark, one of the driver's, and a batch's
    f"op.get_bind().execute(sa.text('SELECT 1')).all()\nop.add_column('t', {COMPUTED.format(n=4)})\n"
    f"try:\n    op.add_column('t', {COMPUTED.format(n=5)})\nfinally:\n    pass\n"
    f"with op.batch_alter_table('t') as batch:\n    batch.add_column({COMPUTED.format(n=6)})\n"
    f"sa.Table('u', sa.MetaData(), {COMPUTED.format(n=7)}).create(op.get_bind())",
    f"op.get_bind().execute(sa.schema.CreateTable(sa.Table('v', sa.MetaData(), {COMPUTED.format(n=8)})))",
    # rendered, and then left to the driver, because of the letter in this encoding
    "op.create_table('w', sa.Column('\u00e9', sa.Integer), " + COMPUTED.format(n=9) + ")",
    "op.alter_column('t', 'id', autoincrement=True)",
]


@pytest.mark.parametrize("each", [False, True])
@pytest.mark.parametrize("only", ["", "r0002_py$", r"contextlib$", "migrate_ext", "sqlalchemy"])
def test_warnings_of_rendering_have_alembics_place_and_number(
    project: InProcessProject, monkeypatch: pytest.MonkeyPatch, only: str, each: bool
) -> None:
    import warnings

    told: list[tuple[object, ...]] = []
    monkeypatch.setattr(
        warnings,
        "showwarning",
        lambda message, kind, path, line, *_: told.append((str(message), kind, path, line)),
    )
    project.connected = lambda connection: setattr(
        connection.dialect, "supports_virtual_generated_columns", False
    )
    project.configure = {"transaction_per_migration": each}
    project.engine_options = {"connect_args": {"client_encoding": "LATIN1"}}
    project.write(WARNS)
    found = []
    for batched in False, True:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore" if only else "always")
            if only:
                warnings.filterwarnings("always", module=only)
            assert project.run(batched).raised == []
        found.append(told[:])
        told.clear()
    if sqlalchemy.__version__.startswith("2.0."):
        assert len(found[0]) == (not only)  # it warns of none of these but the last
    elif not only:
        assert len(found[0]) == 10
    assert found[0] == found[1]


def waits() -> int:
    return _core.counters()["waits"] + counters.plain_waits


def reasons(run: Callable[[], object]) -> dict[str, int]:
    """Why the plain path was taken during `run`, and how often."""
    before = dict(counters.plain_reasons)
    run()
    found = {k: v - before.get(k, 0) for k, v in counters.plain_reasons.items()}
    return {k: v for k, v in found.items() if v}


@pytest.mark.parametrize("locked", [True, False])
def test_one_transaction_per_migration_waits_twice_or_four_times(
    project: InProcessProject, locked: bool
) -> None:
    """The lock's questions ride with the statements."""
    project.locked = locked
    project.configure = {"transaction_per_migration": True}
    project.write([create(2 * n) + "\n" + create(2 * n + 1) for n in range(30)])
    before = waits()
    assert project.run(True).raised == []
    most = 4 if "psycopg2" in project.url else 2
    assert waits() - before <= most * 30 + 12


@pytest.mark.parametrize("is_taken", [False, True])
def test_a_lock_that_was_lost_between_two_transactions_stops_the_run_if_another_has_it(
    project: InProcessProject, is_taken: bool
) -> None:
    taken = _core.lock_sql_try("alembic_version", None, True)
    with psycopg.connect(project.bare, autocommit=True) as other:

        def unlock(connection: sqlalchemy.Connection) -> None:
            with connection.connection.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_unlock_all()")

        def take(connection: sqlalchemy.Connection) -> None:
            if is_taken:
                other.execute(taken)

        def listen(connection: sqlalchemy.Connection) -> None:
            event.listen(connection, "commit", unlock)
            event.listen(connection, "begin", take)

        project.connected = listen
        project.configure = {"transaction_per_migration": True}
        project.write([create(0), create(1)])
        outcome = project.run(True)
    assert str(outcome.error) == (lock.LOST if is_taken else "None")
    version = [row for row in outcome.database if "alembic_version" in row][-1][-1]
    assert version == ("(r0001)" if is_taken else "(r0002)")


@pytest.mark.parametrize("apart", [False, True])
def test_a_migration_is_announced_before_the_server_runs_it(
    project: InProcessProject, apart: bool
) -> None:
    """It waits for a lock that is let go of when it is announced; else it ends by its timeout."""
    project.configure = {"transaction_per_migration": apart}
    project.engine_options = {"connect_args": {"options": "-c statement_timeout=10000"}}
    project.write([create(0), "op.execute('SELECT pg_advisory_lock(4711)')"])
    logger = logging.getLogger("alembic.runtime.migration")
    with psycopg.connect(project.bare, autocommit=True) as other:
        other.execute("SELECT pg_advisory_lock(4711)")

        def announced(record: logging.LogRecord) -> bool:
            if record.getMessage() == "Running upgrade r0001 -> r0002":
                other.execute("SELECT pg_advisory_unlock(4711)")
            return True

        logger.addFilter(announced)
        try:
            assert project.run(True).raised == []
        finally:
            logger.removeFilter(announced)


def test_a_log_handler_that_raises_ends_the_run(project: InProcessProject) -> None:
    class Bad(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.getMessage() == "Running upgrade r0002 -> r0003":
                raise OSError("disk full")

    project.write([create(n) for n in range(9)])
    logger, bad = logging.getLogger("alembic.runtime.migration"), Bad()
    logger.addHandler(bad)
    try:
        outcome = project.agree()
    finally:
        logger.removeHandler(bad)
    assert str(outcome.error) == "disk full" and outcome.database == []


@pytest.mark.parametrize("level", ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"])
@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("begun", [False, True])
def test_what_a_failed_run_did_is_gone_and_what_a_good_one_did_stays(
    project: InProcessProject, level: str, apart: bool, begun: bool
) -> None:
    project.engine_options = {"isolation_level": level}
    project.configure = {"transaction_per_migration": apart}
    if begun:  # SQLAlchemy has begun a transaction before Alembic looks
        project.connected = lambda connection: connection.exec_driver_sql("SELECT 1")
    see_level = "op.execute(\"CREATE TABLE l AS SELECT current_setting('transaction_isolation')\")"
    project.write([create(0), see_level, create(1)])
    outcome = project.agree()
    assert (outcome.database != []) != begun  # Alembic does not commit what others began
    project.write([create(0), create(1), f"{create(2)}\nop.execute('SELECT 1/0')"])
    project.agree()


def test_autocommit_is_left_to_the_driver(project: InProcessProject) -> None:
    project.engine_options = {"isolation_level": "AUTOCOMMIT"}
    project.write([create(0), f"{create(1)}\nop.execute('SELECT 1/0')", create(2)])
    before = _core.counters()["statements"]
    assert len(project.agree().database) > 2
    assert _core.counters()["statements"] == before


def test_a_commit_in_sql_commits_what_is_before_it_and_nothing_else(
    project: InProcessProject,
) -> None:
    """Nothing of a batch is before or behind it that was not there; psycopg2 sends no BEGIN then."""
    own = "op.execute('COMMIT')"
    index = "\nop.execute('CREATE INDEX CONCURRENTLY ON t0 (id)')"
    alone = own + (index if "psycopg2" in project.url else "")
    fails = "op.execute('SELECT 1/0')"
    for apart in False, True:
        project.configure = {"transaction_per_migration": apart}
        project.write(
            [f"{create(0)}\n{alone}\n{create(1)}", create(2), f"{create(3)}\n{own}", create(4)]
        )
        assert project.agree().raised == []
        project.write([create(0), f"{create(1)}\n{own}\n{create(2)}", f"{create(3)}\n{fails}"])
        assert project.agree().database != []
        project.write([f"{create(0)}\nop.execute('ROLLBACK')\n{create(1)}", create(2)])
        project.agree()
        project.write(
            [create(0), f"{create(1)}\nop.execute('SELECT 1; END; CREATE TABLE x ()')\n{fails}"]
        )
        project.agree()


def test_the_drivers_prepared_statements_survive_an_alter_in_a_batch(
    project: InProcessProject,
) -> None:
    """psycopg prepares what it has seen five times; an ALTER changes what a prepared statement means."""
    read = "for _ in range(9):\n    see(op.get_bind().execute(sa.text('SELECT * FROM t0 WHERE id > :n'), {'n': 0}).all())"
    alter = "op.add_column('t0', sa.Column('c{n}', sa.Integer, server_default='7'))"
    drop = "op.drop_column('t0', 'c{n}')"
    bodies = [create(0), "op.execute('INSERT INTO t0 VALUES (1)')", read]
    for n in range(3):
        bodies += [alter.format(n=n), read, alter.format(n=f"x{n}"), drop.format(n=n), read]
    project.write(bodies)
    outcome = project.agree()
    assert outcome.raised == [] and len(outcome.seen) == 63


def test_a_raw_cursor_finds_what_was_sent_before_it(project: InProcessProject) -> None:
    raw = (
        "cursor = op.get_bind().connection.cursor()\n"
        "cursor.execute('SELECT count(*) FROM t0')\nsee(cursor.fetchall())"
    )
    insert = "op.execute('INSERT INTO t0 VALUES (DEFAULT)')"
    project.write([create(0), insert, raw, f"{insert}\n{insert}", raw])
    assert project.agree().seen == ["[(1,)]", "[(3,)]"]


def test_notices_reach_their_handler_in_their_order(project: InProcessProject) -> None:
    def connected(connection: Any) -> None:
        driver = connection.connection.dbapi_connection
        if hasattr(driver, "add_notice_handler"):
            driver.add_notice_handler(lambda diag: hear(f"notice {diag.message_primary}"))

    def hear(text: str) -> None:
        logging.getLogger("alembic.runtime.migration").info(text)

    project.connected = connected
    notice = "op.execute(\"DO $$ BEGIN RAISE NOTICE '{}'; END $$\")"
    read = "for line in op.get_bind().connection.dbapi_connection.{}:\n    see(line)"
    bodies = [notice.format(n) for n in range(4)]
    if "psycopg2" in project.url:
        bodies.append(read.format("notices"))
    project.write(bodies)
    outcome = project.agree()
    if "psycopg2" in project.url:
        assert outcome.seen == []  # SQLAlchemy empties the list after each statement
    else:
        heard = [line[-1] for line in outcome.log if line.startswith("notice")]
        assert heard == ["0", "1", "2", "3"]


def test_callbacks_of_a_migration_see_its_version_row_on_the_server(
    project: InProcessProject,
) -> None:
    seen: list[list[object]] = []

    def applied(ctx: Any, **_: object) -> None:
        rows = ctx.connection.exec_driver_sql("SELECT version_num FROM alembic_version")
        seen[-1].append(rows.scalar())

    project.configure = {"on_version_apply": applied}
    project.write([create(0), create(1), create(2)])
    for batched in False, True:
        seen.append([])
        project.run(batched)
    assert seen[0] == seen[1] == ["r0001", "r0002", "r0003"]


@pytest.mark.parametrize("what", ["echo", "engine", "dialect", "options", "impl", "replaced"])
def test_listeners_on_statements_see_them_one_by_one(
    project: InProcessProject, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[str]] = []

    def look(connection: Any, cursor: Any, statement: str, *_: object) -> None:
        seen[-1].append(statement)

    def connected(connection: sqlalchemy.Connection) -> None:
        if what == "engine":
            event.listen(connection.engine, "before_cursor_execute", look)
        elif what == "dialect":
            event.listen(
                connection.engine, "do_execute", lambda c, s, *_: seen[-1].append(s) or False
            )

    if what == "echo":
        project.engine_options = {"echo": True}
    elif what == "options":
        project.engine_options = {"execution_options": {"schema_translate_map": {None: "public"}}}
    elif what == "impl":

        def execute(self: Any, *args: Any, **kw: Any) -> Any:
            seen[-1].append(str(args[0]))
            return original(self, *args, **kw)

        original = DefaultImpl._exec
        monkeypatch.setattr(DefaultImpl, "_exec", execute)
    elif what == "replaced":
        registry = Operations._to_impl._registry
        before = dict(registry)

        def execute_sql(operations: Any, operation: Any) -> None:
            seen[-1].append(str(operation.sqltext))
            operations.migration_context.impl.execute(operation.sqltext)

        # implementation_for(..., replace=True), which Alembic 1.13 does not have
        registry[next(key for key in registry if key[0] is ExecuteSQLOp)] = execute_sql

    project.connected = connected
    project.write([create(0), "op.execute('SELECT 1')", create(1)])
    before_statements = _core.counters()["statements"]
    try:
        for batched in False, True:
            seen.append([])
            assert project.run(batched).raised == []
    finally:
        if what == "replaced":
            registry.clear()
            registry.update(before)
    assert seen[0] == seen[1]
    assert bool(seen[0]) == (what not in ("echo", "options"))
    sent = _core.counters()["statements"] - before_statements
    assert sent <= (3 if what in ("impl", "replaced") else 0)  # version rows


def test_what_a_bind_executes_may_wait_where_nobody_looks_at_the_result(
    project: InProcessProject,
) -> None:
    own = "bind = op.get_bind()\nbind.execute(sa.text('INSERT INTO t0 VALUES (DEFAULT)'))\n"
    given = "bind.execute(sa.text('INSERT INTO t0 VALUES (:n)').bindparams(n={n}))"
    ddl = "op.get_bind().execute(sa.schema.CreateTable(sa.Table('u{n}', sa.MetaData())))"
    project.write(
        [
            create(0),
            *[own + ddl.format(n=n) for n in range(30)],
            own + given.format(n=77),
            own + "found = bind.execute(sa.text('SELECT count(*) FROM t0'))\nsee(found.scalar())",
            own,
        ]
    )
    before = waits()
    outcome = project.run(True)
    assert outcome.raised == [] and outcome.seen == ["33"]
    assert waits() - before <= 24
    assert outcome.visible() == project.run(False).visible()
    found = reasons(lambda: project.run(True))
    assert "statement: with parameters" not in found
    assert found["migration: the name bind"] == 1  # where the result is looked at
    project.write(
        [create(0), own + "bind.execute(sa.text('INSERT INTO nosuch VALUES (1)'))", create(1)]
    )
    assert "character 13 of the statement" in project.agree().error.__dict__["migration_step"]


def test_a_patched_execute_of_the_connection_sees_what_a_bind_executes(
    project: InProcessProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    original = sqlalchemy.Connection.execute

    def execute(self: sqlalchemy.Connection, statement: Any, *args: Any, **kw: Any) -> Any:
        seen.append(str(statement))
        return original(self, statement, *args, **kw)

    monkeypatch.setattr(sqlalchemy.Connection, "execute", execute)
    project.write([create(0), "op.get_bind().execute(sa.text('SELECT 17'))"])
    assert project.run(True).raised == [] and seen.count("SELECT 17") == 1


SPY = """
def spy(*args, **kw):
    see('spy')
    return args and create_table(*args, **kw)
create_table = {create_table}
{patch}
from alembic import context
context.config.attributes['configure']['spy'] = spy
"""
SPIES = {
    "a listener for after_create on all of Table": SPY.format(
        create_table="lambda *args, **kw: None",
        patch="sa.event.listen(sa.Table, 'after_create', spy)",
    ),
    "op: create_table is replaced": SPY.format(
        create_table="op.create_table", patch="op.create_table = spy"
    ),
}


@pytest.mark.parametrize("reason", SPIES)
def test_listeners_on_directives_see_them_one_by_one(
    project: InProcessProject, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the next migration on: the second one brings the spy, as some projects do."""
    outcomes = []

    def both() -> None:
        for batched in True, False:
            with monkeypatch.context() as patch:
                patch.setattr(op, "create_table", op.create_table)  # put back afterwards
                outcomes.append(project.run(batched).visible())
            spy = project.configure.pop("spy")
            if "listener" in reason:
                event.remove(sqlalchemy.Table, "after_create", spy)

    project.write([create(0), SPIES[reason], create(1), f"{create(2)}\n{create(2)}"])
    assert reasons(both)[f"migration: {reason}"] == 2
    assert outcomes[0] == outcomes[1]
    assert outcomes[0]["seen"] == ["spy"] * (2 if "listener" in reason else 3)


def test_slow_statements_are_listed_afterwards(
    project: InProcessProject, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    look = "see(op.get_bind().execute(sa.text('SELECT 1, pg_sleep(0.2)')).first()[0])"
    slow = "op.execute('SELECT 2, pg_sleep(0.3)')"
    project.write([create(0), f"{create(1)}\n{slow}\n{create(2)}", f"{create(3)}\n{look}"])
    monkeypatch.setenv("MIGRATE_EXT_VERBOSE", "true")
    assert project.run(True).raised == []
    head, *lines = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r"\d+ statements took \d+\.\d{3} s; the slowest:", head)
    path = project.folder / "versions" / "r0002.py"
    line = path.read_text().splitlines().index(f"    {slow}") + 1
    place = f"upgrade of revision r0002 ({path}, line {line})"
    assert [x for x in lines if x.endswith(f" s  SELECT 2, pg_sleep(0.3)  {place}")]
    assert [x for x in lines if "SELECT 1, pg_sleep(0.2)  upgrade of revision r0003" in x]
    times = [float(x.split()[0]) for x in lines]
    assert times == sorted(times, reverse=True)


def test_another_thread_logs_at_once(project: InProcessProject) -> None:
    """Only what the run itself logs is held, while the server works on what goes before."""
    logger = logging.getLogger("alembic.runtime.migration")
    threads = []

    def connected(connection: sqlalchemy.Connection) -> None:
        threads.append(threading.Timer(0.5, logger.info, ["from another thread"]))
        threads[0].start()

    project.connected = connected
    project.write([f"{create(0)}\nop.execute('SELECT pg_sleep(2)')", create(1)])
    filters = logger.filters[:]
    lines = project.run(True).log
    threads[0].join()
    assert lines.count("from another thread") == 1
    assert lines.index("from another thread") < lines.index("Running upgrade r0001 -> r0002")
    assert logger.filters == filters


def test_plain_is_seen_from_the_code_alone(project: InProcessProject) -> None:
    """Each file is read once, by Python; the syntax tree is for those that the quick look refuses."""
    project.write(
        [
            create(0),
            "with op.batch_alter_table('t0') as batch:\n    batch.add_column(sa.Column('c', sa.Integer))",
        ]
    )
    assert not [r for r in reasons(lambda: project.run(True)) if r.startswith("migration: ")]
    project.write([create(0), "see(1)", "try:\n    op.execute('SELECT 1')\nexcept:\n    pass"])
    found = reasons(lambda: project.run(True))
    assert found["migration: the name see"] == 1
    assert found["migration: a Try statement"] == 1


def test_a_long_text_is_not_looked_through_twice(project: InProcessProject) -> None:
    """Of megabytes it would take seconds; it is sent as Alembic sends it, after all that waits."""
    project.write([create(1), "op.execute('SELECT 1 -- ' + 'x' * 1_000_001)", create(2)])
    before = counters.plain_reasons.get("statement: a long text", 0)
    project.agree()
    assert counters.plain_reasons["statement: a long text"] == before + 1


WATCHED_IMPL = """
from alembic import context

attributes = context.config.attributes
with attributes["engine"].connect() as connection:
    context.configure(connection=connection, **attributes["configure"])
    impl = context.get_context().impl
    execute = impl._exec

    def watch(construct, *arguments, **keywords):
        attributes["configure"]["template_args"].append(str(construct))
        return execute(construct, *arguments, **keywords)

    impl._exec = watch
    with context.begin_transaction():
        context.run_migrations()
"""


def test_an_impl_that_is_patched_on_the_object_sees_every_directive(
    project: InProcessProject,
) -> None:
    """In every run: what was seen of another's is not taken for it."""
    bodies = [f"op.execute('CREATE TABLE t{n} ()')" for n in range(3)]
    project.write(bodies)
    assert project.run(True).error is None
    (project.folder / "env.py").write_text(WATCHED_IMPL)
    for batched in (True, False):
        seen: list[str] = []
        project.configure = {"template_args": seen}
        assert project.run(batched).error is None
        assert [text for text in seen if "CREATE TABLE t" in text] == [
            f"CREATE TABLE t{n} ()" for n in range(3)
        ]


@pytest.mark.parametrize("on", ["connection", "engine"])
def test_with_a_listener_an_error_has_the_text_that_alembic_gives_it(
    project: InProcessProject, on: str
) -> None:
    """SQLAlchemy leaves empty parameters out of an error wherever somebody listens."""

    def listen(connection: sqlalchemy.Connection) -> None:
        target = connection if on == "connection" else connection.engine
        event.listen(target, "after_cursor_execute", lambda *_: None)

    for body in (
        'op.execute(":x")',
        'op.execute("SELECT 1/0")',
        "op.get_bind().execute(sa.text(':x'))",
    ):
        project.write(["op.create_table('t', sa.Column('a', sa.Integer))", body])
        project.connected = listen
        assert project.agree().raised
