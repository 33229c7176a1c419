"""Alembic's revision classes over the C graph: ``RevisionMap``, ``Script``, ``ScriptDirectory``, ``RevisionStep``.

They are subclasses, so that ``isinstance`` holds, people can subclass and patch them, and each method that is
not here is Alembic's own. A question goes to the graph only while nobody has overridden or patched a method that
Alembic's answer would have called; otherwise Alembic's code answers, over the same revisions. This file is the seam
to ``alembic/script/revision.py``, ``alembic/script/base.py`` and the steps of ``alembic/runtime/migration.py`` (read
in 1.13 and 1.20.1): private names of those are touched here and nowhere else.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from alembic import util
from alembic.runtime import migration
from alembic.script import base, revision
from alembic.script.revision import Revision

from migrate_ext import _core, counters, cycles, errors
from migrate_ext.scripts import is_revision_file

__all__ = [
    "HeadMaintainer",
    "Revision",
    "RevisionMap",
    "RevisionStep",
    "Script",
    "ScriptDirectory",
    "StampStep",
]

HeadMaintainer = migration.HeadMaintainer
StampStep = migration.StampStep

# What Alembic's answers are made of. If one of these is not what it was when this module was loaded, it is called.
_MAP_METHODS = (
    "_add_branches",
    "_add_depends_on",
    "_collect_downgrade_revisions",
    "_collect_upgrade_revisions",
    "_detect_cycles",
    "_filter_into_branch_heads",
    "_get_all_current",
    "_get_ancestor_nodes",
    "_get_base_revisions",
    "_get_descendant_nodes",
    "_iterate_related_revisions",
    "_map_branch_labels",
    "_normalize_depends_on",
    "_real_bases",
    "_real_heads",
    "_parse_downgrade_target",
    "_parse_upgrade_target",
    "_resolve_branch",
    "_resolve_revision_number",
    "_revision_for_ident",
    "_revision_map",
    "_shares_lineage",
    "_topological_sort",
    "_walk",
    "bases",
    "filter_for_lineage",
    "get_current_head",
    "get_revision",
    "get_revisions",
    "heads",
    "iterate_revisions",
)
_REVISION_METHODS = (
    "_all_down_revisions",
    "_is_real_base",
    "_is_real_branch_point",
    "_is_real_head",
    "_normalized_down_revisions",
    "_versioned_down_revisions",
    "add_nextrev",
    "is_base",
    "is_branch_point",
    "is_head",
    "is_merge_point",
)


def _attributes(cls: type, names: Iterable[str]) -> tuple[object, ...]:
    return tuple(getattr(cls, name, None) for name in names)


_ORIGINAL_REVISION = _attributes(Revision, _REVISION_METHODS)


# By these names, because a test or a user may put our classes in their places.
_AlembicMap = revision.RevisionMap
_AlembicStep = migration.RevisionStep
_AlembicDirectory = base.ScriptDirectory
_alembics_load_revisions = _AlembicDirectory._load_revisions
_alembics_from_config = vars(base.ScriptDirectory)["from_config"].__func__


class _Map(dict[Any, "Revision | None"]):
    """``_revision_map``: once somebody changes it, the graph no longer knows what is in it."""

    is_changed = False

    def _changing(name: str) -> Callable[..., Any]:  # type: ignore[misc]
        method = getattr(dict, name)

        def change(self: _Map, *args: Any, **kw: Any) -> Any:
            self.is_changed = True
            return method(self, *args, **kw)

        return change

    for _name in (
        "__delitem__",
        "__ior__",
        "__setitem__",
        "clear",
        "pop",
        "popitem",
        "setdefault",
        "update",
    ):
        locals()[_name] = _changing(_name)


class RevisionMap(_AlembicMap):
    """Alembic's ``RevisionMap``, built and walked in time linear in revisions and edges."""

    _graph: _core.Graph | None = None
    _nodes: list[Revision]
    _ends: tuple[object, ...]

    @util.memoized_property
    def _revision_map(self) -> Any:
        found = list(self._generator())
        graph = self._build(found)
        if graph is None:
            return _alembics_map(self, found)
        map_: dict[Any, Revision | None] = {}
        for index, node in enumerate(found):
            node.nextrev = frozenset(graph.nextrev(index))
            node._all_nextrev = frozenset(graph.all_nextrev(index))
            node._resolved_dependencies = graph.resolved_dependencies(index)
            node._normalized_resolved_dependencies = graph.normalized_dependencies(index)
            map_[node.revision] = node
        sets: dict[int, frozenset[str]] = {}  # the graph has one tuple for each set of labels
        for index, node in enumerate(found):
            labels = graph.labels(index)
            if labels:
                if id(labels) not in sets:
                    sets[id(labels)] = frozenset(labels)
                node.branch_labels.update(sets[id(labels)])
            for label in node._orig_branch_labels:
                map_[label] = node
        map_[None] = map_[()] = None
        self.heads = graph.heads
        self._real_heads = graph.real_heads
        self.bases = graph.bases
        self._real_bases = graph.real_bases
        self._nodes = found
        self._graph = graph
        self._ends = _ends(self)
        return _Map(map_)

    def _build(self, found: Sequence[Revision]) -> _core.Graph | None:
        """The graph of `found`, or None where Alembic must build the map, and fail in its own way."""
        if not self._is_untouched() or not all(map(_is_plain, {type(node) for node in found})):
            counters.plain("revision map: a method is overridden")
            return None
        records = [
            (
                node.revision,
                node._versioned_down_revisions,
                node._orig_branch_labels,
                util.to_tuple(node.dependencies, default=()),
            )
            for node in found
        ]
        try:
            return _core.Graph(cast("list[_core._Record]", records), revision)
        except (
            errors.Declined,
            errors.MissingRevision,
            revision.RevisionError,
            TypeError,
            ValueError,
        ) as reason:
            counters.plain(f"revision map: {type(reason).__name__}")
            return None

    def _is_untouched(self) -> bool:
        """Whether all that Alembic's answers call is what it was when this module was loaded."""
        return (
            _attributes(type(self), _MAP_METHODS) == _ORIGINAL_MAP
            and _attributes(_AlembicMap, _OURS) == _ALEMBICS_MAP
            and _attributes(Revision, _REVISION_METHODS) == _ORIGINAL_REVISION
            and self.__dict__.keys().isdisjoint(_PATCHABLE)
        )

    def _native(self) -> _core.Graph | None:
        """The graph, if a question may go to it."""
        map_ = self._revision_map  # builds it
        if self._graph is None:
            return None
        if map_.is_changed or _ends(self) != self._ends or not self._is_untouched():
            counters.plain("revision map: changed, or a method is overridden")
            return None
        return self._graph

    def iterate_revisions(
        self,
        upper: Any,
        lower: Any,
        implicit_base: bool = False,
        inclusive: bool = False,
        assert_relative_length: bool = True,
        select_for_downgrade: bool = False,
    ) -> Iterator[Revision]:
        graph = self._native()
        flags = (implicit_base, inclusive, assert_relative_length, select_for_downgrade)
        if graph is None or not (_is_identifier(upper) and _is_identifier(lower)):
            yield from super().iterate_revisions(upper, lower, *flags)
            return
        try:
            indexes = graph.iterate(upper, lower, *flags)
        except errors.Declined as reason:
            counters.plain(f"revision map: {reason}")
            yield from super().iterate_revisions(upper, lower, *flags)
            return
        for index in indexes:
            yield self._nodes[index]

    def _get_all_current(self, id_: tuple[str, ...]) -> set[Any]:
        graph = self._native()
        if graph is None or not _is_identifier(id_):
            return super()._get_all_current(id_)
        try:
            return {self._nodes[index] for index in graph.all_current(id_)}
        except errors.Declined as reason:
            counters.plain(f"revision map: {reason}")
            return super()._get_all_current(id_)

    def _topological_sort(self, revisions: Collection[Revision], heads: Any) -> list[str]:
        if self._graph is None or self._revision_map.is_changed:  # the graph has no circles
            map_ = self._revision_map
            below = {
                node.revision: node._normalized_down_revisions for node in map_.values() if node
            }
            todo = {node.revision for node in revisions}
            circle = cycles.endless(below, todo, [node.revision for node in heads])
            if circle is not None:
                down = {name: map_[name]._versioned_down_revisions for name in circle if map_[name]}
                is_down = bool(cycles.circles(down))
                kind = revision.CycleDetected if is_down else revision.DependencyCycleDetected
                raise kind(sorted(circle))
        return super()._topological_sort(revisions, heads)


_ORIGINAL_MAP = _attributes(RevisionMap, _MAP_METHODS)
# What RevisionMap covers of Alembic's: there, a patch would not be seen in ours.
_OURS = tuple(vars(RevisionMap).keys() & set(_MAP_METHODS))
_ALEMBICS_MAP = _attributes(_AlembicMap, _OURS)
_ENDS = ("_real_bases", "_real_heads", "bases", "heads")
_PATCHABLE = frozenset(_MAP_METHODS) - {"_revision_map", *_ENDS}


def _ends(map_: RevisionMap) -> tuple[object, ...]:
    """The heads and bases of a map as they are now: Alembic's answers read them."""
    return tuple(map_.__dict__.get(name) for name in _ENDS)


def _alembics_map(map_: RevisionMap, found: list[Revision]) -> Any:
    """What Alembic's own ``_revision_map`` makes of revisions that were generated already."""
    generator = map_._generator
    map_._generator = lambda: found
    try:
        return _AlembicMap.__dict__["_revision_map"].fget(map_)
    finally:
        map_._generator = generator


def _is_plain(cls: type) -> bool:
    """Whether a class of revisions has the attributes that the graph is made of as Alembic defines them."""
    return _attributes(cls, _REVISION_METHODS) == _ORIGINAL_REVISION


def _is_identifier(id_: object) -> bool:
    """Whether `id_` is of a type that the graph takes: None, a string, or a tuple or list of those."""
    if isinstance(id_, (tuple, list)):
        return all(item is None or type(item) is str for item in id_)
    return id_ is None or type(id_) is str


# ---------------------------------------------------------------------------------------------------------------------
# Files


class Script(base.Script):
    """Alembic's ``Script``, whose file was read; its module is loaded when it is touched, once, as Alembic loads it."""

    def __init__(
        self,
        module: ModuleType | None,
        rev_id: str,
        path: str | os.PathLike[str],
        scanned: _core._Scanned | None = None,
    ) -> None:
        """module, rev_id, path: as for Alembic's.

        scanned: what was read in the file; then `module` is None.
        """
        if scanned is None:
            assert module is not None
            super().__init__(module, rev_id, path)
            return
        self.path = os.fspath(path)
        self._scanned = scanned
        Revision.__init__(
            self,
            rev_id,
            scanned[1],
            branch_labels=util.to_tuple(scanned[2], default=()),
            dependencies=util.to_tuple(scanned[3], default=()),
        )

    _scanned: _core._Scanned | None = None
    _module: ModuleType | None = None

    @property
    def module(self) -> ModuleType:
        if self._module is None:
            counters.files_executed += 1
            self._module = self._load()
        return self._module

    @module.setter
    def module(self, module: ModuleType) -> None:
        self._module = module

    def _load(self) -> ModuleType:
        return util.load_python_file(*os.path.split(self.path))

    @property
    def longdoc(self) -> str:
        if self._scanned is None or self._module is not None:
            return super().longdoc
        return (self._scanned[4] or "").strip()


class ScriptDirectory(base.ScriptDirectory):
    """Alembic's ``ScriptDirectory``, whose files are read instead of executed, over the C graph."""

    def __init__(self, *args: Any, **kw: Any) -> None:
        super().__init__(*args, **kw)
        self._adopt()

    @classmethod
    def from_config(cls, config: Any) -> ScriptDirectory:
        made = _alembics_from_config(cls, config)
        made.__class__ = cls  # Alembic names its own class there
        made = cast(ScriptDirectory, made)
        made._adopt()
        return made

    def _adopt(self) -> None:
        if type(self.revision_map) is _AlembicMap:
            self.revision_map = RevisionMap(self._load_revisions)

    def _load_revisions(self) -> Iterator[base.Script]:
        is_patched = (
            _attributes(base.Script, _SCRIPT_METHODS) != _ORIGINAL_SCRIPT
            or _AlembicDirectory._load_revisions is not _alembics_load_revisions
        )
        if self.sourceless or is_patched:
            counters.plain("script directory: sourceless, or a method is patched")
            yield from super()._load_revisions()
            return
        seen: set[Path] = set()
        # Locations and what is listed in them are strings before Alembic 1.16.
        for location in map(Path, self._version_locations):
            if not location.exists():
                continue
            listed = map(Path, base.Script._list_py_dir(self, location))
            for folder, paths in itertools.groupby(listed, _parent):
                yield from self._read_folder(folder.resolve(), list(paths), seen)

    def _read_folder(
        self, folder: Path, paths: list[Path], seen: set[Path]
    ) -> Iterator[base.Script]:
        """The scripts in one folder (resolved), in the order of `paths`; those in `seen` were there before."""
        real_paths = [path.resolve() if path.is_symlink() else folder / path.name for path in paths]
        answers = _core.scan_files(folder, [path.name for path in paths])
        for path, real_path, answer in zip(paths, real_paths, answers, strict=True):
            if real_path in seen:
                util.warn(
                    f"File {real_path} loaded twice! ignoring. Please ensure version_locations is unique."
                )
                continue
            seen.add(real_path)
            if isinstance(answer, tuple) and answer[0] is not None and is_revision_file(path.name):
                yield Script(None, answer[0], real_path, answer)
            else:
                executed = base.Script._from_path(self, real_path)
                if executed is not None:
                    counters.files_executed += 1
                    yield executed

    def _upgrade_revs(self, destination: str, current_rev: Any) -> list[migration.RevisionStep]:
        return _ours(super()._upgrade_revs(destination, current_rev))

    def _downgrade_revs(self, destination: str, current_rev: Any) -> list[migration.RevisionStep]:
        return _ours(super()._downgrade_revs(destination, current_rev))


_SCRIPT_METHODS = ("__init__", "_from_path", "_list_py_dir", "doc", "longdoc")
_ORIGINAL_SCRIPT = _attributes(base.Script, _SCRIPT_METHODS)


def _parent(path: Path) -> Path:
    return path.parent


_STEP_METHODS = ("merge_branch_idents", "_unmerge_to_revisions")
_ORIGINAL_STEP = _attributes(_AlembicStep, _STEP_METHODS)


def _ours(steps: list[migration.RevisionStep]) -> list[migration.RevisionStep]:
    if _attributes(_AlembicStep, _STEP_METHODS) != _ORIGINAL_STEP:
        counters.plain("steps: a method is patched")
        return steps
    for step in steps:
        if type(step) is _AlembicStep:
            step.__class__ = RevisionStep
    return steps


class RevisionStep(_AlembicStep):
    """Alembic's ``RevisionStep``, which asks the graph what other heads imply.

    Alembic walks all their ancestors for each merge, which is quadratic in a run over many.
    """

    def _operations(self, heads: Collection[str]) -> list[_core._VersionOperation] | None:
        """What this step writes with `heads` in the table; None where Alembic must say it."""
        map_ = self.revision_map
        if type(self) is not RevisionStep or not isinstance(map_, RevisionMap):
            return None
        graph = map_._native()
        name = self.revision.revision
        if graph is None or map_._revision_map.get(name) is not self.revision:
            return None
        try:
            steps = [(graph.lookup(name), self.is_upgrade)]
            return graph.version_operations(sorted(heads), steps)[0]
        except errors.Declined as reason:
            counters.plain(f"steps: {reason}")
            return None

    def merge_branch_idents(self, heads: set[str]) -> tuple[list[str], str, str]:
        operations = self._operations(heads)
        if operations is None or operations[-1][0] != "update":
            return super().merge_branch_idents(heads)
        *deletes, update = operations
        return [operation[1] for operation in deletes], update[1], update[2]  # type: ignore[misc]

    def _unmerge_to_revisions(self, heads: set[str]) -> tuple[str, ...]:
        operations = self._operations(heads) if self.revision.revision in heads else None
        if operations is None:
            return super()._unmerge_to_revisions(heads)
        return tuple(operation[-1] for operation in operations if operation[0] != "delete")
