"""Compares the outcomes of the sides. Runs nothing itself.

In case of doubt two outcomes are different. Permitted differences are listed (:mod:`migrate_ext.verify.texts`). Values
that differ between runs of Alembic itself, such as a time or a random key, are not compared: ``again`` are such further
runs.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from migrate_ext.verify import texts
from migrate_ext.verify.sides import OURS, Outcome, Step
from migrate_ext.verify.snapshot import Rows, Snapshot


class Verdict(NamedTuple):
    """The result for one step and one program: what differs, and how, both empty if nothing does. notes: what was not
    comparable.
    """

    what: str = ""
    how: str = ""
    notes: tuple[str, ...] = ()

    @property
    def in_doubt(self) -> bool:
        """Whether further runs of Alembic may show that this differs between them, too."""
        return self.what in ("stdout", "stderr", "catalogue", "rows")


def compare(
    step: Step, program: str, stock: Outcome, ours: Outcome, again: Sequence[Outcome] = ()
) -> Verdict:
    """Compare the outcomes of one step. ours: that of `program`. again: those of further runs of Alembic."""
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
# Errors: Alembic's traceback, and the message of migrate-ext (docs/differences.md)

_TRACEBACK, _FAILED = "Traceback (most recent call last)", "FAILED: "
_SUGGESTION = re.compile(r"\. Did you mean: .*\?$")  # added by Python's traceback
_RAISED = re.compile(r"^([\w.]+)(?:: (?:\([\w.]+\) )?(.*))?$")


def _before(text: str, mark: str) -> str:
    """`text` up to the line that contains `mark`."""
    return text.partition(mark)[0].rpartition("\n")[0] + "\n" if mark in text else text


def _error_told_otherwise(stock: str, ours: str) -> str:
    """A text if the message of migrate-ext does not contain the error of Alembic's traceback; "" if it does."""
    last = stock[stock.rindex(_TRACEBACK) :].splitlines()
    raised = next((m for line in last[1:] if line[:1].strip() and (m := _RAISED.match(line))), None)
    wanted = (raised[2] or raised[1].rpartition(".")[2]) if raised else ""
    wanted = _SUGGESTION.sub("", wanted)
    if _FAILED not in ours or wanted not in ours:
        return f"Alembic's error is missing: {wanted}\n{texts.excerpt(texts.frames(stock), ours)}"
    return ""
