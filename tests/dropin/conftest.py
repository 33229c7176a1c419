from __future__ import annotations

from pathlib import Path

import pytest

pytest.register_assert_rewrite("dropin_site")

from dropin_site import Site  # noqa: E402


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path / "site")
