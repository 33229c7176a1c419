"""``migrate-ext doctor``: shows what is active in this environment, with which versions, and what
is not, and why.

For the project in the current folder, it shows which files must be executed and which migrations
cannot be sent in batches, and why. It reads no URL, so it cannot print a password. With ``-v`` it executes
the files of such migrations, as every command of Alembic's does, and names each line that they wait at.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterator
from types import FunctionType

_SHOWN = 5  # items of a list that are shown without -v


def lines() -> Iterator[tuple[str, str]]:
    """The findings, as (name, text). Imports Alembic, as a program that uses it would."""
    from importlib import metadata, util

    from migrate_ext import __version__, errors

    yield "migrate_ext", f"{__version__}, {os.path.dirname(errors.__file__)}"
    yield "Python", f"{platform.python_version()}, {sys.executable}"
    try:
        from migrate_ext import _core

        yield "C core", str(_core.__file__)
    except ImportError as error:
        yield "C core", f"NOT USABLE: {error}"
    for name in ("alembic", "SQLAlchemy", "psycopg", "psycopg2"):
        distributions = (name, f"{name}-binary") if name == "psycopg2" else (name,)
        for distribution in distributions:
            try:
                yield name, metadata.version(distribution)
                break
            except metadata.PackageNotFoundError:
                continue
        else:
            found = util.find_spec(name) is not None
            yield name, "installed, of an unknown version" if found else "not installed"
    points = metadata.entry_points(group="alembic.plugins")
    found = any(point.value == "migrate_ext.plugin" for point in points)
    yield "entry point", "found" if found else "NOT FOUND: install the package, or call install()"
    yield from _active()
    yield from _libpq()


def _active() -> Iterator[tuple[str, str]]:
    if os.environ.get("MIGRATE_EXT") == "0":
        yield "runtime", "OFF: MIGRATE_EXT=0"
        return
    import alembic.config  # noqa: F401  (installs the runtime if the entry point is found)

    try:
        from migrate_ext.dropin import hooks
    except ImportError as error:
        yield "runtime", f"OFF: {error}"
        return
    active, others = hooks.active_parts()
    for part in active:
        yield part, "active"
    for part, reason in others.items():
        yield part, f"OFF: {reason}"


def _libpq() -> Iterator[tuple[str, str]]:
    try:
        from migrate_ext import _core
        from migrate_ext.execution import libpq
    except ImportError:
        return  # lines() reports it
    try:
        path = libpq.find()
        yield "libpq", f"{_version(_core.load_libpq(path))}, {path or 'the system library'}"
    except OSError as error:
        yield "libpq", f"NOT FOUND for commands of migrate-ext: {error}"
    try:
        import psycopg

        library = libpq.psycopg_library(psycopg.pq.PGconn.__module__)
        where = library or "a build that is not known: no batches"
        yield "psycopg's libpq", f"{_version(psycopg.pq.version())}, {where}"
    except ImportError:
        pass
    try:
        import psycopg2._psycopg

        found = psycopg2._psycopg
        yield "psycopg2's libpq", f"{_version(found.libpq_version())}, {found.__file__}"
    except ImportError:
        pass


def _version(number: int) -> str:
    pipeline = "batches" if number >= 140000 else "NO BATCHES: older than 14"
    return f"{number // 10000}.{number % 10000} ({pipeline})"


def _project(verbose: bool) -> Iterator[tuple[str, str]]:
    """The findings about the project in this folder. Executes none of its code, but with `verbose` the revision
    files whose migrations are not plain: what a line does is seen from what its names are.
    """
    try:
        from migrate_ext import _core, errors
        from migrate_ext.direct import database
        from migrate_ext.locking import limits
        from migrate_ext.project import config, scripts
    except ImportError:
        return  # lines() reports it
    try:
        read = config.Config(*config.default_files([]), "alembic")
        location = read.script_location()
        wanted = limits.read(read.option)
        folders = [
            folder
            for place in read.version_locations(location)
            for folder in scripts.folders(place, read.boolean("recursive_version_locations"))
        ]
        found = [
            (os.path.join(folder, name), answer)
            for folder in folders
            for name, answer in zip(*_core.scan_folder(folder), strict=True)
        ]
    except (errors.Declined, errors.CommandError, OSError) as error:
        yield "project", f"none that can be read here: {error}"
        return
    env = os.path.join(location, "env.py")
    if not os.path.exists(env):
        kind = "there is none"
    elif database.is_thin(env):
        kind = "thin"
    else:
        kind = "classic: migrate-ext runs Alembic's commands, with batches"
    yield "env.py", f"{kind}, {env}"
    yield "lock", "taken by runs on PostgreSQL" if wanted.lock else "turned off"
    executed = [
        [(path, str(answer if isinstance(answer, str) else "it has no revision"))]
        for path, answer in found
        if isinstance(answer, str) or answer[0] is None
    ]
    yield from _some("executed files", "read, not executed", len(found), executed, verbose)
    alone = {}
    if verbose:
        sys.path[:0] = read.paths("prepend_sys_path")
    for path, _ in found:
        reasons = {name: _reason(path, name) for name in ("upgrade", "downgrade")}
        waits = {name: [(path, f"{name}(): {why}")] for name, why in reasons.items() if why}
        if waits and verbose:
            waits = _waits(path, waits)
        alone.update({(path, name): lines for name, lines in waits.items()})
    yield from _some(
        "not all in batches", "sent in batches", 2 * len(found), [*alone.values()], verbose
    )
    if alone and verbose:
        yield (
            "",
            "at these lines all statements are confirmed, because what runs there could be observed",
        )
    elif alone:
        yield "", "'migrate-ext doctor -v' names each line at which statements are waited for"


_Lines = list[tuple[str, str]]  # (file, or file and line; what is said of it)


def _waits(path: str, found: dict[str, _Lines]) -> dict[str, _Lines]:
    """What ends spans in the functions of a revision file, by name, in the order of their lines. Executes the
    file; where that fails, `found` with the reason.
    """
    from migrate_ext import errors
    from migrate_ext.cli import report
    from migrate_ext.execution import plain, source
    from migrate_ext.execution.spans import Spans, spans_of
    from migrate_ext.project import scripts

    try:
        module = scripts.load(path)
    except (Exception, SystemExit) as error:
        broken = error.__cause__ if isinstance(error, errors.BrokenFile) else error
        reason = report.without_secrets(f"{type(broken).__name__}: {broken}").partition("\n")[0]
        return {
            name: [(path, f"{text} (it cannot be executed: {reason})") for path, text in lines]
            for name, lines in found.items()
        }
    waits = {}
    for name, lines in found.items():
        function = getattr(module, name, None)
        node = source.tree_of(path, function) if type(function) is FunctionType else ""
        if type(function) is not FunctionType or isinstance(node, str):
            waits[name] = [(path, f"{name}(): {node}")] if node else lines
            continue
        if plain.reason_not_plain_of(function, node) is None:
            continue
        spans = spans_of(function, node)
        if not isinstance(spans, Spans):
            waits[name] = [(path, f"{name}(): {spans}")]
        elif spans.reasons:
            own = spans.top.co_filename
            waits[name] = [
                (f"{path}:{line}", f"{name}(): {why}")
                if file == own
                else (path, f"{name}(): {file}:{line}: {why}")  # in a function that it calls
                for file, line, why in sorted(spans.reasons, key=lambda end: (end[0] != own, end))
            ]
    return waits


def _reason(path: str, function: str) -> str | None:
    """:func:`migrate_ext.execution.plain.reason_not_plain` for a file."""
    from migrate_ext.execution import plain

    try:
        with open(path, "rb") as file:
            return plain.reason_not_plain(file.read(), function)
    except (OSError, SyntaxError, ValueError) as error:
        return str(error)


def _some(
    name: str, otherwise: str, of: int, found: list[_Lines], verbose: bool
) -> Iterator[tuple[str, str]]:
    """The count of what was found, and the first few; with `verbose`, all."""
    yield name, f"{len(found)} of {of}; the others are {otherwise}"
    shown = found if verbose else found[:_SHOWN]
    for lines in shown:
        for where, reason in lines:
            yield "", f"{where}: {reason}"
    if len(found) > len(shown):
        yield "", f"... and {len(found) - len(shown)} more: migrate-ext doctor -v"


def main(verbose: bool = False) -> int:
    """Print the findings. Returns 1 if something is missing or off, else 0."""
    trouble = 0
    for name, text in (*lines(), *_project(verbose)):
        print(f"{name:16} {text}")
        trouble |= text.startswith(("OFF", "NOT ")) or (name == "C core" and "NOT USABLE" in text)
    return int(trouble)
