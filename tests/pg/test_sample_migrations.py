"""The sample backend's migrations on a real server: up, down, one by one, with data in them."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from sample_project import ROOT, run_forked
from sqlalchemy import create_engine, pool, text
from sqlalchemy.exc import DBAPIError, IntegrityError

#: Everything a migration can leave in the database, but the version table.
LEFT_OVERS = """
    SELECT 'relation', relname::text FROM pg_class
    WHERE relnamespace = 'public'::regnamespace AND relname NOT LIKE 'alembic_version%'
    UNION ALL
    SELECT 'type', typname FROM pg_type
    WHERE typnamespace = 'public'::regnamespace AND typname NOT LIKE '%alembic_version'
    UNION ALL
    SELECT 'function', proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace
"""

#: The revisions after the merge, in order: a single line.
MAIN_LINE = [
    "4312adf83ceb",
    "362ace3115bf",
    "8258dde70d56",
    "a3794ccd4778",
    "d122a1651391",
    "b47a3100f623",
    "796058a680ab",
    "44a1baf3d0aa",
    "99857156e65d",
    "fc48864acdf7",
]

#: One process for many commands: each argument is one.
MANY = "import sys, alembic.config; [alembic.config.main(x.split()) for x in sys.argv[2:]]"


class Backend:
    """The repository as a migration environment, on one database. Its commands run in forks."""

    def __init__(self, url: str, pg_dump: Callable[[str], str], output: Path) -> None:
        self.url = url
        self.variables = {**os.environ, "DATABASE_URL": url}
        self.pg_dump = pg_dump
        self.root = ROOT
        self.output = output
        self.engine = create_engine(url, poolclass=pool.NullPool)
        plain = self.engine.url.set(drivername="postgresql")
        #: The URL without a driver's name, as libpq takes it.
        self.plain_url = plain.render_as_string(hide_password=False)

    def alembic(self, *command: str) -> str:
        """What one command prints."""
        done = run_forked("drop-in", self.root, command, self.variables, self.output)
        assert done[0] == 0, done[1] + done[2]
        return done[1]

    def alembics(self, *commands: str) -> str:
        """What several commands print, in one process."""
        program = self.output.with_suffix(".py")
        program.write_text(MANY)
        return self.alembic(str(program), *commands)

    def rows(self, sql: str, **parameters: object) -> list[tuple[object, ...]]:
        """The rows of a query."""
        with self.engine.connect() as connection:
            return [tuple(row) for row in connection.execute(text(sql), parameters)]

    def write(self, *statements: str) -> None:
        """Statements, committed together."""
        with self.engine.begin() as connection:
            for statement in statements:
                connection.execute(text(statement))

    def dump(self) -> str:
        """The schema as pg_dump writes it."""
        return self.pg_dump(self.url)


@pytest.fixture
def backend(database_url: str, pg_dump: Callable[[str], str], tmp_path: Path) -> Backend:
    return Backend(database_url, pg_dump, tmp_path / "command")


def test_models_and_migrations_agree(backend: Backend) -> None:
    """Here in a process of its own, as the command line starts it."""
    subprocess.run(
        [sys.executable, "-m", "alembic", "upgrade", "head"],
        cwd=ROOT,
        env=backend.variables,
        capture_output=True,
        check=True,
    )
    assert backend.rows("SELECT version_num FROM alembic_version") == [("fc48864acdf7",)]
    assert "No new upgrade operations detected." in backend.alembic("check")


def test_downgrade_base_leaves_only_the_empty_version_table(backend: Backend) -> None:
    backend.alembics("upgrade head", "downgrade base")
    assert backend.rows(LEFT_OVERS) == []
    assert backend.rows("SELECT * FROM alembic_version") == []


def test_up_down_up_gives_the_same_schema(backend: Backend) -> None:
    backend.alembic("upgrade", "head")
    first = backend.dump()
    backend.alembics("downgrade base", "upgrade head")
    assert backend.dump() == first


def test_sql_output_gives_the_same_schema_and_goes_down_again(backend: Backend) -> None:
    backend.alembic("upgrade", "head")
    online = backend.dump()
    plans = backend.rows("SELECT * FROM plans ORDER BY code")
    backend.alembic("downgrade", "base")
    backend.write("DROP TABLE alembic_version")

    def run_script(script: str) -> None:
        # One by one: CREATE INDEX CONCURRENTLY is refused among other statements of a request.
        with psycopg.connect(backend.plain_url, autocommit=True) as connection:
            for statement in script.split(";\n\n"):
                connection.execute(statement.encode())

    run_script(backend.alembic("upgrade", "head", "--sql"))
    assert backend.dump() == online
    assert backend.rows("SELECT * FROM plans ORDER BY code") == plans
    run_script(backend.alembic("downgrade", "head:base", "--sql"))
    assert backend.rows(LEFT_OVERS) == []


def test_each_downgrade_restores_what_its_upgrade_found(backend: Backend) -> None:
    backend.alembics("upgrade 42875af5fdfa", "upgrade 25aa13ba1001")
    dumps = []
    for revision in MAIN_LINE:
        backend.alembic("upgrade", revision)
        dumps.append(backend.dump())
    assert "No new upgrade operations detected." in backend.alembic("check")
    for expected in reversed(dumps[:-1]):
        backend.alembic("downgrade", "-1")
        assert backend.dump() == expected


def test_branches_run_one_by_one_and_one_brings_what_it_depends_on(backend: Backend) -> None:
    backend.alembics("upgrade +1", "upgrade +1", "upgrade +1")
    assert backend.rows("SELECT version_num FROM alembic_version") == [("c2045ea3fa0f",)]
    backend.alembic("upgrade", "integrations@+1")
    assert backend.rows("SELECT to_regclass('projects')::text") == [(None,)]
    backend.alembic("upgrade", "25aa13ba1001")
    assert backend.rows("SELECT to_regclass('projects')::text") == [("projects",)]
    backend.alembics("upgrade content@42875af5fdfa", "upgrade 4312adf83ceb")
    assert backend.rows("SELECT version_num FROM alembic_version") == [("4312adf83ceb",)]


def test_organisations_get_slugs_of_their_own(backend: Backend) -> None:
    backend.alembic("upgrade", "362ace3115bf")
    backend.write(
        """
        INSERT INTO organisations (name, created_at) VALUES
            ('Crème & Brûlée GmbH', '2026-01-20 10:00+00'),
            ('Acme', '2026-01-21 10:00+00'),
            ('ACME!', '2026-01-22 10:00+00'),
            ('Acme 2', '2026-01-23 10:00+00'),
            ('100% Organic', '2026-01-24 10:00+00'),
            ('東京', '2026-01-25 10:00+00')
        """
    )
    backend.alembic("upgrade", "8258dde70d56")
    assert backend.rows("SELECT name, slug FROM organisations ORDER BY created_at") == [
        ("Crème & Brûlée GmbH", "creme-brulee-gmbh"),
        ("Acme", "acme"),
        ("ACME!", "acme-2"),
        ("Acme 2", "acme-2-2"),
        ("100% Organic", "100-organic"),
        ("東京", "organisation"),
    ]
    backend.alembics("upgrade head", "downgrade 362ace3115bf", "upgrade head")
    assert backend.rows("SELECT count(*), count(DISTINCT slug) FROM organisations") == [(6, 6)]


def test_rows_survive_the_migrations_that_change_their_types(backend: Backend) -> None:
    backend.alembic("upgrade", "a3794ccd4778")
    backend.write(
        "INSERT INTO accounts (email, display_name) VALUES ('ada@example.org', 'Ada')",
        "INSERT INTO organisations (name, slug) VALUES ('Acme', 'acme')",
        "INSERT INTO sessions (account_id, token_hash, ip_address)"
        " SELECT id, '\\x00', '2001:db8::7' FROM accounts",
        "INSERT INTO memberships SELECT o.id, a.id FROM organisations o, accounts a",
    )
    backend.alembic("upgrade", "head")
    assert backend.rows("SELECT family(ip_address) FROM sessions") == [(6,)]
    assert backend.rows("SELECT plan_code FROM organisations") == [("free",)]
    backend.write("UPDATE memberships SET role = 'viewer'")
    assert backend.rows("SELECT organisation_slug, email, role::text FROM member_directory") == [
        ("acme", "ada@example.org", "viewer")
    ]
    backend.alembic("downgrade", "a3794ccd4778")
    assert backend.rows("SELECT ip_address FROM sessions") == [("2001:db8::7",)]
    assert backend.rows("SELECT role::text FROM memberships") == [("member",)]


def test_values_with_percent_signs_and_quotes_arrive_as_written(backend: Backend) -> None:
    backend.alembic("upgrade", "head")
    assert backend.rows("SELECT code, discount FROM plans ORDER BY seat_limit") == [
        ("free", "0%"),
        ("team", "10%"),
        ("enterprise", "12.5%"),
    ]
    backend.write(
        "INSERT INTO plans (code, title) VALUES ('trial', 'Trial')",
        "INSERT INTO organisations (name, slug) VALUES ('Acme', 'acme')",
        "INSERT INTO invitations (organisation_id, email) SELECT id, 'a@b' FROM organisations",
    )
    assert backend.rows("SELECT discount FROM plans WHERE code = 'trial'") == [("0%",)]
    assert backend.rows("SELECT message FROM invitations") == [("You're invited.",)]
    for refused in (
        "INSERT INTO plans (code, title, discount) VALUES ('x', 'x', 'none')",
        "INSERT INTO accounts (email, display_name) VALUES ('nobody', 'Nobody')",
        "INSERT INTO invitations (organisation_id, email) SELECT id, 'A@B' FROM organisations",
    ):
        with pytest.raises(IntegrityError):
            backend.write(refused)


def test_triggers_keep_updated_at_and_the_audit_trail(backend: Backend) -> None:
    backend.alembic("upgrade", "head")
    backend.write(
        "INSERT INTO accounts (email, display_name) VALUES ('ada@example.org', 'Ada')",
        "INSERT INTO organisations (name, slug) VALUES ('Acme', 'acme')",
        "INSERT INTO audit_events (organisation_id, actor_id, action)"
        " SELECT o.id, a.id, 'organisation.created' FROM organisations o, accounts a",
    )
    backend.write("UPDATE accounts SET display_name = 'Ada L.'")
    assert backend.rows("SELECT updated_at > created_at FROM accounts") == [(True,)]
    with pytest.raises(DBAPIError, match=r"audit event \d+ is not to be changed"):
        backend.write("UPDATE audit_events SET action = 'nothing.happened'")
    backend.write("DELETE FROM accounts")
    assert backend.rows("SELECT actor_id, action FROM audit_events") == [
        (None, "organisation.created")
    ]


def test_concurrent_index_is_valid(backend: Backend) -> None:
    backend.alembic("upgrade", "head")
    assert backend.rows(
        "SELECT indisvalid FROM pg_index"
        " WHERE indexrelid = 'ix_audit_events_organisation_id_created_at'::regclass"
    ) == [(True,)]


def test_autogenerated_revision_has_its_imports_and_runs(backend: Backend, tmp_path: Path) -> None:
    for name in ("alembic.ini", "env.py", "script.py.mako"):
        shutil.copy(ROOT / name, tmp_path)
    for name in ("lib", "models"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, tmp_path / name, ignore=ignored)
    (tmp_path / "versions").mkdir()
    backend.root = tmp_path

    backend.alembic("revision", "--autogenerate", "-m", "everything at once")
    (written,) = (tmp_path / "versions").glob("*.py")
    assert "\nfrom sqlalchemy.dialects import postgresql\n" in written.read_text()
    assert "postgresql.JSONB(" in written.read_text()
    backend.alembic("upgrade", "head")
    assert "No new upgrade operations detected." in backend.alembic("check")
