"""The command line: the same as Alembic's, and a few commands and options of our own.

Arguments are split once, by position: :class:`CommandLine` finds the command after the global
options, and takes our own options out of the words after it. Direct commands are parsed here, too,
without argparse (:func:`parse`). Anything else (another command, ``--help``, an abbreviated option,
an unusual configuration) is declined, and Alembic's own command line runs in this process with the
same arguments: :mod:`migrate_ext.cli.alembic`.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # signal would import enum
import os
import sys

from migrate_ext import errors
from migrate_ext.project.config import Options

TYPE_CHECKING = False  # saves the import of typing
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, NoReturn

    from migrate_ext.direct.database import Run
    from migrate_ext.locking.version_table import VersionTable
    from migrate_ext.project.environment import Settings

# command -> (options without a value, options with one, minimum and maximum of positional
# arguments)
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
    "downgrade": ({"--sql": "sql"}, {"--tag": "tag"}, 1, 1),
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
    "upgrade": ({"--sql": "sql"}, {"--tag": "tag"}, 1, 1),
}
# Alembic's options before the command; these two, and -x, take a value.
_GLOBAL = ("--config", "--help", "--name", "--quiet", "--raiseerr", "--version")
_GLOBAL_VALUES = ("--config", "--name")


class CommandLine:
    """Arguments split by position.

    ``before``: the global options. ``command``: the word after them; "" if only argparse can find
    it. ``after``: the words after that, without our own options. ``quiet``, ``raiseerr``: whether
    these global options were given. ``limits``: what our own options set, by the names of
    :mod:`migrate_ext.locking.limits`; ``flags``: our own options ``plan`` and ``no_plan``.
    """

    def __init__(self, argv: Sequence[str]) -> None:
        self.quiet = False
        self.raiseerr = False
        self.limits: dict[str, str] = {}
        self.flags: set[str] = set()
        at = self._find_command(argv)
        self.before = list(argv if at is None else argv[:at])
        self.command = "" if at is None else argv[at]
        self.after = [] if at is None else list(argv[at + 1 :])
        if self.command in ("downgrade", "stamp", "upgrade"):
            self.after = self._take_own(self.after)

    @property
    def argv(self) -> list[str]:
        """The arguments without our own options."""
        return [*self.before, self.command, *self.after] if self.command else self.before

    def _find_command(self, argv: Sequence[str]) -> int | None:
        at = 0
        while at < len(argv):
            word = argv[at]
            if not word.startswith("-") or word == "-":
                return at
            takes_value = self._global_option(word)
            if takes_value is None:
                return None
            at += 1 + takes_value
        return None

    def _global_option(self, word: str) -> bool | None:
        """Record a global option. Returns whether its value is the next word; None: unknown."""
        if word.startswith("--"):
            name, equals, _ = word.partition("=")
            found = [option for option in _GLOBAL if option.startswith(name)]
            option = name if name in found else found[0] if len(found) == 1 else ""
            self.quiet |= option == "--quiet"
            self.raiseerr |= option == "--raiseerr"
            return None if not option else option in _GLOBAL_VALUES and not equals
        letters = word[1:]
        while letters.startswith("q"):
            self.quiet = True
            letters = letters[1:]
        if letters[:1] in ("c", "n", "x"):
            return len(letters) == 1
        return None if letters else False

    def _take_own(self, words: list[str]) -> list[str]:
        """Take our own options out of `words`, which follow ``upgrade``, ``downgrade`` or
        ``stamp``.

        Returns the other words. Raises CommandError for ``--lock-timeout`` without a value.
        """
        is_run, left = self.command != "stamp", []
        options = words[: words.index("--")] if "--" in words else words
        timed = is_run and not {"--sql", "--sq", "--s"} & set(options)
        rest = iter(options)
        for word in rest:
            option, equals, value = word.partition("=")
            if word == "--tag":
                left += [word, *([] if (tag := next(rest, None)) is None else [tag])]
            elif word == "--no-lock":
                self.limits["lock"] = "false"
            elif option == "--lock-timeout":
                found = value if equals else next(rest, None)
                if found is None:
                    raise errors.CommandError("--lock-timeout needs a number of seconds")
                self.limits["lock_timeout"] = found
            elif is_run and word == "--repair":
                self.limits["repair"] = "true"
            elif timed and word in ("-v", "--verbose"):
                self.limits["verbose"] = "true"
            elif is_run and word in ("--plan", "--no-plan"):
                self.flags.add("plan" if word == "--plan" else "no_plan")
            else:
                left.append(word)
        return left + words[len(options) :]


def _is_value(argument: str) -> bool:
    """Whether argparse would accept `argument` as a value."""
    return not argument.startswith("-") or argument[1:].isdecimal()


def parse(argv: Sequence[str], prog: str) -> Options:
    """The options in `argv` (without the program's name).

    Raises :class:`~migrate_ext.errors.Declined` for all but direct commands with full option names.
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
        elif argument == "--raiseerr":
            options.raiseerr = True
        else:
            raise errors.Declined("an option for argparse")
    if options.command not in _FLAGS:
        raise errors.Declined(f"command {options.command or 'missing'}")
    flags, values, least, most = _FLAGS[options.command]
    before = ""  # argparse accepts positional arguments only if they are adjacent
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


def run(line: CommandLine, prog: str) -> None:
    """Run one command; raises what the command raises, or SystemExit."""
    if line.before == ["--version"] and not line.command:
        from importlib.metadata import version

        from migrate_ext import __version__

        print(f"{prog} {__version__} (alembic {version('alembic')})")
        return
    if _run_own(line, prog):
        return
    if line.limits or "migrate_ext.locking.limits" in sys.modules:
        from migrate_ext.locking import limits  # rarely needed

        limits.give(line.limits)
    declined = "MIGRATE_EXT=0"
    off = os.environ.get("MIGRATE_EXT") == "0"
    if not off:
        try:
            options = parse(line.argv, prog)
            options.flags |= line.flags
            work = prepare(options)
        except errors.Declined as reason:
            declined = str(reason)
        else:
            work()
            return
    if "plan" in line.flags or line.command == "compile":
        raise errors.CommandError(
            f"Alembic cannot do this, and migrate_ext is not used: {declined}"
        )
    _alembic(f"command line: {declined}").command_line(line.argv, prog, plain=off)


def _alembic(reason: str) -> Any:
    """Count `reason`, and import :mod:`migrate_ext.cli.alembic`, with Alembic and SQLAlchemy."""
    from migrate_ext import counters
    from migrate_ext.project import logs

    counters.plain(reason)
    with logs.importing_alembic():
        from migrate_ext.cli import alembic
    return alembic


def prepare(options: Options) -> Callable[[], None]:
    """Do the part of a direct command that may be declined, and return the rest as a function.

    Raises :class:`~migrate_ext.errors.Declined` if Alembic must run the command: then nothing has
    been printed or changed, and none of the project's code has run except revision files that must
    be executed. Raises :class:`~migrate_ext.errors.CommandError` where Alembic would print
    ``FAILED:``.
    """
    from migrate_ext.direct import reading  # not with MIGRATE_EXT=0
    from migrate_ext.project.config import Config, default_files

    ini, toml = default_files(options.config)
    config = Config(ini, toml, options.section)
    config.check()
    if reading.needs_database(options):
        from migrate_ext.direct import database  # imports URLs, sessions and logging

        return database.prepare(options, config, _serve)
    text = reading.text(options, config)
    return lambda: reading.print_text(options, text)


def _serve(run: Run, settings: Settings) -> None:
    """Do the work of a command that runs ``env.py``: without Alembic if no SQL must be rendered."""
    if run.options.command == "compile":
        from migrate_ext.rendering import compile as compiling  # imports Alembic and SQLAlchemy

        compiling.compile_project(run, settings)
        return
    reason = run.answer(settings, _show_plan)
    if reason is not None:
        _alembic(f"{run.options.command}: {reason}").go_on(run, settings)


def _show_plan(run: Run, table: VersionTable, settings: Settings) -> None:
    from migrate_ext.rendering import preview  # imports Alembic and SQLAlchemy

    preview.show(run, table, settings)


def _run_own(line: CommandLine, prog: str) -> bool:
    """Run a command that Alembic does not have. Returns whether it was one."""
    if line.command == "doctor" and not line.before and set(line.after) <= {"-v", "--verbose"}:
        from migrate_ext.cli import doctor

        raise SystemExit(doctor.main(verbose=bool(line.after)))
    if line.command == "compile" and not {"-h", "--help"}.isdisjoint(line.after):
        from migrate_ext.cli import usage

        print(usage.of_compile(prog), end="")
        return True
    if line.command == "verify":
        from migrate_ext import verify

        raise SystemExit(verify.main(line.before, line.after, prog))
    if line.command == "init":
        from migrate_ext.cli import init as starting  # rarely needed

        if starting.is_ours(line.after):
            starting.run(line.after, quiet=line.quiet)
            return True
    return False


def program(prog: str = "migrate-ext") -> NoReturn:
    """Run the command line of this process, and exit. Afterwards SIGINT is ignored: it would kill
    the process although the work is done.
    """
    code = main(prog=prog)
    _signal.signal(_signal.SIGINT, _signal.SIG_IGN)
    raise SystemExit(code)


def main(argv: Sequence[str] | None = None, prog: str = "migrate-ext") -> int:
    """Run the command line and return the exit code: 0, 255 for Alembic's ``FAILED``, 1, 2 for
    usage, 130 for Ctrl-C.

    argv: arguments without the program's name; None: the process's. prog: the name in usage texts.
    """
    if "MIGRATE_EXT_STATS" in os.environ:
        from migrate_ext import counters  # noqa: F401  # writes the counters at exit
    line = None
    try:
        line = CommandLine(sys.argv[1:] if argv is None else argv)
        run(line, prog)
        if sys.stdout is not None:  # it is None when the caller has closed it
            sys.stdout.flush()
        return 0
    except BrokenPipeError:
        # The reader of the output has closed the pipe (`| head`): there is nothing left to do.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except SystemExit as stop:
        if stop.code is None or isinstance(stop.code, int):
            return (stop.code or 0) & 0xFF
        raise
    except BaseException as error:
        if line is not None and line.raiseerr:
            raise
        if isinstance(error, errors.CoreMissing):  # report imports the core, too
            sys.stderr.write(f"FAILED: {error}\n")
            return 1
        from migrate_ext.cli import report  # only after an error

        return report.report(error, quiet=line is not None and line.quiet)
