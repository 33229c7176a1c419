from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from paired_projects import PairedProjects


@pytest.fixture
def pair(
    tmp_path: Path, make_database: Callable[[], str], pg_dump: Callable[[str], str]
) -> PairedProjects:
    """The sample project twice, each with an empty database."""
    return PairedProjects(tmp_path, make_database, pg_dump)


@pytest.fixture(scope="module")
def unchanged_pair(
    tmp_path_factory: pytest.TempPathFactory,
    make_shared_database: Callable[[], str],
    pg_dump: Callable[[str], str],
) -> PairedProjects:
    """The same for all tests of a file whose commands change neither files nor databases."""
    return PairedProjects(tmp_path_factory.mktemp("pair"), make_shared_database, pg_dump)
