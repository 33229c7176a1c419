"""migrate_ext: Alembic migrations on a C core.

A project meets two names: :func:`environment`, which a thin ``env.py`` calls, and :func:`stats`,
which tells what the core did. Everything else is behind the commands. Importing this imports
nothing.
"""

from __future__ import annotations

TYPE_CHECKING = False  # typing's own costs its import
if TYPE_CHECKING:
    from migrate_ext.counters import stats
    from migrate_ext.handover import environment

__all__ = ["__version__", "environment", "stats"]

__version__ = "0.1.0"

# What is not needed to start a command comes when it is asked for.
_LATER = {"environment": "handover", "stats": "counters"}
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
    module = _LATER.get(name)
    if module is not None:
        return getattr(__import__(f"migrate_ext.{module}", fromlist=[name]), name)
    if name in _REVISION_CLASSES:
        from migrate_ext import revision

        return getattr(revision, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
