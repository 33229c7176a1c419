"""The revision files of a project, read without executing them, and what Alembic prints about each.

A :class:`Scripts` holds the scanned files in Alembic's order and the C graph over them; a revision
is the index of its file. Texts are those of ``alembic/script/base.py`` (``Script.log_entry``,
``_head_only``), read in 1.20.1.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType

from migrate_ext import _core, counters, errors
from migrate_ext.config import Config

is_revision_file = re.compile(r"(?!\.\#|__init__)(.*\.py)$").match


class Script:
    """One revision file: where it is, and what was read in it.

    ``doc``: the module's docstring, or None. ``module``: the file's module if it had to be executed,
    because what it says of itself is not plain; None when it was only read.
    """

    __slots__ = (
        "branch_labels",
        "depends_on",
        "doc",
        "down_revision",
        "module",
        "path",
        "revision",
        "scanned",
    )

    def __init__(self, path: str, answer: _core._Scanned | str) -> None:
        self.path = path
        self.module: ModuleType | None = None
        if isinstance(answer, str) or answer[0] is None:
            counters.files_executed += 1
            self.module = load(path)
            answer = _identifiers(self.module)
        self.scanned = answer
        self.revision, self.down_revision, self.branch_labels, self.depends_on, self.doc = answer

    @property
    def record(self) -> _core._Record:
        """What the graph is built from."""
        assert self.revision is not None
        return (self.revision, self.down_revision, self.branch_labels, self.depends_on)

    @property
    def long_doc(self) -> str:
        return self.doc.strip() if self.doc else ""

    @property
    def short_doc(self) -> str:
        return self.long_doc.split("\n\n", 1)[0]


def load(path: str) -> ModuleType:
    """Run a revision file as Alembic does: not in ``sys.modules``, under its file's name.

    Raises :class:`~migrate_ext.errors.BrokenFile` when it raises anything; the text names file and
    line.
    """
    from importlib import util  # only files that cannot be read pay for it

    spec = util.spec_from_file_location(re.sub(r"\W", "_", os.path.basename(path)), path)
    assert spec is not None and spec.loader is not None
    module = util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise errors.BrokenFile(path, error) from error
    return module


def _identifiers(module: ModuleType) -> _core._Scanned:
    """The identifiers of an executed module, where they are of a kind that the graph takes."""
    found: list[str | tuple[str, ...] | None] = []
    for name in ("revision", "down_revision", "branch_labels", "depends_on"):
        if name == "down_revision" and not hasattr(module, name):
            raise errors.Declined("a revision file without down_revision")
        value = getattr(module, name, None)
        if isinstance(value, list):
            value = tuple(value)
        strings = value if isinstance(value, tuple) else () if value is None else (value,)
        if not all(isinstance(part, str) for part in strings):
            raise errors.Declined(f"{name} is of an unusual type")
        found.append(value)
    if not isinstance(found[0], str):
        raise errors.Declined("a revision file without revision")
    return (found[0], found[1], found[2], found[3], module.__doc__)


def _folders(root: str, recursive: bool) -> Iterator[tuple[str, list[str]]]:
    """Folders and their sorted file names, as ``Script._list_py_dir`` walks them."""
    for folder, folders, names in os.walk(root):
        if not folder.endswith("__pycache__"):
            yield folder, sorted(names)
        if not recursive:
            return
        folders.sort()


class Scripts:
    """All revision files of a configuration, and the graph over them.

    Raises :class:`~migrate_ext.errors.Declined` where Alembic's own loader must answer, and the
    errors of the graph, which are Alembic's by name and text.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.directory = config.script_location()
        if config.boolean("sourceless"):
            raise errors.Declined("sourceless")
        prepend = config.paths("prepend_sys_path")
        sys.path[:0] = prepend
        recursive = config.boolean("recursive_version_locations")
        self.files: list[Script] = []
        seen: set[str] = set()
        for location in config.version_locations(self.directory):
            for folder, names in _folders(location, recursive):
                self._read(os.path.realpath(folder), names, seen)
        try:
            self.graph = _core.Graph([script.record for script in self.files])
        except errors.MissingRevision as error:
            raise errors.CommandError(self._missing(error)) from error
        except errors.RevisionError as error:
            raise errors.CommandError(str(error)) from error
        except ValueError as error:
            raise errors.Declined(str(error)) from error

    def _read(self, folder: str, names: Sequence[str], seen: set[str]) -> None:
        names = [name for name in names if is_revision_file(name)]
        links = [name for name in names if os.path.islink(os.path.join(folder, name))]
        if links or folder in seen:
            raise errors.Declined("revision files reached twice or by links")
        seen.add(folder)
        for name, answer in zip(names, _core.scan_files(folder, names), strict=True):
            script = Script(os.path.join(folder, name), answer)
            if script.revision is None:
                raise errors.Declined("a revision file without revision")
            self.files.append(script)

    def _missing(self, error: errors.MissingRevision) -> str:
        script = self.files[error.index]
        return (
            f"Revision {error.name} referenced from {script.revision} ({script.path}) "
            "is not present; "
            "restore its file, or correct down_revision / depends_on"
        )

    # what Alembic prints

    def cmd_format(
        self,
        index: int,
        current: Iterable[str] = (),
        *,
        verbose: bool = False,
        include_branches: bool = False,
        include_doc: bool = False,
        include_parents: bool = False,
        tree_indicators: bool = True,
    ) -> str:
        """One revision as ``history``, ``heads``, ``branches`` and ``current`` print it.

        index: the revision. current: the revisions to be marked as current.
        """
        if verbose:
            return self.log_entry(index, current)
        graph, script = self.graph, self.files[index]
        text = revision = graph.revision(index)
        if include_parents:
            parents = ", ".join(graph.down_revisions(index)) or "<base>"
            if script.depends_on:
                text = f"{parents} ({_comma(script.depends_on)}) -> {text}"
            else:
                text = f"{parents} -> {text}"
        labels = graph.labels(index)
        if include_branches and labels:
            text += f" ({', '.join(labels)})"
        if not graph.all_nextrev(index):
            text += " (head)"
        elif not graph.nextrev(index):
            text += " (effective head)"
        if revision in current:
            text += " (current)"
        if tree_indicators:
            text += self._tree_indicators(index)
        if include_doc:
            text += f", {script.short_doc}"
        return text

    def _tree_indicators(self, index: int) -> str:
        text = " (branchpoint)" if len(self.graph.nextrev(index)) > 1 else ""
        if len(self.graph.down_revisions(index)) > 1:
            text += " (mergepoint)"
        return text

    def log_entry(self, index: int, current: Iterable[str] = ()) -> str:
        """One revision in full, as ``show`` and ``-v`` print it."""
        graph, script = self.graph, self.files[index]
        down, next_ = graph.down_revisions(index), graph.nextrev(index)
        revision = graph.revision(index)
        lines = [
            f"Rev: {revision}{'' if next_ else ' (head)'}{self._tree_indicators(index)}"
            f"{' (current)' if revision in current else ''}",
            f"{'Merges' if len(down) > 1 else 'Parent'}: {', '.join(down) or '<base>'}",
        ]
        if script.depends_on:
            lines.append(f"Also depends on: {_comma(script.depends_on)}")
        if len(next_) > 1:
            lines.append(f"Branches into: {', '.join(next_)}")
        if graph.labels(index):
            lines.append(f"Branch names: {', '.join(graph.labels(index))}")
        lines += [f"Path: {script.path}", ""]
        lines += [f"    {line}" for line in script.long_doc.splitlines()] or [""]
        return "\n".join(lines) + "\n"


def _comma(value: str | Sequence[str] | None) -> str:
    return value if isinstance(value, str) else ", ".join(value or ())


@contextmanager
def command_errors(
    *,
    ancestor: str = "Requested range %(start)s:%(end)s does not refer to "
    "ancestor/descendant revisions along the same branch",
    multiple_heads: str = "Multiple head revisions are present for given "
    "argument '%(head_arg)s'; please specify a specific target revision, "
    "'<branchname>@%(head_arg)s' to narrow to a specific head, or 'heads' for all heads",
    start: str | None = None,
    end: str | None = None,
) -> Iterator[None]:
    """The graph's errors as Alembic's (``ScriptDirectory._catch_revision_errors``)."""
    try:
        yield
    except errors.RangeNotAncestorError as error:
        names = {"start": error.lower if start is None else start}
        names["end"] = error.upper if end is None else end
        raise errors.CommandError(ancestor % names) from error
    except errors.MultipleHeads as error:
        names = {"head_arg": end or error.argument, "heads": ", ".join(error.heads)}
        raise errors.CommandError(multiple_heads % names) from error
    except errors.ResolutionError as error:
        text = f"Can't locate revision identified by '{error.argument}'"
        raise errors.CommandError(text) from error
    except errors.RevisionError as error:
        raise errors.CommandError(str(error)) from error
    except AssertionError as error:  # Alembic leaves these to a traceback
        raise errors.CommandError(f"'{end}' does not lead to a revision: {error}") from error
