"""The command line: Alembic's, word for word.

The commands that the C core serves are parsed here, without argparse. Whatever is not plainly one
of them (another command, ``--help``, an abbreviated option, a configuration out of the ordinary)
raises :class:`~migrate_ext.errors.Declined`, and Alembic's own command line runs in this process
with the same arguments: :mod:`migrate_ext.seam`.
"""

from __future__ import annotations

import os
import sys

from migrate_ext import errors

TYPE_CHECKING = False  # typing's own costs its import
if TYPE_CHECKING:
    from collections.abc import Sequence

# command -> (options without a value, options with one, least and most positional arguments)
_FLAGS: dict[str, tuple[dict[str, str], dict[str, str], int, int]] = {
    "branches": ({"-v": "verbose", "--verbose": "verbose"}, {}, 0, 0),
    "current": (
        {
            "-v": "verbose",
            "--verbose": "verbose",
            "-c": "check_heads",
            "--check-heads": "check_heads",
        },
        {},
        0,
        0,
    ),
    "compile": ({"--check": "check"}, {}, 0, 0),
    "downgrade": (
        {"--sql": "sql", "--no-plan": "no_plan", "--plan": "plan"},
        {"--tag": "tag"},
        1,
        1,
    ),
    "heads": (
        {
            "-v": "verbose",
            "--verbose": "verbose",
            "--resolve-dependencies": "resolve_dependencies",
        },
        {},
        0,
        0,
    ),
    "history": (
        {
            "-v": "verbose",
            "--verbose": "verbose",
            "-i": "indicate_current",
            "--indicate-current": "indicate_current",
        },
        {"-r": "rev_range", "--rev-range": "rev_range"},
        0,
        0,
    ),
    "show": ({}, {}, 1, 1),
    "stamp": ({"--sql": "sql", "--purge": "purge"}, {"--tag": "tag"}, 1, sys.maxsize),
    "upgrade": (
        {"--sql": "sql", "--no-plan": "no_plan", "--plan": "plan"},
        {"--tag": "tag"},
        1,
        1,
    ),
}


class Options:
    """What was asked for: ``command``, ``arguments``; ``flags``, ``values`` by Alembic's names."""

    def __init__(self, argv: Sequence[str], prog: str) -> None:
        self.argv = list(argv)
        self.prog = prog
        self.config: list[str] = []
        self.section = "alembic"
        self.raiseerr = "--raiseerr" in argv
        self.quiet = False
        self.command = ""
        self.arguments: list[str] = []
        self.flags: set[str] = set()
        self.values: dict[str, str] = {}

    def value(self, name: str) -> str | None:
        return self.values.get(name)


def _is_value(argument: str) -> bool:
    """Whether argparse would take `argument` where a value is expected."""
    return not argument.startswith("-") or argument[1:].isdecimal()


def parse(argv: Sequence[str], prog: str) -> Options:
    """The options in `argv` (without the program's name).

    Raises :class:`~migrate_ext.errors.Declined` for everything that is not a command of the C core,
    spelled in full.
    """
    options = Options(argv, prog)
    left = iter(argv)

    def value(option: str) -> str:
        argument = next(left, None)
        if argument is None or not _is_value(argument):
            raise errors.Declined(f"{option} without a value")
        return argument

    for argument in left:
        if not argument.startswith("-"):
            options.command = argument
            break
        if argument in ("-c", "--config"):
            options.config.append(value(argument))
        elif argument in ("-n", "--name"):
            options.section = value(argument)
        elif argument == "-x":
            value(argument)
        elif argument in ("-q", "--quiet"):
            options.quiet = True
        elif argument != "--raiseerr":
            raise errors.Declined("an option for argparse")
    if options.command not in _FLAGS:
        raise errors.Declined(f"command {options.command or 'missing'}")
    flags, values, least, most = _FLAGS[options.command]
    before = ""  # argparse takes positional arguments together, or not at all
    for argument in left:
        if argument in flags:
            options.flags.add(flags[argument])
        elif argument in values:
            options.values[values[argument]] = value(argument)
        elif _is_value(argument) and options.arguments[-1:] in ([], [before]):
            options.arguments.append(argument)
        else:
            raise errors.Declined("an option for argparse")
        before = argument
    if not least <= len(options.arguments) <= most:
        raise errors.Declined("arguments for argparse")
    return options


def run(argv: Sequence[str], prog: str) -> None:
    """Run one command; raises what the command raises, or SystemExit."""
    if list(argv) == ["--version"]:
        from importlib.metadata import version

        from migrate_ext import __version__

        print(f"{prog} {__version__} (alembic {version('alembic')})")
        return
    if argv and argv[0] == "doctor" and set(argv[1:]) <= {"-v", "--verbose"}:
        from migrate_ext import doctor

        raise SystemExit(doctor.main(verbose=len(argv) > 1))
    if argv and argv[0] == "compile" and not {"-h", "--help"}.isdisjoint(argv):
        from migrate_ext import usage

        print(usage.of_compile(prog), end="")
        return
    if "verify" in argv:
        from migrate_ext import verify  # a command of its own

        if verify.position(argv) is not None:
            raise SystemExit(verify.main(argv, prog))
    timed = any(a in argv for a in ("upgrade", "downgrade"))
    if any(
        a.startswith(("--no-lock", "--lock-timeout", "--repair"))
        or (timed and a in ("-v", "--verbose"))
        for a in argv
    ):
        from migrate_ext import limits  # few give these

        argv = limits.take_options(argv)
    if "init" in argv:
        from migrate_ext import starting  # once in a project's life

        if starting.is_ours(list(argv)):
            starting.run(list(argv))
            return
    off = os.environ.get("MIGRATE_EXT") == "0"
    if off:
        declined = "MIGRATE_EXT=0"
    else:
        try:
            from migrate_ext import commands  # after MIGRATE_EXT=0 is ruled out

            commands.run(parse(argv, prog))
            return
        except errors.Declined as reason:
            declined = str(reason)
    if "--plan" in argv or "compile" in argv:
        raise errors.CommandError(f"this needs migrate_ext's own way: {declined}")
    from migrate_ext import counters, logs

    counters.plain(f"command line: {declined}")
    with logs.importing_alembic():
        from migrate_ext import seam  # imports Alembic and SQLAlchemy: only where they are needed

    seam.command_line(argv, prog, plain=off)


def main(argv: Sequence[str] | None = None, prog: str = "migrate-ext") -> int:
    """Run the command line and return the exit code: 0, 255 for Alembic's ``FAILED``, 1, 2 for
    usage, 130 for Ctrl-C.

    argv: arguments without the program's name; those of the process when None. prog: the name that
    usage texts show.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if "MIGRATE_EXT_STATS" in os.environ:
        from migrate_ext import counters  # noqa: F401  # writes them at the end
    try:
        run(arguments, prog)
        if sys.stdout is not None:  # it is None when the caller has closed it
            sys.stdout.flush()
        return 0
    except BrokenPipeError:
        # The reader of our output went away (`| head`): nothing is left to be said.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except SystemExit as stop:
        if stop.code is None or isinstance(stop.code, int):
            return (stop.code or 0) & 0xFF
        raise
    except BaseException as error:
        if "--raiseerr" in arguments:
            raise
        from migrate_ext import report  # only when something is wrong

        return report.report(error, quiet="-q" in arguments or "--quiet" in arguments)
