"""Each test gets a migrated database of its own, migrations run only when no template fits, and nothing is left on the server."""

from __future__ import annotations

import os
import signal
import time

import psycopg
import pytest
from sqlalchemy.engine import make_url
from suite import ENV, INI, Suite

from migrate_ext.testing import embedded

USES = """
def test_uses(migrated_db):
    assert migrated_db.execute("SELECT count(*) FROM alembic_version") == [(1,)]
"""


def tables(name: str) -> str:
    """Source of an expression: the tables of the fixture `name`, in order."""
    return (
        f"[row[0] for row in {name}.execute(\"SELECT relname::text FROM pg_class WHERE relkind = 'r' "
        "AND relnamespace = 'public'::regnamespace ORDER BY 1\")]"
    )


def test_what_a_test_does_to_its_database_no_other_test_sees(suite: Suite) -> None:
    suite.revisions("a", "b")
    suite.write(
        "test_it.py",
        f"""
import psycopg
import pytest

@pytest.mark.parametrize("n", range(3))
def test_fresh(migrated_db, n):
    assert {tables("migrated_db")} == ["a", "alembic_version", "b"]
    assert migrated_db.execute("TABLE alembic_version") == [("b",)]
    migrated_db.execute("DROP TABLE a")
    migrated_db.execute("INSERT INTO b VALUES (1)")
    with migrated_db.connect() as connection:
        assert connection.execute("TABLE b").fetchall() == [(1,)]
    with psycopg.connect(migrated_db.dsn) as connection:
        assert connection.info.dbname == migrated_db.name
    with migrated_db.engine.connect() as connection:
        assert connection.exec_driver_sql("TABLE b").all() == [(1,)]

def test_empty(empty_db):
    assert {tables("empty_db")} == []
    empty_db.execute("CREATE TABLE x ()")

def test_empty_again(empty_db):
    assert {tables("empty_db")} == []
""",
    )
    suite.passes()
    assert suite.ran() == ["a", "b"]
    assert suite.databases("c") == []


def test_session_fixtures_are_one_database_for_all_tests(suite: Suite) -> None:
    suite.revisions("a")
    suite.write(
        "test_it.py",
        """
def test_one(migrated_db_session, empty_db_session, migrated_db):
    migrated_db_session.execute("INSERT INTO a VALUES (1)")
    empty_db_session.execute("CREATE TABLE x ()")
    assert len({migrated_db_session.name, empty_db_session.name, migrated_db.name}) == 3

def test_two(migrated_db_session, empty_db_session, migrated_db):
    assert migrated_db_session.execute("TABLE a") == [(1,)]
    empty_db_session.execute("TABLE x")
    assert migrated_db.execute("TABLE a") == []
""",
    )
    suite.passes()
    assert suite.databases("c") == []


def test_a_database_at_any_revision(suite: Suite) -> None:
    suite.revisions("aaaa", "bbbb", "cccc")
    suite.write(
        "test_it.py",
        f"""
import pytest

@pytest.mark.parametrize(
    ("target", "expected"),
    [("base", []), ("aaaa", ["aaaa"]), ("bb", ["aaaa", "bbbb"]), ("head", ["aaaa", "bbbb", "cccc"]),
     ("+2", ["aaaa", "bbbb"]), ("heads", ["aaaa", "bbbb", "cccc"])],
)
def test_at(migrated_db_at, target, expected):
    db = migrated_db_at(target)
    assert [t for t in {tables("db")} if t != "alembic_version"] == expected
    assert migrated_db_at(target).name != db.name

def test_unknown(migrated_db_at):
    with pytest.raises(Exception, match="Can't locate revision identified by 'nowhere'"):
        migrated_db_at("nowhere")

kept = []

def test_session(migrated_db_at_session):
    kept.append(migrated_db_at_session("aaaa"))

def test_still_there(migrated_db_at_session):
    assert migrated_db_at_session("aaaa").name != kept[0].name
    kept[0].execute("TABLE aaaa")
""",
    )
    suite.passes()
    assert sorted(suite.ran()) == ["aaaa", "bbbb", "cccc"]  # each state on the one before
    assert suite.databases("c") == []


def test_templates_are_built_once_and_then_extended(suite: Suite) -> None:
    suite.revisions("a", "b")
    suite.write("test_it.py", USES)
    suite.passes()
    assert suite.ran() == ["a", "b"]
    suite.passes()
    assert suite.ran() == []
    suite.revision("c")
    suite.passes()
    assert suite.ran() == ["c"]
    suite.revision("c", "pass  # otherwise", after="b")
    suite.passes()
    assert suite.ran() == ["c"]
    suite.revision("a", after=None)
    suite.revision("a", 'op.create_table("other")', after=None)
    suite.passes()
    assert suite.ran() == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("env.py", ENV + "\n# otherwise\n"),
        (
            "models.py",
            "import sqlalchemy as sa\nmetadata = sa.MetaData(naming_convention={'pk': 'p'})\n",
        ),
        ("helper.py", "VALUE = 2\n"),
        ("deeper/__init__.py", "VALUE = 3\n"),
        ("watched.sql", "-- otherwise"),
        ("alembic.ini", "[alembic]\nscript_location = .\nprepend_sys_path = .\n"),
    ],
)
def test_what_decides_the_outcome_makes_new_templates(suite: Suite, name: str, text: str) -> None:
    suite.write("pytest.ini", "[pytest]\nmigrate_ext_watch = *.sql\n")
    suite.write("helper.py", "from deeper import VALUE\n")
    suite.write("deeper/__init__.py", "VALUE = 1\n")
    suite.revision("a", top="from helper import VALUE")
    suite.write("test_it.py", USES)
    suite.passes()
    suite.passes()
    assert suite.ran() == ["a"]
    suite.write(name, text)
    suite.passes()
    assert suite.ran() == ["a"]


def test_models_alone_do_not_make_new_templates(suite: Suite) -> None:
    suite.write("models.py", "from base import metadata\nfrom thing import thing\n")
    suite.write("base.py", "import sqlalchemy as sa\nmetadata = sa.MetaData()\n")
    suite.write("thing.py", "thing = 1\n")
    suite.revisions("a")
    suite.write("test_it.py", USES)
    suite.passes()
    suite.write("thing.py", "thing = 2\n")
    suite.passes()
    assert suite.ran() == ["a"]
    suite.write("base.py", "import sqlalchemy as sa\nmetadata = sa.MetaData(schema=None)\n")
    suite.passes()
    assert suite.ran() == ["a"]


def test_seed_data_is_in_the_template_and_follows_the_hook(suite: Suite) -> None:
    suite.revisions("a")
    hook = "def pytest_migrate_ext_seed(database):\n    database.execute('INSERT INTO a VALUES ({})')\n"
    suite.write("conftest.py", hook.format(1))
    test = "def test_seeded(migrated_db, migrated_db_at):\n    assert migrated_db.execute('TABLE a') == [({},)]\n"
    test += "    assert migrated_db_at('a').execute('TABLE a') == []\n"
    suite.write("test_it.py", test.format(1))
    suite.passes()
    suite.passes()
    assert suite.ran() == ["a"]
    suite.write("conftest.py", hook.format(2))
    suite.write("test_it.py", test.format(2))
    suite.passes()
    assert suite.ran() == []


def test_a_seed_that_fails_leaves_no_template(suite: Suite) -> None:
    suite.revisions("a")
    suite.write("conftest.py", "def pytest_migrate_ext_seed(database):\n    1 / 0\n")
    suite.write("test_it.py", USES)
    suite.run().says("ZeroDivisionError")
    assert len(suite.databases("t")) == 1
    assert suite.databases("c") == []


def test_workers_of_xdist_share_each_template(suite: Suite) -> None:
    suite.revision("a", "import time; time.sleep(0.5)")
    suite.revision("b")
    suite.write(
        "test_it.py",
        """
import pytest

@pytest.mark.parametrize("n", range(12))
def test_fresh(migrated_db, migrated_db_session, migrated_db_at, migrated_db_at_session, empty_db, empty_db_session, alembic_runner, n):
    migrated_db.execute("INSERT INTO b VALUES (1)")
    for database, revision in (migrated_db_at("a"), "a"), (migrated_db_at_session("heads"), "b"):
        assert database.execute("TABLE alembic_version") == [(revision,)]
    empty_db.execute("CREATE TABLE x ()")
    empty_db_session.execute(f"CREATE TABLE x{n} ()")
    assert alembic_runner.current == "base"
""",
    )
    suite.passes("-n", "4").says("12 passed")
    assert suite.ran() == ["a", "b", "a"]  # at the heads, and at a
    assert len(suite.databases("t")) == 2
    assert suite.databases("c") == []


def test_two_runs_at_once_build_one_template(suite: Suite) -> None:
    suite.revision("a", "import time; time.sleep(1)")
    suite.write("test_it.py", USES)
    runs = [suite.start(), suite.start()]
    outputs = [run.communicate(timeout=120)[0] for run in runs]
    assert [run.returncode for run in runs] == [0, 0], outputs
    assert suite.ran() == ["a"]
    assert suite.databases("c") == []


def test_a_run_that_dies_while_it_builds_leaves_no_half_made_template(suite: Suite) -> None:
    suite.revisions("a")
    suite.revision(
        "b", 'op.execute("COMMIT"); import os; os.environ.get("DIE") and os.kill(os.getpid(), 9)'
    )
    suite.write("test_it.py", USES)
    assert suite.run(DIE="1").code == -signal.SIGKILL
    assert suite.databases("t") == []
    assert len(suite.databases("c")) == 1
    assert suite.ran() == ["a", "b"]
    suite.passes()
    assert suite.ran() == ["a", "b"]
    assert suite.databases("c") == []


def test_a_killed_worker_costs_its_test_and_leaves_no_database(suite: Suite) -> None:
    suite.revisions("a")
    suite.write(
        "test_it.py",
        """
import os
import pytest

@pytest.mark.parametrize("n", range(8))
def test_one(migrated_db, n):
    migrated_db.execute("INSERT INTO a VALUES (1)")
    if n == 3:
        os.kill(os.getpid(), 9)
""",
    )
    suite.run("-n", "2").says("7 passed", "1 failed", "crashed")
    suite.write("test_it.py", USES)
    suite.passes()
    assert suite.ran() == ["a"]
    assert suite.databases("c") == []


def test_a_template_that_is_dropped_under_us_is_made_again(suite: Suite) -> None:
    suite.revisions("a")
    suite.write(
        "test_it.py",
        """
import os
import psycopg
import pytest

@pytest.mark.parametrize("n", range(3))
def test_one(migrated_db, n):
    migrated_db.execute("TABLE a")
    with psycopg.connect(os.environ["TEST_DATABASE_URL"], autocommit=True) as connection:
        for (name,) in connection.execute("SELECT datname FROM pg_database WHERE datname ~ '^migrate_ext_t_'"):
            connection.execute(f"ALTER DATABASE {name} IS_TEMPLATE false")
            connection.execute(f"DROP DATABASE {name}")
""",
    )
    suite.passes()
    assert suite.ran() == ["a"] * 3


def test_rebuild_builds_once_in_the_run(suite: Suite) -> None:
    suite.revisions("a")
    suite.write(
        "test_it.py",
        """
import pytest

@pytest.mark.parametrize("n", range(8))
def test_one(migrated_db, migrated_db_at, n):
    migrated_db_at("a")
""",
    )
    suite.passes()
    assert suite.ran() == ["a"]
    suite.passes("--migrate-ext-rebuild", "-n", "2")
    assert suite.ran() == ["a"]
    suite.passes()
    assert suite.ran() == []
    assert len(suite.databases("t")) == 1


# The second worker begins when the first has ended its test, and may be done: it must not drop what that one keeps.
KEEP = """
import os, time

def test_one(migrated_db):
    open("done", "w").close()

def test_two(request):
    deadline = time.monotonic() + 60
    while not os.path.exists("done") and time.monotonic() < deadline:
        time.sleep(0.01)
    request.getfixturevalue("empty_db")
"""


@pytest.mark.parametrize("workers", ["0", "2"])
def test_keep_leaves_the_databases_and_names_them(suite: Suite, workers: str) -> None:
    suite.revisions("a")
    suite.write("test_it.py", KEEP)
    outcome = suite.passes("--migrate-ext-keep", "-n", workers)
    kept = suite.databases("c")
    assert len(kept) == 2
    outcome.says("databases kept", *kept)
    assert str(suite.server.password) not in outcome.output


def test_old_templates_are_dropped(suite: Suite) -> None:
    suite.write(
        "pytest.ini", "[pytest]\nmigrate_ext_keep_days = 3\nmigrate_ext_keep_templates = 3\n"
    )
    suite.revisions("a")
    suite.write("test_it.py", USES)
    suite.passes()
    (first,) = suite.databases("t")
    with suite.connect() as connection:
        comment = connection.execute(
            "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = %s",
            [first],
        ).fetchone()
        assert comment is not None
        for number, hours in enumerate((1, 12, 24, 36, 100)):
            connection.execute(f"CREATE DATABASE migrate_ext_t_{number}")
            used = time.time() - hours * 3600
            text = str(comment[0]).replace('"used": ', f'"used": {used}, "was": ')
            connection.execute(f"COMMENT ON DATABASE migrate_ext_t_{number} IS '{text}'")
    suite.revisions("b")
    suite.passes()
    left = set(suite.databases("t"))
    assert {"migrate_ext_t_2", "migrate_ext_t_3", "migrate_ext_t_4"} & left == set()
    assert {first, "migrate_ext_t_0"} < left


def test_what_alter_database_set_is_in_the_copies_too(suite: Suite) -> None:
    suite.revision(
        "a",
        """for setting in ('search_path = app, "Two Words", public', "work_mem = '7MB'", "my.own = 'x, y'"):
        op.execute(f"ALTER DATABASE {op.get_bind().engine.url.database} SET {setting}")""",
    )
    suite.write(
        "test_it.py",
        """
def test_settings(migrated_db):
    shown = [migrated_db.execute(f"SHOW {name}")[0][0] for name in ("search_path", "work_mem", "my.own")]
    assert shown == ['app, "Two Words", public', "7MB", "x, y"]
""",
    )
    suite.passes()


def test_loggers_and_their_handlers_stay_pytests(suite: Suite) -> None:
    suite.write("env.py", "import logging.config\nlogging.config.fileConfig('alembic.ini')\n" + ENV)
    suite.revisions("a")
    suite.write(
        "test_it.py",
        """
import logging
log = logging.getLogger("app")

def test_logs(caplog, migrated_db):
    log.warning("seen")
    assert caplog.messages[-1] == "seen"
""",
    )
    suite.passes()


def test_an_env_py_that_goes_to_another_database_is_stopped(suite: Suite) -> None:
    suite.revisions("a")
    with suite.connect() as connection:
        connection.execute("DROP DATABASE IF EXISTS migrate_ext_elsewhere")
        connection.execute("CREATE DATABASE migrate_ext_elsewhere")
        try:
            url = suite.server.set(database="migrate_ext_elsewhere").render_as_string(
                hide_password=False
            )
            suite.write("env.py", f"import os\nos.environ['DATABASE_URL'] = {url!r}\n" + ENV)
            suite.write("test_it.py", USES)
            suite.run().says(
                "connected to the database 'migrate_ext_elsewhere'", "migrate_ext_url_variable"
            )
            assert suite.ran() == []
            assert suite.databases("t") == []
        finally:
            connection.execute("DROP DATABASE migrate_ext_elsewhere")


CLASSIC = """
import os
import sqlalchemy
from alembic import context

engine = sqlalchemy.create_engine({url})
with engine.connect() as connection:
    context.configure(connection=connection)
    with context.begin_transaction():
        context.run_migrations()
"""


@pytest.mark.parametrize(
    "url",
    [
        "context.config.get_main_option('sqlalchemy.url')",
        "os.environ['DATABASE_URL']",
        "os.environ['MY_URL']",
    ],
)
def test_a_classic_env_py_is_told_its_database_in_each_usual_way(suite: Suite, url: str) -> None:
    suite.write("env.py", CLASSIC.format(url=url))
    suite.write("pytest.ini", "[pytest]\nmigrate_ext_url_variable = MY_URL\n")
    suite.revisions("a")
    suite.write("test_it.py", USES)
    suite.passes()
    suite.passes()
    assert suite.ran() == ["a"]


def test_a_thin_env_py_may_name_its_variable(suite: Suite) -> None:
    suite.write("env.py", ENV.replace("(", "(url_variable='APP_DB', ", 1))
    suite.revisions("a")
    suite.write("test_it.py", "import os\n" + USES + "    assert 'APP_DB' not in os.environ\n")
    suite.passes()


def test_a_url_without_a_driver_gets_the_projects(suite: Suite) -> None:
    suite.revisions("a")
    suite.write(
        "test_it.py", USES + "    assert migrated_db.url.startswith('postgresql+psycopg2://')\n"
    )
    suite.passes(DATABASE_URL="postgresql+psycopg2://nobody@nowhere/nothing")


def test_inside_a_running_event_loop(suite: Suite) -> None:
    suite.write("env.py", "import asyncio\nasyncio.run(asyncio.sleep(0))\n" + ENV)
    suite.revisions("a")
    suite.write(
        "test_it.py",
        """
import asyncio

def test_loop(migrated_db_at):
    async def main():
        return migrated_db_at("a")
    asyncio.run(main()).execute("TABLE a")
""",
    )
    suite.passes()


def test_a_file_that_the_core_declines_is_read_with_alembic(suite: Suite) -> None:
    suite.revisions("a", "b")
    suite.write("test_it.py", USES)
    suite.passes()
    suite.ran()
    (suite.folder / "versions" / "link.py").symlink_to("b.py")
    suite.passes()


def test_a_migration_that_fails_says_so_in_the_test(suite: Suite) -> None:
    suite.revisions("a")
    suite.revision("b", 'op.execute("SELECT nothing")')
    suite.write("test_it.py", USES)
    suite.run().says('column "nothing" does not exist', "versions/b.py")
    assert suite.databases() == []


def test_a_suite_without_us_pays_for_nothing(suite: Suite) -> None:
    suite.write(
        "test_it.py",
        """
import sys

def test_imports():
    heavy = {"alembic", "sqlalchemy", "psycopg", "asyncio"}
    if sys.version_info >= (3, 14):
        heavy.remove("asyncio")  # pytest imports pdb, which imports it
    assert not heavy & set(sys.modules)
    ours = {n for n in sys.modules if n.startswith("migrate_ext.testing")}
    assert ours == {"migrate_ext.testing", "migrate_ext.testing.alembic_fixtures", "migrate_ext.testing.plugin"}
""",
    )
    process = suite.start()
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output


PYPROJECT = """
[tool.alembic]
script_location = "%(here)s"
prepend_sys_path = ["%(here)s"]
"""


@pytest.mark.parametrize(
    ("name", "text", "options", "variables"),
    [
        ("conf/my.ini", INI, "migrate_ext_config = conf/my.ini", {}),
        ("conf/my.ini", INI, "", {"ALEMBIC_CONFIG": "conf/my.ini"}),
        ("pyproject.toml", PYPROJECT, "", {}),
    ],
)
def test_the_configuration_may_be_elsewhere(
    suite: Suite, name: str, text: str, options: str, variables: dict[str, str]
) -> None:
    os.unlink(suite.folder / "alembic.ini")
    here = "%(here)s/.." if "/" in name else "%(here)s"
    suite.write(name, text.replace("%(here)s", here))
    suite.write("pytest.ini", f"[pytest]\n{options}\n")
    suite.revisions("a")
    suite.write("test_it.py", USES)
    suite.passes(**variables)
    assert suite.ran() == ["a"]


def test_empty_databases_are_copies_of_the_one_that_is_named(suite: Suite) -> None:
    suite.write("pytest.ini", "[pytest]\nmigrate_ext_base = migrate_ext_my_base\n")
    suite.revisions("a")
    suite.write(
        "test_it.py",
        "def test_extra(empty_db, migrated_db):\n    empty_db.execute('TABLE extra'), migrated_db.execute('TABLE extra')\n",
    )
    suite.run().says("the database 'migrate_ext_my_base' of migrate_ext_base is not there")
    with suite.connect() as connection:
        connection.execute("CREATE DATABASE migrate_ext_my_base")
        try:
            url = suite.server.set(drivername="postgresql", database="migrate_ext_my_base")
            with psycopg.connect(url.render_as_string(hide_password=False)) as base:
                base.execute("CREATE TABLE extra ()")
            suite.passes()
        finally:
            connection.execute("DROP DATABASE migrate_ext_my_base")


def test_no_server_is_a_clear_message(suite: Suite) -> None:
    suite.write("conftest.py", "from migrate_ext.testing import embedded\n\nembedded.WHEELS = ()\n")
    suite.write("test_it.py", USES)
    suite.run(TEST_DATABASE_URL="").says(
        "migrate_ext has no PostgreSQL server",
        "set TEST_DATABASE_URL, or override the fixture migrate_ext_server_url, or pip install 'migrate-ext[pytest-server]'",
    )


def test_no_configuration_is_a_clear_message(suite: Suite) -> None:
    os.unlink(suite.folder / "alembic.ini")
    suite.write("test_it.py", USES)
    suite.run().says("migrate_ext found no", "migrate_ext_config")


RESTART = """
from pathlib import Path
from migrate_ext.testing import embedded

home, programs = {home!r}, Path({programs!r})

def restart():
    embedded.run(programs / "pg_ctl", "-D", home + "/data", "-l", home + "/log", "-m", "fast", "-w", "restart", home=home)

def test_one(migrated_db):
    restart()
    assert migrated_db.execute("TABLE a") == []

def test_two(migrated_db, empty_db):
    migrated_db.execute("INSERT INTO a VALUES (1)")

def test_three(migrated_db, migrated_db_at):
    restart()
    assert migrated_db_at("a").execute("TABLE a") == []
"""


def test_a_server_that_is_restarted_between_tests(suite: Suite) -> None:
    home, private = embedded.make_home(), suite.server
    try:
        programs = embedded.programs(home)
        server = embedded.boot(home, programs)
        suite.revisions("a")
        suite.write("test_it.py", RESTART.format(home=home, programs=str(programs)))
        suite.passes("-W", "error", TEST_DATABASE_URL=server.url())
        suite.server = make_url(server.url())
        assert suite.databases("c") == []
        assert suite.ran() == ["a"]
    finally:
        suite.server = private
        embedded.stop(home)


def test_without_a_server_the_workers_share_a_private_one_that_ends_with_them(suite: Suite) -> None:
    suite.revisions("a")
    suite.write(
        "test_it.py",
        """
import pytest

@pytest.mark.parametrize("n", range(4))
def test_one(migrated_db, migrate_ext_server_url, n):
    with open("urls", "a") as file:
        file.write(migrate_ext_server_url + "\\n")
""",
    )
    suite.passes("-n", "2", TEST_DATABASE_URL="")
    (url,) = set((suite.folder / "urls").read_text().split())
    assert suite.ran() == ["a"]
    with pytest.raises(psycopg.OperationalError):
        _connect_until_it_is_refused(url)


def _connect_until_it_is_refused(url: str) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        psycopg.connect(url).close()
        time.sleep(0.1)


def test_a_server_of_ones_own_is_handed_in_by_a_fixture(suite: Suite) -> None:
    suite.revisions("a")
    url = suite.variables["TEST_DATABASE_URL"]
    suite.write(
        "tests/conftest.py",
        f"import pytest\n\n@pytest.fixture(scope='session')\ndef migrate_ext_server_url():\n    yield {url!r}\n",
    )
    suite.write("tests/test_it.py", USES)
    suite.passes(TEST_DATABASE_URL="postgresql://nowhere.invalid/x")
    suite.passes(
        "--migrations", "-k", "revision", TEST_DATABASE_URL="postgresql://nowhere.invalid/x"
    )


# A thing with the attributes of pytest-postgresql's `postgresql_proc` and `postgresql_noproc`.
OF_PARTS = """
from types import SimpleNamespace

import pytest
from sqlalchemy import URL

@pytest.fixture(scope="session")
def postgresql_proc():
    return SimpleNamespace(host={0.host!r}, port={0.port}, user={0.username!r}, password={0.password!r}, dbname="tests")

@pytest.fixture(scope="session")
def migrate_ext_server_url(postgresql_proc):
    p = postgresql_proc
    return URL.create("postgresql", p.user, p.password, p.host, p.port)
"""


def test_a_server_is_handed_in_as_its_parts_whatever_is_in_the_password(suite: Suite) -> None:
    role, password = "migrate_ext_parts", "p@ss:w/%41#?"
    suite.revisions("a")
    suite.write("conftest.py", OF_PARTS.format(suite.server.set(username=role, password=password)))
    suite.write("test_it.py", USES)
    with suite.connect() as connection:
        connection.execute(f"CREATE ROLE {role} LOGIN CREATEDB PASSWORD '{password}'")
        try:
            suite.passes(TEST_DATABASE_URL="")
            assert suite.ran() == ["a"]
        finally:
            suite.drop_all()
            connection.execute(f"DROP ROLE {role}")


ASYNC = """
import asyncio
import os
from alembic import context
from sqlalchemy.ext.asyncio import create_async_engine

def run(connection):
    context.configure(connection=connection)
    with context.begin_transaction():
        context.run_migrations()

async def main():
    engine = create_async_engine(os.environ["DATABASE_URL"])
    async with engine.connect() as connection:
        await connection.run_sync(run)
    await engine.dispose()

asyncio.run(main())
"""
USES_DRIVER = """
import asyncio
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine

def test_uses(migrated_db):
    assert migrated_db.execute("TABLE a") == []
    with migrated_db.connect() as connection:
        connection.execute("INSERT INTO a VALUES (1)")
    with migrated_db.engine.connect() as connection:
        assert connection.scalar(sa.text("SELECT id FROM a")) == 1
    if migrated_db.engine.driver == "psycopg2":
        assert migrated_db.url.startswith("postgresql+psycopg2://")
    else:
        asyncio.run(asynchronous(migrated_db.url))

async def asynchronous(url):
    engine = create_async_engine(url)
    async with engine.connect() as connection:
        assert (await connection.exec_driver_sql("TABLE a")).all() == [(1,)]
    await engine.dispose()
"""


@pytest.mark.parametrize(
    ("scheme", "options", "env"),
    [
        ("postgres", "", CLASSIC),
        ("postgresql+psycopg", "", CLASSIC),
        ("postgresql+psycopg2", "", CLASSIC),  # as testcontainers gives it
        ("postgresql+asyncpg", "?ssl=disable&prepared_statement_cache_size=0", ASYNC),
    ],
)
def test_a_url_that_names_a_driver_is_used_with_it(
    suite: Suite, scheme: str, options: str, env: str
) -> None:
    suite.write("env.py", env.replace("{url}", "os.environ['DATABASE_URL']"))
    suite.revisions("a")
    url = suite.variables["TEST_DATABASE_URL"].replace("postgresql://", f"{scheme}://") + options
    suite.write(
        "conftest.py",
        f"import pytest\n\n@pytest.fixture(scope='session')\ndef migrate_ext_server_url():\n    yield {url!r}\n",
    )
    suite.write("test_it.py", USES_DRIVER)
    suite.passes(
        "--migrations", "-k", "uses or revision", "conftest.py", "test_it.py", TEST_DATABASE_URL=""
    ).says("2 passed")
