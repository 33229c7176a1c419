"""The counters of ``migrate_ext.stats()``: what was done by the core, and what was left to Alembic.

With ``MIGRATE_EXT_STATS=FILE`` in the environment, one JSON line is appended to FILE when the
process ends.
"""

from __future__ import annotations

import os
import sys

from migrate_ext import _core

files_executed = 0
planned = 0
plain_statements = 0
plain_waits = 0
batches = 0  # beside those of the core: asyncpg's
statements = 0
plain_reasons: dict[str, int] = {}
span_ends: dict[str, int] = {}


def plain(reason: str, count: int = 1) -> None:
    """Count that something was left to Alembic, `count` times, because of `reason`."""
    plain_reasons[reason] = plain_reasons.get(reason, 0) + count


def span_end(path: str, line: int, reason: str) -> None:
    """Count a line before which all statements have to be confirmed, because of `reason`."""
    where = f"{os.path.basename(path)}:{line}: {reason}"
    span_ends[where] = span_ends.get(where, 0) + 1


def stats() -> dict[str, object]:
    """The counters of this process.

    ``files_scanned``
        revision files read by the scanner; ``files_executed``: those that were executed, because
        something in them is not a plain literal or because their migration ran.
    ``planned``
        migrations that ran from the plan file.
    ``graph_builds``
        revision graphs built.
    ``batches``, ``statements``
        batches sent, and the statements in them.
    ``waits``
        how often this process waited for the server, on our session and on the driver's.
    ``plain_statements``
        statements that the driver sent one by one; ``plain_reasons``: why something was left to
        Alembic, reason -> count.
    ``span_ends``
        lines of revision files before which all statements had to be confirmed, each as
        ``FILE:LINE: reason`` -> count.
    """
    counted: dict[str, object] = dict(_core.counters())
    counted["waits"] = _core.counters()["waits"] + plain_waits
    counted["batches"] = _core.counters()["batches"] + batches
    counted["statements"] = _core.counters()["statements"] + statements
    counted["files_executed"] = files_executed
    counted["planned"] = planned
    counted["plain_statements"] = plain_statements
    counted["plain_reasons"] = dict(plain_reasons)
    counted["span_ends"] = dict(span_ends)
    return counted


def _append_at_exit(path: str) -> None:
    import atexit  # only needed for the file

    def append() -> None:
        import json

        try:
            with open(path, "a", encoding="utf-8") as file:
                file.write(json.dumps(stats()) + "\n")
        except OSError as error:
            print(f"MIGRATE_EXT_STATS: {path}: {error.strerror}", file=sys.stderr)

    atexit.register(append)


if os.environ.get("MIGRATE_EXT_STATS"):
    _append_at_exit(os.environ["MIGRATE_EXT_STATS"])
