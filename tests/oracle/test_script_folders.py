"""Folders of revision files, damaged ones too: our ScriptDirectory finds and refuses what Alembic's does."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from alembic import util
from alembic.config import Config
from alembic.script import ScriptDirectory

import migrate_ext
from migrate_ext import _core


def write(folder: Path, name: str, revision: object, down: object, **more: object) -> Path:
    """A revision file; `more` are further assignments at its top."""
    lines = [f'"""{name}"""', f"revision = {revision!r}", f"down_revision = {down!r}"]
    lines += [f"{key} = {value!r}" for key, value in more.items()]
    path = folder / f"{name}.py"
    path.write_text("\n".join([*lines, "", "def upgrade(): pass", "def downgrade(): pass", ""]))
    return path


def chain(folder: Path) -> None:
    write(folder, "one", "aaaa1", None)
    write(folder, "two", "bbbb1", "aaaa1")


def append(folder: Path, text: str | bytes) -> None:
    chain(folder)
    path = folder / "two.py"
    path.write_bytes(path.read_bytes() + (text if isinstance(text, bytes) else text.encode()))


FOLDERS: dict[str, Callable[[Path], object]] = {
    "empty": lambda f: None,
    "a chain": chain,
    "duplicate ids": lambda f: (chain(f), write(f, "three", "bbbb1", "aaaa1")),
    "a self-loop": lambda f: write(f, "one", "aaaa1", "aaaa1"),
    "a dependency on itself": lambda f: write(f, "one", "aaaa1", None, depends_on="aaaa1"),
    "a cycle": lambda f: (write(f, "one", "aaaa1", "bbbb1"), write(f, "two", "bbbb1", "aaaa1")),
    "a cycle beside a chain": lambda f: (
        chain(f),
        write(f, "three", "cccc1", "dddd1"),
        write(f, "four", "dddd1", "cccc1"),
    ),
    "a dependency cycle": lambda f: (
        write(f, "one", "aaaa1", None, depends_on="bbbb1"),
        write(f, "two", "bbbb1", "aaaa1"),
    ),
    "a missing parent": lambda f: write(f, "two", "bbbb1", "aaaa1"),
    "a missing dependency": lambda f: write(f, "one", "aaaa1", None, depends_on="zzzz1"),
    "an illegal id": lambda f: write(f, "one", "aa-aa+1@", None),
    "a label used twice": lambda f: (
        write(f, "one", "aaaa1", None, branch_labels=("x",)),
        write(f, "two", "bbbb1", "aaaa1", branch_labels=("x",)),
    ),
    "a label that is an id": lambda f: (chain(f), write(f, "x", "c", "bbbb1", branch_labels="aaaa1")),
    "a label as down_revision": lambda f: (
        write(f, "one", "aaaa1", None, branch_labels=("x",)),
        write(f, "two", "bbbb1", "x"),
    ),
    "an id that is a number": lambda f: write(f, "one", 1, None),
    "all that can be said": lambda f: (
        write(f, "one", "aaaa1", (), branch_labels="x", depends_on=[]),
        write(f, "two", "bbbb1", ["aaaa1"], branch_labels=("y", "z"), depends_on=None),
        write(f, "three", "cccc1", ("aaaa1",), branch_labels=[], depends_on=("dddd1",)),
        write(f, "four", "dddd1", None, branch_labels=(), depends_on="bbbb1"),
        write(f, "five", "eeee1", ("bbbb1", "cccc1"), depends_on=("dddd1", "aaaa1")),
    ),
    "a parent without a name": lambda f: write(f, "one", "aaaa1", ""),
    "an id without a name": lambda f: write(f, "one", "", ""),
    "a self-loop among parents": lambda f: (chain(f), write(f, "x", "c", ("bbbb1", "c"))),
    "a dependency on itself among others": lambda f: (
        chain(f),
        write(f, "x", "c", "bbbb1", depends_on=("aaaa1", "c")),
    ),
    "a colon in an id": lambda f: write(f, "one", "aa:aa", None),
    "a list of parents": lambda f: (chain(f), write(f, "three", "cccc1", ["bbbb1"])),
    "an expression": lambda f: append(f, "revision = 'bb' + 'bb2'\n"),
    "a file of 10 MB": lambda f: append(f, "# " + "x" * 10_000_000 + "\n"),
    "a file of 10 MB without a line's end": lambda f: (f / "one.py").write_text("x" * 10_000_000),
    "a string of 10 MB": lambda f: append(f, f"x = {'y' * 10_000_000!r}\n"),
    "NUL bytes": lambda f: append(f, b"# \0\n"),
    "NUL bytes only": lambda f: (f / "one.py").write_bytes(bytes(4096)),
    "a NUL byte in an id": lambda f: write(f, "one", "aa\0aa", None),
    "an empty file": lambda f: (f / "one.py").write_text(""),
    "not UTF-8": lambda f: append(f, b"# \xff\n"),
    "a syntax error at the top": lambda f: append(f, "revision = = 1\n"),
    "an exception at import": lambda f: append(f, "revision = 1 / 0\n"),
    "no revision": lambda f: (f / "odd.py").write_text("x = 1\n"),
    "an id from the file's name": lambda f: (f / "abc123.py").write_text("down_revision = None\n"),
    "no down_revision": lambda f: (f / "one.py").write_text("revision = 'aaaa1'\n"),
    "a cycle with a way in and out": lambda f: (
        write(f, "one", "aaaa1", None),
        write(f, "two", "bbbb1", ("aaaa1", "cccc1")),
        write(f, "three", "cccc1", "bbbb1"),
        write(f, "four", "dddd1", "cccc1"),
    ),
    "a dependency cycle under one head": lambda f: (
        write(f, "one", "aaaa1", None),
        write(f, "two", "bbbb1", "aaaa1", depends_on="cccc1"),
        write(f, "three", "cccc1", "bbbb1"),
        write(f, "four", "dddd1", "cccc1"),
    ),
    "an id that is a symbol": lambda f: (write(f, "one", "base", None), write(f, "two", "x", "base")),
    "an empty dependency": lambda f: (write(f, "one", "aaaa1", None, depends_on="")),
    "a link to itself": lambda f: (f / "one.py").symlink_to(f / "one.py"),
    "a folder named as a file": lambda f: (chain(f), (f / "three.py").mkdir()),
    "a link to nothing": lambda f: (f / "one.py").symlink_to(f / "gone.py"),
    "a link to a file": lambda f: (chain(f), (f / "three.py").symlink_to(f / "two.py")),
    "a link to a file of another name": lambda f: (
        chain(f),
        write(f.parent, "text", "cccc1", "bbbb1").rename(f.parent / "text.txt"),
        (f / "three.py").symlink_to(f.parent / "text.txt"),
    ),
    "a link to an __init__.py": lambda f: (
        chain(f),
        write(f.parent, "__init__", "cccc1", "bbbb1"),
        (f / "three.py").symlink_to(f.parent / "__init__.py"),
    ),
    "a link of another name": lambda f: (
        chain(f),
        write(f.parent, "three", "cccc1", "bbbb1"),
        (f / "README").symlink_to(f.parent / "three.py"),
    ),
    "a file that is only an ending": lambda f: (chain(f), (f / "two.py").rename(f / ".py")),
    "a line end in a name": lambda f: (chain(f), (f / "two.py").rename(f / "two.py\n")),
    "a line end within a name": lambda f: (chain(f), (f / "two.py").rename(f / "t\nwo.py")),
    "a link beside the files": lambda f: (chain(f), (f / "README").symlink_to(f / "gone")),
    "two links to one other file": lambda f: (
        chain(f),
        (f / "README").symlink_to(f / "gone"),
        (f / "NOTES").symlink_to(f / "gone"),
    ),
    "a link to a folder": lambda f: (chain(f), (f / "more").symlink_to(f.parent)),
    "other files": lambda f: (
        chain(f),
        (f / "__init__.py").write_text(""),
        (f / ".#two.py").write_text("junk"),
        (f / "README").write_text("junk"),
    ),
    "subfolders": lambda f: (chain(f), (f / "more").mkdir(), write(f / "more", "x", "cccc1", "bbbb1")),
}  # fmt: skip


ATTRIBUTES = (
    "path revision down_revision dependencies _orig_branch_labels branch_labels nextrev _all_nextrev "
    "_resolved_dependencies _normalized_resolved_dependencies"
).split()


def words(text: str) -> list[str]:
    """Several labels or next revisions have a set's order."""
    return sorted(text.replace(",", " ").split())


def visible(script: Any) -> list[tuple[str, object]]:
    """What a script has of its own, and that it has nothing else."""
    assert set(vars(script)) <= {*ATTRIBUTES, "module", "_docstring"}
    return [(name, getattr(script, name)) for name in ATTRIBUTES]


def outcome(cls: Any, folder: Path, *, recursive: bool, twice: bool) -> tuple[object, list[str]]:
    """What a walk over the folder gives: revisions in full, or the exception; and the warnings."""
    config = Config()
    config.set_main_option("script_location", str(folder.parent))
    config.set_main_option("path_separator", "os")
    locations = [str(folder)] * (1 + twice)
    config.set_main_option("version_locations", os.pathsep.join(locations))
    config.set_main_option("recursive_version_locations", "true" if recursive else "false")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            scripts = cls.from_config(config)
            walk = list(scripts.walk_revisions())
            answer: object = [
                (s.revision, words(s.log_entry), str(s), s.module.__name__, visible(s))
                for s in walk
            ]
        except Exception as error:
            # Which of two comes first is a set's order in Alembic.
            answer = (type(error), sorted(str(error).split()))
    return answer, [str(w.message) for w in caught if "more than once" in str(w.message)]


@pytest.mark.parametrize("recursive", [False, True], ids=["flat", "recursive"])
@pytest.mark.parametrize("name", FOLDERS)
def test_folder_is_read_or_refused_as_alembic_does(
    tmp_path: Path, name: str, recursive: bool
) -> None:
    folder = tmp_path / "versions"
    folder.mkdir()
    FOLDERS[name](folder)
    for twice in (False, True):
        theirs = outcome(ScriptDirectory, folder, recursive=recursive, twice=twice)
        ours = outcome(migrate_ext.ScriptDirectory, folder, recursive=recursive, twice=twice)
        assert ours == theirs


def test_reading_a_chain_executes_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "versions"
    folder.mkdir()
    chain(folder)
    two = folder / "two.py"
    two.write_text(two.read_text() + "raise SystemExit('executed')\n")
    config = Config()
    config.set_main_option("script_location", str(tmp_path))
    scripts = migrate_ext.ScriptDirectory.from_config(config)
    assert [script.doc for script in scripts.walk_revisions()] == ["two", "one"]
    assert all(isinstance(script, migrate_ext.Script) for script in scripts.walk_revisions())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody who may not read")
def test_an_unreadable_file_is_refused_as_alembic_does(tmp_path: Path) -> None:
    folder = tmp_path / "versions"
    folder.mkdir()
    chain(folder)
    (folder / "two.py").chmod(0)
    for parent in [folder, *folder.parents]:
        if parent != Path("/"):
            parent.chmod(parent.stat().st_mode | 0o055)
    before = os.geteuid()
    os.seteuid(65534)
    try:
        theirs = outcome(ScriptDirectory, folder, recursive=False, twice=False)
        ours = outcome(migrate_ext.ScriptDirectory, folder, recursive=False, twice=False)
    finally:
        os.seteuid(before)
    assert theirs[0][0] is PermissionError  # type: ignore[index]
    assert ours == theirs


def test_a_file_that_vanishes_while_it_is_read_is_refused_as_alembic_does(tmp_path: Path) -> None:
    def read(cls: Any, place: Any, name: str) -> tuple[object, list[str]]:
        folder = tmp_path / cls.__module__ / "versions"
        folder.mkdir(parents=True)
        chain(folder)
        (folder / "README").symlink_to("gone")  # so that it is listed first, and then read
        original = getattr(place, name)

        def vanish(*args: Any, **kw: Any) -> Any:
            (folder / "two.py").unlink(missing_ok=True)
            return original(*args, **kw)

        with mock.patch.object(place, name, vanish):
            (kind, words), texts = outcome(cls, folder, recursive=False, twice=False)  # type: ignore[misc]
        return (kind, [word for word in words if "/" not in word]), texts

    theirs = read(ScriptDirectory, util, "load_python_file")
    assert theirs[0][0] in (ImportError, FileNotFoundError)  # type: ignore[index]
    assert read(migrate_ext.ScriptDirectory, _core, "scan_files") == theirs
