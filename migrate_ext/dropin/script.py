"""Alembic's revision classes over the C graph: ``RevisionMap``, ``Script``, ``ScriptDirectory``, ``RevisionStep``.

They are subclasses, so that ``isinstance`` holds, people can subclass and patch them, and each method that is
not here is Alembic's own. ``REPLACEMENTS`` is what seam.py puts into Alembic's own classes when the runtime is installed:
the same functions, which therefore call ``_alembics_...`` where a subclass would call ``super()``. A question goes to the graph
only while nobody has overridden or patched a method that Alembic's answer would have called; otherwise Alembic's code answers,
over the same revisions. This file is the seam to ``alembic/script/revision.py``, ``alembic/script/base.py`` and the steps of ``alembic/runtime/migration.py`` (read
in 1.13 and 1.20.1): private names of those are touched here and nowhere else.
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


def _attributes(cls: object, names: Iterable[str]) -> tuple[object, ...]:
    """Those of a class; of a class method the function, which its subclasses share."""
    found = [getattr(cls, name, None) for name in names]
    return tuple(getattr(value, "__func__", value) for value in found)


_ORIGINAL_REVISION = _attributes(Revision, _REVISION_METHODS)


# By these names, because a test or a user may put our classes in their places.
_AlembicMap = revision.RevisionMap
_AlembicScript = base.Script
_AlembicDirectory = base.ScriptDirectory
_AlembicStep = migration.RevisionStep

# What stands in those classes before anything is put in its place.
_alembics_revision_map = vars(_AlembicMap)["_revision_map"].fget
_alembics_iterate = _AlembicMap.iterate_revisions
_alembics_topological_sort = _AlembicMap._topological_sort
_alembics_all_current = _AlembicMap._get_all_current
_is_revision_file = base._only_source_rev_file.match
_alembics_longdoc = vars(_AlembicScript)["longdoc"].fget
_alembics_load_revisions = _AlembicDirectory._load_revisions
_alembics_from_config = vars(_AlembicDirectory)["from_config"].__func__
_alembics_merge_branch_idents = _AlembicStep.merge_branch_idents
_alembics_unmerge_to_revisions = _AlembicStep._unmerge_to_revisions


class _Map(dict[Any, "Revision | None"]):
    """``_revision_map``: once somebody changes it, the graph no longer knows what is in it.

    ``nodes``: the revisions, by their index in ``graph``. ``ends``: what :func:`_ends` was when it was built.
    """

    is_changed = False

    def __init__(
        self,
        items: dict[Any, Revision | None],
        graph: _core.Graph,
        nodes: list[Revision],
        ends: tuple[object, ...],
    ) -> None:
        super().__init__(items)
        self.graph = graph
        self.nodes = nodes
        self.ends = ends

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


class _Refused(itertools.chain[Revision]):
    """Revisions that no graph could be made of: Alembic builds their map."""


class RevisionMap(_AlembicMap):
    """Alembic's ``RevisionMap``, built and walked in time linear in revisions and edges."""

    @util.memoized_property
    def _revision_map(self) -> Any:
        generated = self._generator()
        if isinstance(generated, _Refused):
            return _alembics_map(self, generated)
        found, rest = _until_twice(generated)
        if rest is None and (made := _make(self, found)) is not None:
            return made
        return _alembics_map(self, itertools.chain(found, rest or ()))

    def iterate_revisions(self, *args: Any, **kw: Any) -> Iterator[Revision]:
        return _as_it_is("iterate_revisions")(self, *args, **kw)  # type: ignore[no-any-return]

    def _get_all_current(self, *args: Any, **kw: Any) -> set[Any]:
        return _as_it_is("_get_all_current")(self, *args, **kw)  # type: ignore[no-any-return]

    def _topological_sort(self, *args: Any, **kw: Any) -> list[str]:
        return _as_it_is("_topological_sort")(self, *args, **kw)  # type: ignore[no-any-return]


def _as_it_is(name: str) -> Callable[..., Any]:
    """What stands in Alembic's class, somebody's patch for one; ours in the place of Alembic's own."""
    found = getattr(_AlembicMap, name)
    return _MAP_REPLACEMENTS[name] if found is _ALEMBICS_MAP[name] else found  # type: ignore[no-any-return]


def _iterate_revisions(
    self: _AlembicMap,
    upper: Any,
    lower: Any,
    implicit_base: bool = False,
    inclusive: bool = False,
    assert_relative_length: bool = True,
    select_for_downgrade: bool = False,
) -> Iterator[Revision]:
    native = _native(self)
    flags = (implicit_base, inclusive, assert_relative_length, select_for_downgrade)
    if native is None or not (_is_identifier(upper) and _is_identifier(lower)):
        yield from _alembics_iterate(self, upper, lower, *flags)
        return
    try:
        indexes = native.graph.iterate(upper, lower, *flags)
    except errors.Declined as reason:
        counters.plain(f"revision map: {reason}")
        yield from _alembics_iterate(self, upper, lower, *flags)
        return
    for index in indexes:
        yield native.nodes[index]


def _get_all_current(self: _AlembicMap, id_: tuple[str, ...]) -> set[Any]:
    native = _native(self)
    if native is None or not _is_identifier(id_):
        return _alembics_all_current(self, id_)
    try:
        return {native.nodes[index] for index in native.graph.all_current(id_)}
    except errors.Declined as reason:
        counters.plain(f"revision map: {reason}")
        return _alembics_all_current(self, id_)


def _topological_sort(self: _AlembicMap, revisions: Collection[Revision], heads: Any) -> list[str]:
    map_ = self._revision_map
    if type(map_) is not _Map or map_.is_changed:  # the graph has no circles
        from migrate_ext.dropin import cycles  # not for maps that the graph answers for

        below = {node.revision: node._normalized_down_revisions for node in map_.values() if node}
        todo = {node.revision for node in revisions}
        circle = cycles.endless(below, todo, [node.revision for node in heads])
        if circle is not None:
            found = [node for node in map(map_.get, circle) if node is not None]
            down = {node.revision: node._versioned_down_revisions for node in found}
            is_down = bool(cycles.circles(down))
            kind = revision.CycleDetected if is_down else revision.DependencyCycleDetected
            raise kind(sorted(circle))
    return _alembics_topological_sort(self, revisions, heads)


# What is put into Alembic's class; what it had before; and what all that is called may be: ours, and where it is installed.
_MAP_REPLACEMENTS: dict[str, Any] = {
    "_revision_map": vars(RevisionMap)["_revision_map"],
    "iterate_revisions": _iterate_revisions,
    "_get_all_current": _get_all_current,
    "_topological_sort": _topological_sort,
}
_ALEMBICS_MAP = {name: getattr(_AlembicMap, name) for name in _MAP_REPLACEMENTS}
_OWN_METHODS = _attributes(RevisionMap, _MAP_METHODS)
_INSTALLED_METHODS = tuple(
    _MAP_REPLACEMENTS.get(name, getattr(_AlembicMap, name, None)) for name in _MAP_METHODS
)
_ENDS = ("_real_bases", "_real_heads", "bases", "heads")
_PATCHABLE = frozenset(_MAP_METHODS) - {"_revision_map", *_ENDS}


def _ends(map_: _AlembicMap) -> tuple[object, ...]:
    """The heads and bases of a map as they are now: Alembic's answers read them."""
    return tuple(map_.__dict__.get(name) for name in _ENDS)


def _build(map_: _AlembicMap, found: Sequence[Revision]) -> _core.Graph | None:
    """The graph of `found`, or None where Alembic must build the map, and fail in its own way."""
    if not _is_untouched(map_) or not all(map(_is_plain, {type(node) for node in found})):
        counters.plain("revision map: a method is overridden")
        return None
    records = [
        (node.revision, node.down_revision, node._orig_branch_labels, node.dependencies)
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


def _until_twice(
    generated: Iterable[Revision],
) -> tuple[list[Revision], Iterator[Revision] | None]:
    """The revisions, and None; or those up to the first that is there twice, and the rest: Alembic
    warns of that one before it looks at the next file.
    """
    found: list[Revision] = []
    names: set[str] = set()
    rest = iter(generated)
    for node in rest:
        found.append(node)
        names.add(node.revision)
        if len(names) < len(found):
            counters.plain("revision map: a revision is there twice")
            return found, rest
    return found, None


def _make(map_: _AlembicMap, found: list[Revision]) -> _Map | None:
    """The map of `found` with its graph, or None where Alembic must build it."""
    graph = _build(map_, found)
    if graph is None:
        return None
    items: dict[Any, Revision | None] = {**graph.attach(found)}
    sets: dict[int, frozenset[str]] = {}  # the graph has one tuple for each set of labels
    for index in graph.labelled():
        node, labels = found[index], graph.labels(index)
        if id(labels) not in sets:
            sets[id(labels)] = frozenset(labels)
        node.branch_labels.update(sets[id(labels)])
        for label in node._orig_branch_labels:
            items[label] = node
    items[None] = items[()] = None
    map_.heads = graph.heads
    map_._real_heads = graph.real_heads
    map_.bases = graph.bases
    map_._real_bases = graph.real_bases
    return _Map(items, graph, found, _ends(map_))


def _is_untouched(map_: _AlembicMap) -> bool:
    """Whether all that Alembic's answers call is what it was when this module was loaded."""
    return (
        _attributes(type(map_), _MAP_METHODS) in (_OWN_METHODS, _INSTALLED_METHODS)
        and _attributes(_AlembicMap, _MAP_REPLACEMENTS)
        in (tuple(_ALEMBICS_MAP.values()), tuple(_MAP_REPLACEMENTS.values()))
        and _attributes(Revision, _REVISION_METHODS) == _ORIGINAL_REVISION
        and map_.__dict__.keys().isdisjoint(_PATCHABLE)
    )


def _native(map_: _AlembicMap) -> _Map | None:
    """The map with its graph, if a question may go to it."""
    made = map_.__dict__.get("_revision_map")
    if made is None:
        if not _is_untouched(map_):
            return None  # whoever builds the map counts it
        made = _build_now(map_)
    if type(made) is not _Map:
        return None
    if made.is_changed or _ends(map_) != made.ends or not _is_untouched(map_):
        counters.plain("revision map: changed, or a method is overridden")
        return None
    return made


def _build_now(map_: _AlembicMap) -> _Map | None:
    """Build the map for a question; None: Alembic builds it, if its answer comes to need it.

    Then what it warns of and fails with comes at its own time, and the revisions are not generated twice.
    """
    generator = map_._generator
    failure: Exception | None = None
    refused = _Refused()
    try:
        found, rest = _until_twice(generator())
        made = _make(map_, found) if rest is None else None
    except Exception as error:
        counters.plain("revision map: it cannot be built")
        failure = error
    else:
        if made is not None:
            map_.__dict__["_revision_map"] = made
            return made
        refused = _Refused(found, rest or ())

    def again() -> Any:
        map_._generator = generator
        if failure is not None:
            raise failure
        return refused

    map_._generator = again
    return None


def _alembics_map(map_: _AlembicMap, found: Iterable[Revision]) -> Any:
    """What Alembic's own ``_revision_map`` makes of revisions that were generated already."""
    generator = map_._generator
    map_._generator = lambda: found
    try:
        return _alembics_revision_map(map_)
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


class LazyModule:
    """``Script.module`` of a file that was read: loaded when it is touched, once; then a plain attribute, as Alembic's is."""

    def __init__(self, load: Callable[[str], ModuleType]) -> None:
        """load: makes the module of a path."""
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
    """Alembic's ``Script``, whose file was read; its module is loaded when it is touched, once, as Alembic loads it."""

    def __init__(
        self,
        module: ModuleType | None,
        rev_id: str,
        path: str | os.PathLike[str],
        scanned: _core._Scanned | None = None,
    ) -> None:
        """module, rev_id, path: as for Alembic's.

        scanned: what was read in the file; then `module` may be None.
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


# What is called when a script is made, without our own __init__ and Alembic's, which is among the others below.
_INIT_METHODS = ("__new__", "__setattr__", "verify_rev_id")
_ORIGINAL_INIT = _attributes(Revision, _INIT_METHODS)
_alembics_init = Revision.__init__


class ScriptDirectory(_AlembicDirectory):
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
    """Takes the place of the method of that name."""
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
    """The real folders of the locations; raises Declined where one is reached twice."""
    from migrate_ext.project import scripts  # not for programs that read no revisions

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

    folder: with a separator at its end. names, answers: what ``scan_folder`` gave. None stands where
    a file has to be executed: also one of which ``Revision.__init__`` says what is wrong, in its place.
    """
    if _attributes(cls, _INIT_METHODS) == _ORIGINAL_INIT and Revision.__init__ is _alembics_init:
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
    """The script of a file that is executed, as Alembic does it; None for another kind of file."""
    executed = _AlembicScript._from_path(directory, path)
    if executed is not None:
        counters.files_executed += 1
    return executed


def _load_one_by_one(
    directory: _AlembicDirectory, cls: type[_AlembicScript], locations: Iterable[Path]
) -> Iterator[_AlembicScript]:
    """As :func:`_load_revisions` where a file may be reached on two ways."""
    seen: set[Path] = set()
    for location in locations:
        # Strings before Alembic 1.16.
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
    """The scripts in one folder (resolved), in the order of `paths`, as `cls`; those in `seen` were there before."""
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


# What makes scripts of files. Each may be Alembic's, or what stands in its place when the runtime is installed.
_SCRIPT_METHODS = ("__init__", "_from_path", "_list_py_dir", "doc", "longdoc")
_LOADERS = ("load_python_file",)
_ORIGINAL_SCRIPT = (_attributes(_AlembicScript, _SCRIPT_METHODS), _attributes(util, _LOADERS))
_INSTALLED_SCRIPT = (
    (*_ORIGINAL_SCRIPT[0][:-1], vars(Script)["longdoc"]),
    _ORIGINAL_SCRIPT[1],
)


def _is_readable(directory: _AlembicDirectory) -> bool:
    """Whether reading the files of `directory` gives what Alembic would make of them."""
    made_by = (_attributes(_AlembicScript, _SCRIPT_METHODS), _attributes(util, _LOADERS))
    return (
        not directory.sourceless
        and base.Script is _AlembicScript
        and made_by in (_ORIGINAL_SCRIPT, _INSTALLED_SCRIPT)
        and sys.flags.optimize < 2  # such an interpreter leaves docstrings out
    )


def _parent(path: Path) -> Path:
    return path.parent


_STEP_METHODS = ("merge_branch_idents", "_unmerge_to_revisions")
_ORIGINAL_STEP = _attributes(_AlembicStep, _STEP_METHODS)


def _ours(steps: list[migration.RevisionStep]) -> list[migration.RevisionStep]:
    methods = _attributes(_AlembicStep, _STEP_METHODS)
    if methods == _attributes(RevisionStep, _STEP_METHODS):
        return steps  # installed: they are ours as they are
    if methods != _ORIGINAL_STEP:
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
    """What a step writes with `heads` in the table; None where Alembic must say it."""
    if type(step) not in (_AlembicStep, RevisionStep):
        return None
    map_, name = step.revision_map, step.revision.revision
    native = _native(map_) if isinstance(map_, _AlembicMap) else None
    if native is None or native.get(name) is not step.revision:
        return None
    if None in heads:  # a row that is NULL: Alembic makes of it what it can
        return None
    try:
        index = native.graph.lookup(name)
        return native.graph.version_step(sorted(heads), index, step.is_upgrade)
    except errors.Declined as reason:
        counters.plain(f"steps: {reason}")
        return None


# What takes whose place when the runtime is installed, part by part.
REPLACEMENTS: dict[str, tuple[tuple[type, str, object], ...]] = {
    "revision map": tuple(
        (_AlembicMap, name, method) for name, method in _MAP_REPLACEMENTS.items()
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
    """The plan of ``upgrade TARGET`` from `heads`, as ``alembic.command`` makes it."""
    return scripts._upgrade_revs(target, heads)


def downgrade_steps(scripts: base.ScriptDirectory, target: str, heads: Any) -> list[Any]:
    """The plan of ``downgrade TARGET`` from `heads`."""
    return scripts._downgrade_revs(target, heads)
