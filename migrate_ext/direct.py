"""Commands that run ``env.py``, without Alembic as long as no SQL must be rendered.

``current`` (and what else shows the database's revision), ``stamp``, and ``upgrade`` /
``downgrade`` with nothing to do are answered here: one session of our own, the heads, the graph.
When migrations have to run, the session is closed and :mod:`migrate_ext.seam` goes on in the same
process. Each follows the function of its name in ``alembic/command.py`` and
``MigrationContext.run_migrations`` (read in 1.20.1).
"""

from __future__ import annotations

import os
import re
import warnings
from importlib import util as importlib_util

from migrate_ext import _core, commands, counters, errors, handover, libpq
from migrate_ext.cli import Options
from migrate_ext.config import Config
from migrate_ext.handover import Settings
from migrate_ext.scripts import Scripts, command_errors


def run_command(options: Options, config: Config) -> None:
    """Run a command of the core that needs the database, through the project's ``env.py``.

    Raises :class:`~migrate_ext.errors.Declined`, before ``env.py`` has run, where Alembic must do
    it.
    """
    if options.flags & {"sql"}:
        raise errors.Declined("--sql")
    if options.command in ("upgrade", "downgrade") and ":" in options.arguments[0]:
        raise errors.Declined("a range")
    path = os.path.join(config.script_location(), "env.py")
    if not _is_thin(path):
        raise errors.Declined("env.py is not a thin one")
    if handover.running is not None:
        raise errors.Declined("a command inside env.py")
    handover.running = Run(options, config, Scripts(config))
    try:
        spec = importlib_util.spec_from_file_location("env_py", path)
        assert spec is not None and spec.loader is not None
        spec.loader.exec_module(importlib_util.module_from_spec(spec))
    finally:
        handover.running = None


def _is_thin(path: str) -> bool:
    """Whether an ``env.py`` leaves Alembic alone. Doubt is a no: it runs as under ``alembic``."""
    try:
        with open(path, "rb") as file:
            source = file.read()
    except OSError as error:
        raise errors.Declined(f"env.py: {error.strerror}") from error
    return b"migrate_ext" in source and b"alembic" not in source.replace(b"alembic.ini", b"")


class Run:
    """One command while ``env.py`` runs: its ``options``, ``config`` and ``scripts``."""

    def __init__(self, options: Options, config: Config, scripts: Scripts) -> None:
        self.options = options
        self.config = config
        self.scripts = scripts

    def serve(self, settings: Settings) -> None:
        """Do the command's work: here if no SQL must be rendered, else with Alembic."""
        reason = self._direct(settings)
        if reason is not None:
            counters.plain(f"{self.options.command}: {reason}")
            with handover.importing_alembic():
                from migrate_ext import seam  # imports Alembic and SQLAlchemy

            seam.run_in_alembic(self, settings)

    def _direct(self, settings: Settings) -> str | None:
        """None when the work is done; otherwise why Alembic is needed."""
        options = self.options
        if options.command == "stamp" and "on_version_apply" in settings.configure:
            return "on_version_apply"
        configure_logging(self.config)
        url = database_url(settings)
        try:
            session = _core.Session.connect(
                {**libpq.CONNECTION, **_core.parse_url(url)}, libpq.find()
            )
        except errors.Declined as reason:
            return str(reason)
        except OSError as error:
            return str(error)
        except ValueError as error:
            raise errors.CommandError(
                f"{settings.url_variable}: {error}; expected {errors.URL_FORM}"
            ) from error
        try:
            table = VersionTable(session, settings, self.config)
            if options.command in ("upgrade", "downgrade"):
                if self._has_steps(table):
                    return "migrations to run"
            elif options.command == "stamp":
                self._stamp(table)
            else:
                self._show(table, url)
            return None
        finally:
            session.close()

    def _has_steps(self, table: VersionTable) -> bool:
        """Whether there are migrations to run; if not, what is left to do is done."""
        heads = table.heads()
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                if plan(self.options, self.scripts, heads):
                    return True  # what there is to warn of, Alembic will
            for warning in caught:
                warnings.warn(warning.message, stacklevel=2)
        except errors.CommandError:
            log_context()
            raise
        log_context()
        if not heads:
            table.ensure()
        return False

    def _stamp(self, table: VersionTable) -> None:
        log_context()
        table.begin()
        if "purge" in self.options.flags:
            table.ensure_now()
            table.purge()
            heads: tuple[str, ...] = ()
        else:
            heads = table.heads()
            if not heads:
                table.ensure_now()
        with command_errors(
            multiple_heads="Multiple heads are present; please specify a single target revision"
        ):
            steps = self.scripts.graph.stamp(tuple(self.options.arguments), heads)
        for from_, to, _, _ in steps:
            log("Running %s", f"stamp_revision {', '.join(from_)} -> {', '.join(to)}")
        for operations in self.scripts.graph.version_operations(heads, steps):
            table.apply(operations)
        table.session.commit()

    def _show(self, table: VersionTable, url: str) -> None:
        options, scripts, graph = self.options, self.scripts, self.scripts.graph
        verbose = "verbose" in options.flags
        log_context()
        heads = table.heads()
        if options.command == "current":
            if verbose:
                commands.print_lines(options, [f"Current revision(s) for {_core.redact_url(url)}:"])
            if "check_heads" in options.flags and set(heads) != set(graph.heads):
                raise errors.CommandError("Database is not on all head revisions")
            with command_errors():
                current = graph.all_current(heads)
            commands.print_lines(
                options, [scripts.cmd_format(index, verbose=verbose) for index in current]
            )
        elif options.command == "show":
            if not heads:
                table.ensure()
            with command_errors():
                found = graph.get_revisions(heads)
            commands.print_lines(options, [scripts.log_entry(i) for i in commands.indexes(found)])
        else:
            if not heads:  # as Alembic, for which `history` is no different from `upgrade` here
                table.ensure()
            base, _, head = (options.value("rev_range") or ":").strip().partition(":")
            marked = heads if "indicate_current" in options.flags else ()
            if head == "current":
                lines = commands.history_lines(options, scripts, base or "base", heads, marked)
            elif base == "current":
                lines = commands.history_lines(options, scripts, heads, head or "heads", marked)
            else:
                lines = commands.history_lines(
                    options, scripts, base or "base", head or "heads", marked
                )
            commands.print_lines(options, lines)


def plan(options: Options, scripts: Scripts, heads: tuple[str, ...]) -> list[int]:
    """The revisions that ``upgrade`` or ``downgrade`` would run from `heads`, in their order."""
    target = options.arguments[0]
    with command_errors(
        ancestor=f"Destination %(end)s is not a valid {options.command} "
        "target from current head(s)",
        end=target,
    ):
        if options.command == "upgrade":
            return scripts.graph.iterate(target, heads, implicit_base=True)[::-1]
        return scripts.graph.iterate(heads, target, select_for_downgrade=True)


class VersionTable:
    """The version table of a session, with the names that ``env.py`` configured."""

    def __init__(self, session: _core.Session, settings: Settings, config: Config) -> None:
        self.session = session
        self.config = config
        self.name: str = settings.configure.get("version_table", "alembic_version")
        self.schema: str | None = settings.configure.get("version_table_schema")
        self.primary_key: bool = settings.configure.get("version_table_pk", True)
        self._exists = False

    def heads(self) -> tuple[str, ...]:
        """The revisions in it; none when there is no such table."""
        try:
            found = self.session.version_heads(self.name, self.schema)
        except errors.ServerError as error:
            if error.sqlstate != "42703":  # undefined column
                raise
            name = f"{self.schema}.{self.name}" if self.schema else self.name
            raise errors.CommandError(
                errors.no_version_table(name, "has no version_num")
            ) from error
        self._exists = found is not None
        heads = tuple(head for head in found or () if head is not None)
        problem = errors.bad_version_rows(self.name, found or ())
        if problem:
            raise errors.CommandError(problem)
        return heads

    def begin(self) -> None:
        """Begin a transaction that has the lock until it ends."""
        from migrate_ext import limits, lock  # only where something is written

        lock.begin(self.session, self.name, self.schema, limits.read(self.config.option))

    def ensure(self) -> None:
        """Create it, in a transaction of its own, unless :meth:`heads` has seen it."""
        if not self._exists:
            self.begin()
            self.ensure_now()
            self.session.commit()

    def ensure_now(self) -> None:
        """Create it in the open transaction, unless it is there."""
        if not self._exists and self.session.version_heads(self.name, self.schema) is None:
            self.session.version_create(self.name, self.schema, self.primary_key)
        self._exists = True

    def purge(self) -> None:
        self.session.version_purge(self.name, self.schema)

    def apply(self, operations: list[_core._VersionOperation]) -> None:
        self.session.version_apply(operations, self.name, self.schema)


def database_url(settings: Settings) -> str:
    """The URL from the environment, in SQLAlchemy's spelling."""
    name = settings.url_variable
    url = (os.environ.get(f"DIRECT_{name}") or os.environ.get(name, "")).strip()
    if not url:
        raise errors.CommandError(
            f"{settings.url_variable} is not set; give the database's URL, for example "
            f"{settings.url_variable}={errors.URL_FORM}"
        )
    scheme, separator, rest = url.partition("://")
    if re.split("[/?#]", rest, maxsplit=1)[0].count("@") > 1:
        # libpq would take the end of the password for the host, and print it.
        raise errors.CommandError(
            f"{settings.url_variable} has more than one '@' before the host; "
            "in a user name or a password write it as %40"
        )
    if separator and scheme.split("+")[0] == "postgres":
        return "postgresql" + scheme[len("postgres") :] + separator + rest
    return url


def configure_logging(config: Config) -> None:
    """The ini file's logging, as Alembic's usual ``env.py`` sets it up, where the file has any."""
    import logging

    logging.getLogger("alembic").addHandler(logging.NullHandler())
    if config.parser.has_section("loggers"):
        import logging.config

        logging.config.fileConfig(config.ini, disable_existing_loggers=False)


def log(text: str, *arguments: object) -> None:
    """An INFO line of ``alembic.runtime.migration``."""
    import logging

    logging.getLogger("alembic.runtime.migration").info(text, *arguments)


def log_context() -> None:
    """What Alembic logs when ``env.py`` configures a PostgreSQL connection."""
    log("Context impl %s.", "PostgresqlImpl")
    log("Will assume %s DDL.", "transactional")
