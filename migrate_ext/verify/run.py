"""A whole comparison: runs the sides in turn, step by step, and compares them. If they differ, it runs Alembic again,
to find out what differs between Alembic's own runs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from typing import Any, NamedTuple

from sqlalchemy.engine import URL

from migrate_ext.testing.databases import Databases
from migrate_ext.verify.compare import Verdict, compare
from migrate_ext.verify.places import Cannot, Project
from migrate_ext.verify.sides import DROP_IN, OURS, STOCK, Outcome, Side, Step, add, steps

# Counters of which at least one is not zero if the runtime is active: graphs built, or SQL sent by the executor.
_ACTIVE = ("graph_builds", "statements", "plain_statements")


class Compared(NamedTuple):
    """One step: Alembic's outcome; and for each program with the runtime its outcome and the verdict."""

    step: Step
    stock: Outcome
    ways: dict[str, tuple[Outcome, Verdict]]


class Result(NamedTuple):
    """A comparison.

    again: the number of further runs of Alembic. shared: what the history changed in objects that all databases of the
    server share.
    """

    compared: list[Compared]
    again: int
    counters: dict[str, dict[str, Any]]
    shared: tuple[str, ...] = ()

    @property
    def code(self) -> int:
        """0: the same; 1: different; 2: nothing is proven.

        2: Alembic itself cannot run the history, or the other sides may be different because of what it has changed for
        all databases of the server.
        """
        if self.first_difference is not None:
            return 2 if self.shared else 1
        return 2 if self.failed is not None else 0

    @property
    def first_difference(self) -> tuple[Compared, str] | None:
        """The first step that differs, and the program with which it does."""
        for compared in self.compared:
            for way, (_, verdict) in compared.ways.items():
                if verdict.what:
                    return compared, way
        return None

    @property
    def failed(self) -> Compared | None:
        """The first ``upgrade heads`` at which Alembic fails."""
        upgrades = (x for x in self.compared if x.step.words == ("upgrade", "heads"))
        return next((x for x in upgrades if x.stock.code), None)


def verify(
    project: Project,
    databases: Databases,
    *,
    start: str | None = None,
    history: Sequence[Step] | None = None,
    again: int = 2,
    prepare: Callable[[URL], object] = lambda url: None,
    say: Callable[[str], object] = lambda text: None,
) -> Result:
    """Run the project's history on each side, and compare.

    start: the revision to which Alembic upgrades each database first. history: the steps, instead of the usual ones.
    again: the maximum number of further runs of Alembic. prepare: called with the URL of each scratch database while it
    is empty. say: called with messages about the progress. Raises :class:`Cannot`.
    """
    todo = steps(start) if history is None else list(history)

    def begin(program: str, stack: ExitStack, seed: int = 0) -> Side:
        side = stack.enter_context(closing(Side(program, project, databases, seed)))
        for name in side.names:
            prepare(databases.url(name))
        if start is not None:
            _bring(side, start)
        return side

    with ExitStack() as stack:
        programs = (STOCK, DROP_IN, *([OURS] if project.thin else []))
        sides = {program: begin(program, stack) for program in programs}
        before = _shared(databases)
        # Writes the bytecode of the project's files before any time is measured.
        if history is None:
            sides[STOCK].run(Step(("heads",), looks=False))
        outcomes = []
        for step in todo:
            done = {program: side.run(step) for program, side in sides.items()}
            outcomes.append(done)
            alone, *here = (f"{x.seconds:.2f} s" for x in done.values())
            say(f"{step}: Alembic alone {alone}, here {' and '.join(here)}")
        counters = {way: add(x[way].counters for x in outcomes) for way in programs}
        _check_who_ran(counters)
        shared = tuple(sorted(before ^ _shared(databases)))
        others: list[list[Outcome]] = []
        while True:
            compared = [
                _compare(step, done, [run[at] for run in others])
                for at, (step, done) in enumerate(zip(todo, outcomes, strict=True))
            ]
            result = Result(compared, len(others), counters, shared)
            if result.first_difference is None or len(others) == again:
                return result
            different, way = result.first_difference
            if not different.ways[way][1].in_doubt:
                return result
            say(f"{different.step}: different; running Alembic again, to compare its own runs")
            side = begin(STOCK, stack, seed=len(others) + 1)
            others.append([side.run(step) for step in todo])


def _shared(databases: Databases) -> set[str]:
    """Objects that all databases of a server share, and that a history may create."""
    found = databases.query(
        "SELECT 'role ' || rolname FROM pg_roles UNION ALL SELECT 'tablespace ' || spcname FROM pg_tablespace"
    )
    return {str(name) for (name,) in found}


def _compare(step: Step, done: dict[str, Outcome], again: list[Outcome]) -> Compared:
    stock = done[STOCK]
    ways = {
        program: (outcome, compare(step, program, stock, outcome, again))
        for program, outcome in done.items()
        if program != STOCK
    }
    return Compared(step, stock, ways)


def _bring(side: Side, start: str) -> None:
    outcome = side.run(Step(("upgrade", start), looks=False), program=STOCK)
    if outcome.code:
        raise Cannot(
            f"Alembic cannot bring an empty database to {start}; 'upgrade {start}' ends with:\n"
            f"{tail(outcome)}"
        )


def tail(outcome: Outcome) -> str:
    """The last lines of a command's output."""
    return "\n".join((outcome.stdout + outcome.stderr).strip().splitlines()[-8:])


def _check_who_ran(counters: dict[str, dict[str, Any]]) -> None:
    """Check that the runtime was active on its sides, and on no other. Raises :class:`Cannot`."""
    for way, counted in counters.items():
        active = any(counted.get(name) for name in _ACTIVE)
        if active and way == STOCK:
            raise Cannot("the runtime was active although MIGRATE_EXT=0 switches it off")
        if not active and way != STOCK:
            raise Cannot(f"the runtime did nothing under {way}; 'migrate-ext doctor' says why")
