"""Arguments mean what Alembic's argparse makes of them; unknown ones are left to argparse."""

from __future__ import annotations

import contextlib
import io
import subprocess
import sys

import pytest
from alembic.config import CommandLine
from hypothesis import example, given, settings
from hypothesis import strategies as st

from migrate_ext import errors
from migrate_ext.cli import command_line as cli

PARSER = CommandLine(prog="alembic").parser

WORDS = (
    "branches current downgrade heads history show stamp upgrade check revision nonsense head heads base +1 -1 -1: "
    "-2:current a:b abc123 -c -n -x -q -v -r -i --config --name --quiet --raiseerr --verbose --sql --tag --purge "
    "--rev-range --indicate-current --resolve-dependencies --check-heads --verb --sq -vv -r-1: --tag=x -- - -1.5 -²"
).split()  # fmt: skip


def oracle(argv: list[str]) -> dict[str, object] | None:
    """What argparse makes of `argv`; None where it refuses, or only prints."""
    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        try:
            return vars(PARSER.parse_args(argv))
        except SystemExit:
            return None


KNOWS_CHECK_HEADS = oracle(["current", "--check-heads"]) is not None  # since 1.17.1


def check(argv: list[str]) -> bool:
    """Compare, and say whether we took it."""
    try:
        ours = cli.parse(argv, "alembic")
    except errors.Declined:
        return False
    theirs = oracle(argv)
    if theirs is None and "check_heads" in ours.flags and not KNOWS_CHECK_HEADS:
        return True
    assert theirs is not None, argv
    assert theirs.pop("cmd")[0].__name__ == ours.command
    config = theirs.pop("config")
    if isinstance(config, str):  # before Alembic 1.16: the last one, or the default
        assert [config] == (ours.config[-1:] or ["alembic.ini"])
    else:
        assert config == (ours.config or None)
    assert theirs.pop("name") == ours.section
    assert theirs.pop("raiseerr") == ours.raiseerr
    assert theirs.pop("quiet") == ours.quiet
    theirs.pop("x")
    revisions = theirs.pop("revisions", None) or [theirs.pop("revision", theirs.pop("rev", None))]
    assert [r for r in revisions if r is not None] == ours.arguments
    for name, value in theirs.items():
        expected = ours.value(name) if isinstance(value, str | None) else name in ours.flags
        assert value == expected, (argv, name)
    return True


@given(
    st.lists(st.sampled_from(WORDS), max_size=3),
    st.sampled_from("branches current downgrade heads history show stamp upgrade".split()),
    st.lists(st.sampled_from(WORDS), max_size=5),
)
@settings(max_examples=600, deadline=None)
@example([], "stamp", ["a", "--sql", "b"])
@example(["-c", "-1"], "history", ["-r", "-1", "-v", "-v"])
def test_arguments_that_are_accepted_mean_what_argparse_makes_of_them(
    before: list[str], command: str, after: list[str]
) -> None:
    check([*before, command, *after])


ANY_WORD = st.one_of(
    st.sampled_from(WORDS),
    st.sampled_from(
        "compile doctor verify init list_templates merge edit -m -t --message --template -vq -qv -q -cx.ini -xa=b -nx "
        "--conf --config=x --name=upgrade --raise --plan --no-plan --no-lock --repair --lock-timeout --lock-timeout=3 "
        "-t thin --autogenerate --head --splice --version --help -h".split()
    ),
    st.sampled_from(["", " ", "\udcff", "a:\udcff", "ü"]),
)


@given(st.lists(ANY_WORD, max_size=7))
@settings(max_examples=3000, deadline=None)
@example("revision -m compile".split())
@example("merge -m compile heads".split())
@example("-x compile revision -m a".split())
@example("stamp compile --sql".split())
@example("-x upgrade history -v".split())
@example("-n doctor history".split())
@example("revision -m init".split())
@example("-c verify stamp --tag verify doctor".split())
@example(["upgrade", "--tag", "--", "a"])
def test_what_alembic_accepts_means_the_same_here(argv: list[str]) -> None:
    """No word of it is taken for a command or an option of ours."""
    theirs = oracle(argv)
    if theirs is None or "cmd" not in theirs:
        return
    line = cli.CommandLine(argv)
    assert (line.argv, line.limits, line.flags) == (argv, {}, set())
    assert line.command in ("", theirs["cmd"][0].__name__)
    if line.command:
        assert (line.quiet, line.raiseerr) == (theirs["quiet"], theirs["raiseerr"])
    assert line.command not in ("compile", "doctor", "verify")


OWN = ["--no-lock", "--lock-timeout=5", "--repair", "--plan", "--no-plan", "-v", "--verbose"]


@given(
    st.lists(st.sampled_from(["-q", "--raiseerr", "-xa=b", "--name=n", "-cupgrade"]), max_size=2),
    st.sampled_from(["upgrade", "downgrade"]),
    st.lists(st.sampled_from([*OWN, "--tag=--plan", "--tag=t"]), max_size=5),
    st.integers(0, 5),
)
def test_our_own_options_are_taken_from_behind_the_commands_that_have_them(
    before: list[str], command: str, after: list[str], at: int
) -> None:
    words = [*after[:at], "+1", *after[at:]]
    line = cli.CommandLine([*before, command, *words])
    assert line.argv == [*before, command, *[word for word in words if word not in OWN]]
    assert oracle(line.argv) is not None
    assert ("plan" in line.flags) == ("--plan" in words)
    assert ("repair" in line.limits) == ("--repair" in words)
    assert ("verbose" in line.limits) == ("-v" in words or "--verbose" in words)
    assert line.limits.get("lock_timeout") == ("5" if "--lock-timeout=5" in words else None)


@pytest.mark.parametrize(
    "line",
    [
        "downgrade a:base --sql -v",
        "upgrade a:b --sq --verbose",
        "history --no-lock",
        "current --plan",
        "stamp head --repair",
        "stamp head --plan",
        "upgrade head --tag",
        "--plan upgrade head",
        "revision -m a --no-lock",
    ],
)
def test_elsewhere_they_are_a_usage_error_as_alembic_says_it(
    line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as theirs:
        CommandLine(prog="alembic").parser.parse_args(line.split())
    said = capsys.readouterr().err
    assert (theirs.value.code, cli.main(line.split(), "alembic")) == (2, 2)
    assert capsys.readouterr().err.splitlines()[-1] == said.splitlines()[-1]


TAKEN = [
    "history",
    "-c x.ini -c pyproject.toml -n other -x a=b -x c -q --raiseerr history -v -i -r a:b",
    "--config x.ini --name other --quiet history --verbose --indicate-current --rev-range -1",
    "branches -v",
    "current -v --check-heads",
    "heads --resolve-dependencies",
    "show abc",
    "stamp a b --sql --purge --tag t",
    "upgrade +1",
    "upgrade --sql head --tag x",
    "downgrade -1",
]


@pytest.mark.parametrize("line", TAKEN)
def test_commands_of_the_core_are_not_left_to_argparse(line: str) -> None:
    assert check(line.split())


def test_help_names_our_own_options(capsys: pytest.CaptureFixture[str]) -> None:
    for argv, words in {
        ("--help",): ("compile [--check]", "doctor [-v]", "list_templates"),
        ("upgrade", "-h"): ("--no-lock", "--lock-timeout SECONDS", "--repair", "--plan", "--no-plan", "MIGRATE_EXT_RETRIES", "--tag TAG"),
        ("downgrade", "-h"): ("--no-lock", "--plan", "--repair"),
        ("stamp", "--help"): ("--no-lock", "--purge"),
        ("init", "--help"): ("-t thin", "--package"),
        ("compile", "--help"): ("usage: migrate-ext compile [--check]",),
    }.items():  # fmt: skip
        assert cli.main(list(argv)) == 0
        said = capsys.readouterr().out
        for word in words:
            assert word in said, argv


def test_ctrl_c_when_the_work_is_done_is_not_the_end_of_the_program() -> None:
    """Else Python, which no longer handles signals by then, is killed without a word."""
    code = (
        "import atexit, signal, sys; from migrate_ext.cli import program; "
        "atexit.register(lambda: print(signal.getsignal(signal.SIGINT).name)); "
        "sys.argv[1:] = ['--version']; program()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("\nSIG_IGN\n")
