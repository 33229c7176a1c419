"""Histories with cycles: Alembic walks some of them, and loops forever on the rest.

Alembic rejects most cycles when it builds its map, but not one with an edge into it and an edge out
of it. Its sort of such a history ends unless two revisions of one cycle are current heads at the
same time: then each waits for the other. Here a history is a dictionary: revision -> those directly
below it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping

Below = Mapping[str, Collection[str]]


def _finished(edges: Below, start: str, seen: set[str]) -> Iterator[str]:
    """The revisions reachable from `start` that are not in `seen`, in depth-first postorder."""
    if start in seen:
        return
    seen.add(start)
    stack = [(start, iter(edges[start]))]
    while stack:
        node, rest = stack[-1]
        following = next((name for name in rest if name in edges and name not in seen), None)
        if following is None:
            stack.pop()
            yield node
        else:
            seen.add(following)
            stack.append((following, iter(edges[following])))


def circles(below: Below) -> list[frozenset[str]]:
    """The sets of two or more revisions that are all below each other (by Kosaraju's algorithm)."""
    above: dict[str, list[str]] = {name: [] for name in below}
    for name, names in below.items():
        for lower in names:
            if lower in above:
                above[lower].append(name)
    seen: set[str] = set()
    order = [name for start in below for name in _finished(below, start, seen)]
    seen.clear()
    found = [frozenset(_finished(above, name, seen)) for name in reversed(order)]
    return [circle for circle in found if len(circle) > 1]


def endless(below: Below, todo: Collection[str], heads: Iterable[str]) -> frozenset[str] | None:
    """The cycle on which Alembic's sort of the set `todo` from `heads` loops forever, or None.

    All revisions above a cycle are sorted before those in it. So the sort ends if the cycle is
    entered at one revision only, and each of its revisions has at most one of the remaining ones
    below it.
    """
    circle_of = {name: circle for circle in circles(below) for name in circle}
    if not circle_of:
        return None
    entries: dict[frozenset[str], set[str]] = {circle: set() for circle in circle_of.values()}
    stack: list[tuple[str, frozenset[str] | None]]
    stack = [(name, None) for name in heads if name in todo]
    seen: set[str] = set()
    while stack:
        name, from_circle = stack.pop()
        circle = circle_of.get(name)
        if circle is not None and circle is not from_circle:
            entries[circle].add(name)
        if name not in seen:
            seen.add(name)
            stack += [(lower, circle) for lower in below[name] if lower in todo]
    for circle, names in entries.items():
        left = circle.intersection(todo)
        while names:
            if len(names) > 1:
                return circle
            left -= names
            names = set(left.intersection(below[names.pop()]))
    return None
