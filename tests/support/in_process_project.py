"""A small project that Alembic runs in this process, with and without the executor, and what can be seen of each run.

What can be seen: the exception with its chain and notes, the log, what the migrations wrote to files, the schema, the
version rows, what the server was asked.
"""

from __future__ import annotations

import logging
import re
import shutil
import textwrap
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import psycopg
import sqlalchemy
from alembic import command
from alembic.config import Config

from migrate_ext.dropin import hooks

ENV = """
from alembic import context

attributes = context.config.attributes
with attributes["engine"].connect() as connection:
    attributes["connected"](connection)
    context.configure(connection=connection, **attributes["configure"])
    with context.begin_transaction():
        context.run_migrations()
"""


class Outcome:
    """What one run showed. ``raised``: the chain of exceptions, each with its class, text and SQLSTATE."""

    def __init__(self) -> None:
        self.error: BaseException | None = None
        self.raised: list[tuple[object, ...]] = []
        self.log: list[str] = []
        self.seen: list[str] = []
        self.notices: list[str] = []
        self.database: list[tuple[object, ...]] = []

    def visible(self) -> dict[str, object]:
        """All of it that must be the same with and without the executor."""
        return {k: v for k, v in vars(self).items() if k != "error"}


class InProcessProject:
    """Revisions in `folder`, run against the database of `url` (any driver of SQLAlchemy's)."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self.url = url
        self.bare = re.sub(r"\+\w+", "", url)
        self.engine_options: dict[str, Any] = {}
        self.configure: dict[str, Any] = {}
        self.locked = True
        self.connected: Callable[[sqlalchemy.Connection], object] = lambda connection: None
        folder.mkdir(exist_ok=True)
        (folder / "env.py").write_text(ENV)

    def write(self, bodies: Sequence[str] | Mapping[str, str], top: str = "") -> None:
        """One line of revisions r0001, r0002 ... with these bodies of ``upgrade()``."""
        versions = self.folder / "versions"
        shutil.rmtree(versions, ignore_errors=True)
        versions.mkdir()
        down = None
        named = (
            bodies
            if isinstance(bodies, Mapping)
            else {f"r{n:04}": body for n, body in enumerate(bodies, 1)}
        )
        for revision, body in named.items():
            (versions / f"{revision}.py").write_text(
                "from pathlib import Path\nimport sqlalchemy as sa\nfrom alembic import op\n"
                f"SEEN = Path({str(self.folder / 'seen')!r})\n{top}\n"
                f"revision = {revision!r}\ndown_revision = {down!r}\n\n\n"
                "def see(text):\n    with SEEN.open('a') as file:\n        file.write(f'{text}\\n')\n\n\n"
                f"def upgrade():\n{textwrap.indent(body or 'pass', '    ')}\n\n\ndef downgrade():\n    pass\n"
            )
            down = revision

    def clean(self) -> None:
        """Empty the database and forget what was seen."""
        with psycopg.connect(self.bare, autocommit=True) as connection:
            connection.execute("DROP SCHEMA public CASCADE")
            connection.execute("CREATE SCHEMA public")
        (self.folder / "seen").unlink(missing_ok=True)

    def run(self, batched: bool, target: str = "head") -> Outcome:
        """``upgrade`` an empty database, with the executor or as Alembic does it."""
        self.clean()
        outcome = Outcome()
        handler = _Lines(outcome.log)
        logger = logging.getLogger("alembic.runtime.migration")
        before = (logger.level, logger.handlers[:])
        logger.setLevel(logging.DEBUG)
        logger.addHandler(handler)
        engine = sqlalchemy.create_engine(
            self.url, poolclass=sqlalchemy.pool.NullPool, **self.engine_options
        )
        config = Config()
        config.set_main_option("script_location", str(self.folder))
        config.set_main_option("migrate_ext_lock", str(self.locked).lower())
        config.attributes.update(engine=engine, connected=self.connected, configure=self.configure)
        try:
            with hooks.installed() if batched else nullcontext():
                command.upgrade(config, target)
        except BaseException as error:
            outcome.error = error
            outcome.raised = chain(error)
        finally:
            logger.setLevel(before[0])
            logger.handlers[:] = before[1]
            engine.dispose()
        seen = self.folder / "seen"
        outcome.seen = seen.read_text().splitlines() if seen.exists() else []
        outcome.database = self.database()
        return outcome

    def database(self) -> list[tuple[object, ...]]:
        """Relations, columns, their comments, and the rows of all tables."""
        with psycopg.connect(self.bare, autocommit=True) as connection:
            found: list[tuple[object, ...]] = connection.execute(
                "SELECT relname::text, attname::text, format_type(atttypid, atttypmod), "
                "pg_get_expr(adbin, adrelid), col_description(attrelid, attnum), "
                "obj_description(pg_class.oid, 'pg_class') FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid "
                "LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum "
                "WHERE relnamespace = 'public'::regnamespace AND attnum > 0 ORDER BY 1, attnum"
            ).fetchall()
            tables = connection.execute(
                "SELECT relname::text FROM pg_class WHERE relnamespace = 'public'::regnamespace "
                "AND relkind = 'r' ORDER BY 1"
            ).fetchall()
            for (table,) in tables:
                name = psycopg.sql.Identifier(table)
                rows = connection.execute(
                    psycopg.sql.SQL("SELECT t::text FROM {} t ORDER BY 1").format(name)
                ).fetchall()
                # Times differ from run to run; a test looks at their order in SQL.
                found += [(table, *(() if table == "stamps" else row)) for row in rows]
        return found

    def agree(self) -> Outcome:
        """Run both ways; assert that nothing visible differs; the batched outcome."""
        plain, batched = self.run(False), self.run(True)
        ours, theirs = batched.visible(), plain.visible()
        for name, value in theirs.items():
            assert ours[name] == value, f"{name}:\n{ours[name]}\n{value}"
        return batched


class _Lines(logging.Handler):
    def __init__(self, lines: list[str]) -> None:
        super().__init__()
        self.lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        if record.module != "lock":  # what the lock says, it says beside Alembic
            self.lines.append(record.getMessage())


def chain(error: BaseException | None) -> list[tuple[object, ...]]:
    """An exception and its causes, as a program could tell them apart."""
    found: list[tuple[object, ...]] = []
    while error is not None:
        diag = getattr(error, "diag", None)
        fields = [
            (name, getattr(diag, name))
            for name in (
                "severity sqlstate message_primary message_detail message_hint statement_position "
                "internal_position internal_query context schema_name table_name column_name "
                "datatype_name constraint_name"
            ).split()
            if diag is not None
        ]
        found.append(
            (
                f"{type(error).__module__}.{type(error).__name__}",
                str(error),
                getattr(error, "sqlstate", None) or getattr(error, "pgcode", None),
                fields,
                getattr(error, "statement", None),
                getattr(error, "params", None),
                getattr(error, "connection_invalidated", None),
            )
        )
        error = error.__cause__
    return found
