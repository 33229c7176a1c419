"""Installs the runtime for a suite of others (``-p install_runtime``), which Alembic >= 1.18 has done already."""

import alembic.config  # noqa: F401
from alembic_patches import patched_attributes

import migrate_ext

migrate_ext.install()
assert patched_attributes(), "the runtime is not active"
