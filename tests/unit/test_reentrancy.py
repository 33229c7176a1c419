"""Python code that runs in the middle of a call into C finds no half-made object, and takes none away.

tests/support/core_calls.py has the calls, hooked_arguments.py the code that runs meanwhile; those of a Session are in tests/pg.
"""

from __future__ import annotations

import gc
import subprocess
import sys
from pathlib import Path

import pytest
import reentrant_calls
from core_calls import calls_of

from migrate_ext import _core

CALLS = calls_of()


def public_names() -> set[str]:
    """``function``, ``Type`` where that can be called, and ``Type.attribute`` of all that _core has."""
    names = {"Graph.__len__"}
    for name, value in vars(_core).items():
        if isinstance(value, type):
            names.update(f"{name}.{n}" for n in vars(value) if not n.startswith("_"))
        if callable(value) and not name.startswith("_"):
            names.add(name)
    # made by connect() and borrow(), and by a graph
    return names - {"Session", "VersionOperations"}


def test_the_table_of_calls_has_every_public_name_of_the_core() -> None:
    assert CALLS.keys() == public_names()


@pytest.mark.parametrize("name", [n for n in CALLS if not n.startswith("Session.")])
def test_python_code_in_the_middle_of_a_call_finds_and_leaves_it_whole(
    name: str, tmp_path: Path
) -> None:
    reentrant_calls.run(name, tmp_path)


def run(code: str) -> str:
    """What a program prints that has the graph and the calls of tests/support/core_calls.py."""
    prelude = f"import gc, sys\nsys.path.append({str(Path(reentrant_calls.__file__).parent)!r})\n"
    prelude += "from core_calls import *\nfrom hooked_arguments import ALLOWED, outcome\n"
    prelude += "from migrate_ext import _core, errors\n"
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-c", prelude + code],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


THREADS = """
import threading
gc.set_threshold(1)
asked = [call for make in of_graph().values() for call in make()]
expected = [outcome(call, False) for call in asked]
gc.set_threshold(1)
wrong = []
def ask():
    for _ in range(100):
        for (function, args, kwargs), answer in zip(asked, expected):
            try:
                found = function(*args, **kwargs)
            except ALLOWED as error:
                found = (type(error), [str(arg) for arg in error.args])
            if found != answer:
                wrong.append((found, answer))
threads = [threading.Thread(target=ask) for _ in range(4)]
[t.start() for t in threads]
[t.join() for t in threads]
print(len(asked) > 40, wrong)
"""


def test_threads_that_ask_one_graph_get_their_own_answers() -> None:
    assert run(THREADS) == "True []\n"


@pytest.mark.parametrize("name", ["Session", "Graph"])
def test_scripts_are_made_of_classes_that_can_be_made(name: str) -> None:
    code = f"""
for cls in (_core.{name}, type(None), type(lambda: 1), type(sys.flags)):
    try:
        _core.new_scripts(cls, "x/", ("a.py",), [SCANNED], "@")
    except (TypeError, AttributeError) as error:
        continue
    print("made", cls)
"""
    assert run(code) == ""


# The collector clears the objects of a cycle in their order: when it comes to the dict, the graph
# was cleared if it can be, and is in gc.get_objects() again. `last` was frozen: it does not belong
# to what is collected, so its __del__ runs then, not before.
CLEARED = """
class Mine:
    pass
for name, value in vars(errors).items():
    setattr(Mine, name, value)
class Last:
    def __del__(self):
        for found in gc.get_objects():
            if type(found) is _core.Graph and found is not GRAPH:
                assert found.version_step(["r1"], 3, True) == [("update", "r1", "r2")]
                try:
                    found.iterate("nosuch", "base")
                except errors.RevisionError:
                    used.append(found.heads)
used = []
for _ in range(20):
    last = Last()
    gc.freeze()
    mine = Mine()
    graph = _core.Graph(RECORDS, mine)
    mine.cycle = {"last": last, "graph": graph}
    mine.cycle["cycle"] = mine.cycle
    del last, mine, graph
    gc.collect()
print(used == [("r11",)] * 20)
"""


def test_a_graph_is_usable_until_the_collector_has_freed_it() -> None:
    assert run(CLEARED) == "True\n"


IN_INTERPRETERS = """
import sys
try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters

CODE = '''
import sys
sys.path[:0] = {path!r}
from migrate_ext import _core
graph = _core.Graph([("a", None, None, None), ("b", "a", None, None)])
assert graph.heads == ("b",)
assert _core.counters()["graph_builds"] == 1
'''.format(path=sys.path)

def shared():
    try:
        return interpreters.create("legacy")
    except TypeError:  # Python 3.12
        return interpreters.create(isolated=False)

graph = _core.Graph(RECORDS)
made = [shared() for _ in range(3)]
for interpreter in made:
    assert interpreters.run_string(interpreter, CODE) is None
for interpreter in made:
    interpreters.destroy(interpreter)
print(graph.heads, _core.counters()["graph_builds"])
alone = interpreters.create()  # with a GIL of its own
try:
    failed = interpreters.run_string(alone, CODE)
except Exception as error:
    failed = error
assert "does not support loading in subinterpreters" in str(failed), failed
interpreters.destroy(alone)
"""


@pytest.mark.skipif(sys.version_info < (3, 12), reason="interpreters have no GIL of their own")
def test_each_interpreter_that_shares_the_gil_has_a_core_of_its_own() -> None:
    assert run(IN_INTERPRETERS) == "('r11',) 2\n"


def test_nothing_of_the_collector_is_left_changed() -> None:
    assert gc.isenabled()
