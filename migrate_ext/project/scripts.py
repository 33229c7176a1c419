"""The revision files of a project, read without executing them, and what Alembic prints about each.

A :class:`Scripts` holds the scanned files in Alembic's order and the C graph over them; a revision
is the index of its file. Texts are those of ``alembic/script/base.py`` (``Script.log_entry``,
``_head_only``), read in 1.20.1.
"""

from __future__ import annotations

import os

from migrate_ext import _core, errors

TYPE_CHECKING = False  # saves the import of typing
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from types import ModuleType

    from migrate_ext.project.config import Config


def load(path: str) -> ModuleType:
    """Execute a revision file as Alembic does: under its file's name, but not in ``sys.modules``.

    Raises :class:`~migrate_ext.errors.BrokenFile` if it raises anything, or has a name that Alembic
    lists but cannot load; the text names file and line.
    """
    # Imported only for files that must be executed.
    import re
    from importlib import util
    from pathlib import PurePath

    if PurePath(path).suffix != ".py":
        raise errors.BrokenFile(path, ImportError("this name has no suffix .py"))
    spec = util.spec_from_file_location(re.sub(r"\W", "_", os.path.basename(path)), path)
    assert spec is not None and spec.loader is not None
    module = util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise errors.BrokenFile(path, error) from error
    return module


def identifiers(module: ModuleType) -> _core._Scanned:
    """The identifiers of an executed module. Raises Declined if their types are unusual."""
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


def folders(root: str, recursive: bool) -> Iterator[str]:
    """The folders of revision files: `root` and, if `recursive`, those below it, as in
    ``Script._list_py_dir``.

    That skips a ``__pycache__``, but not the folders below one, which it does not sort.
    """
    if not (recursive or root.endswith("__pycache__")):
        yield root  # without listing it
        return
    for folder, below, _ in os.walk(root):
        if folder.endswith("__pycache__"):
            continue
        yield folder
        if not recursive:
            return
        below.sort()


class Scripts:
    """All revision files of a configuration, and the graph over them.

    A revision is an index: ``paths[i]`` is its file, ``scanned[i]`` what was read in it,
    ``modules[i]`` its module if it had to be executed, because its identifiers are not literals.

    Raises :class:`~migrate_ext.errors.Declined` if Alembic's own loader is needed, and the errors
    of the graph, which have Alembic's names and texts.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.directory = config.script_location()
        if config.boolean("sourceless"):
            raise errors.Declined("sourceless")
        recursive = config.boolean("recursive_version_locations")
        self.paths: list[str] = []
        self.scanned: list[_core._Scanned] = []
        self.modules: dict[int, ModuleType] = {}
        seen: set[str] = set()
        for location in config.version_locations(self.directory):
            for folder in folders(location, recursive):
                folder = os.path.realpath(folder)
                if folder in seen:
                    raise errors.Declined("revision files reached twice")
                seen.add(folder)
                self._read(folder)
        try:
            self.graph = _core.Graph(self.scanned)
        except (errors.RevisionError, ValueError) as error:
            # A broken history: Alembic reports the error if the command uses that part.
            raise errors.Declined(str(error)) from error

    def _read(self, folder: str) -> None:
        try:
            names, answers = _core.scan_folder(folder)
        except OSError as error:
            raise errors.Declined(f"{folder}: {error.strerror}") from error
        self.paths += [os.path.join(folder, "") + name for name in names]
        for answer in answers:
            if isinstance(answer, str) or answer[0] is None:
                answer = self._execute(len(self.scanned))
            self.scanned.append(answer)

    def _execute(self, index: int) -> _core._Scanned:
        from migrate_ext import counters

        counters.files_executed += 1
        self.modules[index] = load(self.paths[index])
        return identifiers(self.modules[index])

    # what Alembic prints

    def lines(
        self,
        indexes: Sequence[int],
        current: tuple[str, ...] = (),
        *,
        verbose: bool = False,
        branches: bool = False,
        doc: bool = False,
        parents: bool = False,
        indicators: bool = True,
    ) -> str:
        """Revisions as ``history``, ``heads``, ``branches`` and ``current`` print them, a line each.

        indexes: the revisions. current: those to be marked as current.
        """
        if verbose:
            return "".join(self.log_entry(index, current) + "\n" for index in indexes)
        return self.graph.describe(
            indexes,
            self.scanned,
            current,
            branches=branches,
            doc=doc,
            parents=parents,
            indicators=indicators,
        )

    def _tree_indicators(self, index: int) -> str:
        text = " (branchpoint)" if len(self.graph.nextrev(index)) > 1 else ""
        if len(self.graph.down_revisions(index)) > 1:
            text += " (mergepoint)"
        return text

    def log_entry(self, index: int, current: Iterable[str] = ()) -> str:
        """One revision in full, as ``show`` and ``-v`` print it."""
        graph = self.graph
        _, _, _, depends_on, doc = self.scanned[index]
        down, next_ = graph.down_revisions(index), graph.nextrev(index)
        revision = graph.revision(index)
        lines = [
            f"Rev: {revision}{'' if next_ else ' (head)'}{self._tree_indicators(index)}"
            f"{' (current)' if revision in current else ''}",
            f"{'Merges' if len(down) > 1 else 'Parent'}: {', '.join(down) or '<base>'}",
        ]
        if depends_on:
            lines.append(f"Also depends on: {_comma(depends_on)}")
        if len(next_) > 1:
            lines.append(f"Branches into: {', '.join(next_)}")
        if graph.labels(index):
            lines.append(f"Branch names: {', '.join(graph.labels(index))}")
        lines += [f"Path: {self.paths[index]}", ""]
        lines += [f"    {line}" for line in (doc or "").strip().splitlines()] or [""]
        return "\n".join(lines) + "\n"


def _comma(value: str | Sequence[str] | None) -> str:
    return value if isinstance(value, str) else ", ".join(value or ())


class command_errors:  # a class, because contextlib would have to be imported
    """Converts the graph's errors to Alembic's (``ScriptDirectory._catch_revision_errors``)."""

    def __init__(
        self,
        *,
        ancestor: str = "Requested range %(start)s:%(end)s does not refer to "
        "ancestor/descendant revisions along the same branch",
        multiple_heads: str = "Multiple head revisions are present for given "
        "argument '%(head_arg)s'; please specify a specific target revision, "
        "'<branchname>@%(head_arg)s' to narrow to a specific head, or 'heads' for all heads",
        start: str | None = None,
        end: str | None = None,
    ) -> None:
        self.ancestor = ancestor
        self.multiple_heads = multiple_heads
        self.start = start
        self.end = end

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        text = self._text(error)
        if text is not None:
            raise errors.CommandError(text) from error

    def _text(self, error: BaseException | None) -> str | None:
        if isinstance(error, errors.RangeNotAncestorError):
            names = {"start": error.lower if self.start is None else self.start}
            names["end"] = error.upper if self.end is None else self.end
            return self.ancestor % names
        if isinstance(error, errors.MultipleHeads):
            names = {"head_arg": self.end or error.argument, "heads": ", ".join(error.heads)}
            return self.multiple_heads % names
        if isinstance(error, errors.ResolutionError):
            return f"Can't locate revision identified by '{error.argument}'"
        if isinstance(error, errors.RevisionError):
            return str(error)
        if isinstance(error, AssertionError):  # Alembic shows a traceback for these
            return f"'{self.end}' does not lead to a revision: {error}"
        return None
