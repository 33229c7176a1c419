"""Python code that runs in the middle of a call into C finds no half-made object, and takes none away.

Before Python 3.12 an allocation may start the collector, whose callbacks are any code: here they ask the same objects
again, walk all objects there are, and change what is being read.
"""

from __future__ import annotations

import gc
import subprocess
import sys
import textwrap

import pytest

PRELUDE = """
import gc, sys
from migrate_ext import _core
records = [("a", None, None, None)] + [(f"r{n}", "a" if n == 0 else f"r{n-1}", ("l",) if n == 5 else None, None) for n in range(40)]
scanned = ("a", None, None, None, "doc")
names = tuple(f"f{n}.py" for n in range(50))

class Mine:
    pass

def questions(graph):
    yield lambda: graph.heads
    yield lambda: graph.version_step(["r1"], graph.lookup("r2"), True)
    yield lambda: graph.version_step(["r2"], graph.lookup("r2"), False)
    yield lambda: graph.version_operations(["r1"], [(graph.lookup("r2"), True)])
    yield lambda: graph.stamp("r7", "r2")
    yield lambda: graph.iterate("heads", "base")
    yield lambda: graph.get_revisions(("r1", "r2"))
    yield lambda: graph.all_current("r3")
    yield lambda: graph.labels(graph.lookup("r6"))
    yield lambda: graph.labelled()
    yield lambda: graph.describe([0, 1], [scanned] * 41)
    yield lambda: graph.attach([Mine() for _ in range(41)])
    yield lambda: (graph.real_heads, graph.bases, graph.real_bases, len(graph))

def others():
    yield lambda: _core.Graph(records)
    yield lambda: _core.Graph([Odd(r) for r in records])
    yield lambda: _core.new_scripts(Mine, "x/", names, [scanned] * 50, "@")
    yield lambda: _core.scan_source(b"revision = 'a'\\ndown_revision = ('b', 'c')\\n")
    yield lambda: _core.statement_kind("select 1")

class Odd(tuple):
    def __iter__(self):
        meddle()
        return super().__iter__()

graph = _core.Graph(records)
depth = 0

def meddle(*_):
    global depth
    if depth > 1:
        return
    depth += 1
    try:
        for found in gc.get_objects():
            if type(found) is _core.Graph:
                len(found), found.heads
                for ask in questions(found):
                    ask()
            elif type(found) is list:
                found[-1:], found[:1]
            elif type(found) is tuple:
                found[:2]
    finally:
        depth -= 1
"""

CALLBACKS = """
gc.callbacks.append(meddle)
gc.set_threshold(1)
for _ in range(3):
    for ask in [*questions(graph), *others()]:
        first = ask()
gc.callbacks.clear()
gc.set_threshold(700)
expected = [repr(ask()) for ask in questions(graph)]
print(len(expected))
"""

THREADS = """
import threading
gc.set_threshold(1)
wrong = []
expected = graph.version_step(["r1"], graph.lookup("r2"), True)
def run():
    for _ in range(300):
        for ask in questions(graph):
            ask()
        if graph.version_step(["r1"], graph.lookup("r2"), True) != expected:
            wrong.append(1)
threads = [threading.Thread(target=run) for _ in range(4)]
[t.start() for t in threads]
[t.join() for t in threads]
print(len(wrong))
"""


def run(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-c", PRELUDE + textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_callbacks_of_the_collector_may_ask_the_graph_that_is_answering() -> None:
    assert run(CALLBACKS) == "13\n"


def test_threads_that_ask_one_graph_get_their_own_answers() -> None:
    assert run(THREADS) == "0\n"


@pytest.mark.parametrize("name", ["Session", "Graph"])
def test_scripts_are_made_of_classes_that_can_be_made(name: str) -> None:
    code = f"""
    for cls in (_core.{name}, type(None), type(lambda: 1), type(sys.flags)):
        try:
            _core.new_scripts(cls, "x/", ("a.py",), [scanned], "@")
        except (TypeError, AttributeError) as error:
            continue
        print("made", cls)
    """
    assert run(code) == ""


CLEARED = """
import weakref
class Holder:
    pass
def use(_):
    for found in gc.get_objects():
        if type(found) is _core.Graph:
            for ask in questions(found):
                ask()
            try:
                found.iterate("nope", "base")
            except Exception:
                pass
for _ in range(20):
    holder = Holder()
    holder.errors = __import__("migrate_ext.errors").errors
    class Errors:
        pass
    errors = Errors()
    errors.__dict__.update(vars(holder.errors))
    made = _core.Graph(records, errors)
    errors.graph = made
    kept = weakref.ref(errors, use)
    del made, errors, holder
    gc.collect()
print("alive")
"""


def test_a_graph_that_the_collector_takes_away_is_whole_to_its_end() -> None:
    assert run(CLEARED) == "alive\n"


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

graph = _core.Graph(records)
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
    assert run(IN_INTERPRETERS) == "('r39',) 2\n"


def test_nothing_of_the_collector_is_left_changed() -> None:
    assert gc.isenabled()
