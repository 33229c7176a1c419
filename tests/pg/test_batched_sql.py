"""What a batch sends is what the driver would have sent, byte for byte: percent signs, quotes, results of checks."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from sample_project import SampleProject

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
