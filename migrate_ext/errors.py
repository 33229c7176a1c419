"""The exceptions of migrate_ext, and functions for their texts.

The revision errors have the names, constructors and texts of ``alembic.script.revision`` (read in
1.20.1), so that the C graph can raise these if Alembic is not imported, and Alembic's own if it is.
"""

from __future__ import annotations

import os

URL_FORM = "postgresql://user:password@host:5432/name"


class Declined(Exception):
    """Not an error: migrate_ext does not handle this case, and Alembic's own code must run."""


class CoreMissing(ImportError):
    """The package was found without its C core. folder: of the package."""

    def __init__(self, folder: str) -> None:
        if os.path.isfile(os.path.join(os.path.dirname(folder), "setup.py")):
            text = (
                f"the source folder {folder} shadows the installed package, and its C core is not built: build it in "
                "place with `make build` or `pip install -e .`, or use the program migrate-ext"
            )
        else:
            text = f"{folder} has no C core for this Python: install migrate_ext anew"
        super().__init__(text, name="migrate_ext._core", path=folder)


class CommandError(Exception):
    """A command cannot be carried out; the text says why (Alembic's ``CommandError``)."""


class InternalError(Exception):
    """A defect of migrate_ext: the run fails, and its open transaction is rolled back.

    The text says what was found, and how to run the command without the runtime.
    """

    def __init__(self, found: str) -> None:
        super().__init__(
            f"internal error of migrate_ext: {found}. The open transaction was rolled back; "
            "MIGRATE_EXT=0 runs Alembic's own code. Please report this"
        )


class BrokenFile(CommandError):
    """A Python file of the project raised an exception; the text names file and line."""

    def __init__(self, path: str, error: BaseException) -> None:
        self.path = path
        line = line_in(path, error)
        where = f"{path}, line {line}" if line else path
        super().__init__(f"{where}: {type(error).__name__}: {first_line(error)}")


class BrokenModule(CommandError):
    """A module that ``env.py`` names cannot be imported; the text names file and line of the error."""

    def __init__(self, name: str, what: str, error: BaseException) -> None:
        path, line = blamed_line(error)
        where = f" ({path}, line {line})" if path else ""
        super().__init__(
            f"the {what} {name} cannot be imported{where}: "
            f"{type(error).__name__}: {first_line(error)}"
        )


def blamed_line(error: BaseException) -> tuple[str | None, int | None]:
    """The innermost file and line of the project (not of an installed package, nor ours) in `error`."""
    if isinstance(error, SyntaxError) and error.filename:
        return error.filename, error.lineno
    found: tuple[str | None, int | None] = (None, None)
    traceback = error.__traceback__
    while traceback is not None:
        path = traceback.tb_frame.f_code.co_filename
        if path == _HANDOVER:  # env.py has called environment(): the error is not in env.py
            found = (None, None)
        elif not path.startswith("<") and not any(part in path for part in _NOT_THE_PROJECT):
            found = (path, traceback.tb_lineno)
        traceback = traceback.tb_next
    return found


_HANDOVER = os.path.join(os.path.dirname(__file__), "__init__.py")
_NOT_THE_PROJECT = (
    "site-packages",
    "dist-packages",
    "importlib",
    ".pyx",
    os.path.dirname(os.__file__) + os.sep,
    os.path.dirname(__file__) + os.sep,
)


def primary_message(error: ServerError) -> str:
    """The server's message without severity, detail and position."""
    return error.fields.get(ord("M")) or first_line(error)


def without_severity(error: BaseException) -> str:
    """The server's message, as in `error`, without the severity, which is localised."""
    fields = error.fields if isinstance(error, ServerError) else {}
    severity = fields.get(ord("S")) or getattr(getattr(error, "diag", None), "severity", None)
    return str(error).removeprefix(f"{severity or 'ERROR'}:  ")


def first_line(error: BaseException) -> str:
    """The first line of the message of `error`; of a SyntaxError without file and line."""
    text = error.msg if isinstance(error, SyntaxError) else str(error)
    return text.split("\n", 1)[0]


def line_in(path: str, error: BaseException) -> int | None:
    """The line of the file `path` at which `error` was raised, in the innermost frame; or None."""
    if isinstance(error, SyntaxError) and error.filename == path:
        return error.lineno
    line, traceback = None, error.__traceback__
    while traceback is not None:
        if traceback.tb_frame.f_code.co_filename == path:
            line = traceback.tb_lineno
        traceback = traceback.tb_next
    return line


def place(name: str, revision: str, path: str, line: int | None, position: str | None) -> str:
    """``upgrade of revision x (file, line n, character p of the statement)``.

    name: ``upgrade`` or ``downgrade``.
    """
    where = f"{path}, line {line}" if line else path
    if position:
        where += f", character {position} of the statement"
    return f"{name} of revision {revision} ({where})"


def no_version_table(name: str, why: str) -> str:
    """The message if the relation `name` is no version table. why: the predicate of "it ...", as text."""
    return (
        f"{name} is not a version table of Alembic: it {why}; "
        "nothing was changed. Name another with version_table"
    )


class ConnectError(Exception):
    """No session could be opened. The text never contains a password."""


class ServerError(Exception):
    """The server rejected a statement, or the connection was lost.

    ``sqlstate``: five characters, or None if the connection was lost. ``fields``: libpq's diagnostic
    fields, field code (as in ``PG_DIAG_*``) -> text. ``index``: of the statement in its batch, from 0;
    -1 outside a batch. ``partial``: the (tag, rows) of the statements before it.
    """

    sqlstate: str | None = None
    index: int = -1
    fields: dict[int, str] = {}
    statement: str | None = None
    migration_step: str
    partial: tuple[tuple[str, int], ...] = ()


class RevisionError(Exception):
    """An error of the revision graph."""


class MissingRevision(RevisionError):
    """A revision file names another revision that does not exist.

    name: the missing revision. index: of the record that names it. is_down_revision: it is named in
    ``down_revision``, not in ``depends_on``; then Alembic warns before it raises a KeyError.
    """

    def __init__(self, name: str, index: int, is_down_revision: bool) -> None:
        self.name = name
        self.index = index
        self.is_down_revision = is_down_revision
        super().__init__(f"Revision {name} is not present")


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


_SESSION_ENDS = ("08", "57P")  # beginnings of SQLSTATEs


def is_session_end(sqlstate: str | None) -> bool:
    """Whether an error with this code means that the session has ended, possibly after a commit."""
    return sqlstate is not None and sqlstate.startswith(_SESSION_ENDS)
