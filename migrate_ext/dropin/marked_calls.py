"""Directives of a function that is not plain, while it runs: each finds its mark, and goes by it.

A private name of Alembic (``_proxy`` of ``alembic.op``) was read in 1.13 and 1.20.1.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from alembic import op as alembic_op
from alembic.operations import Operations

from migrate_ext.execution import results
from migrate_ext.execution.executor import Executor
from migrate_ext.execution.marks import END, LOUD, Spans
from migrate_ext.execution.statement import SourceLocation

UNMARKED = -1


class MarkedCalls:
    """Statements wait by the marks of :mod:`migrate_ext.execution.spans`.

    ``spans``: of the function that is running. ``mark``: of the directive that is running, and UNMARKED
    where it goes the driver's way; None between directives. ``renders_own``: rendering its statements calls
    types of the project's, for which all before must be confirmed. ``line``: where it was called.
    ``values_are_plain``: all that the function has read so far is what the analysis took it for.
    """

    def __init__(self, executor: Executor) -> None:
        self.executor = executor
        self.spans: Spans | None = None
        self.mark: int | None = None
        self.renders_own = False
        self.values_are_plain = True
        self.line: int | None = None

    def look(self) -> None:
        """Learn whether somebody's code sees directives pass."""
        raise NotImplementedError

    def refusal(self) -> str | None:
        """Why the driver must execute statements now, or None."""
        raise NotImplementedError

    @contextmanager
    def marked(self, spans: Spans | None) -> Iterator[None]:
        """Within this block the directives of a function that is not plain go by their marks."""
        operations: Any = vars(alembic_op).get("_proxy")
        if spans is None or type(operations) is not Operations or "invoke" in vars(operations):
            yield
            return
        self.spans, self.values_are_plain = spans, True
        vars(operations)["invoke"] = functools.partial(self._invoke, operations.invoke)
        try:
            yield
        finally:
            self.spans = None
            del vars(operations)["invoke"]

    def _invoke(self, invoke: Callable[[Any], Any], operation: Any) -> Any:
        """Takes the place of ``Operations.invoke``, which every directive goes through."""
        if self.mark is not None:  # called by another directive
            return invoke(operation)
        caller = _caller(sys._getframe(1), self.spans, _ALEMBIC)
        mark = self.mark_of(caller)
        self.mark = UNMARKED if mark is None else mark
        self.renders_own = (
            mark is not None and self.spans is not None and self.spans.renders_own(caller)
        )
        try:
            if mark is None or self.renders_own:
                self.executor.sync()
            result = invoke(operation)
        finally:
            self.mark, self.renders_own = None, False
        if mark == LOUD:
            self.executor.sync()
        return result

    def mark_of(self, frame: Any, *, of_execute: bool = False) -> int | None:
        """The mark of a directive that is called in `frame`; None where it must go the driver's way."""
        spans = self.spans
        if spans is None or frame is None or not self.values_are_plain:
            return None
        mark = spans.mark_of(frame, of_execute=of_execute)
        if mark is None or (not self.executor.pending and self._is_disturbed()):
            return None
        self.line = _line_in(frame, self.executor.place)
        return mark

    def mark_of_execute(self, frame: Any) -> int | None:
        """The mark of ``bind.execute(...)``, which is called in `frame`, or of ``session.execute(...)``, which
        calls it.
        """
        return self.mark_of(_caller(frame, self.spans, ("sqlalchemy",)), of_execute=True)

    def _is_disturbed(self) -> bool:
        """Code of all kinds may have run since the last statement: whether a span must not begin now. A
        transaction that was ended is noticed on the driver's way.
        """
        return not self.executor.session.in_transaction or self._is_changed()

    def _is_changed(self) -> bool:
        """Whether what the marks rely on may not hold any more."""
        assert self.spans is not None
        self.look()
        top = self.spans.functions[self.spans.top]
        return self.refusal() is not None or not top.still_true()

    def left_autocommit_block(self, frame: Any) -> None:
        """An autocommit block has ended, in `frame` or its callers, and the next transaction's begin waits
        to be sent: it must not wait where code follows that could use the connection.
        """
        mark = self.mark_of_block(frame)
        if mark in (None, LOUD) or self._is_changed():
            self.executor.sync()

    def has_read(self, result: Any) -> None:
        """The driver has executed a statement of the function that is running, and gives this result."""
        if self.spans is None or not self.values_are_plain:
            return
        frame = _caller(sys._getframe(1), self.spans, ("sqlalchemy", "migrate_ext"))
        if frame is None or self.spans.reads(frame):
            self.values_are_plain = results.are_plain(result, self.executor.driver.connection)

    def mark_of_block(self, frame: Any) -> int | None:
        """The mark of the block that ends in `frame` or its callers: of ``op.batch_alter_table``, which
        sends a statement at its end, or of ``autocommit_block``.
        """
        spans = self.spans
        frame = _caller(frame, spans, (*_ALEMBIC, "contextlib"))
        if spans is None or frame is None or not self.values_are_plain:
            return None
        mark = spans.functions[frame.f_code].blocks.get(frame.f_lineno)
        if mark is None:
            return None
        if frame.f_code is not spans.top:
            above = spans.mark_of(frame.f_back)
            if above is None:
                return None
            mark = above if mark == END else mark
        if not self.executor.pending and self._is_disturbed():
            return None
        self.line = _line_in(frame, self.executor.place)
        return mark


# Modules whose functions may lie between a migration's call and where its statement is sent.
_ALEMBIC = ("alembic",)


def _caller(frame: Any, spans: Spans | None, through: tuple[str, ...]) -> Any:
    """The frame of the migration that called, with nothing but these packages between; else None."""
    while spans is not None and frame is not None and frame.f_code not in spans.functions:
        if frame.f_globals.get("__name__", "").partition(".")[0] not in through:
            return None
        frame = frame.f_back
    return frame


def _line_in(frame: Any, place: SourceLocation | None) -> int | None:
    """The line that the revision's own file is at."""
    while frame is not None and place is not None and frame.f_code.co_filename != place.path:
        frame = frame.f_back
    return frame and frame.f_lineno  # type: ignore[no-any-return]


# As in run.py: SQLAlchemy's warnings are about the migration's line.
__name__ = "sqlalchemy.migrate_ext"
