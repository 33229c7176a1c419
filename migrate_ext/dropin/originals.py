"""Alembic's own methods that :mod:`migrate_ext.dropin.hooks` replaces."""

from __future__ import annotations

from typing import Any

# (class, name of the method) -> the method; None if Alembic has no attribute of that name.
originals: dict[tuple[type, str], Any] = {}
