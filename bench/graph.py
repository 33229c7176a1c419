"""``python bench/graph.py``: files and graph against the installed Alembic's, in one process; no database.

For each shape: building the map, a full walk (``iterate_revisions("heads", "base")``) and the plan of an upgrade from empty. Times
are the least of several rounds for ours, one round for Alembic's, which needs minutes for 10,000 revisions.
"""

from __future__ import annotations

import argparse
import gc
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import project
from alembic.script import ScriptDirectory
from alembic.script.revision import Revision
from alembic.script.revision import RevisionMap as AlembicMap

from migrate_ext import RevisionMap, _core, uninstall

uninstall()  # Alembic's side is Alembic's own
assert AlembicMap.iterate_revisions.__module__ == "alembic.script.revision"

Record = tuple[str, Any, Any, Any]


def linear(count: int) -> list[Record]:
    return [(f"r{i:07x}", f"r{i - 1:07x}" if i else None, None, None) for i in range(count)]


def merges(count: int) -> list[Record]:
    """Every third revision merges the two before it, which stand on the merge before those."""
    made: list[Record] = [("m0000000", None, None, None)]
    last = "m0000000"
    for i in range(1, count - 2, 3):
        left, right, merge = (f"m{i + k:07x}" for k in range(3))
        made += [(left, last, None, None), (right, last, None, None)]
        made.append((merge, (left, right), None, None))
        last = merge
    return made


def branches(count: int) -> list[Record]:
    """Five labelled branches; every seventh revision depends on the one before it in another branch."""
    made: list[Record] = []
    for i in range(count):
        branch, step = i % 5, i // 5
        down = f"b{branch}{step - 1:07x}" if step else None
        other = f"b{(branch + 1) % 5}{step - 1:07x}" if step and i % 7 == 0 else None
        made.append((f"b{branch}{step:07x}", down, None if step else f"branch{branch}", other))
    return made


def far_dependencies(count: int) -> list[Record]:
    """One line; every revision depends on the one a thousand before it."""
    made = linear(count)
    return made[:1000] + [(*made[i][:3], made[i - 1000][0]) for i in range(1000, count)]


def many_labels(count: int) -> list[Record]:
    """One line, with a label on every twentieth revision."""
    return [
        (id_, down, None if i % 20 else f"label{i}", None)
        for i, (id_, down, _, _) in enumerate(linear(count))
    ]


def shared_dependencies(count: int) -> list[Record]:
    """`merges`, where each revision depends on one of a hundred bases."""
    bases: list[Record] = [(f"d{i:07x}", None, None, None) for i in range(100)]
    return bases + [
        (*record[:3], bases[i * 7919 % 100][0]) for i, record in enumerate(merges(count - 100))
    ]


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    gc.collect()
    begin = time.perf_counter()
    answer = work()
    return time.perf_counter() - begin, answer


def with_map(cls: Any, records: list[Record]) -> tuple[float, list[str]]:
    """Seconds of building and the two questions, and the answer of the walk."""
    found = [Revision(r[0], r[1], branch_labels=r[2], dependencies=r[3]) for r in records]

    def work() -> list[str]:
        map_ = cls(lambda: found)
        walk = list(
            map_.iterate_revisions("heads", "base", inclusive=True, assert_relative_length=False)
        )
        list(map_.iterate_revisions("heads", (), implicit_base=True))
        return [revision.revision for revision in walk]

    return timed(work)


def with_graph(records: list[Record]) -> tuple[float, list[str]]:
    def work() -> tuple[_core.Graph, list[int]]:
        graph = _core.Graph(records)
        walk = graph.iterate("heads", "base", inclusive=True, assert_relative_length=False)
        graph.iterate("heads", (), implicit_base=True)
        return graph, walk

    seconds, (graph, walk) = timed(work)
    return seconds, [graph.revision(index) for index in walk]


def scanning(count: int, rounds: int, without_alembic: bool) -> None:
    """Reading `count` revision files from a warm page cache: the scanner, and Alembic's loader."""
    with tempfile.TemporaryDirectory() as folder:
        made = project.make(Path(folder) / "project", count)
        names = sorted(path.name for path in (made / "versions").iterdir())
        ours = min(
            timed(lambda: _core.scan_files(made / "versions", names))[0] for _ in range(rounds + 1)
        )
        line = f"{f'scanning {count:,} files':36} {{:>10}} {'':>12} {ours * 1000:6.1f} ms"
        if without_alembic:
            print(line.format(""))
            return
        directory = ScriptDirectory(made / "thin", version_locations=[made / "versions"])
        theirs, _ = timed(lambda: list(directory._load_revisions()))
        print(f"{line.format(f'{theirs:8.2f} s')} {theirs / ours:8.0f}x")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--revisions", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--without-alembic", action="store_true")
    parser.add_argument("--shapes", default="", help="only those whose title has this in it")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    print(f"{arguments.revisions:,} revisions: build, full walk and plan together")
    print(f"{'':36} {'alembic':>10} {'RevisionMap':>12} {'Graph':>9} {'ratio':>9}")
    for title, make in (
        ("linear", linear),
        ("a merge every third", merges),
        ("five labelled branches, depends_on", branches),
        ("depends_on 1,000 back on its line", far_dependencies),
        ("a label on every twentieth", many_labels),
        ("shared dependencies over merges", shared_dependencies),
    ):
        if arguments.shapes not in title:
            continue
        records = make(arguments.revisions)
        graphs = [with_graph(records) for _ in range(arguments.rounds)]
        maps = [with_map(RevisionMap, records) for _ in range(arguments.rounds)]
        ours, graph = min(maps)[0], min(graphs)[0]
        line = f"{ours * 1000:9.1f} ms {graph * 1000:6.1f} ms"
        if arguments.without_alembic:
            print(f"{title:36} {'':>10} {line}")
            continue
        theirs, walk = with_map(AlembicMap, records)
        if not walk == maps[0][1] == graphs[0][1]:
            raise SystemExit(f"{title}: the walks differ")
        print(f"{title:36} {theirs:8.2f} s {line} {theirs / graph:8.0f}x")
    scanning(arguments.revisions, arguments.rounds, arguments.without_alembic)


if __name__ == "__main__":
    main()
