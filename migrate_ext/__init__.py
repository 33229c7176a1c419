"""migrate_ext: Alembic migrations on a C core.

A project that installs it needs none of these names: Alembic >= 1.18 loads ``migrate_ext.plugin`` by itself. For older
versions there are :func:`install` and :func:`uninstall`. A thin ``env.py`` calls :func:`environment`; :func:`stats`
returns counters of what was done. The classes have the names of Alembic's own, and use the C graph. Each name is
imported when it is first used. Neither Alembic nor the core is imported before, because ``import alembic`` must work
without the core.

PYTEST_DONT_REWRITE: Alembic may load this before pytest looks for plugins, and pytest would warn of that.
"""

from __future__ import annotations

TYPE_CHECKING = False  # the import of typing would take longer than all the rest of this file
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

    Run by ``alembic``, it does what the ``env.py`` of Alembic's templates does. Run by ``migrate-ext``, it passes the
    settings to the running command, which often needs no Alembic, no SQLAlchemy and no models.

    metadata
        ``"package.module:attribute.attribute"`` of the ``MetaData`` that autogenerate compares
        with.
    models
        The package whose import defines the tables, or None if the metadata's module defines them.
    url_variable
        The environment variable with the database's URL (any form that SQLAlchemy accepts for
        PostgreSQL). It is read only when a command needs the database.
    configure
        Further arguments of Alembic's ``EnvironmentContext.configure``: ``compare_type``,
        ``version_table``, ``include_object`` ...

    Raises ``CommandError`` (Alembic's under ``alembic``, ours under ``migrate-ext``) if the
    variable is unset or malformed, or if the models cannot be imported.
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
    # Not importlib.import_module: importing importlib takes as long as all of a thin env.py.
    if name not in _MODULES:
        __import__("alembic")  # may load our plugin, which must not find this module half imported
    module = __import__(f"{__name__}.{_MODULES.get(name, 'dropin.script')}", fromlist=[name])
    found = globals()[name] = getattr(module, name)
    return found


def _import_core() -> object:
    """The C core. Raises :class:`~migrate_ext.errors.CoreMissing` if it was not built."""
    try:
        return __import__(f"{__name__}._core", fromlist=["_core"])
    except ModuleNotFoundError as error:
        if error.name != f"{__name__}._core":
            raise
        from migrate_ext.errors import CoreMissing

        raise CoreMissing(__path__[0]) from error
