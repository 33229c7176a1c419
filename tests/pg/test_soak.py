"""A minute of the soak (`make soak` runs all of it)."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "soak"))
import soak


def test_no_blow_leaves_a_version_that_is_not_the_schemas() -> None:
    assert len(soak.run(0.002, 1, "SIGKILL", "cut", "terminate", "restart")) == 7


def test_no_blow_from_inside_or_to_a_pooler_leaves_a_version_that_is_not_the_schemas() -> None:
    blows = ("cancel", "COMMIT", "lock given", "closed by", "SIGSTOP", "paused", "started again")
    assert len(soak.run(0.002, 1, *blows)) == 9
