"""A whole comparison: the sides are run in turn, step by step, and compared; in doubt Alembic runs again beside itself."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack, closing
from typing import NamedTuple

from sqlalchemy.engine import URL

from migrate_ext.testing.databases import Databases
from migrate_ext.verify.compare import Verdict, compare
from migrate_ext.verify.places import Cannot, Project
from migrate_ext.verify.sides import DROP_IN, OURS, STOCK, Outcome, Side, Step, add, steps

_AGAIN = 2  # runs of Alembic beside itself, at most
# What the runtime cannot be active without: graphs of revisions built, or SQL sent by the executor.
_ACTIVE = ("graph_builds", "statements", "plain_statements")


class Compared(NamedTuple):
    """One step: Alembic's outcome, and by way in the runtime's, with the verdict."""

    step: Step
    stock: Outcome
    ways: dict[str, tuple[Outcome, Verdict]]


class Result(NamedTuple):
    """A comparison. again: how often Alembic ran beside itself, to tell what is never the same."""

    compared: list[Compared]
    again: int
    counters: dict[str, dict[str, object]]

    @property
    def code(self) -> int:
        """0: the same; 1: different; 2: the same, but Alembic itself cannot run the history."""
        if self.first_difference is not None:
            return 1
        return 2 if self.failed is not None else 0

    @property
    def first_difference(self) -> tuple[Compared, str] | None:
        """The first step that differs, and the way in."""
        for compared in self.compared:
            for way, (_, verdict) in compared.ways.items():
                if verdict.what:
                    return compared, way
        return None

    @property
    def failed(self) -> Compared | None:
        """The first ``upgrade heads``, where Alembic fails at it."""
        upgrade = next(x for x in self.compared if x.step.words == ("upgrade", "heads"))
        return upgrade if upgrade.stock.code else None


def verify(
    project: Project,
    databases: Databases,
    *,
    start: str | None = None,
    prepare: Callable[[URL], object] = lambda url: None,
    say: Callable[[str], object] = lambda text: None,
) -> Result:
    """Run the project's history on each side, and compare.

    start: the revision to which Alembic brings each database before. prepare: called with the URL of each scratch
    database while it is empty. say: is told how it goes. Raises :class:`Cannot`.
    """
    todo = steps(start)

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
        # Bytecode of the project's files is written now, and charged to none.
        sides[STOCK].run(Step(("heads",), looks=False))
        outcomes = []
        for step in todo:
            done = {program: side.run(step) for program, side in sides.items()}
            outcomes.append(done)
            times = ", ".join(f"{program} {x.seconds:.2f} s" for program, x in done.items())
            say(f"{step}: {times}".replace(f"{STOCK} ", "Alembic alone ", 1))
        counters = {way: add(x[way].counters for x in outcomes) for way in programs}
        _check_who_ran(counters)
        again: list[list[Outcome]] = []
        while True:
            compared = [
                _compare(step, done, [run[at] for run in again])
                for at, (step, done) in enumerate(zip(todo, outcomes, strict=True))
            ]
            result = Result(compared, len(again), counters)
            if result.first_difference is None or len(again) == _AGAIN:
                return result
            different, way = result.first_difference
            if not different.ways[way][1].in_doubt:
                return result
            say(f"{different.step}: not the same; Alembic runs again, to tell what never is")
            side = begin(STOCK, stack, seed=len(again) + 1)
            again.append([side.run(step) for step in todo])


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
    """The end of what a command showed."""
    return "\n".join((outcome.stdout + outcome.stderr).strip().splitlines()[-8:])


def _check_who_ran(counters: dict[str, dict[str, object]]) -> None:
    """No comparison may be one of Alembic with Alembic, or of ours with ours."""
    for way, counted in counters.items():
        active = any(counted.get(name) for name in _ACTIVE)
        if active and way == STOCK:
            raise Cannot("the runtime was active although MIGRATE_EXT=0 switches it off")
        if not active and way != STOCK:
            raise Cannot(f"the runtime did nothing under {way}; 'migrate-ext doctor' says why")
