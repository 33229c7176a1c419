"""Reading commands on generated folders of revision files: odd names, links, bytecode, folders reached twice.

All in this process: Alembic's command line, the same with the runtime installed, and ours.
"""

from __future__ import annotations

import io
import os
import re
import sys
import tempfile
import warnings
from collections.abc import Sequence
from contextlib import nullcontext, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from importlib import _bootstrap_external as external  # type: ignore[attr-defined]
from pathlib import Path
from typing import Any
from unittest import mock

import alembic.config
import pytest
from hypothesis import event, example, given, settings
from hypothesis import strategies as st

from migrate_ext.cli import command_line as cli
from migrate_ext.dropin import hooks
from migrate_ext.verify import texts

TAG = sys.implementation.cache_tag
NAMES = [
    b"a.py", b"b.py", b"c.py", b"d.py", b"a.pyc", b"b.pyc", b"c.pyo", b"a.PY", b"b.txt", b"README",
    b".py", b".pyc", b"..py", b".a.py", b".#a.py", b"#a.py#", b"a.py~", b"a.py.swp", b".a.py.swp",
    b"__init__.py", b"__init__.pyc", b"__init__x.py", b"__main__.py", b"class.py", b"None.py",
    b"a b.py", b" .py", b"a.py ", b"a.py\n", b"a\n.py", b"\n.py", b"a\r.py", b"a.b.py", b"a.py.py",
    b"abc123.py", b"\xc3\xa9.py", b"-.py", b"%(x)s.py", b"\\.py", b"a.py.bak", b"a.pyi", b"a.pyw",
    f"a.{TAG}.pyc".encode(), f"b.{TAG}.pyc".encode(), f"z.{TAG}.pyc".encode(), b"z.pyc", b"z.pyo",
]  # fmt: skip
if sys.platform == "linux":  # elsewhere a file system may refuse it
    NAMES.append(b"\xff.py")
FOLDERS = (
    "versions", "versions", "versions", "versions/sub", "versions/sub/deep", "versions/a.py",
    "versions/__pycache__", "versions/x__pycache__", "versions/x__pycache__/in", "versions/.hidden",
    "versions/sub/__pycache__", "more", "more/__pycache__", "other", "other/more",
)  # fmt: skip
LOCATIONS = (
    *["versions"] * 9, "versions/", "versions/../versions", "versions/sub", "more",
    "missing", "linked", "away/../more", "versions/x__pycache__", "versions/__pycache__", "versions/a.py",
)  # fmt: skip
REVISIONS = tuple(f"r{number}" for number in range(1, 10))


@dataclass(frozen=True)
class Entry:
    """One entry of a folder. kind: what it is; revision, down: of a file; target: where a link leads."""

    folder: str
    name: bytes
    kind: str = "source"
    revision: str = "r1"
    down: str | None = None
    target: str = ""

    def make(self, project: Path) -> None:
        folder = project / self.folder
        path = Path(os.fsdecode(os.path.join(os.fsencode(folder), self.name)))
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except FileExistsError:  # a file has the name of the folder
            return
        if os.path.lexists(path):
            return
        if self.kind == "link":
            path.symlink_to(self.target)
        elif self.kind == "absolute link":
            path.symlink_to(folder / self.target)
        elif self.kind == "folder":
            path.mkdir()
        elif self.kind == "junk":
            path.write_bytes(b"\0 no Python")
        else:
            source = f"'''{self.revision}'''\nrevision = {self.revision!r}\ndown_revision = {self.down!r}\n"
            source = "x = 1\n" if self.kind == "no revision" else source
            # No source is of second 0 and 0 bytes, so that this is nobody's bytecode (docs/differences.md).
            code = external._code_to_timestamp_pyc(compile(source, "x", "exec"), 0, 0)
            path.write_bytes(code if path.suffix in (".pyc", ".pyo") else source.encode())


@st.composite
def trees(draw: st.DrawFn) -> list[Entry]:
    """Entries of which most are good revision files, or links to one of those before."""
    found: list[Entry] = []

    def pick(usual: Sequence[Any], odd: Sequence[Any], share: int = 2) -> Any:
        """One of the odd in one of `share` cases."""
        return draw(st.sampled_from(usual if draw(st.integers(1, share)) < share else odd))

    for _ in range(draw(st.integers(1, 9))):
        folder = pick(("versions", "versions", "versions/sub", "more"), FOLDERS)
        name = pick((b"a.py", b"b.py", b"c.py", b"d.py"), NAMES)
        kind = pick(("source",), ("link", "link", "absolute link", "folder"), 3)
        if kind == "source":
            kind = pick(("source",), ("junk", "no revision"), 30)
        revision = pick(REVISIONS[len(found) : len(found) + 1] or REVISIONS, REVISIONS, 8)
        down = pick((None, *(x.revision for x in found if x.kind == "source")), REVISIONS, 20)
        target = pick(
            (b"a.py", b"b.txt", b"README", b".", b".."), (b"gone", b"../other/.py", *NAMES), 3
        )
        if found and draw(st.integers(0, 4)):
            other = draw(st.sampled_from(found))
            target = os.path.relpath(
                os.path.join(other.folder.encode(), other.name), folder.encode()
            )
        found.append(Entry(folder, name, kind, revision, down, os.fsdecode(target)))
    return found


@dataclass
class Outcome:
    """What a command showed: exit code, or what it raised; stdout, stderr, and the warnings."""

    code: int
    raised: tuple[str, list[str]]
    stdout: str
    stderr: str
    warned: list[str]


def words(text: str) -> list[str]:
    """Of a text, as it is printed; of a cycle's members the order is a set's."""
    text = text.encode("utf-8", "backslashreplace").decode()
    return sorted(word.strip("'") for word in re.findall(r"[^\s,()]+", text))


def run(way: str, folder: Path, command: Sequence[str]) -> Outcome:
    """One command in this process: ``alembic``, ``alembic, installed``, or ``migrate-ext``."""
    out, err = (
        io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors=errors, write_through=True)
        for errors in ("strict", "backslashreplace")  # as Python's own
    )
    config = alembic.config.Config.__init__
    defaults = tuple(
        out if hasattr(value, "write") else value for value in config.__defaults__ or ()
    )  # it has taken sys.stdout when it was defined
    code = 0
    raised: tuple[str, list[str]] = ("", [])
    argv = ["-c", str(folder / "alembic.ini"), *command]
    installed = hooks.installed() if way == "alembic, installed" else nullcontext()
    with (
        mock.patch.object(config, "__defaults__", defaults),
        redirect_stdout(out),
        redirect_stderr(err),
        warnings.catch_warnings(record=True) as caught,
        installed,
    ):
        warnings.simplefilter("always")
        try:
            if way == "migrate-ext":
                code = cli.main(argv, prog="alembic")
            else:
                alembic.config.main(argv, prog="alembic")
        except SystemExit as stop:
            assert isinstance(stop.code, int)
            code = stop.code & 0xFF
        except Exception as error:
            code, raised = 1, (type(error).__name__, words(str(error)))
    written = [file.buffer.getvalue().decode() for file in (out, err)]  # type: ignore[attr-defined]
    stdout = texts.heads(texts.stdout(tuple(command), written[0]))
    messages = [str(w.message) for w in caught if issubclass(w.category, UserWarning)]
    return Outcome(code, raised, stdout, texts.stderr(written[1]), messages)


@pytest.fixture(autouse=True)
def no_bytecode(monkeypatch: pytest.MonkeyPatch) -> None:
    """What one way writes, the next would find."""
    monkeypatch.setattr(sys, "dont_write_bytecode", True)


@settings(max_examples=int(os.environ.get("MIGRATE_EXT_EXAMPLES", "80")), deadline=None)
@given(
    trees(),
    st.lists(st.sampled_from(LOCATIONS), min_size=1, max_size=3),
    st.booleans(),
    st.booleans(),
)
@example([Entry("versions/x__pycache__/in", b"a.py")], ["versions/x__pycache__"], False, False)
@example([Entry("more", b"a.py"), Entry("other/more", b"b.py")], ["away/../more"], False, False)
@example([Entry("versions", b".py")], ["versions"], False, False)
@example([Entry("versions", b"a.py\n")], ["versions"], False, False)
@example(
    [Entry("versions", b"a.py", "link", target="b.txt"), Entry("versions", b"b.txt")],
    ["versions"],
    False,
    False,
)
@example(
    [Entry("versions", b"a.py", "link", target="../other/.py"), Entry("other", b".py")],
    ["versions"],
    False,
    False,
)
@example(
    [Entry("versions", b"README", "link", target="a.py"), Entry("versions", b"a.py")],
    ["versions"],
    False,
    False,
)
@example(
    [Entry("versions", b"a.py"), Entry("versions", b"b.py"), Entry("versions", b"c.py", "junk")],
    ["versions"],
    False,
    False,
)
@example(
    [Entry("versions", b"a.py"), Entry("versions", b"b.py")], ["versions", "linked"], False, False
)
def test_folders_of_any_kind_are_read_as_alembic_reads_them(
    found: list[Entry], locations: list[str], recursive: bool, sourceless: bool
) -> None:
    with tempfile.TemporaryDirectory() as place:
        project = Path(place).resolve() / "project"
        project.mkdir()
        (project / "other" / "in").mkdir(parents=True)
        (project / "linked").symlink_to("versions")
        (project / "away").symlink_to("other/in")
        for entry in found:
            entry.make(project)
        listed = ":".join(f"%(here)s/{location}" for location in locations)
        (project / "alembic.ini").write_text(
            "[alembic]\nscript_location = %(here)s\npath_separator = os\n"
            f"version_locations = {listed}\nrecursive_version_locations = {recursive}\n"
            f"sourceless = {sourceless}\n"
        )
        for command in ("heads",), ("heads", "-v"), ("history",), ("show", "r1"):
            theirs = run("alembic", project, command)
            assert run("alembic, installed", project, command) == theirs
            ours = run("migrate-ext", project, command)
            event(f"{command[0]}: {theirs.raised[0] or theirs.code or bool(theirs.stdout)}")
            if theirs.raised[0]:  # a traceback; ours is one line, which names the same
                said = ours.stdout + ours.stderr
                assert ours.code != 0 and "FAILED: " in said, (ours, theirs)
                assert not ours.raised[0] and "Traceback" not in said
                named = set(theirs.raised[1]) - set("Can't find Python file".split())
                assert named <= set(words(said)), (ours, theirs)
            else:
                assert ours == theirs
