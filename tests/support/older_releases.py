"""Marks for tests of what an older Alembic or SQLAlchemy does not have."""

from __future__ import annotations

import importlib.util
import inspect

import pytest
from sqlalchemy.dialects.postgresql import asyncpg

_ADAPTER = inspect.getsource(asyncpg.AsyncAdapt_asyncpg_connection.__init__)

needs_plugins = pytest.mark.skipif(
    importlib.util.find_spec("alembic.runtime.plugins") is None,
    reason="this Alembic finds no plugins by itself",
)
needs_statement_names = pytest.mark.skipif(
    "prepared_statement_name_func" not in _ADAPTER,
    reason="this SQLAlchemy cannot name asyncpg's prepared statements",
)
DEFAULT_ISOLATION_OF_ASYNCPG = '"read_committed"' not in _ADAPTER
