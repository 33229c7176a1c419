"""What a batch sends is what the driver would have sent, byte for byte: percent signs, quotes, results of checks."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from in_process_project import InProcessProject
from sample_project import SampleProject

from migrate_ext import counters

BODY = r'''
op.create_table(
    "rates",
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("half", sa.String(9), server_default="50%"),
    sa.Column("all", sa.String(40), server_default="100%%", comment="100 %% or %s, %(x)s"),
    sa.Column("text", sa.Text, server_default=sa.text("'a%b:c''\\d'"), comment="it's 5%"),
    sa.CheckConstraint("half LIKE '%\\%' AND id % 2 >= 0", name="percent"),
)
op.execute("INSERT INTO rates (id, \"all\") VALUES (7 % 4, '%'), (8, '%%'), (9, '%s %(x)s \\:x')")
op.execute(sa.text("UPDATE rates SET text = 'm%m%%m' WHERE id %2 = 1"))
op.execute(sa.text("INSERT INTO rates (id, text) VALUES (:id, :text)").bindparams(id=10, text="x%y%%"))
op.bulk_insert(
    sa.table("rates", sa.column("id"), sa.column("text")), [{"id": 11, "text": "5%"}, {"id": 12, "text": "%%"}]
)
op.create_index("ix_percent", "rates", [sa.text("(id % 3)")], postgresql_where=sa.text("half LIKE '5%'"))
op.execute("CREATE FUNCTION f() RETURNS text LANGUAGE plpgsql AS $$ BEGIN RETURN format('%s%%', 1); END $$")
op.execute("COMMENT ON TABLE rates IS E'tab\\t, new\nline, 50%, ''quoted'' \u00e9 \U0001f600'")
op.add_column("rates", sa.Column("more", sa.String(20), server_default="%(more)s %", nullable=False))
op.alter_column("rates", "half", server_default="%%%", existing_type=sa.String(9))
op.execute("SELECT 1; SELECT 2 % 2")
op.execute("SET LOCAL search_path = public")
op.execute("ALTER TABLE rates ADD CHECK (half <> '%'); ALTER TABLE rates ADD CHECK (id <> 5)")
'''.strip()  # fmt: skip


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2"])
def test_what_migrations_write_arrives_as_under_alembic(
    tmp_path: Path,
    make_database: Callable[[], str],
    pg_dump: Callable[..., str],
    driver: str,
) -> None:
    dumps = []
    for way in "thin", "MIGRATE_EXT=0":
        url = make_database().replace("+psycopg", f"+{driver}")
        project = SampleProject(tmp_path / way, url, way)
        project.only(aaaa1111=BODY)
        stats = tmp_path / f"{way}.json"
        done = project.run("upgrade", "head", MIGRATE_EXT_STATS=str(stats))
        assert done.code == 0, done.stderr
        counted = json.loads(stats.read_text())
        assert (counted["statements"] >= 8) == (way == "thin"), counted
        dumps.append(pg_dump(url) + pg_dump(url, "--data-only", "--inserts"))
    assert dumps[0] == dumps[1]
    for text in "'50%'", "'100%%'", "'%(more)s %'", "'%%%'", "'m%m%%m'", "'%s %(x)s :x'", "'5%'":
        assert text in dumps[0], dumps[0]


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2"])
def test_ddl_of_a_batch_is_gone_after_a_failure(
    tmp_path: Path, make_database: Callable[[], str], driver: str
) -> None:
    """The batch rides in the driver's transaction: nothing of it commits by itself."""
    project = SampleProject(
        tmp_path / "project", make_database().replace("+psycopg", f"+{driver}"), "thin"
    )
    project.only(aaaa1111='op.execute("CREATE TABLE a ()")\nop.execute("CREATE TABLE b ()")')
    project.revision(
        "bbbb2222",
        'op.execute("CREATE TABLE c ()")\nop.execute("CREATE TABLE c ()")',
        down="'aaaa1111'",
    )
    done = project.run("upgrade", "head")
    done.failed(1, "upgrade of revision bbbb2222", 'relation "c" already exists')
    assert project.database() == []


SETTINGS = [
    "SET search_path TO public, other",
    "SET LOCAL search_path = public",
    "SET LOCAL lock_timeout = '5s'",
    "SET statement_timeout = 60000",
    "SET SESSION idle_in_transaction_session_timeout TO '1min'",
    "RESET statement_timeout",
    "SET LOCAL work_mem TO '8MB'",
    "SET TIME ZONE 'Asia/Tokyo'",
    "SET datestyle = 'German, DMY'",
    "SET client_min_messages TO warning",
    "SET CONSTRAINTS ALL DEFERRED",
    "SET LOCAL app.user_id = '7'",
]
SEEN = (
    "SELECT string_agg(name || '=' || setting, ' ' ORDER BY name) || "
    "coalesce(current_setting('app.user_id', true), '') FROM pg_settings WHERE name IN ('search_path', "
    "'lock_timeout', 'statement_timeout', 'idle_in_transaction_session_timeout', 'work_mem', 'TimeZone', "
    "'DateStyle', 'client_min_messages')"
)


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2"])
def test_settings_go_in_batches_and_hold_for_what_is_behind_them(
    tmp_path: Path, database_url: str, driver: str
) -> None:
    """A date is loaded by the setting that holds when it is read."""
    project = InProcessProject(tmp_path / "project", database_url.replace("://", f"+{driver}://"))
    lines = ["op.execute('CREATE TABLE s (n int, seen text)')"]
    for n, statement in enumerate(SETTINGS):
        seen = SEEN.replace("SELECT", f"INSERT INTO s SELECT {n},", 1)
        lines += [f"op.execute({statement!r})", f"op.execute({seen!r})"]
    bodies = ["op.execute('SELECT 1')", "\n".join(lines)]
    read = "SELECT date '2026-02-01'"
    bodies.append(
        f"see(op.get_bind().execute(sa.text({read!r})).one() if {driver!r} == 'psycopg' else '')\n"
        f"see(op.get_bind().execute(sa.text({SEEN!r})).scalar())"
    )
    project.write(bodies)
    before = dict(counters.plain_reasons)
    outcome = project.agree()
    assert outcome.raised == []
    reasons = {k: v for k, v in counters.plain_reasons.items() if v != before.get(k, 0)}
    assert not {"statement: SET", "statement: RESET"} & set(reasons)
    assert "German" in outcome.seen[-1] and "Tokyo" in outcome.seen[-1]


@pytest.mark.parametrize("limit", ["600ms", "100ms"])
def test_a_statements_timeout_is_its_own_in_a_batch(
    tmp_path: Path, database_url: str, limit: str
) -> None:
    """Of six statements that take 0.2 s each."""
    project = InProcessProject(tmp_path / "project", database_url.replace("://", "+psycopg://"))
    sleep = "op.execute('SELECT pg_sleep(0.2)')"
    project.write(
        [
            "op.execute('SELECT 1')",
            "\n".join([f"op.execute(\"SET LOCAL statement_timeout = '{limit}'\")", *[sleep] * 6]),
        ]
    )
    outcome = project.agree()
    assert bool(outcome.raised) == (limit == "100ms")
