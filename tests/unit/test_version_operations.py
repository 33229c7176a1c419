"""The version operations that a graph returns can be read, compared and kept like a list of tuples."""

from __future__ import annotations

import pytest

from migrate_ext import _core

GRAPH = _core.Graph(
    [
        ("a", None, None, None),
        ("b", "a", None, None),
        ("c", "a", None, None),
        ("d\u00e9", ("b", "c"), None, None),
    ]
)
UP = GRAPH.version_operations((), [(i, True) for i in range(4)])
EXPECTED = [
    [("insert", "a")],
    [("update", "a", "b")],
    [("insert", "c")],
    [("delete", "b"), ("update", "c", "d\u00e9")],
]


def test_they_equal_lists_and_tuples_of_tuples() -> None:
    assert UP == EXPECTED
    assert EXPECTED == UP
    merge = UP[3]
    assert merge == tuple(EXPECTED[3])
    assert merge == GRAPH.version_step(["c", "b"], 3, True)
    assert merge != EXPECTED[0]
    assert merge != UP[2]
    assert merge != "delete"
    assert not merge == 1


def test_they_are_read_as_a_sequence() -> None:
    *deletes, update = UP[3]
    assert deletes == [("delete", "b")]
    assert update == UP[3][-1] == UP[3][1] == ("update", "c", "d\u00e9")
    assert len(UP[3]) == 2
    assert ("delete", "b") in UP[3]
    assert repr(UP[0]) == "VersionOperations([('insert', 'a')])"
    for index in (2, -3):
        with pytest.raises(IndexError):
            UP[3][index]


def test_they_outlive_their_graph_and_their_rows() -> None:
    graph = _core.Graph([("a", None, None, None), ("b", "a", None, None)])
    row = "".join(["ro", "w"])
    (operations,) = graph.version_operations([row], [((row,), ("b",), True, False)])
    del graph, row
    assert operations == [("update", "row", "b")]


def test_none_is_an_empty_sequence() -> None:
    graph = _core.Graph([("a", None, None, None)])
    assert graph.version_operations((), []) == []


def test_they_are_made_by_a_graph_only_and_have_no_hash() -> None:
    with pytest.raises(TypeError):
        _core.VersionOperations()
    with pytest.raises(TypeError):
        hash(UP[0])
