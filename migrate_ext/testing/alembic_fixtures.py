"""Fixtures with pytest-alembic's names, for when that plugin is not loaded."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from migrate_ext.testing.databases import Database
    from migrate_ext.testing.runner import Runner


@pytest.fixture
def alembic_config() -> Any:
    """The configuration of Alembic; override it. A dict of options, an Alembic ``Config``, or our ``Config``.

    See :class:`migrate_ext.testing.runner.Config`.
    """
    return {}


@pytest.fixture
def alembic_engine(empty_db: Database) -> Any:
    """The engine that migrations run on; override it. By default, the engine of an empty database."""
    return empty_db.engine


@pytest.fixture
def alembic_runner(
    request: pytest.FixtureRequest, alembic_config: Any, alembic_engine: Any
) -> Iterator[Runner]:
    """Moves a database through the history: see :class:`migrate_ext.testing.runner.Runner`."""
    from migrate_ext.testing.runner import runner

    with runner(alembic_config, alembic_engine, pytest_config=request.config) as running:
        yield running
