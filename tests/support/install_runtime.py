"""A pytest plugin that installs the runtime for another project's suite (``-p install_runtime``); Alembic >= 1.18 has done so already."""

import alembic.config  # noqa: F401
from alembic_patches import patched_attributes

import migrate_ext

migrate_ext.install()
assert patched_attributes(), "the runtime is not active"
