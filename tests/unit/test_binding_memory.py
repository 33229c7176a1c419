"""A failed allocation in the binding raises MemoryError: no crash, no wrong answer, no leak."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from migrate_ext import _core

_testcapi: Any = pytest.importorskip("_testcapi", reason="this Python comes without its own tests")

NODES = [("a", None, None, None), ("b", "a", "l", None), ("c", "a", None, "b"), ("d", ("b", "c"), None, None)]  # fmt: skip
RECORDS = [(*node[:3], tuple(node[3] or ()), "first line\n\nmore") for node in NODES]
HASH = b"0" * 64
PLAN = (
    b"migrate_ext plan 1\nkey k\n\nrevision " + HASH + b" r\nupgrade\nsql 3\n\tSELECT 1\n\t, 2\n"
    b"autocommit\nsql 4\n\tX\ntransaction\ndowngrade\n"
)
PLAN += b"end " + hashlib.sha256(PLAN).hexdigest().encode() + b"\n"
GRAPH = _core.Graph(NODES)
CALLS: dict[str, Callable[[], object]] = {
    "plan": partial(_core.read_plan, PLAN),
    "describe": partial(GRAPH.describe, [0, 1, 2, 3], RECORDS, ("a",), branches=True, doc=True, parents=True),
    "graph": partial(_core.Graph, NODES),
    "iterate": partial(GRAPH.iterate, "heads", "base"),
    "get_revisions": partial(GRAPH.get_revisions, "heads"),
    "stamp": partial(GRAPH.stamp, "d", ()),
    "version_operations": partial(GRAPH.version_operations, (), [(0, True), (1, True)]),
    "scan": partial(_core.scan_source, b'"""doc"""\nrevision = "a"\ndown_revision = ("b", "c")\n'),
    "url": partial(_core.parse_url, "postgresql://u:p%40@h:1/d?sslmode=require"),
    "kind": partial(_core.statement_kind, "select ';'; select 2"),
    "lock": partial(_core.lock_sql_try, "it's", "\xfc", True, 1),
}  # fmt: skip


@pytest.mark.parametrize("name", CALLS)
def test_no_allocation_of_a_call_may_fail_unseen(name: str) -> None:
    call = CALLS[name]
    wanted = call()
    failed = 0
    for number in range(10_000):
        answer, error = None, None
        _testcapi.set_nomemory(number, number + 1)
        try:
            answer = call()
        except BaseException as raised:
            error = raised
        finally:
            _testcapi.remove_mem_hooks()
        if error is not None:
            assert type(error) is MemoryError
            failed += 1
        elif name != "graph":
            assert answer == wanted
        if error is None and number > failed + 20:
            break  # it asks for no more memory than that
    assert failed > 0
