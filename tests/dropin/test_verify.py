"""``migrate-ext verify`` finds a difference between Alembic and migrate_ext on a user's project, and uses only its own databases."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import alembic
import psycopg
import pytest
from alembic import command
from alembic.config import Config
from psycopg import sql
from recording_project import RecordingProject
from sample_project import ROOT, copy_project
from sqlalchemy.engine import URL, make_url

from migrate_ext.cli.command_line import CommandLine, main
from migrate_ext.testing.databases import Databases
from migrate_ext.verify.places import Cannot, Project
from migrate_ext.verify.run import Result, verify
from migrate_ext.verify.sides import Step, steps

TEMPLATES = sorted(p.name for p in (Path(alembic.__file__).parent / "templates").iterdir())
UP, SQL = Step(("upgrade", "heads")), Step(("upgrade", "heads", "--sql"))
ONLY_HERE = "    import os\n    if os.environ.get('MIGRATE_EXT') != '0':\n        {}\n"


@pytest.fixture
def databases(server_url: URL) -> Iterator[Databases]:
    found = Databases(server_url.render_as_string(hide_password=False))
    yield found
    found.close()


@pytest.fixture
def named(make_database: Callable[[], str], monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The database that DATABASE_URL names: nothing may be in it afterwards."""
    url = make_database()
    monkeypatch.setenv("DATABASE_URL", url)
    yield url
    with connect(url) as connection:
        (found,) = connection.execute("SELECT count(*) FROM pg_class WHERE oid >= 16384").fetchall()
    assert found == (0,)


def connect(url: str) -> psycopg.Connection[tuple[object, ...]]:
    bare = make_url(url).set(drivername="postgresql")
    return psycopg.connect(bare.render_as_string(hide_password=False), autocommit=True)


def project(folder: Path, monkeypatch: pytest.MonkeyPatch, **options: object) -> RecordingProject:
    """A project of tests/support/recording_project.py, in which we stand."""
    made = RecordingProject(folder / "project", os.environ["DATABASE_URL"], **options)  # type: ignore[arg-type]
    monkeypatch.chdir(made.folder)
    monkeypatch.setenv("PYTHONPATH", f"{made.folder}{os.pathsep}{ROOT}")
    return made


def here(*variables: str, arguments: tuple[str, ...] = ()) -> Project:
    return Project(arguments, "alembic.ini", "pyproject.toml", "alembic", variables)


def run(databases: Databases, *steps: Step) -> Result:
    return verify(here(), databases, history=steps or (UP,))


@pytest.mark.parametrize(
    ("line", "what", "shown"),
    [
        ("print('planted')", "stdout", "+planted"),
        ("import logging; logging.getLogger('alembic').warning('planted')", "stderr", "planted"),
        ("raise SystemExit(3)", "exit code", "Alembic exits with 0, migrate_ext with 3"),
        ("op.execute('CREATE TABLE planted (n int)')", "catalogue", "+CREATE TABLE public.planted"),
        ("op.execute('INSERT INTO ran VALUES (9)')", "rows", "2 rows by Alembic, 3 by migrate_ext"),
        ("op.execute('UPDATE ran SET n = 7 WHERE n = 1')", "rows", "different: n"),
        ("op.get_bind().exec_driver_sql(\"SELECT nextval('s')\").all()", "rows", "different: is_called"),
        ("op.execute(\"ALTER DATABASE \" + os.environ['PGDATABASE'] + \" SET jit TO off\")",
         "catalogue", "SET jit=off"),
    ],
)  # fmt: skip
def test_each_kind_of_difference_is_found_and_shown(
    named: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    databases: Databases,
    line: str,
    what: str,
    shown: str,
) -> None:
    body = f"    op.execute('CREATE SEQUENCE s')\n    op.execute('INSERT INTO ran VALUES (2)')\n{ONLY_HERE.format(line)}"
    project(tmp_path, monkeypatch, count=2, body={2: body})
    result = verify(here(), databases, history=[UP], again=1)
    assert result.code == 1
    assert result.first_difference is not None
    compared, way = result.first_difference
    _, verdict = compared.ways[way]
    assert (verdict.what, way) == (what, "drop-in")
    assert shown in verdict.how


def test_a_difference_of_migrate_ext_alone_is_found(
    named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, databases: Databases
) -> None:
    line = "    import sys\n    if sys.argv[0] == 'migrate-ext':\n        raise SystemExit(3)\n"
    project(tmp_path, monkeypatch, way="migrate_ext", count=2, body={2: line})
    result = run(databases)
    assert result.first_difference is not None
    assert result.first_difference[1] == "migrate-ext"


def test_columns_that_differ_between_two_runs_of_alembic_are_noted_and_no_difference(
    named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, databases: Databases
) -> None:
    body = (
        "    import time, uuid\n    print('at', time.time_ns(), uuid.uuid4())\n"
        "    op.execute('CREATE TABLE t (id uuid DEFAULT gen_random_uuid(), at timestamp DEFAULT now(), n int)')\n"
        "    op.execute('INSERT INTO t (n) SELECT 1 FROM generate_series(1, 9)')\n"
    )
    project(tmp_path, monkeypatch, count=2, body={2: body})
    result = run(databases)
    assert result.code == 0, result.first_difference
    notes = [note for _, verdict in result.compared[0].ways.values() for note in verdict.notes]
    assert "public.t: at, id: different in two runs of Alembic itself" in notes
    assert any(note.startswith("stdout") for note in notes)


def test_a_history_that_alembic_cannot_run_proves_nothing(
    named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, databases: Databases
) -> None:
    fails = "    op.execute('ALTER TABLE nowhere ADD n int')\n"
    project(tmp_path, monkeypatch, way="migrate_ext", count=2, body={2: fails})
    result = run(databases)
    assert (result.first_difference, result.code) == (None, 2)
    assert result.failed is not None
    assert 'relation "nowhere" does not exist' in result.failed.stock.stderr
    with pytest.raises(Cannot, match='relation "nowhere" does not exist'):
        verify(here(), databases, start="heads", history=[UP])


def test_roles_that_the_sides_share_are_not_taken_for_a_difference(
    named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, databases: Databases
) -> None:
    name = f"verify_{os.getpid()}"
    project(tmp_path, monkeypatch, count=1, body={1: f"    op.execute('CREATE ROLE {name}')\n"})
    try:
        result = run(databases)
    finally:
        databases.query(sql.SQL("DROP ROLE {}").format(sql.Identifier(name)))
    assert (result.code, result.shared) == (2, (f"role {name}",))


# -------------------------------------------------------------------------------------------------
# The database that the URL names


ELSEWHERE = """\
import os
import sqlalchemy as sa
from alembic import context
url = {url!r}
bare = {bare!r}
{connect}
with engine.connect() as connection:
    context.configure(connection=connection)
    with context.begin_transaction():
        context.run_migrations()
"""


@pytest.mark.parametrize(
    "how",
    [
        "engine = sa.create_engine(url)",
        "import psycopg2; engine = sa.create_engine('postgresql+psycopg2://', creator=lambda: psycopg2.connect(bare))",
        "import psycopg; engine = sa.create_engine('postgresql+psycopg://', creator=lambda: psycopg.Connection.connect(bare))",
        "import psycopg; psycopg.connect(bare).execute('CREATE TABLE x ()').connection.commit()",
        "import asyncio, asyncpg; asyncio.run(asyncpg.connect(bare)).close()",
        "import asyncio, psycopg; asyncio.run(psycopg.AsyncConnection.connect(bare))",
        "import os, psycopg; os.environ['PGDATABASE'] = sa.make_url(url).database; psycopg.connect(bare.rpartition('/')[0])",
        "try:\n    sa.create_engine(url).connect()\nexcept Exception: pass\n"
        "engine = sa.create_engine(os.environ['DATABASE_URL'])",
    ],
)
def test_a_project_that_goes_elsewhere_is_stopped_before_it_is_there(
    named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, databases: Databases, how: str
) -> None:
    made = project(tmp_path, monkeypatch, count=1)
    bare = make_url(named).set(drivername="postgresql").render_as_string(hide_password=False)
    (made.folder / "env.py").write_text(ELSEWHERE.format(url=named, bare=bare, connect=how))
    with pytest.raises(Cannot, match=f"{make_url(named).database}.*--url-variable NAME"):
        run(databases)


def test_a_thin_env_py_with_another_variable_is_stopped_too(
    named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, databases: Databases
) -> None:
    made = project(tmp_path, monkeypatch, way="migrate_ext", count=1)
    env = made.folder / "env.py"
    env.write_text(
        env.read_text().replace("environment(m", 'environment(url_variable="APP" + "_DB", m')
    )
    monkeypatch.setenv("APP_DB", named)  # the same database: it gets the scratch one's, too
    assert run(databases, Step(("current",))).code == 0
    monkeypatch.setenv("APP_DB", f"{named}x")
    with pytest.raises(Cannot, match=f"{make_url(named).database}x"):
        run(databases, Step(("current",)))
    assert verify(here("APP_DB"), databases, history=[Step(("current",))]).code == 0
    monkeypatch.setenv("DATABASE_URL", "mysql://x/y")  # of something else
    assert here("APP_DB").url is not None


def test_a_variable_that_holds_a_part_of_the_url_is_given_its_form(
    named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, databases: Databases
) -> None:
    made = project(tmp_path, monkeypatch, count=1)
    env = made.folder / "env.py"
    part = "make_url(os.environ['DATABASE_URL']).set(database=os.environ['APP_DB'])"
    env.write_text(env.read_text().replace('os.environ["DATABASE_URL"]', part))
    monkeypatch.setenv("APP_DB", str(make_url(named).database))
    with pytest.raises(Cannot):
        run(databases)
    assert verify(here("APP_DB={database}"), databases, history=[UP]).code == 0


def test_the_database_may_come_from_the_ini_file_or_from_x(
    named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, databases: Databases
) -> None:
    monkeypatch.setenv("DATABASE_URL", named.replace("%", "%%"))
    made = project(tmp_path, monkeypatch, count=1, settings=f"sqlalchemy.url = {named}")
    monkeypatch.delenv("DATABASE_URL")
    env = made.folder / "env.py"
    classic = env.read_text()
    for source in (
        "config.get_main_option('sqlalchemy.url')",
        "context.get_x_argument(as_dictionary=True)['db']",
    ):
        env.write_text(classic.replace('os.environ["DATABASE_URL"]', source))
        result = verify(here(arguments=("-x", f"db={named}")), databases, history=[UP])
        assert result.code == 0
        assert result.compared[0].stock.code == 0


# -------------------------------------------------------------------------------------------------
# Projects


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_template_of_alembics(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: str, databases: Databases, template: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with open(os.devnull, "w") as nothing:
        config = Config("alembic.ini", stdout=nothing)
        if "pyproject" in template:
            config = Config("alembic.ini", toml_file="pyproject.toml", stdout=nothing)
        command.init(config, "migrations", template)
        command.revision(config, "a table", rev_id="aaaa1")
    (path,) = Path("migrations/versions").glob("*.py")
    table = 'op.create_table("t", sa.Column("a", sa.Text, index=True), sa.Column("b", sa.Text, index=True))'
    body = re.compile(
        r'(def (up|down)grade(_engine\d)?\(\) -> None:\n(?:    """.*"""\n)?)(    pass\n)?'
    )
    path.write_text(
        body.sub(
            lambda found: (
                found[1] + f"    {table if found[2] == 'up' else 'op.drop_table(str(chr(116)))'}\n"
            ),
            path.read_text(),
        )
    )
    result = run(databases, SQL, UP)
    assert result.code == 0, result.first_difference
    assert [x.stock.code for x in result.compared] == [0, 0]
    for snapshot in result.compared[1].stock.databases:
        # The URL of a template is a placeholder: it is offered DATABASE_URL's server.
        expected = "public.t" in snapshot.tables
        assert expected or template == "multidb"
    if template == "multidb":
        assert sum("public.t" in x.tables for x in result.compared[1].stock.databases) == 2


def test_the_sample_on_a_private_server_as_json(tmp_path: Path) -> None:
    copy_project(tmp_path / "sample")
    done = cli(tmp_path / "sample", "verify", "--json", DATABASE_URL=None)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert (found["result"], found["kept"], found["alembic_ran_again"]) == ("same", [], 0)
    assert len(found["steps"]) == 9
    for step in found["steps"]:
        assert {way: x["different"] for way, x in step["here"].items()} == {
            "alembic": None,
            "migrate-ext": None,
        }
    assert found["counters"]["alembic"]["statements"] > 100


def test_kept_databases_are_named_without_a_password(
    tmp_path: Path,
    named: str,
    monkeypatch: pytest.MonkeyPatch,
    databases: Databases,
    capfd: pytest.CaptureFixture[str],
) -> None:
    project(tmp_path, monkeypatch, count=2)
    monkeypatch.setattr("migrate_ext.verify.run.steps", lambda start: steps(start)[3:5])
    assert main(["verify", "--keep", "--from", "r0001"], "migrate-ext") == 0
    said = "".join(capfd.readouterr())
    assert "upgrade r0001:heads --sql  same" in said
    kept = re.findall(r"^kept: (.*)", said, re.M)
    assert len(kept) == 2
    password = make_url(named).password
    assert password is None or password not in said
    for url in kept:
        name = make_url(url).database
        assert databases.query("SELECT count(*) FROM pg_database WHERE datname = %s", [name]) == [
            (1,)
        ]
        databases.query(sql.SQL("DROP DATABASE {}").format(sql.Identifier(name)))


def cli(folder: Path, *arguments: str, **variables: str | None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "migrate_ext", *arguments],
        cwd=folder,
        env={k: v for k, v in {**os.environ, "PYTHONPATH": str(ROOT), **variables}.items() if v},
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_verify_stopped_by_a_signal_drops_its_scratch_databases(
    named: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    databases: Databases,
    number: int,
    code: int,
) -> None:
    made = project(
        tmp_path, monkeypatch, count=1, body={1: "    op.execute('SELECT pg_sleep(600)')\n"}
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "migrate_ext", "verify"],
        cwd=made.folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    asleep = "SELECT datname::text FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(600)'"
    deadline = time.monotonic() + 60
    while not (names := databases.query(asleep)):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.05)
    process.send_signal(number)
    assert process.wait(60) == code
    assert databases.query("SELECT FROM pg_database WHERE datname = %s", list(names[0])) == []


def test_a_role_that_may_make_no_database_is_told_what_to_do(
    named: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    databases: Databases,
    capfd: pytest.CaptureFixture[str],
) -> None:
    name = f"verify_{os.getpid()}"
    databases.query(sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'secret'").format(sql.Identifier(name)))
    try:
        url = make_url(named).set(username=name, password="secret")
        monkeypatch.setenv("DATABASE_URL", url.render_as_string(hide_password=False))
        project(tmp_path, monkeypatch, count=1)
        assert main(["verify"], "migrate-ext") == 2
    finally:
        databases.query(sql.SQL("DROP ROLE {}").format(sql.Identifier(name)))
    said = capfd.readouterr().err
    assert f"ALTER ROLE {name} CREATEDB" in said and "--embedded" in said and "secret" not in said


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"DATABASE_URL": "sqlite:///x"}, "DATABASE_URL holds no URL of PostgreSQL"),
        ({"DATABASE_URL": "postgresql://u:secret@127.0.0.1:1/x"}, "cannot be used: .*--embedded"),
    ],
)
def test_verify_that_cannot_run_says_why_in_one_message(
    named: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    variables: dict[str, str],
    words: str,
) -> None:
    project(tmp_path, monkeypatch, count=1)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert main(["verify", "--keep"], "migrate-ext") == 2
    said = capfd.readouterr().err
    assert re.search(f"could not be done: .*{words}", said, re.S)
    assert "secret" not in said and "Traceback" not in said


def test_an_argument_named_verify_is_not_taken_for_the_command() -> None:
    assert CommandLine(["verify"]).command == "verify"
    line = CommandLine(["-c", "verify", "--name=x", "-q", "verify", "--json"])
    assert (line.command, line.after) == ("verify", ["--json"])
    for other in (
        "revision -m verify",
        "-c verify history",
        "-x verify stamp verify",
        "stamp verify",
    ):
        assert CommandLine(other.split()).command != "verify"
