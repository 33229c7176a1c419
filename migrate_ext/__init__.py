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
    from typing import Any

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
    "install": "plugin",
    "stats": "counters",
    "uninstall": "plugin",
}


def environment(
    *,
    metadata: str,
    models: str | None = None,
    url_variable: str = "DATABASE_URL",
    **configure: Any,
) -> None:
    """Run the current command in this migration environment: what a thin ``env.py`` calls.

    Run by ``alembic``, it does what Alembic's usual ``env.py`` does. Run by ``migrate-ext``, it hands the settings to
    the running command, which often needs no Alembic, no SQLAlchemy and no models at all.

    metadata
        ``"package.module:attribute.attribute"`` of the ``MetaData`` that autogenerate compares
        with.
    models
        The package whose import defines the tables, or None when the metadata's module does.
    url_variable
        The environment variable that holds the database's URL (any form SQLAlchemy takes for
        PostgreSQL). It is read when a command needs the database, not before.
    configure
        Further arguments of Alembic's ``EnvironmentContext.configure``: ``compare_type``,
        ``version_table``, ``include_object`` ...

    Raises ``CommandError`` (Alembic's under ``alembic``, ours under ``migrate-ext``) when the
    variable is unset or malformed, or when the models cannot be imported.
    """
    from migrate_ext.project import environment as handed_over

    settings = handed_over.Settings(url_variable, metadata, models, configure)
    if handed_over.serve is not None:
        handed_over.serve(settings)
    else:
        from migrate_ext.dropin.environment import run_environment

        run_environment(settings)


def __getattr__(name: str) -> object:
    if name == "_core":  # `from migrate_ext import _core`, before it is imported
        return _import_core()
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    # Not importlib.import_module, whose import costs as much as all of a thin env.py.
    if name not in _MODULES:
        __import__("alembic")  # whose import may bring us in, and must not find us half imported
    module = __import__(f"{__name__}.{_MODULES.get(name, 'dropin.script')}", fromlist=[name])
    found = globals()[name] = getattr(module, name)
    return found


def _import_core() -> object:
    """The C core. Raises :class:`~migrate_ext.errors.CoreMissing` where it was not built."""
    try:
        return __import__(f"{__name__}._core", fromlist=["_core"])
    except ModuleNotFoundError as error:
        if error.name != f"{__name__}._core":
            raise
        from migrate_ext.errors import CoreMissing

        raise CoreMissing(__path__[0]) from error
