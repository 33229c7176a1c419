"""Time per statement, for ``upgrade -v``: which of a run's statements were slow.

Measured on the client, from one result to the next, while nothing else runs: each migration is sent
when it is rendered, and awaited, and the server returns each result at once. So the time of a
statement that is the first of its migration, or is not batched, includes a round trip.
"""

from __future__ import annotations

import heapq
import sys

_SHOWN = 10
_WIDTH = 60


class Times:
    """Times of one run: ``add`` each statement, then ``show`` the slowest."""

    def __init__(self) -> None:
        self.count = 0
        self.seconds = 0.0
        self.slowest: list[tuple[float, int, str, str]] = []

    def add(self, seconds: float, sql: str, where: str) -> None:
        """seconds: how long `sql` took. where: its revision, file and line, as far as known."""
        self.count += 1
        self.seconds += seconds
        heapq.heappush(self.slowest, (seconds, -self.count, sql, where))
        if len(self.slowest) > _SHOWN:
            heapq.heappop(self.slowest)

    def show(self) -> None:
        """Print them on stderr, beside the log lines of the run."""
        if not self.count or sys.stderr is None:
            return
        print(f"{self.count} statements took {self.seconds:.3f} s; the slowest:", file=sys.stderr)
        for seconds, _, sql, where in sorted(self.slowest, reverse=True):
            text = " ".join(sql.split())
            if len(text) > _WIDTH:
                text = text[: _WIDTH - 3] + "..."
            print(f"{seconds:9.3f} s  {text}  {where}".rstrip(), file=sys.stderr)
