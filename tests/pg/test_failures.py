"""When things are wrong: one clear message, the right exit code, no traceback, nothing changed.

Everything runs as a user runs it, ``python -m migrate_ext`` in a copy of the sample project, in three ways: with the
thin env.py, with ``MIGRATE_EXT=0``, and with Alembic's classic env.py.
"""

from __future__ import annotations

import secrets
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from sample_project import Done, SampleProject
from sqlalchemy.engine import URL, make_url

from migrate_ext.testing import embedded as server

WAYS = ("thin", "MIGRATE_EXT=0", "classic")
NOT_CLASSIC = WAYS[:2]
URL_FORM = "postgresql://user:password@"
NO_SERVER = "postgresql://me:s3cret@127.0.0.1:1/nowhere"


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def offline(tmp_path: Path, way: str) -> SampleProject:
    """A project whose database cannot be reached."""
    return SampleProject(tmp_path / "project", NO_SERVER, way)


@pytest.fixture
def project(tmp_path: Path, way: str, database_url: str) -> SampleProject:
    """A project on an empty database, with two small revisions, the first of which is applied."""
    project = SampleProject(tmp_path / "project", database_url, way)
    project.only(aaaa1111="pass", bbbb2222="pass")
    with project.connect() as connection:
        connection.execute(
            "CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL, "
            "CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num))"
        )
        connection.execute("INSERT INTO alembic_version VALUES ('aaaa1111')")
    return project


# --- the database's address -----------------------------------------------------------------------

ADDRESSES = {
    "unset": ("", 255, ("DATABASE_URL is not set", URL_FORM)),
    "malformed": ("nonsense", 255, ("DATABASE_URL", URL_FORM)),
    "bad port": ("postgresql://me:s3cret@h:port/x", 255, ("DATABASE_URL", URL_FORM)),
    "mysql": ("mysql://me:s3cret@h/x", 255, ("DATABASE_URL", "PostgreSQL", "postgresql://")),
    "sqlite": ("sqlite:///s3cret.db", 255, ("DATABASE_URL", "PostgreSQL", "postgresql://")),
    "refused": (NO_SERVER, 1, ("connect", "127.0.0.1", "hint: check host and port")),
    "no such host": (
        "postgresql://me:s3cret@nosuchhost.invalid/x",
        1,
        ("connect", "nosuchhost.invalid", "hint: check host and port"),
    ),
}


@pytest.mark.parametrize("case", ADDRESSES)
def test_an_address_that_leads_nowhere_is_explained(offline: SampleProject, case: str) -> None:
    url, code, words = ADDRESSES[case]
    done = offline.run("upgrade", "head", DATABASE_URL=url)
    done.failed(code, *words)
    assert "s3cret" not in done.stdout + done.stderr


@pytest.mark.parametrize("case", ADDRESSES)
def test_current_explains_an_address_too(tmp_path: Path, case: str) -> None:
    url, code, words = ADDRESSES[case]
    done = SampleProject(tmp_path / "project", url, "thin").run("current")
    done.failed(code, *words)
    assert "s3cret" not in done.stdout + done.stderr


def test_reading_commands_need_no_address(tmp_path: Path) -> None:
    project = SampleProject(tmp_path / "project", "", "thin")
    for command in ("history",), ("heads",), ("branches",), ("show", "head"):
        assert project.run(*command).code == 0


def test_a_missing_database_is_named(offline: SampleProject, server_url: URL) -> None:
    url = server_url.set(database="nosuchdatabase").render_as_string(hide_password=False)
    done = offline.run("upgrade", "head", DATABASE_URL=url)
    done.failed(1, 'database "nosuchdatabase" does not exist', "hint: create the database")


def test_a_wrong_password_is_never_printed(
    offline: SampleProject, private_server: server.Server
) -> None:
    url = private_server.url(driver="").replace(private_server.password, "Pa55%40word")
    for command in ("upgrade", "head"), ("current", "-v"), ("--raiseerr", "current"):
        done = offline.run(*command, DATABASE_URL=url)
        assert "Pa55" not in done.stdout + done.stderr
        if "--raiseerr" not in command:
            done.failed(1, "password authentication failed", "hint: check user and password")


def test_a_library_that_quotes_the_url_does_not_print_the_password(offline: SampleProject) -> None:
    code = "raise ValueError('cannot read postgresql://me:s3cret@host/x?password=s3cret')\n"
    (offline.folder / "env.py").write_text(code)
    done = offline.run("upgrade", "head")
    done.failed(1, "env.py, line 1: ValueError: cannot read postgresql://me:***@host/x")
    assert "s3cret" not in done.stdout + done.stderr


@pytest.fixture
def poor_role(server_url: URL) -> Iterator[Callable[[str], str]]:
    """A function that gives a URL's twin for a role that may create nothing."""
    name = f"migrate_ext_poor_{secrets.token_hex(4)}"
    url = server_url.set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {name} LOGIN PASSWORD 's3cret'")
        yield (
            lambda to: (
                make_url(to)
                .set(username=name, password="s3cret")
                .render_as_string(hide_password=False)
            )
        )
        connection.execute(f"DROP ROLE {name}")


def test_a_role_without_rights_is_told_which(
    tmp_path: Path, way: str, database_url: str, poor_role: Callable[[str], str]
) -> None:
    project = SampleProject(tmp_path / "project", database_url, way)
    with project.connect() as connection:
        connection.execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
    for command in ("upgrade", "head"), ("stamp", "head"):
        done = project.run(*command, DATABASE_URL=poor_role(database_url))
        done.failed(
            1, "FAILED: ", "permission denied for schema public", "alembic_version", "GRANT"
        )
        assert "s3cret" not in done.stdout + done.stderr
    assert project.database() == []


# --- the models and env.py ------------------------------------------------------------------------

BROKEN_MODULES = {
    "import nosuchmodule": "ModuleNotFoundError: No module named 'nosuchmodule'",
    "x = (": "SyntaxError: ",
    "raise RuntimeError('first\\nsecond')": "RuntimeError: first",
}


@pytest.mark.parametrize("code", BROKEN_MODULES)
@pytest.mark.parametrize("way", NOT_CLASSIC, indirect=True)
def test_a_broken_models_module_is_named_with_its_line(project: SampleProject, code: str) -> None:
    path = project.folder / "models" / "orm" / "audit.py"
    line = len(path.read_text().splitlines()) + 1
    path.write_text(f"{path.read_text()}{code}\n")
    before = project.database()
    done = project.run("upgrade", "head")
    done.failed(255, "models.orm cannot be imported", f"{path}, line {line}", BROKEN_MODULES[code])
    assert project.database() == before


@pytest.mark.parametrize("way", ["classic"], indirect=True)
def test_a_classic_env_py_names_the_broken_module_too(project: SampleProject) -> None:
    path = project.folder / "models" / "orm" / "audit.py"
    path.write_text("import nosuchmodule\n")
    done = project.run("upgrade", "head")
    done.failed(1, f"{path}, line 1: ModuleNotFoundError: No module named 'nosuchmodule'")


ENVIRONMENTS = {
    "lib.database:Base.metadatum": (255, "lib.database has no 'Base.metadatum'"),
    "lib.nosuch:Base": (255, "the metadata module lib.nosuch cannot be imported"),
    "lib.database": (255, "expected 'package.module:attribute'"),
}


@pytest.mark.parametrize("metadata", ENVIRONMENTS)
@pytest.mark.parametrize("way", NOT_CLASSIC, indirect=True)
def test_metadata_that_is_not_there_is_explained(project: SampleProject, metadata: str) -> None:
    project.edit("env.py", "lib.database:Base.metadata", metadata)
    code, words = ENVIRONMENTS[metadata]
    project.run("upgrade", "head").failed(code, words)


def test_a_broken_env_py_is_named_with_its_line(project: SampleProject) -> None:
    (project.folder / "env.py").write_text("# migrate_ext\n\n1 / 0\n")
    done = project.run("upgrade", "head")
    done.failed(1, f"{project.folder / 'env.py'}, line 3: ZeroDivisionError: division by zero")


@pytest.mark.parametrize("way", NOT_CLASSIC, indirect=True)
def test_a_module_of_models_that_nobody_imports_is_warned_of(project: SampleProject) -> None:
    """Autogenerate would see fewer tables than the database has, and drop them."""
    folder = project.folder / "models" / "orm"
    (folder / "gadgets.py").write_text("raise AssertionError('never imported')\n")
    (folder / "more").mkdir()
    (folder / "more" / "__init__.py").write_text("raise AssertionError('never imported')\n")
    done = project.run("upgrade", "head")
    assert (done.code, done.said) == (0, "")
    for command in ("check",), ("revision", "--autogenerate", "-m", "x"):
        done = project.run(*command)
        assert "models.orm.gadgets, models.orm.more" in done.stderr, done.stderr
        assert "would drop them; import it here" in done.stderr
        assert done.stderr.count("Warning") == 1
    assert project.run("revision", "-m", "x").stderr == ""


def test_autogenerate_wants_a_database_at_head(project: SampleProject) -> None:
    before, files = project.database(), sorted(project.folder.glob("versions/*.py"))
    for command in ("revision", "--autogenerate", "-m", "x"), ("check",):
        done = project.run(*command)
        done.failed(255, "Target database is not up to date", "hint: run 'upgrade head' first")
    assert project.database() == before
    assert sorted(project.folder.glob("versions/*.py")) == files


# --- revision files -------------------------------------------------------------------------------

BROKEN_FILES = {
    "syntax": ("x = = 1", "line 6: SyntaxError: "),
    "raises": ("import nosuchmodule", "line 6: ModuleNotFoundError: "),
    "raises, and not literal": (
        "down_revision = str(len(nosuchname))",
        "line 6: NameError: name 'nosuchname' is not defined",
    ),
}


@pytest.mark.parametrize("case", BROKEN_FILES)
def test_a_broken_revision_file_is_named_with_its_line(project: SampleProject, case: str) -> None:
    top, words = BROKEN_FILES[case]
    project.revision("cccc3333", down="'bbbb2222'", top=top)
    path = project.folder / "versions" / "cccc3333.py"
    before = project.database()
    done = project.run("upgrade", "head")
    done.failed(done.code, f"{path}, {words}")
    assert done.code in (1, 255)
    assert project.database() == before
    done = project.run("history")
    if case != "raises, and not literal" and "MIGRATE_EXT" not in project.variables:
        assert done.code == 0  # only read
    else:
        done.failed(done.code, f"{path}, {words}")
        assert done.code in (1, 255)


def test_a_revision_file_without_its_identifiers_is_named(project: SampleProject) -> None:
    path = project.folder / "versions" / "cccc3333.py"
    path.write_text("revision = 'cccc3333'\n")
    for command in ("history",), ("upgrade", "head"):
        project.run(*command).failed(255, str(path), "no attribute 'down_revision'")
    path.rename(path.with_name("nothing.py")).write_text("x = 1\n")
    for command in ("history",), ("upgrade", "head"):
        words = "Could not determine revision id from filename nothing.py"
        project.run(*command).failed(255, words)


def test_several_heads_are_explained(project: SampleProject) -> None:
    project.revision("cccc3333", down="'aaaa1111'")
    before = project.database()
    hint = "hint: 'heads' lists them; 'upgrade heads' runs all, 'merge heads' joins them"
    words = "Multiple head revisions are present for given argument 'head'"
    project.run("upgrade", "head").failed(255, words, hint)
    project.run("stamp", "head").failed(255, "Multiple heads are present", hint)
    assert project.database() == before


def test_a_revision_that_is_not_there_is_named(project: SampleProject) -> None:
    before = project.database()
    for top, down in (("", "'nosuchrev'"), ("depends_on = 'nosuchrev'", "'bbbb2222'")):
        project.revision("cccc3333", down=down, top=top)
        for command in ("history",), ("upgrade", "head"):
            done = project.run(*command)
            done.failed(255, "Revision nosuchrev", "not present; restore its file, or correct")
    assert project.database() == before


def test_cycles_and_duplicates_are_named(project: SampleProject) -> None:
    before = project.database()
    project.revision("cccc3333", down="'dddd4444'")
    project.revision("dddd4444", down="'cccc3333'")
    project.run("upgrade", "head").failed(
        255, "Cycle is detected in revisions (cccc3333, dddd4444)"
    )
    project.revision("dddd4444", down="'bbbb2222'")
    project.revision("cccc3333", down="'cccc3333'")
    project.run("history").failed(255, "Self-loop is detected in revisions (cccc3333)")
    project.revision("dddd4444", down="'bbbb2222'", name="cccc3333")
    done = project.run("upgrade", "head")
    assert "Revision dddd4444 is present more than once" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.code == 255
    assert project.database() == before


def test_a_database_newer_than_the_code_is_explained(project: SampleProject) -> None:
    with project.connect() as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'ffff9999'")
    before = project.database()
    for command in ("current",), ("upgrade", "head"), ("downgrade", "-1"):
        words = "Can't locate revision identified by 'ffff9999'", "hint: 'history' lists"
        project.run(*command).failed(255, *words)
    assert project.database() == before


# --- migrations -----------------------------------------------------------------------------------

PLAIN = """\
op.create_table("gadgets", sa.Column("id", sa.Integer, primary_key=True))
op.execute("CREATE TYPE mood AS ENUM ('good')")
op.execute("INSERT INTO gadgets (id, nosuchcolumn) VALUES (1, 2)")
op.create_table("gizmos", sa.Column("id", sa.Integer))
"""
CARET = """\
LINE 1: INSERT INTO gadgets (id, nosuchcolumn) VALUES (1, 2)
                                 ^
"""


@pytest.mark.parametrize("body", [PLAIN, "bind = op.get_bind()\n" + PLAIN], ids=["plain", "not"])
def test_failing_sql_is_shown_with_its_place_and_nothing_stays(
    project: SampleProject, body: str
) -> None:
    project.revision("bbbb2222", body, down="'aaaa1111'")
    before = project.database()
    done = project.run("upgrade", "head")
    done.failed(
        1,
        project.line("bbbb2222", "nosuchcolumn"),
        'column "nosuchcolumn" of relation "gadgets" does not exist\n' + CARET,
        "[SQL: INSERT INTO gadgets (id, nosuchcolumn) VALUES (1, 2)]\n",
        "SQLSTATE 42703. Nothing of the open transaction was kept.",
    )
    assert "MIGRATE_EXT" in project.variables or "upgrade of revision bbbb2222" in done.said
    assert "-> bbbb2222" in done.stderr
    assert project.database() == before


@pytest.mark.parametrize("way", NOT_CLASSIC, indirect=True)
def test_of_a_long_script_only_what_is_around_the_error_is_shown(project: SampleProject) -> None:
    script = [f"INSERT INTO many VALUES ({n});" for n in range(9000)]
    script[0], script[6000] = "CREATE TABLE many (n int);", "SELEC 17;"
    project.revision("bbbb2222", f"op.execute({' '.join(script)!r})", down="'aaaa1111'")
    done = project.run("upgrade", "head")
    words = "(5999); SELEC 17; INSERT INTO many VALUES (6001);"
    done.failed(1, 'syntax error at or near "SELEC"', "[SQL: ... ", words, " characters more)]")
    assert len(done.said) < 3500


def test_the_servers_error_wins_over_a_later_one_of_python(project: SampleProject) -> None:
    body = PLAIN.replace('op.create_table("gizmos"', '[][0]; op.create_table("gizmos"')
    project.revision("bbbb2222", body, down="'aaaa1111'")
    before = project.database()
    done = project.run("upgrade", "head")
    done.failed(1, project.line("bbbb2222", "nosuchcolumn"), 'column "nosuchcolumn" of relation')
    assert "IndexError" not in done.said
    assert project.database() == before


def test_an_exception_in_a_migration_leaves_nothing(project: SampleProject) -> None:
    body = 'op.create_table("gadgets", sa.Column("id", sa.Integer))\n[][0]'
    project.revision("bbbb2222", body, down="'aaaa1111'")
    before = project.database()
    done = project.run("upgrade", "head")
    done.failed(1, project.line("bbbb2222", "[][0]"), "IndexError: list index out of range")
    assert project.database() == before
    done = project.run("--raiseerr", "upgrade", "head")
    assert done.code == 1
    assert "Traceback" in done.stderr
    assert done.stderr.rstrip().splitlines()[-1].startswith(("IndexError", "[migrate_ext: in up"))
    assert project.database() == before


def test_a_version_row_that_vanished_is_noticed(project: SampleProject) -> None:
    body = 'op.create_table("gadgets", sa.Column("id", sa.Integer))\n'
    project.revision(
        "bbbb2222", body + 'op.execute("DELETE FROM alembic_version")', down="'aaaa1111'"
    )
    before = project.database()
    project.run("upgrade", "head").failed(
        255,
        "Online migration expected to match one row when updating 'aaaa1111' to 'bbbb2222' "
        "in 'alembic_version'; 0 found",
    )
    assert project.database() == before


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2"])
def test_a_connection_lost_in_a_migration_names_the_statement(
    project: SampleProject, driver: str
) -> None:
    """And not the rollback, which cannot be had any more."""
    lost = 'op.execute("DO $$ BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); END $$")'
    project.revision(
        "bbbb2222", 'op.execute("CREATE TABLE gadgets ()")\n' + lost, down="'aaaa1111'"
    )
    before = project.database()
    url = make_url(project.url).set(drivername=f"postgresql+{driver}")
    done = project.run("upgrade", "head", DATABASE_URL=url.render_as_string(hide_password=False))
    done.failed(1, project.line("bbbb2222", "pg_terminate"), "connection", "[SQL: DO $$ BEGIN")
    assert project.database() == before


@pytest.mark.parametrize("bind", ["op", "op.get_bind()"])
def test_ctrl_c_cancels_on_the_server_and_rolls_back(project: SampleProject, bind: str) -> None:
    body = f'op.execute("CREATE TABLE gadgets ()")\n{bind}.execute(sa.text("SELECT pg_sleep(60)"))'
    project.revision("bbbb2222", body, down="'aaaa1111'")
    before = project.database()
    # The default driver of SQLAlchemy 2.0 is psycopg2, which hears of nothing while it waits.
    url = make_url(project.url).set(drivername="postgresql+psycopg")
    process = project.start(
        "upgrade", "head", DATABASE_URL=url.render_as_string(hide_password=False)
    )
    sleeping = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%'"
    sleeping += " AND datname = current_database() AND state = 'active'"
    with project.connect() as connection:
        deadline = time.monotonic() + 30
        while connection.execute(sleeping).fetchone() == (0,):
            assert time.monotonic() < deadline
            assert process.poll() is None, process.communicate()
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=20)
        assert connection.execute(sleeping).fetchone() == (0,)
    assert process.returncode == 130
    assert Done(130, stdout, stderr).said.startswith("Interrupted: the open transaction was rolled")
    assert "Traceback" not in stderr
    assert project.database() == before


def test_a_server_without_a_free_connection_is_not_said_to_be_missing(
    offline: SampleProject, database_url: str
) -> None:
    role = f"role_{secrets.token_hex(6)}"
    with psycopg.connect(database_url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'x' CONNECTION LIMIT 0")
        url = make_url(database_url).set(username=role, password="x")
        done = offline.run("current", DATABASE_URL=url.render_as_string(hide_password=False))
        connection.execute(f"DROP ROLE {role}")
    done.failed(1, "too many connections", "hint: the server has no connection left")
