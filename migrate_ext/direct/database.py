"""Commands that run ``env.py`` and need no Alembic, as long as no SQL must be rendered.

``current`` (and whatever else shows the database's revision), ``stamp``, and ``upgrade`` and
``downgrade`` with nothing to run, or with a compiled plan, are answered here: one session of our own,
the version rows, the graph. When migrations must be rendered, :meth:`Run.answer` returns the reason,
and :mod:`migrate_ext.cli.command_line` continues with Alembic in the same process. Each command
follows the function of its name in ``alembic/command.py`` and ``MigrationContext.run_migrations``
(read in 1.20.1).
"""

from __future__ import annotations

import _thread
import os
import sys

from migrate_ext import _core, errors
from migrate_ext.direct import reading
from migrate_ext.execution import libpq
from migrate_ext.locking.version_table import VersionTable, change_rows
from migrate_ext.project import environment, logs
from migrate_ext.project.scripts import Scripts, command_errors

TYPE_CHECKING = False  # saves the import of typing
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeAlias

    from migrate_ext.plans.key import Items
    from migrate_ext.project.config import Config, Options
    from migrate_ext.project.environment import Settings

    ShowPlan: TypeAlias = Callable[["Run", VersionTable, Settings], None]


def prepare(
    options: Options, config: Config, serve: Callable[[Run, Settings], None]
) -> Callable[[], None]:
    """The rest of a direct command that needs the database, as a function that runs the project's
    ``env.py``. It raises what ``env.py`` raises.

    serve: does the work of the command, with the settings that ``env.py`` gives. Raises
    :class:`~migrate_ext.errors.Declined` if Alembic must do it.
    """
    if options.flags & {"sql"}:
        raise errors.Declined("--sql")
    if options.command in ("upgrade", "downgrade") and ":" in options.arguments[0]:
        raise errors.Declined("a range")
    path = os.path.join(config.script_location(), "env.py")
    if not is_thin(path):
        raise errors.Declined("env.py is not a thin one")
    if environment.serve is not None:
        raise errors.Declined("a command inside env.py")
    paths = config.paths("prepend_sys_path")

    def run() -> None:
        sys.path[:0] = paths
        command = Run(options, config)
        environment.serve = lambda settings: serve(command, settings)
        try:
            _execute(path)
        finally:
            environment.serve = None

    return run


def _execute(path: str) -> None:
    """Run ``env.py`` as Alembic does, through the import system and its cache of bytecode."""
    ours: Any = __spec__
    source_loader = type(ours.loader)
    if source_loader.__name__ != "SourceFileLoader":  # this module was imported from an archive
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
    """Whether an ``env.py`` uses no Alembic. False if in doubt: then it runs as under ``alembic``.

    Raises :class:`~migrate_ext.errors.Declined` if it cannot be read.
    """
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
    """A session that another thread opens while this one reads files.

    params: as for ``Session.connect``. Loading libpq and waiting for the server take as long as
    reading a thousand files, and do not need the GIL. (``_thread`` saves the import of
    ``threading``.)
    """

    def __init__(self, params: dict[str, str]) -> None:
        self.session: _core.Session | None = None
        self.error: Exception | None = None
        self.done = _thread.allocate_lock()
        self.done.acquire()
        try:
            _thread.start_new_thread(self._run, (params,))
        except RuntimeError:  # no thread can be started
            self._run(params)

    def _run(self, params: dict[str, str]) -> None:
        try:
            self.session = _core.Session.connect(params, _library())
        except Exception as error:
            self.error = error
        finally:
            self.done.release()

    def result(self) -> _core.Session:
        """Wait for the session and return it; raises what opening it raised."""
        self.done.acquire()
        self.done.release()
        if self.error is not None:
            raise self.error
        assert self.session is not None
        return self.session


class Run:
    """One command while ``env.py`` runs: its ``options``, its ``config``.

    ``scripts``: the revision files, once they are read; None if Alembic must read them itself.
    ``planned``: migrations that are in the plan, if the run needs Alembic: path -> statements.
    """

    def __init__(self, options: Options, config: Config) -> None:
        self.options = options
        self.config = config
        self.scripts: Scripts | None = None
        self.planned: dict[str, Items] = {}

    def answer(self, settings: Settings, show_plan: ShowPlan) -> str | None:
        """Do the command's work. Returns None when it is done; otherwise why Alembic is needed.

        show_plan: called for ``--plan``.
        """
        options = self.options
        if options.command == "stamp" and "on_version_apply" in settings.configure:
            return "on_version_apply"
        logs.configure(self.config)
        url = environment.database_url(settings)
        params = {**libpq.CONNECTION, **environment.connection_params(settings, url)}
        connecting = Connecting(params)
        session, declined = None, ""
        try:
            self.scripts = Scripts(self.config)
        except errors.Declined as reason:
            declined = str(reason)
        finally:  # as under Alembic, a connection error takes precedence over a bad file
            try:
                session = connecting.result()
            except errors.Declined as reason:
                declined = declined or str(reason)
        try:
            if self.scripts is None or session is None:
                return declined
            table = VersionTable(session, settings, self.config, params)
            return self._answer(table, settings, url, show_plan)
        finally:
            if session is not None:
                session.close()

    def _answer(
        self, table: VersionTable, settings: Settings, url: str, show_plan: ShowPlan
    ) -> str | None:
        scripts = self.scripts
        assert scripts is not None
        if "plan" in self.options.flags:
            try:
                show_plan(self, table, settings)
            except errors.Declined as reason:
                raise errors.CommandError(f"--plan cannot tell: {reason}") from reason
            return None
        if self.options.command in ("upgrade", "downgrade"):
            return self._migrate(table, scripts, settings)
        if self.options.command == "stamp":
            return self._stamp(table, scripts)
        return self._show(table, scripts, url)

    def _migrate(self, table: VersionTable, scripts: Scripts, settings: Settings) -> str | None:
        """Run the migrations, if any, from the plan. Returns None, or why Alembic is needed."""
        try:
            heads = table.heads()
            if self.options.arguments[0] == "-1" and len(heads) > 1:
                return "Alembic warns that this is ambiguous"
            indexes = steps_of(self.options, scripts, heads)
        except errors.Declined as reason:
            return str(reason)
        except errors.CommandError:
            logs.context()
            raise
        if indexes:
            from migrate_ext import counters
            from migrate_ext.plans import run as plans

            why = plans.run(self.options, table, scripts, settings, heads, indexes, self.planned)
            if why is not None:
                counters.plain(f"plan: {why}")
                return "migrations to run"
            counters.planned += len(indexes)
            return None
        logs.context()
        if not heads:
            table.ensure()
        return None

    def _stamp(self, table: VersionTable, scripts: Scripts) -> str | None:
        """Stamp. Returns None, or why the graph leaves this to Alembic."""
        targets, purges = tuple(self.options.arguments), "purge" in self.options.flags
        try:
            scripts.graph.stamp(targets, () if purges else table.heads())
        except errors.Declined as reason:
            return str(reason)
        except (errors.RevisionError, AssertionError, LookupError, ValueError):
            pass  # raised below, after the log lines that Alembic writes first
        logs.context()
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
        """Print what the command shows. Returns None, or why the graph leaves this to Alembic."""
        options = self.options
        verbose = "verbose" in options.flags
        place, failed, text = "", None, ""
        try:
            heads = table.heads()
            if options.command == "current":
                if verbose:
                    shown = _core.redact_url(
                        environment.with_driver(url, environment.default_driver()) or url
                    )
                    place = f"Current revision(s) for {shown}:\n"
                if "check_heads" in options.flags and set(heads) != set(scripts.graph.heads):
                    raise errors.CommandError("Database is not on all head revisions")
            text = self._text(scripts, heads)
        except errors.Declined as reason:
            return str(reason)
        except Exception as error:
            failed = error
        logs.context()
        reading.print_text(options, place)
        if failed is not None:
            raise failed
        reading.print_text(options, text)
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
            return "".join(scripts.log_entry(i) + "\n" for i in reading.indexes(found))
        base, _, head = (options.value("rev_range") or ":").strip().partition(":")
        marked = heads if "indicate_current" in options.flags else ()
        if head == "current":
            return reading.history_text(options, scripts, base or "base", heads, marked)
        if base == "current":
            return reading.history_text(options, scripts, heads, head or "heads", marked)
        return reading.history_text(options, scripts, base or "base", head or "heads", marked)


def steps_of(options: Options, scripts: Scripts, heads: tuple[str, ...]) -> list[int]:
    """The revisions that ``upgrade`` or ``downgrade`` would run from `heads`, in that order."""
    target = options.arguments[0]
    with command_errors(
        ancestor=f"Destination %(end)s is not a valid {options.command} "
        "target from current head(s)",
        end=target,
    ):
        if options.command == "upgrade":
            return scripts.graph.iterate(target, heads, implicit_base=True)[::-1]
        return scripts.graph.iterate(heads, target, select_for_downgrade=True)
