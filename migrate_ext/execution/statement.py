"""Statements in flight, the source location of each, and the ledger that shows that none was lost."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from migrate_ext import _core, errors


class SourceLocation:
    """The step of a run that statements come from. name: ``upgrade`` or ``downgrade``."""

    __slots__ = ("name", "path", "revision")

    def __init__(self, name: str, revision: str, path: str) -> None:
        self.name = name
        self.revision = revision
        self.path = path

    def note(self, line: int | None, position: str | None) -> str:
        """See :func:`migrate_ext.errors.place`."""
        return errors.place(self.name, self.revision, self.path, line, position)


class Statement:
    """One statement in flight: its text as SQLAlchemy renders it, and where it comes from.

    ``place`` is None for statements that belong to no migration: BEGIN, the lock's. ``rows``: the
    error message when the command does not affect exactly one row, with ``{rows}`` for the number
    of rows; None to accept any number. ``is_last``: the last of its migration; its confirmation
    announces the next one. ``values``: its parameters by name, as SQLAlchemy gives them to the driver.
    ``at``: when it was made, by ``time.monotonic()``.
    """

    __slots__ = ("at", "is_last", "line", "place", "rendered", "rows", "values")

    def __init__(
        self,
        rendered: str,
        place: SourceLocation | None,
        line: int | None,
        rows: str | None = None,
        is_last: bool = False,
        values: Mapping[str, Any] | None = None,
    ) -> None:
        self.at = time.monotonic()
        self.rendered = rendered
        self.place = place
        self.line = line
        self.rows = rows
        self.is_last = is_last
        self.values = values


class Ledger:
    """Counts the statements of one run.

    ``rendered``: all statements of migrations, version rows and the lock. ``by_driver``: those of
    them that the driver executed. Before anything is committed, the session must have sent all
    others and had them confirmed, and their results must have been counted in ``seen``.
    """

    __slots__ = ("by_driver", "rendered", "seen")

    def __init__(self) -> None:
        self.rendered = 0
        self.by_driver = 0
        self.seen = 0

    def check(self, session: _core.Session) -> None:
        """Raises :class:`~migrate_ext.errors.InternalError` if the counts do not agree."""
        batched = self.rendered - self.by_driver
        if not batched == session.sent == session.confirmed == self.seen:
            raise errors.InternalError(
                f"of {batched} statements for batches {session.sent} were sent and "
                f"{session.confirmed} confirmed, {self.seen} of these to the run"
            )
