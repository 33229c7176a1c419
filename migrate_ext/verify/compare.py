"""Comparing what the sides showed and left. Nothing here runs anything.

In doubt two outcomes are different. What may differ is listed (:mod:`migrate_ext.verify.texts`); besides, a value
that differs between runs of Alembic itself, a time or a random key, says nothing: ``again`` are such further runs.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from migrate_ext.verify import texts
from migrate_ext.verify.sides import OURS, Outcome, Step
from migrate_ext.verify.snapshot import Rows, Snapshot


class Verdict(NamedTuple):
    """Of one step and one way in: what differs, and how, both "" where nothing does. notes: what was not comparable."""

    what: str = ""
    how: str = ""
    notes: tuple[str, ...] = ()

    @property
    def in_doubt(self) -> bool:
        """Whether another run of Alembic may show that this differs in any case."""
        return self.what in ("stdout", "stderr", "catalogue", "rows")


def compare(
    step: Step, program: str, stock: Outcome, ours: Outcome, again: Sequence[Outcome] = ()
) -> Verdict:
    """Compare one step's outcomes, `ours` by way of `program`."""
    if stock.code != ours.code:
        told = texts.excerpt(*(texts.frames(x.stdout + x.stderr) for x in (stock, ours)))
        return Verdict(
            "exit code", f"Alembic exits with {stock.code}, migrate_ext with {ours.code}\n{told}"
        )
    if program == OURS and _TRACEBACK in stock.stderr:
        how = _error_told_otherwise(stock.stderr, ours.stderr)
        if how:
            return Verdict("error", how)
        stock = stock._replace(stderr=_before(stock.stderr, _TRACEBACK))
        ours = ours._replace(stderr=_before(ours.stderr, _FAILED))
    notes = []
    for what, read in _texts(step):
        before, after, *rest = map(read, (stock, ours, *again))
        how = texts.differ(before, after, rest)
        if how:
            return Verdict(what, how)
        if before != after:
            notes.append(f"{what}: parts that differ between two runs of Alembic itself")
    for number, (one, other) in enumerate(zip(stock.databases, ours.databases, strict=True)):
        verdict = _compare_databases(one, other, [run.databases[number] for run in again])
        if verdict.what:
            return verdict
        notes += verdict.notes
    return Verdict(notes=tuple(notes))


def _texts(step: Step) -> list[tuple[str, Callable[[Outcome], str]]]:
    return [
        ("stdout", lambda outcome: texts.stdout(step.words, outcome.stdout)),
        ("stderr", lambda outcome: texts.stderr(outcome.stderr)),
    ]


def _compare_databases(stock: Snapshot, ours: Snapshot, again: Sequence[Snapshot]) -> Verdict:
    notes = []
    before, after, *rest = ("\n".join(x.lines) + "\n" for x in (stock, ours, *again))
    if how := texts.differ(before, after, rest):
        return Verdict("catalogue", how)
    if before != after:
        notes.append("catalogue: parts that differ between two runs of Alembic itself")
    # The catalogues have the same tables.
    for table, rows in stock.tables.items():
        others = [x.tables[table] for x in again if table in x.tables]
        columns = _columns_that_differ(rows, ours.tables[table])
        excused = {x for other in others for x in _columns_that_differ(rows, other)}
        if columns - excused:
            return Verdict("rows", _rows_text(table, rows, ours.tables[table], columns - excused))
        if rows.unreadable:
            notes.append(f"{table}: its rows cannot be read: {rows.unreadable}")
        if columns:
            named = ", ".join(sorted(columns - {_WHOLE})) or "rows"
            notes.append(f"{table}: {named}: different in two runs of Alembic itself")
    return Verdict(notes=tuple(notes))


_COUNT, _WHOLE = "number of rows", "*"


def _columns_that_differ(rows: Rows, others: Rows) -> set[str]:
    found = {name for name, value in rows.columns.items() if others.columns.get(name) != value}
    if (rows.number, rows.unreadable) != (others.number, others.unreadable):
        found.add(_COUNT)
    return found


def _rows_text(table: str, stock: Rows, ours: Rows, columns: set[str]) -> str:
    for rows, other in ((stock, "Alembic"), (ours, "migrate_ext")):
        if rows.unreadable:
            return f"{table}: the rows that {other} left cannot be read: {rows.unreadable}"
    if stock.number != ours.number:
        return f"{table}: {stock.number} rows by Alembic, {ours.number} by migrate_ext"
    named = ", ".join(sorted(columns - {_WHOLE})) or "which values stand in one row"
    return f"{table}: {stock.number} rows by both; different: {named}"


# -------------------------------------------------------------------------------------------------
# Failures: Alembic's traceback, and the few lines of migrate-ext (docs/differences.md)

_TRACEBACK, _FAILED = "Traceback (most recent call last)", "FAILED: "
_SUGGESTION = re.compile(r"\. Did you mean: .*\?$")  # Python's, not the error's
_RAISED = re.compile(r"^([\w.]+)(?:: (?:\([\w.]+\) )?(.*))?$")


def _before(text: str, mark: str) -> str:
    """`text` up to the line that has `mark` in it."""
    return text.partition(mark)[0].rpartition("\n")[0] + "\n" if mark in text else text


def _error_told_otherwise(stock: str, ours: str) -> str:
    """What of the error behind Alembic's traceback the message of migrate-ext leaves out; "" if nothing."""
    last = stock[stock.rindex(_TRACEBACK) :].splitlines()
    raised = next((m for line in last[1:] if line[:1].strip() and (m := _RAISED.match(line))), None)
    wanted = (raised[2] or raised[1].rpartition(".")[2]) if raised else ""
    wanted = _SUGGESTION.sub("", wanted)
    if _FAILED not in ours or wanted not in ours:
        return f"Alembic's error is not told: {wanted}\n{texts.excerpt(texts.frames(stock), ours)}"
    return ""
