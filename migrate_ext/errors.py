"""What can go wrong, as exceptions.

The revision errors have the names, constructors and texts of ``alembic.script.revision`` (read in 1.20.1), so
that the C graph can raise these where Alembic is not imported, and Alembic's own where it is.
"""

from __future__ import annotations


class Declined(Exception):
    """Not an error: the fast path does not cover this, and the plain path must be taken."""


class CommandError(Exception):
    """A command cannot be carried out; the text says why (Alembic's ``CommandError``)."""


class ConnectError(Exception):
    """No session could be opened. The text never holds a password."""


class ServerError(Exception):
    """The server refused a statement.

    ``sqlstate``: five characters, or None when the connection broke. ``fields``: libpq's diagnostic fields, field code
    (as in ``PG_DIAG_*``) to text. ``index``: which statement of the batch, from 0; -1 outside a batch. ``partial``: the
    (tag, rows) of the statements before it.
    """

    sqlstate: str | None = None
    index: int = -1
    fields: dict[int, str] = {}
    partial: tuple[tuple[str, int], ...] = ()


class RevisionError(Exception):
    """The revision graph cannot answer."""


class RangeNotAncestorError(RevisionError):
    def __init__(self, lower: object, upper: object) -> None:
        self.lower = lower
        self.upper = upper
        super().__init__(
            f"Revision {lower or 'base'} is not an ancestor of revision {upper or 'base'}"
        )


class MultipleHeads(RevisionError):
    def __init__(self, heads: tuple[str, ...], argument: str | None) -> None:
        self.heads = heads
        self.argument = argument
        super().__init__(
            f"Multiple heads are present for given argument '{argument}'; {', '.join(heads)}"
        )


class ResolutionError(RevisionError):
    def __init__(self, message: str, argument: str) -> None:
        super().__init__(message)
        self.argument = argument


class CycleDetected(RevisionError):
    kind = "Cycle"

    def __init__(self, revisions: list[str]) -> None:
        self.revisions = revisions
        super().__init__(f"{self.kind} is detected in revisions ({', '.join(revisions)})")


class DependencyCycleDetected(CycleDetected):
    kind = "Dependency cycle"


class LoopDetected(CycleDetected):
    kind = "Self-loop"

    def __init__(self, revision: str) -> None:
        super().__init__([revision])


class DependencyLoopDetected(DependencyCycleDetected, LoopDetected):
    kind = "Dependency self-loop"

    def __init__(self, revision: str) -> None:
        LoopDetected.__init__(self, revision)
