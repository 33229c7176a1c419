"""migrate_ext: Alembic migrations on a C core.

A project that installs it needs none of these names: Alembic >= 1.18 finds ``migrate_ext.plugin`` by itself. For the others
there are :func:`install` and :func:`uninstall`. :func:`environment` is what a thin ``env.py`` calls, and :func:`stats` tells what
the core did. The classes are Alembic's own by name, over the C graph. Nothing is imported before it is asked for: neither
Alembic nor the core, without which ``import alembic`` must still work.

PYTEST_DONT_REWRITE: Alembic may have loaded this before pytest, which would warn of it, looks at plugins.
"""

from __future__ import annotations

TYPE_CHECKING = False  # typing's own costs more than all the rest of this file
if TYPE_CHECKING:
    from migrate_ext.counters import stats
    from migrate_ext.dropin.script import (
        HeadMaintainer,
        Revision,
        RevisionMap,
        RevisionStep,
        Script,
        ScriptDirectory,
        StampStep,
    )
    from migrate_ext.plugin import install, uninstall
    from migrate_ext.project.environment import environment

__all__ = [
    "HeadMaintainer",
    "Revision",
    "RevisionMap",
    "RevisionStep",
    "Script",
    "ScriptDirectory",
    "StampStep",
    "__version__",
    "environment",
    "install",
    "stats",
    "uninstall",
]

__version__ = "0.1.0"

_MODULES = {
    "environment": "project.environment",
    "install": "plugin",
    "stats": "counters",
    "uninstall": "plugin",
}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    # Not importlib.import_module, whose import costs as much as all of a thin env.py.
    if name not in _MODULES:
        __import__("alembic")  # whose import may bring us in, and must not find us half imported
    module = __import__(f"{__name__}.{_MODULES.get(name, 'dropin.script')}", fromlist=[name])
    found = globals()[name] = getattr(module, name)
    return found
