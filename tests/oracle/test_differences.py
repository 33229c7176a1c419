"""Each row of docs/differences.md, proven on both sides: stock Alembic does what the one cell says, ours what the other says.

A row without a proof fails here, and so does a proof whose row is gone.
"""

from __future__ import annotations

import contextlib
import inspect
import logging
import os
import py_compile
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import alembic.command
import psycopg
import pytest
import sqlalchemy
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.script.revision import Revision, RevisionMap
from database_urls import with_driver
from forked_command import Command, wait_until
from in_process_project import InProcessProject
from recording_project import ALL_WAYS, WAYS, RecordingProject
from sample_project import ROOT, Done, SampleProject, run_forked
from sqlalchemy.engine import make_url

import migrate_ext
from migrate_ext import _core
from migrate_ext.dropin import hooks
from migrate_ext.dropin import script as ours_revision
from migrate_ext.testing import embedded

TABLE = ROOT / "docs" / "differences.md"
PROOFS: dict[str, Callable[..., None] | str] = {}  # the first cell of a row, its test
TRACEBACK = "Traceback (most recent call last)"
NO_SERVER = "postgresql+psycopg://me:s3cret@127.0.0.1:1/nowhere"
VERSIONS = [hooks.numbers(module.__version__) for module in (alembic, sqlalchemy)]
STOCK = {"MIGRATE_EXT": "0"}


def proves(what: str, by: str = "") -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Enter the decorated test as the proof of a row, or `by`, the name of one elsewhere that runs both sides."""
    assert what not in PROOFS, f"proven twice: {what}"
    if by:
        PROOFS[what] = by

    def enter(test: Callable[..., None]) -> Callable[..., None]:
        PROOFS[what] = test
        return test

    return enter


def test_each_row_has_a_proof_and_each_proof_a_row() -> None:
    lines = [line for line in TABLE.read_text().splitlines() if line.startswith("| ")]
    rows = [line[2:].split(" | ")[0] for line in lines[1:]]
    assert sorted(rows) == sorted(PROOFS)
    for proof in PROOFS.values():
        if isinstance(proof, str):
            path, _, name = proof.partition("::")
            assert f"\ndef {name}(" in (ROOT / path).read_text(), f"{proof} is gone"
        else:
            assert proof.__name__.startswith("test_") and globals()[proof.__name__] is proof


class Sides:
    """One small project twice, each with a database: under stock ``alembic`` with Alembic's own env.py, and under
    ``migrate-ext`` with a thin one. Unpacks into these two.
    """

    def __init__(self, folder: Path, make_database: Callable[[], str]) -> None:
        self.folder = folder
        self.make_database = make_database
        self.make()

    def make(self, ways: tuple[str, str] = WAYS, driver: str = "psycopg", **options: Any) -> Sides:
        """The project anew, with the `options` of :class:`RecordingProject`."""
        if self.folder.exists():
            self.folder = self.folder.with_name(self.folder.name + "x")
        self.folder.mkdir()
        self.projects = [
            RecordingProject(
                self.folder / name,
                with_driver(self.make_database(), driver),
                way=way,
                **{"count": 2, "settings": "prepend_sys_path = .", **options},
            )
            for name, way in zip(("stock", "ours"), ways, strict=True)
        ]
        return self

    def write(self, name: str, text: str) -> None:
        for project in self.projects:
            (project.folder / name).write_text(text)

    def run(self, *command: str, ours: str = "migrate_ext", **variables: str) -> tuple[Done, Done]:
        """A command on both sides. ours: the program of the second, as fork_server.py has them."""
        done = []
        for program, project in zip(("alembic", ours), self.projects, strict=True):
            url = {"DATABASE_URL": project.url, "COLUMNS": "100"}
            environment = {**os.environ, **url, **variables}
            done.append(Done(*run_forked(program, project.folder, command, environment)))
        return done[0], done[1]

    def start(self, *command: str) -> tuple[Command, Command]:
        """A command on both sides, that a signal may come to."""
        stock, ours = self.projects
        return stock.start(*command, **STOCK), ours.start(*command)


@pytest.fixture
def sides(tmp_path: Path, make_database: Callable[[], str]) -> Sides:
    return Sides(tmp_path / "sides", make_database)


def failed(done: Done, code: int, *words: str) -> None:
    """It ended with a message of ours, and without a traceback."""
    assert TRACEBACK not in done.stderr
    assert done.code == code, done.stdout + done.stderr
    for word in ("FAILED: ", *words):
        assert word in done.stdout + done.stderr, done.stdout + done.stderr


def crashed(done: Done, *words: str) -> None:
    """It ended with a traceback."""
    assert TRACEBACK in done.stderr and done.code == 1, done.stdout + done.stderr
    for word in words:
        assert word in done.stderr, done.stderr


# --- revision files -------------------------------------------------------------------------------


@proves(
    "order of several labels, of several current heads, of a branch point's children, of the rows that undoing a merge leaves"
)
def test_orders_that_alembic_takes_from_sets_are_the_same_in_every_run(sides: Sides) -> None:
    """Six seeds of Python's hash: six runs of Alembic that do not agree, six of ours that do."""
    labels = ("north", "east", "south", "west", "middle")
    ids = ("c1", "d1", "e1", "f1", "g1")
    for project in sides.projects:
        versions = project.folder / "versions"
        for file in versions.iterdir():
            file.unlink()

        def write(id_: str, down: object, more: str = "", to: Path = versions) -> None:
            body = "def upgrade(): pass\ndef downgrade(): pass\n"
            (to / f"{id_}.py").write_text(
                f"revision = {id_!r}\ndown_revision = {down!r}\n{more}\n{body}"
            )

        write("a1", None, f"branch_labels = {labels}")
        for id_ in ids:
            write(id_, "a1")
    program = (
        "import sys; from {} import main\n"
        "for command in {}:\n"
        "    try: main(command.split())\n"
        "    except SystemExit: pass\n"
        "    print('---')"
    )
    commands = ["history", "branches", "current", "-n later downgrade zz:c1 --sql"]

    def told(project: RecordingProject, module: str, seed: int) -> list[str]:
        switch = STOCK if module.startswith("alembic") else {}
        variables = {**os.environ, "DATABASE_URL": project.url, **switch}
        done = subprocess.run(
            [sys.executable, "-c", program.format(module, commands)],
            cwd=project.folder,
            env={**variables, "PYTHONHASHSEED": str(seed)},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0 and "Error" not in done.stderr, done.stderr
        return done.stdout.split("---\n")

    sides.run("stamp", "heads")
    found = []
    for project, module in zip(
        sides.projects, ("alembic.config", "migrate_ext.cli.command_line"), strict=True
    ):
        later = project.folder / "later"
        later.mkdir()
        write("zz", ids, to=later)
        with (project.folder / "alembic.ini").open("a") as file:
            file.write(
                "\n[later]\nscript_location = .\npath_separator = os\n"
                f"version_locations = versions{os.pathsep}later\n"
            )
        runs = [told(project, module, seed) for seed in range(6)]
        found.append([{run[n] for run in runs} for n in range(len(commands))])
    stock, ours = found
    # `current` has a set of objects, which are ordered by their addresses: Python 3.13 repeats these.
    varying = [stock[n] for n in (0, 1, 3)] + ([stock[2]] if sys.version_info < (3, 13) else [])
    assert all(len(answers) > 1 for answers in varying)
    assert all(len(answers) == 1 for answers in ours)
    assert f"({', '.join(labels)})" in next(iter(ours[0]))
    assert re.findall(r"-> (..)", next(iter(ours[1]))) == list(ids)


@proves("a mistake in the body of a revision file")
def test_an_error_in_a_revision_file_stops_only_the_runs_that_execute_it(sides: Sides) -> None:
    for mistake, error in ("nosuchname", "NameError"), ("x = = 1", "SyntaxError"):
        sides.make()
        for project in sides.projects:
            file = project.folder / "versions" / "r0002.py"
            file.write_text(f"{file.read_text()}\n{mistake}\n")
        for command in ("heads",), ("history",), ("upgrade", "r0001"):
            stock, ours = sides.run(*command)
            crashed(stock, error)
            assert ours.code == 0, ours.said
        stock, ours = sides.run("upgrade", "head")
        crashed(stock, error)
        failed(ours, 255, "r0002.py, line", error)


@proves(
    "a revision file that cannot be executed, a missing `down_revision`, a revision that names one that is not there"
)
def test_a_file_that_cannot_be_executed(sides: Sides) -> None:
    faults = {
        "depends_on = =": (255, "r0002.py, line 6: SyntaxError"),
        "revision = nosuchname": (255, "r0002.py, line 6: NameError"),
        "del down_revision": (255, "r0002.py: AttributeError"),
        "depends_on = 'gone'": (255, "Revision gone referenced from r0002 ("),
    }
    for fault, (code, words) in faults.items():
        sides.make()
        for project in sides.projects:
            file = project.folder / "versions" / "r0002.py"
            lines = file.read_text().splitlines(True)
            file.write_text("".join([*lines[:5], fault + "\n", *lines[5:]]))
        stock, ours = sides.run("heads")
        crashed(stock)
        failed(ours, code, words)
        stock, ours = sides.run("history", "-r", "nocolon")
        assert stock.code == 255 and "History range requires" in stock.stdout
        executed = "SyntaxError" in words or "NameError" in words
        assert ("History range requires" in ours.stdout) != executed
        (sides.projects[1].folder / "env.py").write_text(
            (sides.projects[0].folder / "env.py").read_text()
        )
        stock, ours = sides.run("upgrade", "head")
        crashed(stock)
        failed(ours, 1 if executed else 255, "r0002")


@proves("deprecation and syntax warnings of revision files that are only read")
def test_what_python_warns_of(sides: Sides) -> None:
    for project in sides.projects:
        file = project.folder / "versions" / "r0002.py"
        file.write_text(file.read_text() + "\nassert 1 is 1\n")
    for command, seen in (("heads",), 0), (("upgrade", "head"), 1):
        for file in sides.folder.rglob("*.pyc"):
            file.unlink()
        stock, ours = sides.run(*command)
        assert (stock.code, ours.code) == (0, 0)
        assert stock.stderr.count("SyntaxWarning") == 1
        assert ours.stderr.count("SyntaxWarning") == seen


@proves(
    "bytecode of a revision file that is another source's, but has the present one's size and time"
)
def test_bytecode_of_another_source(sides: Sides) -> None:
    """Same size, same time."""
    for project in sides.projects:
        file = project.folder / "versions" / "r0002.py"
        text = file.read_text()
        file.write_text(text.replace("r0002", "rXXXX") + "print('the bytecode')\n")
        py_compile.compile(str(file))
        status = file.stat()
        file.write_text(text + "print('the program_')\n")
        os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
        assert file.stat().st_size == status.st_size
    stock, ours = sides.run("heads")
    assert stock.stdout.splitlines() == ["the bytecode", "rXXXX (head)"]
    assert ours.stdout == "r0002 (head)\n"
    stock, ours = sides.run("upgrade", "head")
    assert "the bytecode" in stock.stdout and "the bytecode" in ours.stdout


@proves("bytecode of revision files in `__pycache__`")
def test_bytecode_of_revision_files(sides: Sides, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)

    def made() -> list[list[str]]:
        folders = [project.folder / "versions" for project in sides.projects]
        return [sorted(file.name[:5] for file in folder.rglob("*.pyc")) for folder in folders]

    sides.run("heads")
    assert made() == [["r0001", "r0002"], []]
    sides.run("upgrade", "r0001")
    assert made() == [["r0001", "r0002"], ["r0001"]]


@proves("`vars(script)`, before a script's module was touched")
def test_the_module_of_a_script(sides: Sides) -> None:
    config = Config()
    config.set_main_option("script_location", str(sides.projects[0].folder))
    found = []
    for installed in False, True:
        with hooks.installed() if installed else contextlib.nullcontext():
            script = ScriptDirectory.from_config(config).get_revision("r0002")
            before = "module" in vars(script)
            assert script.module.revision == "r0002"
            found.append((before, "module" in vars(script)))
    assert found == [(True, True), (False, True)]


@proves(
    "attributes of a `Revision` that are changed after the map was built (not those of the map, and not through its methods)"
)
def test_a_revision_that_is_changed(sides: Sides) -> None:
    def walk(map_: Any, change: str) -> list[str]:
        node = map_.get_revision("c1")
        exec(change, {"node": node, "map_": map_})
        return [revision.revision for revision in map_.iterate_revisions("c1", "base")]

    def records() -> list[Revision]:
        return [Revision("a1", None), Revision("b1", "a1"), Revision("c1", "b1")]

    attribute = "node.down_revision = 'a1'"
    assert walk(RevisionMap(records), attribute) == ["c1", "a1"]
    assert walk(ours_revision.RevisionMap(records), attribute) == ["c1", "b1", "a1"]
    method = "map_.add_revision(type(node)('c1', 'a1'), _replace=True)"
    assert walk(RevisionMap(records), method) == ["c1", "a1"]
    assert walk(ours_revision.RevisionMap(records), method) == ["c1", "a1"]


# --- the command line and its errors --------------------------------------------------------------


@proves(
    "connection errors, failing statements, errors in `env.py` or models, a revision without `upgrade()` or `downgrade()`"
)
def test_errors_of_other_programs(sides: Sides) -> None:
    body = {2: "    op.execute('SELECT 1/0')"}
    upgrade = "upgrade", "head"
    failures = [
        (sides.run(*upgrade, DATABASE_URL=NO_SERVER), 1, "cannot connect to the database"),
        (sides.make(body=body).run(*upgrade), 1, "r0002.py, line "),
        (sides.run("--raiseerr", *upgrade), None, ""),
    ]
    sides.make().write("tables.py", "1 / 0\n")
    failures.append((sides.run(*upgrade), 255, "tables.py, line 1): ZeroDivisionError"))
    sides.write("env.py", "1 / 0\n")
    failures.append((sides.run(*upgrade), 1, "env.py, line 1: ZeroDivisionError"))
    for ways in WAYS, ("alembic", "alembic"):
        sides.make(ways)
        sides.run(*upgrade)
        for project in sides.projects:
            path = project.folder / "versions" / "r0002.py"
            path.write_text(path.read_text().partition("def downgrade")[0])
        missing = "r0002.py: AttributeError: module 'r0002_py' has no attribute 'downgrade'"
        failures.append((sides.run("downgrade", "base"), 1, missing))
        failures.append((sides.run("downgrade", "r0002:base", "--sql"), 1, missing))
    for (stock, ours), code, words in failures:
        crashed(stock)
        if code is None:
            crashed(ours)
        else:
            failed(ours, code, words)
            assert ours.stdout in ("", stock.stdout) or code == 255
            assert len(ours.said.splitlines()) < 8


def test_the_exceptions_behind_an_error_are_told_as_in_its_traceback(sides: Sides) -> None:
    """Of the same row."""
    session = "    from sqlalchemy.orm import Session\n    Session(op.get_bind()).execute(sa.text('SELECT 1'))"
    stock, ours = sides.make(body={1: session}).run("upgrade", "head", "--sql")
    crashed(stock, "During handling of the above exception")
    told = re.findall(r"^AttributeError: .*", stock.stderr, re.M)
    assert len(told) > 1
    failed(ours, 1, *told)
    again = "    try:\n        {0}\n    except Exception:\n        {1}"
    for first, then, behind in (
        ("op.execute('SELECT 1/0')", "op.execute('SELECT 2')", "DataError: division by zero"),
        ("[][1]", "op.execute('SELECT 1/0')", "IndexError: list index out of range"),
        ("dict()['k']", "int('x')", "KeyError: 'k'"),
        ("[][1]", "raise ValueError('x') from None", ""),
    ):
        stock, ours = sides.make(body={2: again.format(first, then)}).run("upgrade", "head")
        words = f"raised while handling: {sides.projects[1].folder}/versions/r0002.py, line 10: "
        assert bool(behind) == ("During handling of the above" in stock.stderr)
        crashed(stock)
        failed(ours, 1, *([words + behind] if behind else ()))
        assert ("raised while" in ours.stderr) == bool(behind)


@proves("a module in the models package that the package does not import")
def test_a_module_that_nobody_imports(tmp_path: Path, make_database: Callable[[], str]) -> None:
    """Of the sample project."""
    warned = {}
    for program, way in ("alembic", "classic"), ("alembic", "thin"), ("migrate_ext", "thin"):
        project = SampleProject(tmp_path / f"{program} {way}", make_database(), way)
        (project.folder / "models" / "orm" / "gadgets.py").touch()
        for command in ("upgrade", "head"), ("check",), ("revision", "--autogenerate", "-m", "x"):
            done = Done(*run_forked(program, project.folder, command, project.variables))
            assert done.code == 0, done.stdout + done.stderr
            warned[program, way, command[0]] = "models.orm.gadgets" in done.stderr
    told = {key for key, value in warned.items() if value}
    thin = ("alembic", "thin"), ("migrate_ext", "thin")
    assert told == {(*key, command) for key in thin for command in ("check", "revision")}


@proves("a `pyproject.toml` that is not TOML")
def test_a_pyproject_that_is_not_toml(sides: Sides) -> None:
    for text, ours_too in ("x = = 1\n", False), ("x = = 1\n[tool.alembic]\n", True):
        sides.write("pyproject.toml", text)
        stock, ours = sides.run("heads")
        crashed(stock, "TOMLDecodeError")
        if ours_too:
            failed(ours, ours.code, "pyproject.toml")
        else:
            assert (ours.code, ours.said) == (0, "r0002 (head)\n")


@proves(
    "`compile`, `doctor`, `verify`, `upgrade` with `--plan`, `--no-plan`, `-v`, `--no-lock`, `--lock-timeout` or `--repair`, `init -t thin` and its line in `list_templates`; what `--help` says of these, below Alembic's text; `--version`"
)
def test_commands_of_our_own(sides: Sides) -> None:
    usage = [
        ("compile", "--check"),
        ("doctor",),
        ("verify", "--help"),
        *(("upgrade", *more, "head") for more in (("--plan",), ("--no-plan",), ("-v",))),
        *(("upgrade", *more, "head") for more in (("--no-lock",), ("--repair",))),
        ("upgrade", "--lock-timeout", "1", "head"),
    ]
    for command in usage:
        stock, ours = sides.run(*command)
        assert stock.code == 2 and ours.code != 2, (command, stock.stderr, ours.stderr)
    stock, ours = sides.run("init", "-t", "thin", "made")
    assert stock.code == 255 and "No such template" in stock.stdout
    assert ours.code == 0
    for command in ("--help",), ("upgrade", "--help"), ("stamp", "--help"), ("compile", "-h"):
        stock, ours = sides.run(*command)
        words = stock.stdout.replace("usage: alembic", "usage: migrate-ext").split()
        assert ours.stdout.split()[: len(words)] == words
        assert len(ours.stdout) > len(stock.stdout)
    stock, ours = sides.run("--version")
    version = f"alembic {alembic.__version__}"
    assert stock.stdout == f"{version}\n"
    assert ours.stdout == f"migrate-ext {migrate_ext.__version__} ({version})\n"


@proves("a revision file and the server, both broken, with a thin `env.py`")
def test_a_broken_revision_file_and_an_unreachable_server(sides: Sides) -> None:
    """Alembic meets a revision file before the server where `env.py` does; ours the server, with a thin one."""
    for project in sides.projects:
        (project.folder / "versions" / "r0002.py").write_text("revision = =\n")
    early = "from alembic import context\ncontext.script.get_heads()\n"
    env = (sides.projects[0].folder / "env.py").read_text()
    found = []
    for text in env, early + env:
        (sides.projects[0].folder / "env.py").write_text(text)
        for command in ("upgrade", "head"), ("current",):
            stock, ours = sides.run(*command, DATABASE_URL=NO_SERVER)
            crashed(stock)
            failed(ours, 1, "cannot connect to the database")
            found.append("SyntaxError" in stock.stderr)
    assert found == [False, False, True, True]


@proves("options in the URL that may be secrets, as `current -v` prints it with a thin `env.py`")
def test_options_in_the_url(sides: Sides) -> None:
    secret = "sslpassword=hush&passfile=/nowhere&application_name=me"
    urls = [f"{project.url}?{secret}" for project in sides.projects]
    for project, url in zip(sides.projects, urls, strict=True):
        project.url = url
    stock, ours = sides.run("current", "-v")
    assert "?application_name=me&passfile=%2Fnowhere&sslpassword=hush:" in stock.stdout
    assert "?application_name=me&passfile=***&sslpassword=***:" in ours.stdout


@proves("several heads, a database not at head, an unknown revision, no `script_location`")
def test_hints(sides: Sides) -> None:
    def same(done: Done) -> str:
        return re.sub("^hint: .*\n", "", done.said, flags=re.M)

    for command in ("upgrade", "nosuch"), ("check",), ("revision", "--autogenerate"):
        stock, ours = sides.run(*command)
        assert "hint: " not in stock.said and ours.stderr.count("\nhint: ") == 1, ours.stderr
        assert (same(ours), ours.code) == (stock.said, stock.code)
    sides.make()
    for project in sides.projects:
        file = project.folder / "versions" / "r0002.py"
        file.write_text(file.read_text().replace("'r0001'", "None"))
    for command in ("upgrade", "head"), ("-n", "nosuch", "heads"):
        stock, ours = sides.run(*command)
        assert "hint: " not in stock.said and ours.stderr.count("hint: ") == 1
        assert (same(ours), ours.code) == (stock.said, stock.code)


@proves("models that cannot be imported, at `current` and at an `upgrade` with nothing to do")
def test_models_that_are_not_needed(sides: Sides) -> None:
    sides.run("upgrade", "head")
    sides.write("tables.py", "1 / 0\n")
    for command in ("current",), ("upgrade", "head"):
        stock, ours = sides.run(*command)
        crashed(stock, "ZeroDivisionError")
        assert ours.code == 0
    for command in ("downgrade", "-1"), ("check",):
        stock, ours = sides.run(*command)
        crashed(stock, "ZeroDivisionError")
        failed(ours, 255, "ZeroDivisionError")


@proves("output into a pipe whose reader is gone")
def test_a_pipe_whose_reader_is_gone(sides: Sides) -> None:
    codes = []
    for project, module in zip(sides.projects, ("alembic", "migrate_ext"), strict=True):
        for unbuffered in "", "1":
            reader, writer = os.pipe()
            os.close(reader)
            switch = STOCK if module == "alembic" else {}
            done = subprocess.run(
                [sys.executable, "-m", module, "history"],
                cwd=project.folder,
                env={**os.environ, **switch, "PYTHONUNBUFFERED": unbuffered},
                stdout=writer,
                stderr=subprocess.PIPE,
                text=True,
            )
            os.close(writer)
            codes.append((done.returncode, "BrokenPipeError" in done.stderr))
    assert codes == [(120, True), (0, False), (0, False), (0, False)]


def stopped_in_a_statement(sides: Sides, number: int) -> Iterator[tuple[Command, bool]]:
    """Both sides, when the signal has ended them; and whether the server works on."""
    sides.make(body={2: "    op.execute('SELECT pg_sleep(60)')"})
    for project, command in zip(sides.projects, sides.start("upgrade", "head"), strict=True):
        with project.connect() as connection:

            def sleeps() -> list[tuple[Any, ...]]:
                return connection.execute(
                    "SELECT pid FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%' "
                    "AND datname = current_database() AND state = 'active'"
                ).fetchall()

            wait_until(lambda: bool(sleeps()), command)
            command.send(number)
            command.wait(30)
            left = sleeps()
            for (pid,) in left:
                connection.execute("SELECT pg_terminate_backend(%s)", (pid,))
            yield command, bool(left)


@proves("Ctrl-C")
def test_ctrl_c(sides: Sides) -> None:
    (stock, _), (ours, _) = stopped_in_a_statement(sides, signal.SIGINT)
    assert TRACEBACK in stock.said and "KeyboardInterrupt" in stock.said
    assert ours.code == 130 and TRACEBACK not in ours.said
    assert ours.said.splitlines()[-1].startswith("Interrupted: the open transaction was rolled")


@proves("SIGTERM in a run of migrations")
def test_sigterm(sides: Sides) -> None:
    (stock, stock_works), (ours, ours_works) = stopped_in_a_statement(sides, signal.SIGTERM)
    assert (stock.code, stock_works) == (143, True)
    assert (ours.code, ours_works) == (143, False)
    assert "Terminated by SIGTERM: the open transaction is rolled back." in ours.said


@proves("`current --check-heads` under Alembic before 1.17.1")
def test_check_heads(sides: Sides) -> None:
    if "check_heads" in inspect.signature(alembic.command.current).parameters:
        pytest.skip("Alembic has it since 1.17.1; tests/oracle/test_commands.py compares it there")
    stock, ours = sides.run("current", "--check-heads")
    assert stock.code == 2
    assert ours.code == 255 and "Database is not on all head revisions" in ours.said


@proves(
    "`pyproject.toml`, `path_separator`, several `-c`, under Alembic before 1.16, by `migrate-ext`"
)
def test_newer_configuration(sides: Sides) -> None:
    if VERSIONS[0] >= (1, 16):
        pytest.skip("Alembic has them since 1.16; tests/unit/test_config.py compares them there")
    for project in sides.projects:
        (project.folder / "alembic.ini").unlink()
    sides.write("pyproject.toml", "[tool.alembic]\nscript_location = '%(here)s'\n")
    stock, ours = sides.run("heads")
    assert stock.code != 0
    assert (ours.code, ours.stdout) == (0, "r0002 (head)\n")


@proves(
    "a URL with several hosts, or with odd characters in the user's name, under early releases of SQLAlchemy 2.0 (2.0.18 is the last that was seen to differ in the first, 2.0.22 in the second), by `migrate-ext`"
)
def test_newer_urls(sides: Sides) -> None:
    if VERSIONS[1] >= (2, 0, 23):
        pytest.skip("SQLAlchemy reads them so since 2.0.23; tests/unit/test_url.py compares them")
    url = make_url("postgresql://u%2Bx@a:1,b:2/d")
    read = sqlalchemy.dialects.postgresql.psycopg2.dialect().create_connect_args(url)[1]
    ours = _core.parse_url("postgresql://u%2Bx@a:1,b:2/d")
    assert {**read} != ours


@proves("`alembic` with the package installed, logging set up before Alembic is imported")
def test_a_plugin_is_announced(sides: Sides) -> None:
    """Without the package: without its entry point."""
    program = (
        "import logging, importlib.metadata as metadata\n"
        "logging.basicConfig(level=logging.INFO, format='%(message)s')\n{}import alembic"
    )
    without = "metadata.entry_points = lambda **group: []\n"
    lines = []
    for remove in without, "":
        done = subprocess.run(
            [sys.executable, "-c", program.format(remove)], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        lines.append(done.stderr.splitlines())
    assert sorted(lines[1]) == sorted([*lines[0], "setup plugin migrate_ext"])
    assert all(line.startswith("setup plugin alembic.") for line in lines[0])


# --- runs of migrations ---------------------------------------------------------------------------


GATE = '    op.execute("INSERT INTO gate VALUES (1)")'


@contextlib.contextmanager
def gate(project: RecordingProject) -> Iterator[Callable[[int], bool]]:
    """Within this block a migration that writes into `gate` waits. Gives a function: do so many?"""
    count = (
        "SELECT count(*) FROM pg_stat_activity "
        "WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    with project.connect() as connection:
        connection.execute("CREATE TABLE gate (n int)")
        connection.execute("BEGIN; LOCK TABLE gate IN EXCLUSIVE MODE")
        with project.connect() as other:
            yield lambda waiting: other.execute(count).fetchall() == [(waiting,)]


@proves('the time at which "Running upgrade ..." appears, when a plan is used')
def test_migrations_of_a_plan_are_announced_together(sides: Sides) -> None:
    """The second of three waits for a table; a plan's statements go to the server together."""
    sides.make((WAYS[0], ALL_WAYS[2]), body={2: GATE}, count=3)
    told = []
    for project, variables in zip(sides.projects, (STOCK, {}), strict=True):
        with gate(project) as waits:
            command = project.start("upgrade", "head", **variables)
            wait_until(lambda waits=waits: waits(1), command)
            told.append(command.text().count("Running upgrade"))
        assert command.wait().said.count("Running upgrade") == 3, command.said
    assert told == [2, 0]


@proves("several runs at once, on PostgreSQL")
def test_several_runs(sides: Sides) -> None:
    """The second begins while the first is in its first migration."""
    sides.make(body={1: GATE})
    stock, ours = sides.projects
    with gate(stock) as waits:
        runs = [stock.start("upgrade", "head", **STOCK)]
        wait_until(lambda: waits(1), *runs)
        runs.append(stock.start("upgrade", "head", **STOCK))
        wait_until(lambda: waits(2), *runs)
    assert sorted(bool(run.wait().code) for run in runs) == [False, True]
    with gate(ours) as waits:
        runs = [ours.start("upgrade", "head")]
        wait_until(lambda: waits(1), *runs)
        runs.append(ours.start("upgrade", "head"))
        wait_until(lambda: "Waiting for another run of migrations: pid" in runs[1].text(), *runs)
    assert [run.wait().code for run in runs] == [0, 0]
    for arguments, variables in (("--no-lock",), {}), ((), {"MIGRATE_EXT_LOCK": "false"}):
        ours = sides.make(body={1: GATE}).projects[1]
        with gate(ours) as waits:
            runs = [ours.start("upgrade", *arguments, "head", **variables) for _ in range(2)]
            wait_until(lambda: waits(2), *runs)
        assert sorted(bool(run.wait().code) for run in runs) == [False, True]


@proves('`op.execute("PREPARE TRANSACTION ...")` in a migration')
def test_a_prepared_transaction(sides: Sides, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not on the server of the tests, which has none."""
    more = embedded.SETTINGS + "max_prepared_transactions = 2\n"
    monkeypatch.setattr(embedded, "SETTINGS", more)
    with embedded.temporary_server() as server:
        with psycopg.connect(server.url(driver=""), autocommit=True) as connection:
            for program, arguments, outcome in (
                ("alembic", (), 0),
                ("migrate_ext", (), 1),
                ("migrate_ext", ("--no-lock",), 0),
            ):
                sides.make(body={2: "    op.execute(\"PREPARE TRANSACTION 'x'\")"})
                connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
                project = sides.projects[program != "alembic"]
                project.url = server.url()
                variables = {**os.environ, "DATABASE_URL": project.url}
                run_forked(program, project.folder, ("upgrade", "r0001"), variables)
                command = ("upgrade", *arguments, "head")
                done = Done(*run_forked(program, project.folder, command, variables))
                assert done.code == outcome, done.stderr
                found = connection.execute("SELECT gid FROM pg_prepared_xacts").fetchall()
                if outcome:
                    failed(done, 1, "cannot PREPARE", "lock")
                    assert found == []
                else:
                    assert found == [("x",)]
                    connection.execute("ROLLBACK PREPARED 'x'")


@proves('`op.execute("COMMIT")` in a migration, behind a pooler that shares sessions')
def test_a_commit_behind_a_pooler(sides: Sides) -> None:
    """That it is one is told here; tests/pg/test_lock.py has a real one."""
    sides.make(body={2: "    op.execute('COMMIT')"})
    stock, ours = sides.run("upgrade", "head", MIGRATE_EXT_POOLER="transaction")
    assert stock.code == 0
    failed(ours, 255, "a COMMIT of its own behind a pooler that shares sessions")
    assert sides.projects[1].state() == 0
    options = "upgrade", "--no-lock", "head"
    assert sides.run(*options, MIGRATE_EXT_POOLER="transaction")[1].code == 0


@proves("a run of migrations on another database")
def test_another_database(sides: Sides) -> None:
    sides.make((WAYS[0], WAYS[0]))
    for project in sides.projects:
        project.url = f"sqlite:///{project.folder}/x.db"
    for command, times in (("upgrade", "head"), 1), (("current",), 0):
        stock, ours = sides.run(*command, ours="drop-in")
        assert (stock.code, ours.code) == (0, 0)
        line = "INFO  [alembic.runtime.migration] No lock against other runs on sqlite.\n"
        assert ours.stderr.count(line) == times
        assert ours.stderr.replace(line, "") == stock.stderr


@proves("a run that fails after it has committed something, or while COMMIT was on its way")
def test_a_run_that_has_committed_something(sides: Sides) -> None:
    sides.make(mode="each", count=3, body={3: "    op.execute('SELECT 1/0')"})
    stock, ours = sides.run("upgrade", "head")
    crashed(stock, "division by zero")
    assert "Committed" not in stock.stderr
    failed(ours, 1, "division by zero")
    told = "Committed: r0001, r0002. All else was rolled back; the same command goes on from there."
    assert ours.stderr.count(told) == 1


@proves("something else with the version table's name, without a column `version_num`")
def test_no_version_table(sides: Sides) -> None:
    for project in sides.projects:
        with project.connect() as connection:
            connection.execute("CREATE TABLE alembic_version (id int)")
    for command in ("upgrade", "head"), ("stamp", "head"), ("current",):
        stock, ours = sides.run(*command)
        crashed(stock, "UndefinedColumn")
        failed(ours, 255, "alembic_version is not a version table of Alembic")
    with sides.projects[1].connect() as connection:
        assert connection.execute("SELECT * FROM alembic_version").fetchall() == []


SETTINGS = """\
    for name in ("client_connection_check_interval", "tcp_keepalives_idle",
                 "tcp_keepalives_interval", "tcp_keepalives_count"):
        sql = "SELECT setting FROM pg_settings WHERE name = '" + name + "'"
        print(name, op.get_bind().exec_driver_sql(sql).scalar())
    op.execute("INSERT INTO ran VALUES (2)")"""


def settings(sides: Sides, more: str = "") -> list[dict[str, str]]:
    """What the server's settings are during a run, on both sides."""
    sides.make(body={2: SETTINGS})
    for project in sides.projects:
        with project.connect() as connection:
            if connection.info.server_version < 140000:
                pytest.skip("client_connection_check_interval came with PostgreSQL 14")
        if more:
            project.url += f"?options={more}"
    found = []
    for done in sides.run("upgrade", "head"):
        assert done.code == 0, done.stderr
        found.append(dict(line.split() for line in done.stdout.splitlines()))
    return found


@proves("`client_connection_check_interval` during a run")
def test_the_check_of_the_client(sides: Sides) -> None:
    name = "client_connection_check_interval"
    stock, ours = settings(sides)
    assert (stock[name], ours[name]) == ("0", "5000")
    stock, ours = settings(sides, f"-c {name}=700")
    assert (stock[name], ours[name]) == ("700", "700")


@proves("`tcp_keepalives_idle`, `_interval`, `_count` of the server during a run")
def test_keep_alives(sides: Sides) -> None:
    names = [f"tcp_keepalives_{name}" for name in ("idle", "interval", "count")]
    stock, ours = settings(sides)
    assert [ours[name] for name in names] == ["30", "10", "3"]
    assert [int(stock[name]) > int(ours[name]) for name in names] == [True] * 3
    fewer = "-c tcp_keepalives_idle=7 -c tcp_keepalives_interval=6 -c tcp_keepalives_count=2"
    stock, ours = settings(sides, fewer)
    assert [ours[name] for name in names] == [stock[name] for name in names] == ["7", "6", "2"]


@proves("the time in a log record of a batched run")
def test_the_time_of_a_log_record(tmp_path: Path, database_url: str) -> None:
    """Seen by a factory, which is called when Alembic logs."""
    project = InProcessProject(tmp_path / "project", database_url)
    project.write(["op.execute('CREATE TABLE a ()')", "op.execute('SELECT pg_sleep(0.2)')", ""])
    factory = logging.getLogRecordFactory()

    def make(*args: Any, **kw: Any) -> logging.LogRecord:
        record = factory(*args, **kw)
        record.logged = record.created
        return record

    late: list[str] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.created != record.logged:  # type: ignore[attr-defined]
                late.append(record.getMessage())

    logger, handler = logging.getLogger("alembic.runtime.migration"), Handler()
    logging.setLogRecordFactory(make)
    logger.addHandler(handler)
    try:
        assert project.run(False).raised == [] and late == []
        assert project.run(True).raised == []
        assert "Running upgrade r0002 -> r0003" in late
    finally:
        logger.removeHandler(handler)
        logging.setLogRecordFactory(factory)


@proves("the traceback of a failing statement of a batch")
@proves("the traceback of a failing statement")
def test_tracebacks(sides: Sides) -> None:
    lines = ["CREATE TABLE a ()", "SELECT 1/0", "CREATE TABLE b ()", "CREATE TABLE c ()"]
    sides.make(body={2: "".join(f"    op.execute({line!r})\n" for line in lines)})
    last, own = [], []
    for done in sides.run("--raiseerr", "upgrade", "head"):
        crashed(done, "division by zero")
        assert "psycopg.errors.DivisionByZero: division by zero" in done.stderr
        last.append(re.findall(r"r0002.py\", line (\d+)", done.stderr))
        own.append(done.stderr.count(TRACEBACK))
    file = sides.projects[1].folder / "versions" / "r0002.py"
    fails = 1 + next(n for n, line in enumerate(file.read_text().splitlines()) if "1/0" in line)
    assert last[0] == [str(fails)]
    assert all(int(line) >= fails for line in last[1])
    assert sys.version_info < (3, 11) or (
        f"[migrate_ext: in upgrade of revision r0002 ({file}, line {fails})]" in done.stderr
    )
    assert own == [2, 1]


@proves("the order of the indexes of a new table, in a plan")
def test_indexes_of_a_new_table(sides: Sides) -> None:
    names = [f"column_{n}" for n in range(12)]
    columns = ", ".join(f"sa.Column({name!r}, sa.Integer, index=True)" for name in names)
    body = {2: f"    op.create_table('t', {columns})"}
    assert type(sqlalchemy.Table("t", sqlalchemy.MetaData()).indexes) is set
    sides.make((WAYS[0], ALL_WAYS[2]), body=body)
    made = []
    for done, project in zip(sides.run("upgrade", "head"), sides.projects, strict=True):
        assert done.code == 0, done.stderr
        with project.connect() as connection:
            found = connection.execute(
                "SELECT relname FROM pg_class WHERE relkind = 'i' AND relname LIKE 'ix%' ORDER BY oid"
            ).fetchall()
        made.append([name for (name,) in found])
    assert made[1] == [f"ix_t_{name}" for name in names]
    assert sorted(made[0]) == sorted(made[1])


# --- proven elsewhere -----------------------------------------------------------------------------

proves(
    "a walk over a cycle (of dependencies, say) in which two revisions wait for each other",
    by="tests/oracle/test_graph.py::test_a_history_left_to_alembics_graph_is_walked_alike_or_refused_if_endless",
)
proves(
    "a batch whose connection the server ends, with psycopg2",
    by="tests/pg/test_run_ahead.py::test_an_error_is_the_one_that_alembic_gives",
)


proves(
    "what a library that traces statements reports of a run",
    by="tests/dropin/tracers.py::test_a_library_reports_what_it_reports_without_us",
)


@proves("a database without a version table, at `check`, `history -i` and `show current`")
def test_reading_makes_no_version_table(sides: Sides) -> None:
    for command, code in ((("history", "-i"), 0), (("show", "current"), 0)):
        sides.make()
        for done, project, there in zip(
            sides.run(*command), sides.projects, (True, False), strict=True
        ):
            assert done.code == code, done.said
            with project.connect() as connection:
                row = connection.execute("SELECT to_regclass('alembic_version') IS NOT NULL")
                assert row.fetchone() == (there,)


UNCOMMITTED = """
import os, sqlalchemy as sa
from alembic import context
with sa.create_engine(os.environ["DATABASE_URL"]).connect() as connection:
    connection.execute(sa.text("SELECT 1"))
    context.configure(connection=connection)
    with context.begin_transaction():
        context.run_migrations()
"""


@proves(
    "a run that ends well and that nobody commits, because `env.py` has begun the transaction or a "
    "migration has ended it"
)
def test_what_nobody_commits_is_told_here(sides: Sides) -> None:
    sides.write("env.py", UNCOMMITTED)
    stock, ours = sides.run("upgrade", "head")
    assert (stock.code, ours.code) == (0, 0)
    told = "Rolled back, and not committed: r0001, r0002, because env.py has begun"
    assert told not in stock.said
    assert told in ours.said
    assert [project.state() for project in sides.projects] == [0, 0]


LEFT = """\
    with op.get_context().autocommit_block():
        op.create_index("i2", "t1", ["n"], unique=True, postgresql_concurrently=True{more})
    op.execute("INSERT INTO ran VALUES (2)")"""


@proves("an INVALID index that the first migration to run left, and that it does not drop")
@pytest.mark.parametrize("more", ["", ", if_not_exists=True"])
def test_an_invalid_index_stops_a_run_here(sides: Sides, more: str) -> None:
    first = "    op.execute('CREATE TABLE t1 AS SELECT 1 AS n FROM generate_series(1, 2)')\n"
    body = {1: first + '    op.execute("INSERT INTO ran VALUES (1)")', 2: LEFT.format(more=more)}
    sides.make(body=body)
    sides.run("upgrade", "r0001")
    for done in sides.run("upgrade", "head"):
        assert done.code == 1, done.said
    stock, ours = sides.run("upgrade", "head")
    assert stock.code == (0 if more else 1), stock.said
    assert ("already exists" in stock.said) == (not more)
    assert ours.code == 255
    assert "left the INVALID index public.i2 of t1. Nothing was run." in ours.said


proves(
    "the `xmin` of what DDL has just made, as a later query of the run sees it, with asyncpg",
    by="tests/pg/test_asyncpg.py::test_a_query_may_see_that_there_was_a_savepoint",
)
proves(
    "two runs of one program on two connections, the first with a transaction that is open",
    by="tests/pg/test_lock_lost.py::test_two_runs_of_one_program_under_alembic_and_here",
)
proves(
    "a role that may not take advisory locks",
    by="tests/pg/test_lock_lost.py::test_a_role_that_may_not_lock_runs_under_alembic_and_here",
)
