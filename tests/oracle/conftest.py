from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from twins import Twins


@pytest.fixture
def twins(tmp_path: Path, make_database: Callable[[], str], pg_dump: Callable[[str], str]) -> Twins:
    """The sample project twice, each with an empty database."""
    return Twins(tmp_path, make_database, pg_dump)
