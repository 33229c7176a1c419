"""Folders of revision files, damaged ones too: our ScriptDirectory finds and refuses what Alembic's does."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory

import migrate_ext


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
    "a list of parents": lambda f: (chain(f), write(f, "three", "cccc1", ["bbbb1"])),
    "an expression": lambda f: append(f, "revision = 'bb' + 'bb2'\n"),
    "a file of 10 MB": lambda f: append(f, "# " + "x" * 10_000_000 + "\n"),
    "NUL bytes": lambda f: append(f, b"# \0\n"),
    "not UTF-8": lambda f: append(f, b"# \xff\n"),
    "a syntax error at the top": lambda f: append(f, "revision = = 1\n"),
    "an exception at import": lambda f: append(f, "revision = 1 / 0\n"),
    "no revision": lambda f: (f / "odd.py").write_text("x = 1\n"),
    "an id from the file's name": lambda f: (f / "abc123.py").write_text("down_revision = None\n"),
    "no down_revision": lambda f: (f / "one.py").write_text("revision = 'aaaa1'\n"),
    "a link to nothing": lambda f: (f / "one.py").symlink_to(f / "gone.py"),
    "a link to a file": lambda f: (chain(f), (f / "three.py").symlink_to(f / "two.py")),
    "other files": lambda f: (
        chain(f),
        (f / "__init__.py").write_text(""),
        (f / ".#two.py").write_text("junk"),
        (f / "README").write_text("junk"),
    ),
    "subfolders": lambda f: (chain(f), (f / "more").mkdir(), write(f / "more", "x", "cccc1", "bbbb1")),
}  # fmt: skip


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
                (s.revision, s.log_entry, str(s), s.module.__name__, s.path) for s in walk
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
