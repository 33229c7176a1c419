"""Alembic's ``Script``, ``ScriptDirectory`` and ``RevisionStep``, over files that are read and the C graph.

Like :mod:`migrate_ext.dropin.revision_map`, but for ``alembic/script/base.py`` and the steps of
``alembic/runtime/migration.py`` (read in 1.13 and 1.20.1), whose private names are touched here.
"""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar, cast

from alembic import util
from alembic.runtime import migration
from alembic.script import base, revision
from alembic.script.revision import Revision

from migrate_ext import _core, counters, errors
from migrate_ext.dropin import revision_map
from migrate_ext.dropin.revision_map import AlembicMap, RevisionMap, attributes, native_of

__all__ = [
    "HeadMaintainer",
    "Revision",
    "RevisionMap",
    "RevisionStep",
    "Script",
    "ScriptDirectory",
    "StampStep",
]

_S = TypeVar("_S", bound=base.Script)

HeadMaintainer = migration.HeadMaintainer
StampStep = migration.StampStep

# Kept under these names, because a test or a user may replace Alembic's names by our classes.
_AlembicScript = base.Script
_AlembicDirectory = base.ScriptDirectory
_AlembicStep = migration.RevisionStep

# Alembic's own members of those classes, before any is replaced.
_is_revision_file = base._only_source_rev_file.match
_alembics_longdoc = vars(_AlembicScript)["longdoc"].fget
_alembics_load_revisions = _AlembicDirectory._load_revisions
_alembics_from_config = vars(_AlembicDirectory)["from_config"].__func__
_alembics_merge_branch_idents = _AlembicStep.merge_branch_idents
_alembics_unmerge_to_revisions = _AlembicStep._unmerge_to_revisions


class LazyModule:
    """``Script.module`` of a file that was read: loaded at the first access, then a plain attribute
    like Alembic's.
    """

    def __init__(self, load: Callable[[str], ModuleType]) -> None:
        """load: returns the module of the file at a path."""
        self._load = load

    def __get__(self, script: Any, cls: type) -> ModuleType:
        if script is None:
            raise AttributeError(f"type object {cls.__name__!r} has no attribute 'module'")
        counters.files_executed += 1
        module = script.__dict__["module"] = self._load(script.path)
        return module


def _load(path: str) -> ModuleType:
    return util.load_python_file(*os.path.split(path))


class Script(_AlembicScript):
    """Alembic's ``Script``, from a file that was read; the module is loaded at its first access, as
    Alembic loads it.
    """

    def __init__(
        self,
        module: ModuleType | None,
        rev_id: str,
        path: str | os.PathLike[str],
        scanned: _core._Scanned | None = None,
    ) -> None:
        """module, rev_id, path: as in Alembic. scanned: what was read in the file; if given,
        `module` may be None.
        """
        if scanned is None:
            assert module is not None
            super().__init__(module, rev_id, path)
            return
        _read(self, rev_id, os.fspath(path), scanned)
        if module is not None:
            self.module = module

    module = LazyModule(_load)

    @property
    def longdoc(self) -> str:
        if "module" in self.__dict__:
            return _alembics_longdoc(self)  # type: ignore[no-any-return]
        return (self.__dict__["_docstring"] or "").strip()


def _read(script: _AlembicScript, rev_id: str, path: str, scanned: _core._Scanned) -> None:
    """What ``Script.__init__`` does, from what was read in the file."""
    script.path = path
    script.__dict__["_docstring"] = scanned[4]
    Revision.__init__(
        script,
        rev_id,
        scanned[1],
        branch_labels=util.to_tuple(scanned[2], default=()),
        dependencies=util.to_tuple(scanned[3], default=()),
    )


# Methods called when a script is created, except __init__: Script's is in _SCRIPT_METHODS,
# Revision's below.
_INIT_METHODS = ("__new__", "__setattr__", "verify_rev_id")
_ORIGINAL_INIT = attributes(Revision, _INIT_METHODS)
_alembics_init = Revision.__init__


class ScriptDirectory(_AlembicDirectory):
    """Alembic's ``ScriptDirectory``, whose files are read instead of executed, over the C graph."""

    def __init__(self, *args: Any, **kw: Any) -> None:
        super().__init__(*args, **kw)
        self._adopt()

    @classmethod
    def from_config(cls, config: Any) -> ScriptDirectory:
        made = _alembics_from_config(cls, config)
        made.__class__ = cls  # Alembic ignores `cls` and uses its own class
        made = cast(ScriptDirectory, made)
        made._adopt()
        return made

    def _adopt(self) -> None:
        if type(self.revision_map) is AlembicMap:
            self.revision_map = RevisionMap(self._load_revisions)

    def _load_revisions(self) -> Iterator[_AlembicScript]:
        if _AlembicDirectory._load_revisions in (_alembics_load_revisions, _load_revisions):
            return _load_revisions(self)
        counters.plain("script directory: a method is patched")
        return super()._load_revisions()

    def _upgrade_revs(self, destination: str, current_rev: Any) -> list[migration.RevisionStep]:
        return _ours(super()._upgrade_revs(destination, current_rev))

    def _downgrade_revs(self, destination: str, current_rev: Any) -> list[migration.RevisionStep]:
        return _ours(super()._downgrade_revs(destination, current_rev))


def _load_revisions(self: _AlembicDirectory) -> Iterator[_AlembicScript]:
    """Replaces the method of that name."""
    if not _is_readable(self):
        counters.plain("script directory: sourceless, or a method is patched")
        yield from _alembics_load_revisions(self)
        return
    cls = Script if isinstance(self, ScriptDirectory) else _AlembicScript
    # Locations are strings before Alembic 1.16.
    locations = [path for path in map(Path, self._version_locations) if path.exists()]
    try:
        read = [
            (os.path.join(folder, ""), *_core.scan_folder(folder))
            for folder in _folders(locations, self.recursive_version_locations)
        ]
    except errors.Declined as reason:
        counters.plain(f"script directory: {reason}")
        yield from _load_one_by_one(self, cls, locations)
        return
    for folder, names, answers in read:
        for name, script in zip(names, new_scripts(cls, folder, names, answers), strict=True):
            made = script or _executed(self, Path(folder, name))
            if made is not None:
                yield made


def _folders(locations: Iterable[Path], recursive: bool) -> Iterator[str]:
    """The real paths of all folders of the locations. Raises Declined if one occurs twice."""
    from migrate_ext.project import scripts  # not needed by programs that read no revisions

    seen = set()
    for location in locations:
        for folder in map(os.path.realpath, scripts.folders(str(location), recursive)):
            if folder in seen:
                raise errors.Declined("revision files reached twice")
            seen.add(folder)
            yield folder


def new_scripts(
    cls: type[_S], folder: str, names: tuple[str, ...], answers: Sequence[_core._Scanned | str]
) -> list[_S | None]:
    """A `cls` (Alembic's ``Script`` or one of ours) for each file, from what was read in it.

    folder: ends with a separator. names, answers: as returned by ``scan_folder``. An item is None
    if the file must be executed, which includes files whose revision ``Revision.__init__`` must
    reject.
    """
    if attributes(cls, _INIT_METHODS) == _ORIGINAL_INIT and Revision.__init__ is _alembics_init:
        illegal = "".join(revision._revision_illegal_chars)
        return _core.new_scripts(cls, folder, names, answers, illegal)
    made: list[_S | None] = []
    for name, answer in zip(names, answers, strict=True):
        script = None
        if isinstance(answer, tuple) and answer[0] is not None:
            script = cls.__new__(cls)
            _read(script, answer[0], folder + name, answer)
        made.append(script)
    return made


def _executed(directory: _AlembicDirectory, path: Path) -> _AlembicScript | None:
    """The script of a file that Alembic executes; None if it is no revision file."""
    executed = _AlembicScript._from_path(directory, path)
    if executed is not None:
        counters.files_executed += 1
    return executed


def _load_one_by_one(
    directory: _AlembicDirectory, cls: type[_AlembicScript], locations: Iterable[Path]
) -> Iterator[_AlembicScript]:
    """Like :func:`_load_revisions`, if a file may be reached by two paths."""
    seen: set[Path] = set()
    for location in locations:
        # Paths are strings before Alembic 1.16.
        listed = map(Path, _AlembicScript._list_py_dir(directory, location))
        for folder, paths in itertools.groupby(listed, _parent):
            yield from _read_folder(directory, cls, folder.resolve(), list(paths), seen)


def _read_folder(
    directory: _AlembicDirectory,
    cls: type[_AlembicScript],
    folder: Path,
    paths: list[Path],
    seen: set[Path],
) -> Iterator[_AlembicScript]:
    """The scripts in one folder (resolved), in the order of `paths`, as `cls`. Warns of paths in
    `seen` and skips them; adds the others to it.
    """
    real_paths = [path.resolve() if path.is_symlink() else folder / path.name for path in paths]
    answers = _core.scan_files(folder, [path.name for path in paths])
    for real_path, answer in zip(real_paths, answers, strict=True):
        if real_path in seen:
            util.warn(
                f"File {real_path} loaded twice! ignoring. Please ensure version_locations is unique."
            )
            continue
        seen.add(real_path)
        if (
            isinstance(answer, tuple)
            and answer[0] is not None
            and _is_revision_file(real_path.name)
            and real_path.suffix == ".py"
        ):
            script = cls.__new__(cls)
            _read(script, answer[0], str(real_path), answer)
            yield script
        else:
            executed = _executed(directory, real_path)
            if executed is not None:
                yield executed


# What creates scripts from files. Each must be Alembic's own or, if the runtime is installed, our
# replacement.
_SCRIPT_METHODS = ("__init__", "_from_path", "_list_py_dir", "doc", "longdoc")
_LOADERS = ("load_python_file",)
_ORIGINAL_SCRIPT = (attributes(_AlembicScript, _SCRIPT_METHODS), attributes(util, _LOADERS))
_INSTALLED_SCRIPT = (
    (*_ORIGINAL_SCRIPT[0][:-1], vars(Script)["longdoc"]),
    _ORIGINAL_SCRIPT[1],
)


def _is_readable(directory: _AlembicDirectory) -> bool:
    """Whether reading the files of `directory` gives the same scripts as Alembic."""
    made_by = (attributes(_AlembicScript, _SCRIPT_METHODS), attributes(util, _LOADERS))
    return (
        not directory.sourceless
        and base.Script is _AlembicScript
        and made_by in (_ORIGINAL_SCRIPT, _INSTALLED_SCRIPT)
        and sys.flags.optimize < 2  # with -OO Python drops docstrings
    )


def _parent(path: Path) -> Path:
    return path.parent


_STEP_METHODS = ("merge_branch_idents", "_unmerge_to_revisions")
_ORIGINAL_STEP = attributes(_AlembicStep, _STEP_METHODS)


def _ours(steps: list[migration.RevisionStep]) -> list[migration.RevisionStep]:
    methods = attributes(_AlembicStep, _STEP_METHODS)
    if methods == attributes(RevisionStep, _STEP_METHODS):
        return steps  # the runtime is installed: nothing to convert
    if methods != _ORIGINAL_STEP:
        counters.plain("steps: a method is patched")
        return steps
    for step in steps:
        if type(step) is _AlembicStep:
            step.__class__ = RevisionStep
    return steps


class RevisionStep(_AlembicStep):
    """Alembic's ``RevisionStep``, but it gets what other heads imply from the graph.

    Alembic walks all their ancestors for each merge, which is quadratic in the length of a run.
    """

    def merge_branch_idents(self, heads: set[str]) -> tuple[list[str], str, str]:
        operations = _operations(self, heads)
        if operations is None or operations[-1][0] != "update":
            return _alembics_merge_branch_idents(self, heads)
        *deletes, update = operations
        return [operation[1] for operation in deletes], update[1], update[2]  # type: ignore[misc]

    def _unmerge_to_revisions(self, heads: set[str]) -> tuple[str, ...]:
        operations = _operations(self, heads) if self.revision.revision in heads else None
        if operations is None:
            return _alembics_unmerge_to_revisions(self, heads)
        return tuple(operation[-1] for operation in operations if operation[0] != "delete")


def _operations(step: _AlembicStep, heads: Collection[str]) -> _core.VersionOperations | None:
    """The version operations of a step if the table has `heads`; None if Alembic must decide."""
    if type(step) not in (_AlembicStep, RevisionStep):
        return None
    map_, name = step.revision_map, step.revision.revision
    native = native_of(map_) if isinstance(map_, AlembicMap) else None
    if native is None or native.get(name) is not step.revision:
        return None
    if None in heads:  # a row that is NULL: leave it to Alembic
        return None
    try:
        index = native.graph.lookup(name)
        return native.graph.version_step(sorted(heads), index, step.is_upgrade)
    except errors.Declined as reason:
        counters.plain(f"steps: {reason}")
        return None


# The class members that an installed runtime replaces, by part: (class, name, replacement).
REPLACEMENTS: dict[str, tuple[tuple[type, str, object], ...]] = {
    "revision map": tuple(
        (AlembicMap, name, method) for name, method in revision_map.REPLACEMENTS.items()
    ),
    "revision files": (
        (_AlembicScript, "module", vars(Script)["module"]),
        (_AlembicScript, "longdoc", vars(Script)["longdoc"]),
        (_AlembicDirectory, "_load_revisions", _load_revisions),
    ),
    "version steps": tuple(
        (_AlembicStep, name, vars(RevisionStep)[name])
        for name in ("merge_branch_idents", "_unmerge_to_revisions")
    ),
}


def upgrade_steps(scripts: base.ScriptDirectory, target: str, heads: Any) -> list[Any]:
    """The steps of ``upgrade TARGET`` from `heads`, as ``alembic.command`` determines them."""
    return scripts._upgrade_revs(target, heads)


def downgrade_steps(scripts: base.ScriptDirectory, target: str, heads: Any) -> list[Any]:
    """The steps of ``downgrade TARGET`` from `heads`."""
    return scripts._downgrade_revs(target, heads)
