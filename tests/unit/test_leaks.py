"""Repeated calls do not grow the process, also where they fail: objects and memory blocks are counted."""

from __future__ import annotations

import contextlib
import gc
import sys
from collections.abc import Callable, Sequence

import pytest

from migrate_ext import _core, errors

RECORDS = [
    ("a", None, None, None),
    ("b", "a", "l", None),
    ("c", "a", None, "b"),
    ("d", ("b", "c"), None, None),
]
SOURCE = b'"""doc"""\nrevision = "a"\ndown_revision = ("b", "c")\nbranch_labels = None\ndepends_on = []\n'


def graph_questions() -> None:
    graph = _core.Graph(RECORDS)
    graph.iterate("heads", "base")
    graph.get_revisions("heads")
    graph.stamp("d", ())
    graph.version_operations((), [(0, True), (1, True)])
    for question in (lambda: graph.get_revision("nosuch"), lambda: graph.iterate("a", "d")):
        with contextlib.suppress(errors.RevisionError):
            question()


ANSWERS: Sequence[_core._Scanned | str] = [
    ("a", None, None, None, "doc"),
    ("b", ("a",), "l", (), None),
    ("c", ("a", "b"), ("l", "m"), "b", None),
    ("d", "d", None, None, None),
    "a reason",
]


class Node:
    """Takes the attributes of a script."""


class Refusing:
    __slots__ = ("_docstring", "nextrev", "path")


def revision_map() -> None:
    names = tuple("abcde")
    made = _core.new_scripts(Node, "/", names, ANSWERS, "@:")
    assert made[3:] == [None, None]
    _core.Graph(RECORDS[:3]).attach(made[:3])


def fails(function: Callable[..., object], *arguments: object) -> Callable[[], None]:
    def call() -> None:
        with contextlib.suppress(Exception):
            function(*arguments)

    return call


CALLS: dict[str, Callable[[], object]] = {
    "scan": lambda: _core.scan_source(SOURCE),
    "scan declined": lambda: _core.scan_source(b"revision = str(1)\n"),
    "scan refused": fails(_core.scan_source, "no bytes"),
    "scripts": revision_map,
    "scripts refused": fails(_core.new_scripts, Refusing, "/", ("a",), ANSWERS[:1], ""),
    "revisions refused": fails(_core.Graph(RECORDS).attach, [Refusing()] * 4),
    "too few revisions": fails(_core.Graph(RECORDS).attach, []),
    "graph": graph_questions,
    "graph with a cycle": fails(_core.Graph, [("a", "b", None, None), ("b", "a", None, None)]),
    "graph with a hole": fails(_core.Graph, [("a", "nosuch", None, None)]),
    "graph of nonsense": fails(_core.Graph, [("a", 1, None, None)]),
    "url": lambda: _core.parse_url("postgresql://u:p%40@h:1/d?sslmode=require"),
    "url refused": fails(_core.parse_url, "postgresql://h:x"),
    "redact": lambda: _core.redact_url("postgresql://u:p@h/d"),
    "end": lambda: _core.transaction_end("select ';'; commit"),
    "sql": lambda: _core.statement_kind("select ';'; select 2"),
    "lock": lambda: _core.lock_sql_try("it's", "\xfc", True, 1),
    "holders": lambda: _core.lock_sql_holders(-1),
    "holders refused": fails(_core.lock_sql_holders, 1 << 70),
    "library refused": fails(_core.load_libpq, "/nosuch"),
    "connect refused": fails(_core.Session.connect, {"host": "/nosuch", "port": "1"}, None),
    "borrow refused": fails(_core.Session.borrow, 0, "/nosuch", None),
}


def grown(call: Callable[[], object], times: int) -> int:
    count = getattr(sys, "gettotalrefcount", sys.getallocatedblocks)  # the former: debug builds
    gc.collect()
    before = count()
    for _ in range(times):
        call()
    gc.collect()
    return int(count() - before)


@pytest.mark.parametrize("name", CALLS)
def test_calls_leave_nothing_behind(name: str) -> None:
    call, times = CALLS[name], 200
    for _ in range(20):
        call()
    # One block or reference a call would be `times`; caches of the interpreter may settle once.
    assert min(grown(call, times) for _ in range(3)) < times // 4
