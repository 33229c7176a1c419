"""Calls of each public name of ``_core`` and of its types, as a table: :func:`calls_of`."""

from __future__ import annotations

import contextlib
import hashlib
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import psycopg
from hooked_arguments import Call, Errors, Node, Number, meddle, used

from migrate_ext import _core
from migrate_ext.execution import libpq

RECORDS = [("a", None, None, None)] + [
    (f"r{n}", f"r{n - 1}" if n else "a", ("l",) if n == 5 else None, ["r1"] if n == 9 else None)
    for n in range(12)
]
SCANNED = ("a", None, None, None, "a text\n\nmore")
PLAN = (
    b"migrate_ext plan 1\nkey k\nrevision "
    + b"0" * 64
    + b" r\nupgrade\nsql 3\n\tSELECT 1\nautocommit\nsql 4\n\tX\ntransaction\ndowngrade\n"
)
PLAN += b"end " + hashlib.sha256(PLAN).hexdigest().encode() + b"\n"
SOURCE = b'"""doc"""\nrevision = "a"\ndown_revision = ("b", "c")\n'

Calls = Callable[[], Iterable[Call]]


def call(function: Callable[..., object], *args: object, **kwargs: object) -> Call:
    return function, args, kwargs


def folder() -> Path:
    """In the working folder, which is the caller's to remove."""
    path = Path(tempfile.mkdtemp(dir="."))
    for name in "abc":
        (path / f"{name}.py").write_bytes(SOURCE)
    return path


LIBRARY = libpq.find() or "/nosuch"
GRAPH = _core.Graph(RECORDS, Errors())
LAST = len(RECORDS) - 1


def of_graph() -> dict[str, Calls]:
    def by_index(name: str) -> Calls:
        return lambda: [call(getattr(GRAPH, name), 5), call(getattr(GRAPH, name), 99)]

    def read(name: str) -> Calls:
        return lambda: [call(getattr, GRAPH, name)]

    records = [SCANNED, *(r + ("doc",) for r in RECORDS[1:])]
    made: dict[str, Calls] = {
        "": lambda: [
            call(lambda *a, **k: _core.Graph(*a, **k).heads, RECORDS, Errors()),
            call(lambda **k: _core.Graph(**k).heads, records=RECORDS, errors=Errors()),
            call(_core.Graph, [("a", "b", None, None), ("b", "a", None, None)], Errors()),
            call(_core.Graph, [("a", "nosuch", None, None)], Errors()),
            call(_core.Graph, [("a", None, None)], Errors()),
        ],
        "__len__": lambda: [call(len, GRAPH)],
        "labelled": lambda: [call(GRAPH.labelled)],
        "describe": lambda: [
            call(
                GRAPH.describe,
                indexes=[LAST, 6, 0],
                records=records,
                current=("r3", "r4"),
                branches=True,
                doc=True,
                parents=True,
                indicators=False,
            ),
            call(GRAPH.describe, [], []),
        ],
        "attach": lambda: [
            call(lambda nodes: [*GRAPH.attach(nodes)], [Node() for _ in RECORDS]),
            call(GRAPH.attach, []),
        ],
        "lookup": lambda: [call(GRAPH.lookup, "r2"), call(GRAPH.lookup, "nosuch")],
        "get_revisions": lambda: [
            call(GRAPH.get_revisions, ids)
            for ids in ("heads", ["r1", "r2"], {"r1"}, ("nosuch",), 5, ("l@head",))
        ],
        "get_revision": lambda: [call(GRAPH.get_revision, "r"), call(GRAPH.get_revision, "r3")],
        "all_current": lambda: [call(GRAPH.all_current, ["r3"]), call(GRAPH.all_current, 5)],
        "iterate": lambda: [
            call(GRAPH.iterate, "heads", "base"),
            call(GRAPH.iterate, upper=["r4"], lower=["r1"], inclusive=True, implicit_base=False),
            call(GRAPH.iterate, upper="r1", lower="r4", select_for_downgrade=True),
            call(GRAPH.iterate, "nosuch", "base"),
        ],
        "stamp": lambda: [call(GRAPH.stamp, ["r7"], ("r2",)), call(GRAPH.stamp, "nosuch", ())],
        "version_operations": lambda: [
            call(GRAPH.version_operations, ["r1"], [(3, True), (["r2"], ("r3",), True, False)]),
            call(GRAPH.version_operations, (), [(3, False)]),
        ],
        "version_step": lambda: [
            call(GRAPH.version_step, ["r1"], 3, True),
            call(GRAPH.version_step, ("r2",), 3, False),
            call(GRAPH.version_step, ("nosuch",), 3, False),
        ],
    }
    made.update({name: read(name) for name in ("heads", "real_heads", "bases", "real_bases")})
    indexed = "revision down_revisions nextrev all_nextrev labels"
    indexed += " resolved_dependencies normalized_dependencies"
    made.update({name: by_index(name) for name in indexed.split()})
    return {f"Graph.{name}".rstrip("."): calls for name, calls in made.items()}


def of_functions() -> dict[str, Calls]:
    names, answers = tuple(f"f{n}.py" for n in range(9)), [SCANNED] * 8 + ["a reason"]
    return {
        "counters": lambda: [call(lambda: [*_core.counters()])],
        "scan_source": lambda: [call(_core.scan_source, SOURCE), call(_core.scan_source, b"x(")],
        "scan_files": lambda: [
            call(_core.scan_files, folder(), ["a.py", Path("b.py"), "nosuch.py"]),
            call(_core.scan_files, "/nosuch", ("a.py",)),
        ],
        "scan_folder": lambda: [
            call(_core.scan_folder, folder()),
            call(_core.scan_folder, Path("/nosuch")),
            call(_core.scan_folder, "/nosuch"),
        ],
        "new_scripts": lambda: [
            call(
                lambda *a: [vars(s) if s else s for s in _core.new_scripts(*a)],
                *(Node, "x/", names, answers, "@"),
            )
        ]
        + [
            call(_core.new_scripts, cls, "x/", ("a.py",), [SCANNED], "@")
            for cls in (_core.Session, _core.Graph, type(None), type(call), type(sys.flags))
        ],
        "parse_url": lambda: [
            call(_core.parse_url, "postgresql://u:p%40@h:1/d?sslmode=require"),
            call(_core.parse_url, "postgresql://h:x"),
        ],
        "redact_url": lambda: [call(_core.redact_url, "postgresql://u:p@h/d")],
        "statement_kind": lambda: [
            call(_core.statement_kind, sql="SELECT ';'", standard_conforming_strings=True)
        ],
        "transaction_end": lambda: [
            call(_core.transaction_end, sql="SELECT ';'; COMMIT", standard_conforming_strings=True)
        ],
        "read_plan": lambda: [call(_core.read_plan, PLAN), call(_core.read_plan, PLAN[:-1])],
        "hash_files": lambda: [call(_core.hash_files, [folder() / "a.py", "/nosuch"])],
        "lock_sql_try": lambda: [
            call(
                _core.lock_sql_try, table="it's", schema="\xfc", for_session=True, backend_pid=1
            )
        ],
        "is_harmless_option": lambda: [call(_core.is_harmless_option, "host", "h")],
        "lock_sql_holders": lambda: [call(_core.lock_sql_holders, 5)],
        "lock_sql_invalid": lambda: [call(_core.lock_sql_invalid, "a b")],
        "load_libpq": lambda: [
            call(_core.load_libpq, Path(LIBRARY)),
            call(_core.load_libpq, "/nosuch"),
        ],
    }  # fmt: skip


class Owner:
    """Of a connection that is lent."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection

    @property
    def pgconn_ptr(self) -> int | None:
        meddle()
        pointer: int | None = self.connection.pgconn.pgconn_ptr
        return pointer


def of_sessions(url: str) -> dict[str, Calls]:
    """Each twice: on a session that is ours, and on one that a driver lends; `used` has it."""

    @contextlib.contextmanager
    def opened(lent: bool) -> Iterator[_core.Session]:
        if lent:
            with contextlib.closing(psycopg.connect(url)) as connection:
                connection.execute("SELECT 1")
                session = _core.Session.borrow(*_lent(connection), Owner(connection))
                used[:] = [session]
                yield session
                session.close()
        else:
            session = _core.Session.connect(_core.parse_url(url), libpq.find())
            session.begin()
            used[:] = [session]
            yield session
            session.close()

    def method(name: str, *args: Any, before: str = "", **kwargs: Any) -> Calls:
        """before: the method that is given a statement first; "queue": submit, without sending."""

        def calls() -> Iterator[Call]:
            for lent in (False, True):
                with opened(lent) as session:
                    if before == "queue":
                        session.submit(NOTICE, None, False)
                    elif before:
                        getattr(session, before)(NOTICE)
                    yield call(getattr(session, name), *args, **kwargs)

        return calls

    def some(answer: Any) -> object:
        """Of what is answered when it has come, or what differs between sessions."""
        return bool(answer) if isinstance(answer, int) else type(answer).__name__

    def state(name: str) -> Calls:
        def calls() -> Iterator[Call]:
            for lent in (False, True):
                with opened(lent) as session:
                    session.submit("SELECT 1", None, False)
                    yield call(lambda s=session: some(getattr(s, name)))

        return calls

    def connect() -> Iterator[Call]:
        params = _core.parse_url(url)
        yield call(lambda **k: _core.Session.connect(**k).closed, params=params, library=LIBRARY)
        yield call(_core.Session.connect, {"host": "/nosuch"}, "/nosuch")

    def borrow() -> Iterator[Call]:
        with psycopg.connect(url) as connection:
            pointer, library = _lent(connection)
            given = {"library": Path(library), "owner": Owner(connection)}
            pointer = Number(pointer)
            yield call(lambda **k: _core.Session.borrow(**k).closed, pgconn_ptr=pointer, **given)
            yield call(_core.Session.borrow, Number(1), Path(library), Owner(connection))

    def submit() -> Iterator[Call]:
        given = {"sql": "SELECT 1", "send": True, "prompt": True, "changes_nothing": False}
        for function, args, kwargs in method("submit", **given)():
            yield call(lambda *a, f=function, **k: some(f(*a, **k)), *args, **kwargs)

    def at_once(name: str) -> Callable[[], Iterator[Call]]:
        def calls() -> Iterator[Call]:
            for function, _, _ in method(name, before="queue")():
                yield call(lambda f=function: some(f()))

        return calls

    def run_batch() -> Iterator[Call]:
        for statements in (["SELECT 1", "CREATE TABLE t ()", "SELECT nosuch"], ("SELECT 1",)):
            yield from method("run_batch", statements)()

    table = {"table": "versions", "schema": "public"}
    new_table = {"table": "v", "schema": None, "primary_key": True}
    names: dict[str, Calls] = {
        "connect": connect,
        "borrow": borrow,
        "run_batch": run_batch,
        "query": method("query", "SELECT 1, NULL, 'x' UNION ALL SELECT 2, 'y', 'z'"),
        "submit": submit,
        "drain": method("drain", True, before="submit"),
        "notices": method("notices", before="query"),
        "wait": method("wait", before="queue"),
        "poll": at_once("poll"),
        "send_rest": at_once("send_rest"),
        "parameter": method("parameter", "client_encoding"),
        "version_heads": method("version_heads", **table),
        "version_create": method("version_create", **new_table),
        "version_create_sql": method("version_create_sql", **new_table),
        "version_purge": method("version_purge", **table),
        "version_sql": method("version_sql", operation=("update", "a", "b"), **table),
        "version_apply": method(
            "version_apply", operations=[("insert", "c"), ("delete", "a")], **table
        ),
    }
    for name in ("begin", "commit", "rollback", "cancel"):
        names[name] = method(name)
    for name in ("close", "make_room", "abandon"):
        names[name] = method(name, before="submit")
    for name in "in_transaction closed pending sent confirmed full writing".split():
        names[name] = state(name)
    for name in ("library_version", "server_version", "backend_pid", "socket"):
        names[name] = state(name)
    return {f"Session.{name}": calls for name, calls in names.items()}


NOTICE = "DO $$ BEGIN RAISE NOTICE 'n'; END $$"


def _lent(connection: object) -> tuple[int, str]:
    found = libpq.of_driver(connection)
    assert found is not None
    return found


def calls_of(url: str = "") -> dict[str, Calls]:
    return {**of_functions(), **of_graph(), **of_sessions(url)}
