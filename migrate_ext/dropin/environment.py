"""Runs a thin ``env.py`` under Alembic, and passes on what a direct command has already read."""

from __future__ import annotations

import importlib
import pkgutil
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import TYPE_CHECKING, Any

import sqlalchemy
from alembic import context as alembic_context
from alembic import util as alembic_util
from alembic.script import Script as AlembicScript
from alembic.script import ScriptDirectory as AlembicScriptDirectory
from sqlalchemy.engine import Connection, make_url
from sqlalchemy.pool import NullPool

from migrate_ext import errors
from migrate_ext.dropin import script, stand_in
from migrate_ext.dropin.foreign import foreign_rendering
from migrate_ext.execution import libpq
from migrate_ext.project import environment, scripts
from migrate_ext.project.environment import Settings

if TYPE_CHECKING:
    from migrate_ext.direct.database import Run


@contextmanager
def instead_of_files(run: Run, settings: Settings) -> Iterator[None]:
    """Within this block Alembic uses what a direct command has read, and does not run ``env.py``.

    run: the command, whose ``env.py`` is being executed. settings: those that this ``env.py`` gave.
    """

    class Script(script.Script):
        module = stand_in.LazyModule(scripts.load, run.options.command, run.planned)

    class ScriptDirectory(script.ScriptDirectory):
        """The project's script directory, with the files that the command has already read."""

        def _load_revisions(self) -> Iterator[AlembicScript]:
            if run.scripts is None:
                yield from super()._load_revisions()
                return
            paths, scanned = tuple(run.scripts.paths), run.scripts.scanned
            for index, found in enumerate(script.new_scripts(Script, "", paths, scanned)):
                assert found is not None
                if index in run.scripts.modules:
                    found.module = run.scripts.modules[index]
                yield found

        def _upgrade_revs(self, destination: str, current_rev: Any) -> list[Any]:
            return _settled(super()._upgrade_revs(destination, current_rev))

        def _downgrade_revs(self, destination: str, current_rev: Any) -> list[Any]:
            return _settled(super()._downgrade_revs(destination, current_rev))

        def run_env(self) -> None:
            _run_environment(settings)

    def _settled(steps: list[Any]) -> list[Any]:
        return stand_in.confirm_plan(steps, foreign_rendering() if run.planned else None)

    from_config = AlembicScriptDirectory.from_config
    AlembicScriptDirectory.from_config = ScriptDirectory.from_config  # type: ignore[method-assign]
    try:
        yield
    finally:
        AlembicScriptDirectory.from_config = from_config  # type: ignore[method-assign]


def run_environment(settings: Settings) -> None:
    """What a thin ``env.py`` does when Alembic runs it: see :func:`migrate_ext.environment`."""
    try:
        _run_environment(settings)
    except errors.CommandError as error:
        raise alembic_util.CommandError(str(error)) from error


def _run_environment(settings: Settings) -> None:
    config = alembic_context.config
    if config.config_file_name is not None and config.file_config.has_section("loggers"):
        from logging.config import fileConfig

        fileConfig(config.config_file_name, disable_existing_loggers=False)
    # Not for autogenerate alone: a naming convention or a listener in the models changes the SQL of
    # directives.
    configure = {"target_metadata": metadata_of(settings), **settings.configure}
    if alembic_context.is_offline_mode():
        alembic_context.configure(
            dialect_name="postgresql",
            literal_binds=True,
            dialect_opts={"paramstyle": "named"},
            **configure,
        )
        with alembic_context.begin_transaction():
            alembic_context.run_migrations()
        return
    url = _engine_url(settings)
    if url.get_dialect().is_async:
        import asyncio  # rarely needed, and slow to import

        asyncio.run(_run_async(url, configure))
        return
    try:
        engine = sqlalchemy.create_engine(
            url, poolclass=NullPool, connect_args=_connection_defaults(url)
        )
    except ImportError as error:
        raise errors.CommandError(_no_driver(settings, url, error)) from error
    with engine.connect() as connection:
        _run_online(connection, configure)


def _connection_defaults(url: sqlalchemy.URL) -> dict[str, str]:
    """Those of :data:`libpq.CONNECTION` that the URL does not set; none for drivers without libpq."""
    if not url.get_driver_name().startswith("psycopg"):
        return {}
    return {key: value for key, value in libpq.CONNECTION.items() if key not in url.query}


def _no_driver(settings: Settings, url: sqlalchemy.URL, error: ImportError) -> str:
    return (
        f"{settings.url_variable} asks for the driver {url.get_driver_name()}, which cannot be "
        f"imported ({error}); install it, or write postgresql:// for one that is installed"
    )


async def _run_async(url: sqlalchemy.URL, configure: dict[str, Any]) -> None:
    from sqlalchemy.ext.asyncio import create_async_engine

    try:
        engine = create_async_engine(
            url, poolclass=NullPool, connect_args=_connection_defaults(url)
        )
        async with engine.connect() as connection:
            await connection.run_sync(_run_online, configure)
    except ImportError as error:
        if errors.blamed_line(error) != (None, None):
            raise  # raised by a migration
        raise errors.CommandError(
            f"the driver {url.get_driver_name()} cannot be used ({error}); "
            "pip install 'sqlalchemy[asyncio]' and the driver"
        ) from error


def _run_online(connection: Connection, configure: dict[str, Any]) -> None:
    alembic_context.configure(connection=connection, **configure)
    with alembic_context.begin_transaction():
        alembic_context.run_migrations()


def _engine_url(settings: Settings) -> sqlalchemy.URL:
    """The URL for ``create_engine``; if it names no driver, with one that is installed.

    Raises CommandError if it is not a URL for PostgreSQL, or no driver is installed.
    """
    name = settings.url_variable
    try:
        url = make_url(environment.database_url(settings))
    except (sqlalchemy.exc.ArgumentError, ValueError) as error:
        # SQLAlchemy's message may quote the URL and its password.
        raise errors.CommandError(f"{name} is not a URL; expected {errors.URL_FORM}") from error
    if url.get_backend_name() != "postgresql":
        raise errors.CommandError(
            f"{name} is for {url.get_backend_name()}; this environment needs PostgreSQL: "
            f"{errors.URL_FORM}"
        )
    drivername = environment.with_driver(f"{url.drivername}://", url.get_driver_name())
    if drivername is None:
        raise errors.CommandError(
            "no PostgreSQL driver is installed; pip install 'psycopg[binary]'"
        )
    return url.set(drivername=drivername.removesuffix("://"))


def metadata_of(settings: Settings) -> sqlalchemy.MetaData:
    """Import the models and return the metadata that ``env.py`` names.

    Raises CommandError if there is no such metadata, BrokenModule if a module cannot be imported.
    """
    module_name, _, path = settings.metadata.partition(":")
    if not path:
        raise errors.CommandError(
            f"env.py names the metadata {settings.metadata!r}; expected "
            "'package.module:attribute', for example 'lib.database:Base.metadata'"
        )
    if settings.models is not None:
        models = _import(settings.models, "models package")
        _warn_of_unimported(models)
    found: Any = _import(module_name, "metadata module")
    for attribute in path.split("."):
        try:
            found = getattr(found, attribute)
        except AttributeError:
            raise errors.CommandError(
                f"env.py names the metadata {settings.metadata!r}, "
                f"but {module_name} has no {path!r}"
            ) from None
    return found  # type: ignore[no-any-return]


def _import(name: str, what: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except Exception as error:
        raise errors.BrokenModule(name, what, error) from error


def _warn_of_unimported(models: ModuleType) -> None:
    """Warn if autogenerate would drop the tables of modules that are not imported."""
    proxy = getattr(alembic_context, "_proxy", None)
    if proxy is None or proxy.context_opts.get("revision_context") is None:
        return
    missing = ", ".join(_unimported(models))
    if missing:
        warnings.warn_explicit(
            f"{models.__name__} does not import {missing}: autogenerate does not see the tables "
            "there, and would drop them; import it here",
            UserWarning,
            models.__file__ or models.__name__,
            1,
        )


def _unimported(package: ModuleType) -> Iterator[str]:
    """The modules below `package` that are not imported. Does not import them."""
    for module in pkgutil.iter_modules(getattr(package, "__path__", ()), package.__name__ + "."):
        imported = sys.modules.get(module.name)
        if imported is None:
            yield module.name
        elif module.ispkg:
            yield from _unimported(imported)
