"""Alembic's own methods that :mod:`migrate_ext.dropin.hooks` replaces."""

from __future__ import annotations

from typing import Any

# (class, name of the method) -> it; None where Alembic has nothing of that name.
originals: dict[tuple[type, str], Any] = {}
