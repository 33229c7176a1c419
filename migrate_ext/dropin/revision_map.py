"""Alembic's ``RevisionMap`` over the C graph.

It is a subclass, so that ``isinstance`` holds, it can be subclassed and patched, and each method
that is not here is Alembic's own. :mod:`migrate_ext.dropin.hooks` sets the same functions
(``REPLACEMENTS``) in Alembic's own class; therefore they call ``_alembics_...`` where a subclass
would call ``super()``. The graph is queried only if none of the methods that Alembic's own code
would call is overridden or patched; otherwise Alembic's code runs over the same revisions. Private
names of ``alembic/script/revision.py`` (read in 1.13 and 1.20.1) are touched here.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any, cast

from alembic import util
from alembic.script import revision
from alembic.script.revision import Revision

from migrate_ext import _core, counters, errors

# Methods that Alembic's own code calls. If one is not what it was when this module was loaded,
# Alembic's code runs.
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


def attributes(cls: object, names: Iterable[str]) -> tuple[object, ...]:
    """The attributes `names` of a class; for a class method its function, which subclasses share."""
    found = [getattr(cls, name, None) for name in names]
    return tuple(getattr(value, "__func__", value) for value in found)


_ORIGINAL_REVISION = attributes(Revision, _REVISION_METHODS)

# Kept under this name, because a test or a user may replace Alembic's name by our class.
AlembicMap = revision.RevisionMap

# Alembic's own members of that class, before any is replaced.
_alembics_revision_map = vars(AlembicMap)["_revision_map"].fget
_alembics_iterate = AlembicMap.iterate_revisions
_alembics_topological_sort = AlembicMap._topological_sort
_alembics_all_current = AlembicMap._get_all_current


class _Map(dict[Any, "Revision | None"]):
    """``_revision_map`` with its graph. Once ``is_changed`` is set, the graph does not match it.

    ``nodes``: the revisions, by index in ``graph``. ``ends``: :func:`_ends` at the time of building.
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
    """Revisions from which no graph could be built: Alembic builds their map."""


class RevisionMap(AlembicMap):
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
    """The method `name` of Alembic's class if other code has patched it, else our replacement."""
    found = getattr(AlembicMap, name)
    return REPLACEMENTS[name] if found is _ALEMBICS_MAP[name] else found  # type: ignore[no-any-return]


def _iterate_revisions(
    self: AlembicMap,
    upper: Any,
    lower: Any,
    implicit_base: bool = False,
    inclusive: bool = False,
    assert_relative_length: bool = True,
    select_for_downgrade: bool = False,
) -> Iterator[Revision]:
    native = native_of(self)
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


def _get_all_current(self: AlembicMap, id_: tuple[str, ...]) -> set[Any]:
    native = native_of(self)
    if native is None or not _is_identifier(id_):
        return _alembics_all_current(self, id_)
    try:
        return {native.nodes[index] for index in native.graph.all_current(id_)}
    except errors.Declined as reason:
        counters.plain(f"revision map: {reason}")
        return _alembics_all_current(self, id_)


def _topological_sort(self: AlembicMap, revisions: Collection[Revision], heads: Any) -> list[str]:
    map_ = self._revision_map
    if type(map_) is not _Map or map_.is_changed:  # else it has a graph, which has no cycles
        from migrate_ext.dropin import cycles  # not needed by maps with a graph

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


# Our methods for Alembic's class, Alembic's own, and the values that _MAP_METHODS must have for the
# graph to be used: in our subclass, and in Alembic's class if the runtime is installed.
REPLACEMENTS: dict[str, Any] = {
    "_revision_map": vars(RevisionMap)["_revision_map"],
    "iterate_revisions": _iterate_revisions,
    "_get_all_current": _get_all_current,
    "_topological_sort": _topological_sort,
}
_ALEMBICS_MAP = {name: getattr(AlembicMap, name) for name in REPLACEMENTS}
_OWN_METHODS = attributes(RevisionMap, _MAP_METHODS)
_INSTALLED_METHODS = tuple(
    REPLACEMENTS.get(name, getattr(AlembicMap, name, None)) for name in _MAP_METHODS
)
_ENDS = ("_real_bases", "_real_heads", "bases", "heads")
_PATCHABLE = frozenset(_MAP_METHODS) - {"_revision_map", *_ENDS}


def _ends(map_: AlembicMap) -> tuple[object, ...]:
    """The present heads and bases of a map, which Alembic's own code reads."""
    return tuple(map_.__dict__.get(name) for name in _ENDS)


def _build(map_: AlembicMap, found: Sequence[Revision]) -> _core.Graph | None:
    """The graph of `found`; None if Alembic must build the map, and raise its own errors."""
    if not _is_untouched(map_) or not all(map(is_plain, {type(node) for node in found})):
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
    """All revisions, and None. If a revision occurs twice: those up to its second occurrence, and
    the rest, because Alembic warns of it before it loads the next file.
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


def _make(map_: AlembicMap, found: list[Revision]) -> _Map | None:
    """The map of `found` with its graph; None if Alembic must build it."""
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


def _is_untouched(map_: AlembicMap) -> bool:
    """Whether the methods that Alembic's own code calls are as when this module was loaded."""
    return (
        attributes(type(map_), _MAP_METHODS) in (_OWN_METHODS, _INSTALLED_METHODS)
        and attributes(AlembicMap, REPLACEMENTS)
        in (tuple(_ALEMBICS_MAP.values()), tuple(REPLACEMENTS.values()))
        and attributes(Revision, _REVISION_METHODS) == _ORIGINAL_REVISION
        and map_.__dict__.keys().isdisjoint(_PATCHABLE)
    )


def native_of(map_: AlembicMap) -> _Map | None:
    """The map with its graph; None if the graph must not be used."""
    made = map_.__dict__.get("_revision_map")
    if made is None:
        if not _is_untouched(map_):
            return None  # counted when the map is built
        made = _build_now(map_)
    if type(made) is not _Map:
        return None
    if made.is_changed or _ends(map_) != made.ends or not _is_untouched(map_):
        counters.plain("revision map: changed, or a method is overridden")
        return None
    return made


def _build_now(map_: AlembicMap) -> _Map | None:
    """Build the map for a query; None: Alembic builds it if its own code needs it.

    So warnings and errors come when Alembic would give them, and revisions are not generated twice.
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


def _alembics_map(map_: AlembicMap, found: Iterable[Revision]) -> Any:
    """The value of Alembic's own ``_revision_map`` for revisions that have already been generated."""
    generator = map_._generator
    map_._generator = lambda: found
    try:
        return _alembics_revision_map(map_)
    finally:
        map_._generator = generator


def is_plain(cls: type) -> bool:
    """Whether a class of revisions has Alembic's own definitions of what the graph is built from."""
    return attributes(cls, _REVISION_METHODS) == _ORIGINAL_REVISION


def _is_identifier(id_: object) -> bool:
    """Whether the graph accepts the type of `id_`: None, a string, or a tuple or list of those."""
    if isinstance(id_, (tuple, list)):
        return all(item is None or type(item) is str for item in id_)
    return id_ is None or type(id_) is str
