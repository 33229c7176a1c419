"""Reports the outcome of a failed run of migrations, and handles SIGTERM during a run.

Used for Alembic's runs (:mod:`migrate_ext.dropin.transactions`) and our own
(:mod:`migrate_ext.plans.run`, :mod:`migrate_ext.locking.version_table`). Imports as little as
possible.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # signal would import enum
import sys

from migrate_ext import errors
from migrate_ext.locking import lock
from migrate_ext.locking.limits import Limits

TYPE_CHECKING = False  # saves the import of typing
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

CHECK_SECONDS = 10.0  # how long to wait for the end of a transaction whose COMMIT is in doubt


def of_run(
    committed: list[str],
    half_done: str | None = None,
    standing: Sequence[str] = (),
    *,
    refused: bool = False,
) -> str:
    """A text about what a failed run has committed, and what to do; empty if it was nothing.

    committed: revisions. half_done: a revision that committed part of its work, but not its version
    row. standing: statements of `half_done` that are known to be committed. refused: the server
    rejected COMMIT.
    """
    said = []
    if refused:
        said.append("The server refused COMMIT, and rolled its transaction back.")
    if committed:
        said.append(f"Committed: {some(committed)}.")
    if half_done:
        said.append(
            f"{half_done} was left half done: what it did in and before its autocommit block, or "
            "its own COMMIT, is committed, its version row is not."
        )
        if standing:
            said.append(f"Among that is: {'; '.join(map(_short, standing[-_SHOWN:]))}.")
        said.append(
            "If it left an INVALID index, the next run names it, and with --repair drops it first. "
            f"All else was rolled back. The same command begins {half_done} anew: undo first what "
            "is committed of it, unless it can be done twice."
        )
    elif committed:
        said.append("All else was rolled back; the same command goes on from there.")
    return " ".join(said)


_SHOWN = 3  # committed statements to show


def _short(sql: str) -> str:
    text = " ".join(sql.split()).rstrip(";")
    return text if len(text) <= 120 else f"{text[:117]}..."


def some(names: list[str]) -> str:
    """Revisions, in the order in which they ran, as a text."""
    if len(names) < 4:
        return ", ".join(names)
    return f"{names[0]} to {names[-1]} ({len(names)} migrations)"


def in_doubt(
    error: BaseException,
    expected: frozenset[str | None],
    read: Callable[[], frozenset[str | None]],
    half_done: str | None = None,
    why: str = "",
) -> tuple[str, bool]:
    """The outcome of a COMMIT whose result was lost, as a text; and whether it was committed.

    expected: the version rows if it was. read: returns the rows from a new connection. half_done:
    the revision whose autocommit block begins with this COMMIT, or that issued it: the rows do not
    show whether its work was committed. why: the reason of the doubt, if COMMIT was not the last
    statement sent.
    """
    what = "The connection was lost" if isinstance(error, Exception) else "Interrupted"
    why = why or f"{what} while COMMIT was on its way"
    said = f"{why}, so its outcome is in doubt. "
    try:
        rows = read()
    except Exception as failed:
        reason = errors.first_line(getattr(failed, "orig", failed)).strip()
        said += f"It could not be checked ({reason}): 'current' tells, once it can be reached."
        return said, False
    place = ", ".join(sorted(str(row) for row in rows)) or "base"
    said += "Checked on a new connection: "
    if rows != expected:
        said += f"it was not committed; the database is at {place}. "
        return said + "The same command goes on from there.", False
    if half_done:
        said += f"the database is at {place}. What {half_done} did before its autocommit block, "
        return said + "or its own COMMIT, may be committed; its version row is not.", False
    return said + f"it was committed; the database is at {place}.", True


def wait_for_end(ask: lock.Ask, table: str, schema: str | None) -> bool:
    """Wait until the transaction in doubt, which holds the lock, has ended. Returns whether the
    version table exists.

    ask: as for :func:`migrate_ext.locking.lock.try_lock`, on a new connection.
    """
    limits = Limits()
    limits.lock_timeout = CHECK_SECONDS
    waiting = lock.Waiting(limits, ask)
    waiting.said = 0.0  # do not log a holder yet: it is this run's own session
    while True:
        tried = lock.try_lock(ask, table, schema, for_session=False)
        if tried.had:
            return tried.exists
        waiting.again(tried.key)


def tell(error: BaseException, text: str) -> None:
    """Log `text`, the outcome of a failed run, and attach it to `error`."""
    if not text:
        return
    lock.say("error", text)
    before = getattr(error, "migration_outcome", "")
    error.__dict__["migration_outcome"] = f"{before} {text}".strip()
    if sys.version_info >= (3, 11):
        error.add_note(f"[migrate_ext: {text}]")


class Terminated(KeyboardInterrupt):
    """Raised by SIGTERM. As after Ctrl-C, the running statement is cancelled on the server."""


class Terminable:
    """Within this block SIGTERM raises :class:`Terminated` instead of ending the process at once,
    so that the running statement is cancelled on the server. It does nothing if the program handles
    SIGTERM itself, or outside the main thread.

    stop: called once, instead of raising. Then Ctrl-C calls it, too, if it would otherwise raise
    somewhere in the event loop (asyncio before Python 3.11). ``came``: the signal received, or 0.
    """

    def __init__(self, stop: Callable[[], object] | None = None) -> None:
        self.stop = stop
        self.came = 0

    def __enter__(self) -> None:
        self.mine: dict[int, Any] = {}
        defaults = {_signal.SIGTERM: _signal.SIG_DFL}
        if self.stop is not None:
            defaults[_signal.SIGINT] = _signal.default_int_handler
        for number, default in defaults.items():
            if _signal.getsignal(number) == default:
                try:
                    _signal.signal(number, self._handle)
                    self.mine[number] = default
                except ValueError:  # not the main thread
                    pass

    def __exit__(self, *_: object) -> None:
        for number, default in self.mine.items():
            _signal.signal(number, default)

    def _handle(self, number: int, _: object) -> None:
        came, self.came = self.came, number
        if self.stop is None or came:
            raise self.raised()
        self.stop()

    def raised(self) -> KeyboardInterrupt:
        """The exception for the signal received."""
        return Terminated() if self.came == _signal.SIGTERM else KeyboardInterrupt()


def ended(terminated: Terminated, text: str) -> SystemExit:
    """What to raise after SIGTERM, with its exit code. text: from :func:`of_run`; it is logged."""
    error = SystemExit(128 + _signal.SIGTERM)
    if not hasattr(terminated, "migration_outcome"):  # else COMMIT was in flight
        text = f"Terminated by SIGTERM: the open transaction is rolled back. {text}".strip()
    tell(error, text)
    return error
