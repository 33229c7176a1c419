"""Commands that run ``env.py``, without Alembic as long as no SQL must be rendered.

``current`` (and what else shows the database's revision), ``stamp``, and ``upgrade`` /
``downgrade`` with nothing to do are answered here: one session of our own, the heads, the graph.
When migrations have to run, the session is closed and :mod:`migrate_ext.seam` goes on in the same
process. Each follows the function of its name in ``alembic/command.py`` and
``MigrationContext.run_migrations`` (read in 1.20.1).
"""

from __future__ import annotations

import _thread
import os
import sys

from migrate_ext import _core, commands, errors, handover, libpq, logs
from migrate_ext.scripts import Scripts, command_errors

TYPE_CHECKING = False  # typing's own costs its import
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from migrate_ext.cli import Options
    from migrate_ext.config import Config
    from migrate_ext.handover import Settings
    from migrate_ext.limits import Limits
    from migrate_ext.plans import Items


def prepare(options: Options, config: Config) -> Callable[[], None]:
    """What is left to be done of a command of the core that needs the database: to run the project's
    ``env.py``.

    Raises :class:`~migrate_ext.errors.Declined` where Alembic must do it. What ``env.py`` raises is
    the project's.
    """
    if options.flags & {"sql"}:
        raise errors.Declined("--sql")
    if options.command in ("upgrade", "downgrade") and ":" in options.arguments[0]:
        raise errors.Declined("a range")
    path = os.path.join(config.script_location(), "env.py")
    if not is_thin(path):
        raise errors.Declined("env.py is not a thin one")
    if handover.running is not None:
        raise errors.Declined("a command inside env.py")
    paths = config.paths("prepend_sys_path")

    def run() -> None:
        sys.path[:0] = paths
        handover.running = Run(options, config)
        try:
            _execute(path)
        finally:
            handover.running = None

    return run


def _execute(path: str) -> None:
    """Run ``env.py`` as Alembic does, through the import system and its cache of bytecode."""
    ours: Any = __spec__
    source_loader = type(ours.loader)
    if source_loader.__name__ != "SourceFileLoader":  # we come from an archive
        from importlib.machinery import SourceFileLoader as source_loader  # slow
    loader = source_loader("env_py", path)
    module: Any = type(sys)("env_py")
    module.__spec__ = type(ours)("env_py", loader, origin=path)
    module.__spec__.has_location = True
    module.__loader__ = loader
    module.__file__ = path
    module.__package__ = ""
    loader.exec_module(module)


def is_thin(path: str) -> bool:
    """Whether an ``env.py`` leaves Alembic alone. Doubt is a no: it runs as under ``alembic``."""
    try:
        with open(path, "rb") as file:
            source = file.read()
    except OSError as error:
        raise errors.Declined(f"env.py: {error.strerror}") from error
    return b"migrate_ext" in source and b"alembic" not in source.replace(b"alembic.ini", b"")


def _library() -> str | None:
    try:
        return libpq.find()
    except OSError as error:
        raise errors.Declined(str(error)) from error


class Connecting:
    """A session that is being opened by another thread, while this one reads files.

    params: as for ``Session.connect``. Loading libpq and waiting for the server cost as much as
    reading a thousand files, and need no Python. (``threading`` costs its import.)
    """

    def __init__(self, params: dict[str, str]) -> None:
        self.session: _core.Session | None = None
        self.error: Exception | None = None
        self.done = _thread.allocate_lock()
        self.done.acquire()
        try:
            _thread.start_new_thread(self._run, (params,))
        except RuntimeError:  # no thread can be had
            self._run(params)

    def _run(self, params: dict[str, str]) -> None:
        try:
            self.session = _core.Session.connect(params, _library())
        except Exception as error:
            self.error = error
        finally:
            self.done.release()

    def result(self) -> _core.Session:
        """The open session, when it is there; raises what opening it raised."""
        self.done.acquire()
        self.done.release()
        if self.error is not None:
            raise self.error
        assert self.session is not None
        return self.session


class Run:
    """One command while ``env.py`` runs: its ``options``, its ``config``.

    ``scripts``: the revision files, once they are read; None where Alembic must read them itself.
    ``planned``: of a run that needs Alembic, what is in the plan all the same, by the file's path.
    """

    def __init__(self, options: Options, config: Config) -> None:
        self.options = options
        self.config = config
        self.scripts: Scripts | None = None
        self.planned: dict[str, Items] = {}

    def serve(self, settings: Settings) -> None:
        """Do the command's work: here if no SQL must be rendered, else with Alembic."""
        if self.options.command == "compile":
            from migrate_ext import compiling  # imports Alembic and SQLAlchemy

            compiling.compile_project(self, settings)
            return
        reason = self._direct(settings)
        if reason is not None:
            from migrate_ext import counters

            counters.plain(f"{self.options.command}: {reason}")
            with logs.importing_alembic():
                from migrate_ext import seam  # imports Alembic and SQLAlchemy

            seam.run_in_alembic(self, settings)

    def _direct(self, settings: Settings) -> str | None:
        """None when the work is done; otherwise why Alembic is needed."""
        options = self.options
        if options.command == "stamp" and "on_version_apply" in settings.configure:
            return "on_version_apply"
        logs.configure(self.config)
        url = database_url(settings)
        params = {**libpq.CONNECTION, **_params(settings, url)}
        connecting = Connecting(params)
        session, declined = None, ""
        try:
            self.scripts = Scripts(self.config)
        except errors.Declined as reason:
            declined = str(reason)
        finally:  # as under Alembic, a server that is not there comes before a bad file
            try:
                session = connecting.result()
            except errors.Declined as reason:
                declined = declined or str(reason)
        try:
            if self.scripts is None or session is None:
                return declined
            table = VersionTable(session, settings, self.config, params)
            return self._serve(table, self.scripts, settings, url)
        finally:
            if session is not None:
                session.close()

    def _serve(
        self, table: VersionTable, scripts: Scripts, settings: Settings, url: str
    ) -> str | None:
        if "plan" in self.options.flags:
            from migrate_ext import preview  # imports Alembic and SQLAlchemy

            try:
                preview.show(self, table, scripts, settings)
            except errors.Declined as reason:
                raise errors.CommandError(f"--plan cannot tell: {reason}") from reason
            return None
        if self.options.command in ("upgrade", "downgrade"):
            return self._migrate(table, scripts, settings)
        if self.options.command == "stamp":
            return self._stamp(table, scripts)
        return self._show(table, scripts, url)

    def _migrate(self, table: VersionTable, scripts: Scripts, settings: Settings) -> str | None:
        """Run the migrations from the plan, or none if there are none; else say why not."""
        try:
            heads = table.heads()
            if self.options.arguments[0] == "-1" and len(heads) > 1:
                return "Alembic warns that this is ambiguous"
            indexes = plan(self.options, scripts, heads)
        except errors.Declined as reason:
            return str(reason)
        except errors.CommandError:
            log_context()
            raise
        if indexes:
            from migrate_ext import counters, plans

            why = plans.run(self, table, scripts, settings, heads, indexes)
            if why is not None:
                counters.plain(f"plan: {why}")
                return "migrations to run"
            counters.planned += len(indexes)
            return None
        log_context()
        if not heads:
            table.ensure()
        return None

    def _stamp(self, table: VersionTable, scripts: Scripts) -> str | None:
        """Stamp, unless the graph leaves the question to Alembic: then say why."""
        targets, purges = tuple(self.options.arguments), "purge" in self.options.flags
        try:
            scripts.graph.stamp(targets, () if purges else table.heads())
        except errors.Declined as reason:
            return str(reason)
        except (errors.RevisionError, AssertionError, LookupError, ValueError):
            pass  # it is told below, in its place
        log_context()
        table.begin()
        if purges:
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
            steps = scripts.graph.stamp(targets, heads)
        for from_, to, _, _ in steps:
            logs.info(f"Running stamp_revision {', '.join(from_)} -> {', '.join(to)}")
        rows = set(heads)
        for operations in scripts.graph.version_operations(heads, steps):
            table.apply(operations)
            change_rows(rows, operations)
        table.commit(frozenset(rows))
        return None

    def _show(self, table: VersionTable, scripts: Scripts, url: str) -> str | None:
        """Print what the command shows, unless the graph leaves that to Alembic: then say why."""
        options = self.options
        verbose = "verbose" in options.flags
        place, failed, text = "", None, ""
        try:
            heads = table.heads()
            if options.command == "current":
                if verbose:
                    shown = _core.redact_url(with_driver(url, _default_driver()) or url)
                    place = f"Current revision(s) for {shown}:\n"
                if "check_heads" in options.flags and set(heads) != set(scripts.graph.heads):
                    raise errors.CommandError("Database is not on all head revisions")
            text = self._text(scripts, heads)
        except errors.Declined as reason:
            return str(reason)
        except Exception as error:
            failed = error
        log_context()
        commands.print_text(options, place)
        if failed is not None:
            raise failed
        commands.print_text(options, text)
        return None

    def _text(self, scripts: Scripts, heads: tuple[str, ...]) -> str:
        options, graph = self.options, scripts.graph
        if options.command == "current":
            with command_errors():
                current = graph.all_current(heads)
            return scripts.lines(current, verbose="verbose" in options.flags)
        if options.command == "show":
            with command_errors():
                found = graph.get_revisions(heads)
            return "".join(scripts.log_entry(i) + "\n" for i in commands.indexes(found))
        base, _, head = (options.value("rev_range") or ":").strip().partition(":")
        marked = heads if "indicate_current" in options.flags else ()
        if head == "current":
            return commands.history_text(options, scripts, base or "base", heads, marked)
        if base == "current":
            return commands.history_text(options, scripts, heads, head or "heads", marked)
        return commands.history_text(options, scripts, base or "base", head or "heads", marked)


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
    """The version table of a session, with the names that ``env.py`` configured.

    params: those that the session was opened with.
    """

    def __init__(
        self,
        session: _core.Session,
        settings: Settings,
        config: Config,
        params: dict[str, str],
    ) -> None:
        self.session = session
        self.params = params
        self.config = config
        self.name: str = settings.configure.get("version_table", "alembic_version")
        self.schema: str | None = settings.configure.get("version_table_schema")
        self.primary_key: bool = settings.configure.get("version_table_pk", True)
        self._exists = False

    def heads(self) -> tuple[str, ...]:
        """The revisions in it; none when there is no such table.

        Raises :class:`~migrate_ext.errors.Declined` for rows of which Alembic makes what it can: one that
        is NULL, or there twice.
        """
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
        rows = found or ()
        if None in rows or len(set(rows)) != len(rows):
            raise errors.Declined("version rows that no run leaves")
        return tuple(head for head in rows if head is not None)

    def begin(self, limits: Limits | None = None, *, as_configured: bool = False) -> bool:
        """Begin a transaction that has the lock until it ends; what :func:`migrate_ext.lock.begin` gives.

        limits: those of the run, if they were read.
        """
        from migrate_ext import limits as limiting  # only where something is written
        from migrate_ext import lock

        limits = limits or limiting.read(self.config.option)
        return lock.begin(self.session, self.name, self.schema, limits, as_configured=as_configured)

    def commit(self, rows: frozenset[str | None], half_done: str | None = None) -> None:
        """Commit, and look for the COMMIT if nobody answers it; an error that is raised says in
        ``committed`` whether it was found.

        rows: those of the open transaction. half_done: as of :func:`migrate_ext.outcome.in_doubt`.
        """
        try:
            self.session.commit()
        except (errors.ServerError, KeyboardInterrupt) as error:
            from migrate_ext import outcome

            state = getattr(error, "sqlstate", None)
            if state is None or outcome.is_end(state):
                self.session.close()  # it has the lock
                text, committed = outcome.in_doubt(error, rows, self._rows_after, half_done)
                outcome.tell(error, text)
                error.__dict__["committed"] = committed
            raise

    def _rows_after(self) -> frozenset[str | None]:
        """The rows that a COMMIT in doubt left, from a new session."""
        from migrate_ext import outcome

        session = _core.Session.connect(self.params, libpq.find())
        try:
            outcome.wait_for_end(session.query, self.name, self.schema)
            return frozenset(session.version_heads(self.name, self.schema) or ())
        finally:
            session.close()

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

    @property
    def missing(self) -> bool:
        """Whether :meth:`heads` has seen no such table."""
        return not self._exists

    def purge(self) -> None:
        self.session.version_purge(self.name, self.schema)

    def apply(self, operations: _core.VersionOperations) -> None:
        self.session.version_apply(operations, self.name, self.schema)


def change_rows(rows: set[str], operations: _core.VersionOperations) -> None:
    """Do to `rows` what `operations` do to those of the table."""
    for operation in operations:
        if operation[0] != "insert":
            rows.discard(operation[1])
        if operation[0] != "delete":
            rows.add(operation[-1])


def _params(settings: Settings, url: str) -> dict[str, str]:
    try:
        return _core.parse_url(url)
    except ValueError as error:
        raise errors.CommandError(
            f"{settings.url_variable}: {error}; expected {errors.URL_FORM}"
        ) from error


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
    if rest.replace("?", "/").replace("#", "/").partition("/")[0].count("@") > 1:
        # libpq would take the end of the password for the host, and print it.
        raise errors.CommandError(
            f"{settings.url_variable} has more than one '@' before the host; "
            "in a user name or a password write it as %40"
        )
    if separator and scheme.split("+")[0] == "postgres":
        return "postgresql" + scheme[len("postgres") :] + separator + rest
    return url


def with_driver(url: str, default: str) -> str | None:
    """A PostgreSQL URL for SQLAlchemy, with a driver that is installed if it names none and the
    `default` is not; None where no driver is.
    """
    scheme, _, rest = url.partition("://")
    if "+" in scheme:
        return url
    for driver in (default, "psycopg", "psycopg2"):
        if _is_importable(driver):
            return url if driver == default else f"{scheme}+{driver}://{rest}"
    return None


def _is_importable(package: str) -> bool:
    """As ``importlib.util.find_spec``, which costs its import, for a package in a folder."""
    if package in sys.modules:
        return sys.modules[package] is not None
    return any(os.path.isfile(os.path.join(place, package, "__init__.py")) for place in sys.path)


def _default_driver() -> str:
    """SQLAlchemy's, by its version, without importing it."""
    for place in sys.path:
        for name in os.listdir(place or os.curdir) if os.path.isdir(place or os.curdir) else ():
            if name.lower().startswith("sqlalchemy-2.0."):
                return "psycopg2"
    return "psycopg"


def log_context() -> None:
    """What Alembic logs when ``env.py`` configures a PostgreSQL connection."""
    logs.info("Context impl PostgresqlImpl.")
    logs.info("Will assume transactional DDL.")
