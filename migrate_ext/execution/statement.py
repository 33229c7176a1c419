"""Statements in flight, the source location of each, and the ledger that shows that none was lost."""

from __future__ import annotations

from migrate_ext import _core, errors


class SourceLocation:
    """Where statements come from: a step of a run. name: ``upgrade`` or ``downgrade``."""

    __slots__ = ("name", "path", "revision")

    def __init__(self, name: str, revision: str, path: str) -> None:
        self.name = name
        self.revision = revision
        self.path = path

    def note(self, line: int | None, position: str | None) -> str:
        """As :func:`migrate_ext.errors.place`."""
        return errors.place(self.name, self.revision, self.path, line, position)


class Statement:
    """One statement on its way: its text as SQLAlchemy would name it, and where it comes from.

    ``place`` is None for what no migration asked for: BEGIN, the lock. ``rows``: what to say when the
    command does not affect exactly one row, with ``{rows}`` for their number; None where nobody asks.
    ``is_last``: of its migration, so that the next one is announced when it is confirmed.
    """

    __slots__ = ("is_last", "line", "place", "rendered", "rows")

    def __init__(
        self,
        rendered: str,
        place: SourceLocation | None,
        line: int | None,
        rows: str | None = None,
        is_last: bool = False,
    ) -> None:
        self.rendered = rendered
        self.place = place
        self.line = line
        self.rows = rows
        self.is_last = is_last


class Ledger:
    """What became of the statements of one run.

    ``rendered``: those that migrations, version rows and the lock have asked for. ``by_driver``: those
    of them that went the driver's way. The rest must have been sent by the session and confirmed to
    it, and their results must have been seen here (``seen``), before anything is committed.
    """

    __slots__ = ("by_driver", "rendered", "seen")

    def __init__(self) -> None:
        self.rendered = 0
        self.by_driver = 0
        self.seen = 0

    def check(self, session: _core.Session) -> None:
        """Raises :class:`~migrate_ext.errors.InternalError` where the counts do not agree."""
        batched = self.rendered - self.by_driver
        if not batched == session.sent == session.confirmed == self.seen:
            raise errors.InternalError(
                f"of {batched} statements for batches {session.sent} were sent and "
                f"{session.confirmed} confirmed, {self.seen} of these to the run"
            )
