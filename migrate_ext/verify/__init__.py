"""``migrate-ext verify``: runs a project's history with Alembic alone and with the runtime, and compares the results.

places.py finds where the project gets its URL from; child.py runs one command, on scratch databases only; sides.py runs
the commands of one side; snapshot.py reads the contents of a database; texts.py has the rules for differences between
texts; compare.py compares; run.py does the whole comparison; report.py prints it. This file is the command line.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False  # saves the import of typing
if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence
    from contextlib import AbstractContextManager, ExitStack

    from migrate_ext.testing.databases import Databases
    from migrate_ext.verify.places import Project


def _options(arguments: Sequence[str], prog: str) -> argparse.Namespace:
    import argparse

    parser = argparse.ArgumentParser(
        f"{prog} verify",
        description="Run this project's history on two scratch databases, one with Alembic alone, one with "
        "migrate_ext, and compare: exit codes, texts, catalogue, rows. They are made on the server of the "
        "project's URL, or on a private one where no URL is set. The database that the URL names is never used.",
        epilog="Exit code: 0 the same, 1 different, 2 could not be done. See docs/adopting.md.",
    )
    add = parser.add_argument
    add("--from", dest="start", metavar="REV", help="bring both to REV first, with Alembic alone")
    add(
        *("--url-variable", "-u"),
        dest="variables",
        metavar="NAME[=FORM]",
        action="append",
        default=[],
        help="a variable that env.py gets its database from, beside DATABASE_URL; FORM says what it holds, "
        "with {url} {database} {host} {port} {user} {password} in it",
    )
    add("--embedded", action="store_true", help="use a private server, whatever the URL says")
    add("--keep", action="store_true", help="leave the scratch databases, and name them")
    add("--json", action="store_true", help="print JSON instead of a table")
    return parser.parse_args(arguments)


def main(before: Sequence[str], arguments: Sequence[str], prog: str) -> int:
    """Run the command, and return the exit code.

    before: Alembic's global options, before the command's name. arguments: the words after it.
    """
    options = _options(arguments, prog)
    try:
        import psycopg
    except ImportError as error:
        print(
            f"verify needs psycopg ({error}): pip install 'migrate-ext[psycopg]'", file=sys.stderr
        )
        return 2
    from contextlib import ExitStack

    from migrate_ext.errors import CommandError
    from migrate_ext.verify import report
    from migrate_ext.verify.places import Cannot
    from migrate_ext.verify.run import verify

    secrets: list[str | None] = []
    databases: Databases | None = None

    def say(text: str) -> None:
        print(report.without(secrets, f"verify: {text}"), file=sys.stderr, flush=True)

    result, reason = None, ""
    with ExitStack() as stack:
        stack.enter_context(_ended_by_sigterm())
        try:
            project = _project(before, options)
            secrets += [place.url.password for place in project.places if place.url is not None]
            databases = _databases(project, options, stack)
            secrets += [databases.url("").password]
            result = verify(project, databases, start=options.start, say=say)
        except (Cannot, CommandError, psycopg.Error, OSError) as error:
            reason = str(error)
        except KeyboardInterrupt:
            reason = "interrupted"
    kept = [databases.url(x).render_as_string() for x in databases.kept] if databases else []
    code = 2 if result is None else result.code
    if options.json:
        lines = [report.document(result, code, reason, kept)]
    else:
        lines = [] if result is None else list(report.table(result))
        lines += [f"kept: {url}" for url in kept]
    if result is None:
        say(f"could not be done: {reason}")
    for line in lines:
        print(report.without(secrets, line))
    return 130 if reason == "interrupted" else code


def _project(arguments: Sequence[str], options: argparse.Namespace) -> Project:
    """The project that Alembic's global options, `arguments`, select."""
    from alembic.config import CommandLine

    from migrate_ext.project.config import default_files
    from migrate_ext.verify.places import Project

    named = CommandLine().parser.parse_args(arguments)
    config = [named.config] if isinstance(named.config, str) else named.config  # before 1.16
    ini, toml = default_files(config or [])
    return Project(arguments, ini, toml, named.name, options.variables, embedded=options.embedded)


def _databases(project: Project, options: argparse.Namespace, stack: ExitStack) -> Databases:
    """The server for scratch databases."""
    from migrate_ext.testing import embedded
    from migrate_ext.testing.databases import Databases
    from migrate_ext.verify.places import Cannot
    from migrate_ext.verify.sides import connected

    if project.embedded:
        if options.keep:
            raise Cannot("the private server ends with verify: nothing can be kept without a URL")
        try:
            url = stack.enter_context(embedded.temporary_server()).url()
        except embedded.ServerFailure as error:
            raise Cannot(
                f"no URL of the project's database is set (DATABASE_URL, or --url-variable NAME), and {error}"
            ) from error
    else:
        assert project.url is not None
        url = project.url.render_as_string(hide_password=False)
    databases = Databases(url, keep=options.keep)
    stack.callback(databases.close)
    connected(databases)
    return databases


def _ended_by_sigterm() -> AbstractContextManager[None]:
    """Within this block SIGTERM ends the program as Ctrl-C does: scratch databases are dropped."""
    import signal
    from contextlib import contextmanager

    def end(number: int, frame: object) -> None:
        raise SystemExit(128 + number)

    @contextmanager
    def around() -> Iterator[None]:
        before = signal.signal(signal.SIGTERM, end)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, before)

    return around()
