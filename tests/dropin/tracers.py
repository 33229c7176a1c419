"""Libraries that trace or comment statements report the same statements with and without the runtime.

For `make compat`, which installs the libraries and names this file; no other run of pytest collects it. One history runs in
two processes, without the runtime and with it, the library set up as its documentation says, by ``env.py`` or before it by
``sitecustomize``. Compared are the list of what the library reports, and the texts that reached the server: comments
are in those.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from sample_project import ROOT
from sqlalchemy.engine import make_url

SYNC = ("psycopg", "psycopg2")
DRIVERS = (*SYNC, "psycopg_async")

# A watcher is a module with these, where it does not have its own. `seen()`: what the library has reported.
WATCH = """
import contextlib

reported = []
watching = contextlib.nullcontext  # around a run: what the library calls a transaction


def watch_engine(engine):
    pass


def seen():
    return reported
"""
OPENTELEMETRY = """
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

exporter = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))
trace.set_tracer_provider(provider)


def seen():
    attributes = [span.attributes for span in exporter.get_finished_spans()]
    return [a["db.statement"] for a in attributes if "db.statement" in a]
"""
DRIVER_INSTRUMENTORS = """
from opentelemetry.instrumentation.psycopg import PsycopgInstrumentor
from opentelemetry.instrumentation.psycopg2 import Psycopg2Instrumentor

PsycopgInstrumentor().instrument(skip_dep_check=True, enable_commenter={comments})
Psycopg2Instrumentor().instrument(skip_dep_check=True, enable_commenter={comments})
"""
SQLALCHEMY_INSTRUMENTOR = """
from opentelemetry.instrumentation.sqlalchemy import SQLAlchemyInstrumentor

SQLAlchemyInstrumentor().instrument(skip_dep_check=True, enable_commenter=True, commenter_options={})
"""
DDTRACE = """
import os

os.environ.update(DD_INSTRUMENTATION_TELEMETRY_ENABLED="false", DD_REMOTE_CONFIGURATION_ENABLED="false")
os.environ.update(DD_DBM_PROPAGATION_MODE="{mode}", DD_TRACE_STARTUP_LOGS="false")
import ddtrace
from ddtrace.trace import TraceFilter, tracer


class Collect(TraceFilter):
    def process_trace(self, trace):
        reported.extend(trace)
        return None  # nothing is sent to an agent


tracer.configure(trace_processors=[Collect()])
ddtrace.patch(psycopg=True, sqlalchemy={sqlalchemy})


def seen():
    spans = sorted(reported, key=lambda span: span.start_ns)
    return [f"{{span.name}}: {{span.resource}}" for span in spans]
"""
SENTRY = """
import sentry_sdk


class Collect(sentry_sdk.transport.Transport):
    def capture_envelope(self, envelope):
        for item in envelope.items:
            event = item.get_transaction_event() or item.get_event() or {}
            spans = [s for s in event.get("spans", ()) if s["op"] == "db"]
            reported.extend(f"span: {s['description']}" for s in spans)
            crumbs = event.get("breadcrumbs", {}).get("values", ())
            if "message" in event:
                reported.extend(f"crumb: {c['message']}" for c in crumbs if c["category"] == "query")


sentry_sdk.init(
    dsn="https://key@localhost/1", transport=Collect, traces_sample_rate=1.0, max_breadcrumbs=1000
)


@contextlib.contextmanager
def watching():
    with sentry_sdk.start_transaction(op="task", name="migrations"):
        yield
        sentry_sdk.capture_message("the end")
"""
ELASTIC_APM = """
import elasticapm
from elasticapm.transport.base import Transport


class Collect(Transport):
    def queue(self, event_type, data, flush=False):
        if event_type == "span" and "db" in data.get("context", {}):
            reported.append(data["context"]["db"].get("statement", data["name"]))

    def start_thread(self, pid=None):
        pass


client = elasticapm.Client(
    service_name="migrations",
    transport_class=f"{__name__}.Collect",
    central_config=False,
    metrics_interval="0ms",
    cloud_provider="none",
    span_compression_enabled=False,
    transaction_max_spans=10_000,
)
elasticapm.instrument()


@contextlib.contextmanager
def watching():
    client.begin_transaction("task")
    yield
    client.end_transaction("migrations")
"""
NEW_RELIC = """
import os

os.environ.update(NEW_RELIC_DEVELOPER_MODE="true", NEW_RELIC_LOG="off", NEW_RELIC_APP_NAME="migrations")
import newrelic.agent

newrelic.agent.initialize()

from newrelic.core.stats_engine import StatsEngine


def collect(record):
    def record_transaction(self, transaction):
        reported.extend(_statements(transaction.root))
        return record(self, transaction)

    return record_transaction


def _statements(node):
    if hasattr(node, "sql"):
        yield node.sql
    for child in node.children:
        yield from _statements(child)


StatsEngine.record_transaction = collect(StatsEngine.record_transaction)


@contextlib.contextmanager
def watching():
    with newrelic.agent.BackgroundTask(newrelic.agent.register_application(timeout=10), "migrations"):
        yield
"""
# It comments, and reports nothing: what it does is in the texts on the server.
SQLCOMMENTER = """
import sqlalchemy
from google.cloud.sqlcommenter.sqlalchemy.executor import BeforeExecuteFactory


def watch_engine(engine):
    listener = BeforeExecuteFactory(with_db_driver=True, with_db_framework=True)
    sqlalchemy.event.listen(engine, "before_cursor_execute", listener, retval=True)
    sqlalchemy.event.listen(engine, "before_cursor_execute", note)


def note(connection, cursor, statement, *more):
    reported.append(statement)
"""
SQLCOMMENTER_CURSOR = """
from google.cloud.sqlcommenter.psycopg2.extension import CommenterCursorFactory

Cursor = CommenterCursorFactory(with_db_driver=True)


class Noting(Cursor):
    def execute(self, sql, args=None):
        super().execute(sql, args)
        reported.append(self.query.decode())


connect_args = {"cursor_factory": Noting}
"""


@dataclass(frozen=True)
class Library:
    """module: that its package must have. code: beside WATCH, what sets it up. drivers: those that it traces.

    comment: a text that it writes into each statement, as a pattern.
    """

    module: str
    code: str
    drivers: tuple[str, ...] = DRIVERS
    comment: str = ""


LIBRARIES = {
    "OpenTelemetry, drivers": Library(
        "opentelemetry.instrumentation.psycopg",
        OPENTELEMETRY + DRIVER_INSTRUMENTORS.format(comments=False),
    ),
    "OpenTelemetry, drivers, comments": Library(
        "opentelemetry.instrumentation.psycopg",
        OPENTELEMETRY + DRIVER_INSTRUMENTORS.format(comments=True),
        comment=r"/\*db_driver=.*traceparent=",
    ),
    "OpenTelemetry, SQLAlchemy, comments": Library(
        "opentelemetry.instrumentation.sqlalchemy",
        OPENTELEMETRY + SQLALCHEMY_INSTRUMENTOR,
        comment=r"/\*db_driver=.*traceparent=",
    ),
    "ddtrace, drivers": Library("ddtrace", DDTRACE.format(mode="disabled", sqlalchemy=False)),
    "ddtrace, drivers, comments": Library(
        "ddtrace", DDTRACE.format(mode="full", sqlalchemy=False), comment=r"/\*dddb="
    ),
    "ddtrace, SQLAlchemy": Library("ddtrace", DDTRACE.format(mode="disabled", sqlalchemy=True)),
    "Sentry": Library("sentry_sdk", SENTRY),
    "Elastic APM": Library("elasticapm", ELASTIC_APM),
    "New Relic": Library("newrelic", NEW_RELIC),
    "SQLCommenter, SQLAlchemy": Library(
        "google.cloud.sqlcommenter.sqlalchemy", SQLCOMMENTER, comment=r"/\*db_driver=.*sqlalchemy"
    ),
    "SQLCommenter, psycopg2": Library(
        "google.cloud.sqlcommenter.psycopg2", SQLCOMMENTER_CURSOR, ("psycopg2",), r"/\*db_driver="
    ),
}

ENV = """
import asyncio
import json
import os
from pathlib import Path

import watch
from alembic import context
from sqlalchemy import create_engine
from sqlalchemy.ext.asyncio import create_async_engine


def migrate(connection):
    context.configure(connection=connection)
    with context.begin_transaction():
        context.run_migrations()


def run(url):
    engine = create_engine(url, connect_args=getattr(watch, "connect_args", {}))
    watch.watch_engine(engine)
    with watch.watching(), engine.connect() as connection:
        migrate(connection)
    engine.dispose()


async def run_async(url):
    engine = create_async_engine(url)
    watch.watch_engine(engine.sync_engine)
    with watch.watching():
        async with engine.connect() as connection:
            await connection.run_sync(migrate)
    await engine.dispose()


url = os.environ["DATABASE_URL"]
asyncio.run(run_async(url)) if "_async" in url else run(url)
Path("seen.json").write_text(json.dumps(watch.seen()))
"""
HISTORY = [
    """
    op.create_table("parent", sa.Column("id", sa.Integer, primary_key=True), sa.Column("name", sa.Text))
    op.create_index("parent_name", "parent", ["name"])
    op.execute("CREATE TABLE plain (n integer, sent text DEFAULT current_query())")
    op.add_column("parent", sa.Column("more", sa.Text))
    """,
    """
    op.alter_column("parent", "more", nullable=False, server_default="x")
    op.get_bind().execute(sa.text("INSERT INTO plain (n) VALUES (:n)"), {"n": 1})
    op.create_check_constraint("named", "parent", "name <> ''")
    op.bulk_insert(sa.table("plain", sa.column("n", sa.Integer)), [{"n": 2}, {"n": 3}])
    """,
    """
    op.create_table("child", sa.Column("parent", sa.Integer, sa.ForeignKey("parent.id")))
    op.execute("INSERT INTO plain (n) VALUES (4)")
    op.drop_index("parent_name", table_name="parent")
    """,
]
# What the lock asks for on a connection that is not borrowed: it is reported beside (docs/differences.md).
LOCK = re.compile(r"pg_catalog\.pg_(try_)?advisory_")
DDL = ("CREATE TABLE parent", "CREATE INDEX parent_name", "CREATE TABLE plain", "ADD COLUMN more")
DDL += ("SET NOT NULL", "ADD CONSTRAINT named", "CREATE TABLE child", "DROP INDEX parent_name")
# The texts of DDL as they reached the server; those of INSERT are in the rows.
ON_THE_SERVER = """
    CREATE TABLE sent (n serial, sql text);
    CREATE FUNCTION note() RETURNS event_trigger LANGUAGE plpgsql
        AS 'BEGIN INSERT INTO sent (sql) VALUES (current_query()); END';
    CREATE EVENT TRIGGER note ON ddl_command_end EXECUTE FUNCTION note();
"""


@dataclass
class Outcome:
    seen: list[str]
    sent: list[str]
    counters: Counter[str]


def lay_out(folder: Path, code: str, place: str) -> None:
    """The history, whose env.py imports the watcher; place: who imports it first."""
    (folder / "versions").mkdir(parents=True)
    (folder / "alembic.ini").write_text("[alembic]\nscript_location = %(here)s\n")
    (folder / "watch.py").write_text(WATCH + code)
    (folder / "sitecustomize.py").write_text("import watch\n" if place == "sitecustomize" else "")
    (folder / "env.py").write_text(ENV)
    for number, body in enumerate(HISTORY, 1):
        down = f"r{number - 1}" if number > 1 else None
        (folder / "versions" / f"r{number}.py").write_text(
            "import sqlalchemy as sa\nfrom alembic import op\n"
            f"revision = 'r{number}'\ndown_revision = {down!r}\n\n\n"
            f"def upgrade():{body}\n\ndef downgrade():\n    pass\n"
        )


def run(folder: Path, url: str, driver: str, active: bool) -> Outcome:
    """``alembic upgrade head`` on a new database."""
    to = make_url(url)
    bare = to.set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(bare) as connection:
        connection.execute(ON_THE_SERVER)
    named = to.set(drivername=f"postgresql+{driver}").render_as_string(hide_password=False)
    stats = folder / f"stats-{active}.json"
    done = subprocess.run(
        [Path(sys.executable).parent / "alembic", "upgrade", "head"],
        cwd=folder,
        env={
            **os.environ,
            "DATABASE_URL": named,
            "MIGRATE_EXT": str(int(active)),
            "MIGRATE_EXT_STATS": str(stats),
            "PYTHONPATH": os.pathsep.join(map(str, (folder, ROOT))),
        },
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    counters: Counter[str] = Counter()
    for line in stats.read_text().splitlines() if stats.exists() else ():
        counters.update({k: v for k, v in json.loads(line).items() if isinstance(v, int)})
    with psycopg.connect(bare) as connection:
        sent = connection.execute("SELECT sql FROM sent ORDER BY n").fetchall()
        sent += connection.execute("SELECT sent FROM plain ORDER BY n").fetchall()
    seen = json.loads((folder / "seen.json").read_text())
    return Outcome(list(map(same, seen)), [same(str(text)) for (text,) in sent], counters)


def same(text: str) -> str:
    """A statement without what is another's in each run: the database's name, ids of traces."""
    text = re.sub(r"migrate_ext_test_\w+", "<database>", text)
    text = re.sub(r"\b00-[0-9a-f]{32}-[0-9a-f]{16}-", "<trace>-", text)
    return " ".join(text.split())


Both = Callable[[str, str, str], tuple[Outcome, Outcome]]


@pytest.fixture
def both(tmp_path: Path, make_database: Callable[[], str]) -> Both:
    """Runs the history without the runtime, and with it: a watcher's code, a driver, a place."""

    def run_both(code: str, driver: str, place: str) -> tuple[Outcome, Outcome]:
        project = tmp_path / "project"
        lay_out(project, code, place)
        theirs, ours = (run(project, make_database(), driver, active) for active in (False, True))
        return theirs, ours

    return run_both


@pytest.mark.parametrize("driver", DRIVERS)
def test_without_a_tracer_the_history_is_batched(both: Both, driver: str) -> None:
    theirs, ours = both("", driver, "env.py")
    assert ours.counters["statements"] >= len(DDL)
    assert ours.sent == theirs.sent


def is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # nor is its package
        return False


@pytest.mark.parametrize("place", ["env.py", "sitecustomize"])
@pytest.mark.parametrize(
    ("name", "driver"), [(name, driver) for name, x in LIBRARIES.items() for driver in x.drivers]
)
def test_a_library_reports_what_it_reports_without_us(
    both: Both, name: str, driver: str, place: str
) -> None:
    library = LIBRARIES[name]
    if not is_installed(library.module):
        pytest.skip(f"{library.module} is not installed")
    theirs, ours = both(library.code, driver, place)
    assert not theirs.counters
    assert ours.counters["graph_builds"]  # the runtime is active
    for text in DDL:
        assert any(text in statement for statement in theirs.seen), theirs.seen
    assert all(re.search(library.comment, text) for text in theirs.sent), theirs.sent
    asked = [text for text in ours.seen if LOCK.search(text)]
    assert [text for text in ours.seen if text not in asked] == theirs.seen
    assert ours.sent == theirs.sent
    print(f"{name}, {driver}, {place}: {len(theirs.seen)} statements, {len(asked)} of the lock")
