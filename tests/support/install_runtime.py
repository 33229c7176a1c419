"""Installs the runtime for a suite of others (``-p active_plugin``), which Alembic >= 1.18 has done already."""

import alembic.config  # noqa: F401
import ours

import migrate_ext

migrate_ext.install()
assert ours.in_alembic(), "the runtime is not active"
