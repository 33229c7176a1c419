"""migrate_ext: Alembic migrations on a C core.

A project meets two names: :func:`environment`, which a thin ``env.py`` calls, and :func:`stats`,
which tells what the core did. Everything else is behind the commands. Nothing here imports Alembic,
SQLAlchemy or libpq.
"""

from __future__ import annotations

from migrate_ext.counters import stats
from migrate_ext.handover import environment

__all__ = ["__version__", "environment", "stats"]

__version__ = "0.1.0"

# Alembic's revision classes over the C graph; importing them imports Alembic, so they come when they are asked for.
_REVISION_CLASSES = frozenset(
    (
        "HeadMaintainer",
        "Revision",
        "RevisionMap",
        "RevisionStep",
        "Script",
        "ScriptDirectory",
        "StampStep",
    )
)


def __getattr__(name: str) -> object:
    if name in _REVISION_CLASSES:
        from migrate_ext import revision

        return getattr(revision, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
