"""Alembic's own command line, in this process. Importing this module imports Alembic and SQLAlchemy."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from alembic.config import CommandLine
from alembic.config import Config as AlembicConfig

from migrate_ext import errors
from migrate_ext.cli import init, usage
from migrate_ext.dropin import hooks
from migrate_ext.dropin.environment import instead_of_files

if TYPE_CHECKING:
    from migrate_ext.direct.database import Run
    from migrate_ext.project.environment import Settings


def command_line(argv: Sequence[str], prog: str, *, plain: bool = False) -> None:
    """Run Alembic's own command line in this process; raises what the command raises.

    argv, prog: as for :func:`migrate_ext.cli.main`. plain: without the executor.
    """
    line = CommandLine(prog=prog)
    if not plain:
        usage.add(line.parser)
    options = line.parser.parse_args(argv)
    if not hasattr(options, "cmd"):
        line.parser.error("too few arguments")
    function, positional, keyword = options.cmd
    config = _alembic_config(line, options)
    if not plain and function.__name__ == "list_templates":
        init.add_thin(config)
    with nullcontext() if plain else hooks.installed(), _naming_files():
        function(
            config,
            *[getattr(options, name, None) for name in positional],
            **{name: getattr(options, name, None) for name in keyword},
        )


@contextmanager
def _naming_files() -> Iterator[None]:
    """Have errors for which Alembic prints a traceback name the file. Those in what is read become command
    errors, as in the commands that run without Alembic.
    """
    try:
        yield
    except (AttributeError, KeyError) as error:
        frames, traceback = [], error.__traceback__
        while traceback is not None:
            frames.append(traceback.tb_frame)
            traceback = traceback.tb_next
        module, where = frames[-1].f_locals.get("module"), frames[-1].f_globals.get("__name__")
        if isinstance(error, AttributeError) and where == "alembic.script.base" and module:
            raise errors.BrokenFile(module.__file__, error) from error
        script = frames[-1].f_locals.get("revision")
        if isinstance(error, AttributeError) and where == "alembic.runtime.migration" and script:
            error.__dict__["revision_file"] = script.path  # it has no upgrade()
        if isinstance(error, KeyError) and where == "alembic.script.revision":
            # The revision that names it: before Python 3.12 a list comprehension has its own frame.
            found: list[Any] = [frame.f_locals.get("revision") for frame in frames[-2:]]
            by = [f" referenced from {r.revision} ({r.path})" for r in found if hasattr(r, "path")]
            raise errors.CommandError(
                f"Revision {error.args[0]}{by[-1] if by else ''} is not present; "
                "restore its file, or correct down_revision / depends_on"
            ) from error
        raise


def _alembic_config(line: CommandLine, options: Any) -> AlembicConfig:
    if hasattr(line, "_inis_from_config"):
        toml, ini = line._inis_from_config(options)
        return AlembicConfig(file_=ini, toml_file=toml, ini_section=options.name, cmd_opts=options)
    return AlembicConfig(file_=options.config, ini_section=options.name, cmd_opts=options)


def go_on(run: Run, settings: Settings) -> None:
    """Continue a direct command that cannot be completed without Alembic.

    run: the command, whose ``env.py`` is being executed and is not executed again. settings: those
    that this ``env.py`` gave.
    """
    # Usually Alembic reads its configuration before env.py sets up logging, so nothing is shown.
    logger = logging.getLogger("alembic.config")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        with instead_of_files(run, settings):
            command_line(run.options.argv, run.options.prog)
    finally:
        logger.setLevel(level)
