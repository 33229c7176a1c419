"""A call into ``_core`` with Python code in the middle of it: ``reentrant_calls.py NAME [URL]``.

That code (hooked_arguments.py) looks at all objects there are, makes the same call again on the same object, empties
the lists and the keyword arguments that the call was given, closes its session. core_calls.py has the calls.
"""

from __future__ import annotations

import gc
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import hooked_arguments as hooks
from core_calls import call, calls_of
from hooked_arguments import Call

MOMENTS = 30


def run(name: str, folder: Path, url: str = "") -> None:
    """What tests do: make a call of the table in a process of its own, which says what it does."""
    done = subprocess.run(
        [sys.executable, "-X", "dev", __file__, name, url],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=folder,
    )
    said = [line for line in done.stderr.splitlines() if not line.startswith(f"{name}: ")]
    assert (done.returncode, done.stdout, said) == (0, "done\n", []), done.stderr[-3000:]


def main(name: str, url: str = "") -> None:
    make = calls_of(url)[name]
    may_differ = name.startswith("Session.")  # where it was called before
    expected = [hooks.outcome(given, False) for given in make()]

    def meddled(odd: bool, doing: Callable[[], object]) -> int:
        """Make the calls; returns how many moments there were in that which had the most."""
        most = 0
        print(f"{name}: {doing.__name__}, {odd=}, {hooks.only=}", file=sys.stderr)
        for given, wanted in zip(make(), expected, strict=True):

            def again(given: Call = given) -> None:
                given[0](*given[1], **given[2])

            gc.collect()
            gc.freeze()  # what is here already is complete
            answer = hooks.outcome(given, odd, again if doing is call else doing)
            gc.unfreeze()
            most = max(most, hooks.moments)
            if doing is hooks.look or (doing is call and not may_differ):
                assert answer == wanted, (answer, wanted)
        return most

    for odd in (False, True):
        for doing in (hooks.look, call, hooks.change, hooks.close):
            hooks.only = None
            most = meddled(odd, doing)
            if doing is hooks.look and not odd and not may_differ:
                for allocations in (2, 3, 1):
                    hooks.threshold = allocations
                    meddled(odd, doing)
            if doing is hooks.change:
                for moment in range(1, min(most, MOMENTS) + 1):
                    hooks.only = moment
                    meddled(odd, doing)
    assert [hooks.outcome(given, False) for given in make()] == expected
    hooks.used.clear()
    print("done")


if __name__ == "__main__":
    main(*sys.argv[1:])
