"""Commands that only read revision files: ``history``, ``heads``, ``branches``, ``show``.

Each prints what the function of its name in ``alembic/command.py`` prints (read in 1.20.1). Where
one also shows the database's revision, :mod:`migrate_ext.direct.database` calls the functions here.
"""

from __future__ import annotations

import sys

from migrate_ext import errors
from migrate_ext.project.scripts import Scripts, command_errors

TYPE_CHECKING = False  # saves the import of typing
if TYPE_CHECKING:
    from migrate_ext.project.config import Config, Options


def text(options: Options, config: Config) -> str:
    """The output of a command that only reads files. Raises as
    :func:`migrate_ext.cli.command_line.prepare`.
    """
    if options.command == "history" and _as_bool(config.option("revision_environment")):
        raise errors.Declined("revision_environment")
    sys.path[:0] = config.paths("prepend_sys_path")
    return _COMMANDS[options.command](options, Scripts(config))


def needs_database(options: Options) -> bool:
    """Whether a command needs the database: to show its revision, or for more than reading."""
    if options.command not in _COMMANDS:
        return True
    if options.command == "show":
        return options.arguments[0] == "current"
    if options.command == "history":
        range_ = (options.value("rev_range") or "").strip().split(":")
        return "indicate_current" in options.flags or "current" in range_
    return False


def _as_bool(text: str | None) -> bool:
    """As ``sqlalchemy.util.asbool`` reads a string."""
    word = (text or "").strip().lower()
    if word in ("true", "yes", "on", "y", "t", "1"):
        return True
    if word in ("false", "no", "off", "n", "f", "0", ""):
        return False
    raise errors.Declined("an unusual boolean")


def print_text(options: Options, text: str) -> None:
    """Print as ``Config.print_stdout`` does: characters that the encoding lacks are replaced; with
    ``-q`` nothing is printed.

    text: whole lines.
    """
    if text and not options.quiet and sys.stdout is not None:
        if not text.isascii():
            encoding = sys.stdout.encoding or "ascii"
            text = text.encode(encoding, "replace").decode(encoding)
        sys.stdout.write(text)


def _history(options: Options, scripts: Scripts) -> str:
    base, head = "base", "heads"
    range_ = options.value("rev_range")
    if range_ is not None:
        if range_.count(":") != 1:
            raise errors.Declined("an unusual range")
        start, end = range_.strip().split(":")
        base, head = start or base, end or head
    return history_text(options, scripts, base, head)


def history_text(
    options: Options,
    scripts: Scripts,
    base: str | tuple[str, ...],
    head: str | tuple[str, ...],
    current: tuple[str, ...] = (),
) -> str:
    """What ``history`` prints for the range from `base` to `head`, with `current` marked."""
    with command_errors(start=str(base), end=str(head)):
        walk = scripts.graph.iterate(head, base, inclusive=True, assert_relative_length=False)
    verbose = "verbose" in options.flags
    return scripts.lines(walk, current, verbose=verbose, branches=True, doc=True, parents=True)


def _heads(options: Options, scripts: Scripts) -> str:
    graph = scripts.graph
    resolve = "resolve_dependencies" in options.flags
    with command_errors():
        heads = graph.get_revisions("heads" if resolve else graph.heads)
    verbose = "verbose" in options.flags
    return scripts.lines(indexes(heads), verbose=verbose, branches=True, indicators=False)


def _branches(options: Options, scripts: Scripts) -> str:
    verbose = "verbose" in options.flags
    graph = scripts.graph
    with command_errors(start="base", end="heads"):
        walk = graph.iterate("heads", "base", inclusive=True, assert_relative_length=False)
    text = ""
    for index in walk:
        children = graph.nextrev(index)
        if len(children) < 2:
            continue
        indent = " " * len(graph.revision(index))
        text += scripts.lines([index], verbose=verbose, branches=True)
        for child in children:
            line = scripts.lines([graph.lookup(child)], branches=True, doc=verbose)
            text += f"{indent} -> {line}"
        text += "\n"
    return text


def _show(options: Options, scripts: Scripts) -> str:
    with command_errors():
        found = scripts.graph.get_revisions(options.arguments[0])
    return "".join(scripts.log_entry(index) + "\n" for index in indexes(found))


def indexes(found: tuple[int | str | None, ...]) -> list[int]:
    """`found` as indexes. Raises Declined if one is no revision (``base``): left to Alembic."""
    if not all(isinstance(index, int) for index in found):
        raise errors.Declined("base is no revision")
    return [index for index in found if isinstance(index, int)]


_COMMANDS = {"history": _history, "heads": _heads, "branches": _branches, "show": _show}
