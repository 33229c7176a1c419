from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

pytest.register_assert_rewrite("dropin_site", "shapes")

from dropin_site import Site  # noqa: E402
from shapes import Shape  # noqa: E402


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path / "site")


@pytest.fixture
def shape(tmp_path: Path, make_database: Callable[[], str], pg_dump: Callable[..., str]) -> Shape:
    """An empty folder twice, each with an empty database."""
    return Shape(tmp_path, make_database, pg_dump)
