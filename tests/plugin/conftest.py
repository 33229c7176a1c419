from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy.engine import make_url

from migrate_ext.testing.embedded import Server

pytest.register_assert_rewrite("suite")

from suite import Suite  # noqa: E402


@pytest.fixture
def suite(pytester: pytest.Pytester, private_server: Server, tmp_path: Path) -> Iterator[Suite]:
    suite = Suite(pytester, make_url(private_server.url()), tmp_path / "trace")
    yield suite
    suite.drop_all()
