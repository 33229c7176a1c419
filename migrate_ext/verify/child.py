"""Runs one command of a comparison: ``alembic`` or ``migrate-ext``, on scratch databases only.

Run as a script by :mod:`migrate_ext.verify.sides`: ``child.py FOLDER PROGRAM NAMES REPORT OPTIONS ARGUMENT...``. FOLDER
is the first entry of ``sys.path``. PROGRAM: ``alembic``, ``drop-in`` (the same with the runtime), ``migrate-ext``.
NAMES: the databases that may be used, separated by commas. REPORT: a file to which refused connections are written,
because the project may swallow the exception. OPTIONS: a JSON file with other values for options of the ini file, by
file and section.

The guards are put in place when the module they guard has been imported, and nothing is imported for them: a command
must cost what it costs. Names here have an underscore: in ``__main__`` of ``alembic`` there are none but ``sys``.
"""

import os as _os
import sys

TYPE_CHECKING = False  # saves the import of typing
if TYPE_CHECKING:
    import typing as _t
del TYPE_CHECKING

_FOLDER, _PROGRAM, _NAMES, _REPORT, _OPTIONS = sys.argv[1:6]
_ALLOWED = frozenset(_NAMES.split(","))


class _OtherDatabase(Exception):
    """The project connects to another database than a scratch one; nothing was sent there."""


def _check(name: "str | None") -> None:
    """Raise _OtherDatabase unless `name` is a scratch database. name: None if it is not known yet."""
    if name is not None and name not in _ALLOWED:
        with open(_REPORT, "a", encoding="utf-8") as file:
            file.write(f"{name}\n")
        raise _OtherDatabase(f"migrate-ext verify refuses a connection to {name!r}")


def _database_of(connection: "_t.Any") -> "str | None":
    """The database of a driver's connection, or of SQLAlchemy's adapter around one; None if unknown."""
    connection = getattr(connection, "driver_connection", connection)
    found = getattr(getattr(connection, "info", None), "dbname", None)
    if found is None:  # asyncpg
        found = getattr(getattr(connection, "_params", None), "database", None)
    return found and str(found)


def _told(arguments: "_t.Any", options: "_t.Any") -> "str | None":
    """The database that the arguments of a driver's connect() name; None if it is not obvious."""
    named = options.get("database") or options.get("dbname")
    texts = [options.get("dsn"), options.get("conninfo"), *arguments]
    for text in () if named else filter(None, texts):
        if not isinstance(text, str):
            continue
        _, is_url, rest = text.partition("://")
        if is_url:
            named = rest.partition("?")[0].partition("/")[2]
        else:
            words = [word.partition("=")[2] for word in text.split() if word.startswith("dbname=")]
            named = words[-1] if words else None
    return named or None


def _checked(
    connect: "_t.Any", is_postgresql: "_t.Callable[..., bool]" = lambda *arguments: True
) -> "_t.Any":
    """`connect`, wrapped to refuse other databases: before it connects, if the arguments name one, and after."""

    def connect_to_scratch(*arguments: "_t.Any", **options: "_t.Any") -> "_t.Any":
        if not is_postgresql(*arguments):
            return connect(*arguments, **options)
        _check(_told(arguments, options))
        connection = connect(*arguments, **options)
        if hasattr(connection, "__await__"):
            return _checked_later(connection)
        try:
            _check(_database_of(connection))
        except _OtherDatabase:
            connection.close()
            raise
        return connection

    return connect_to_scratch


async def _checked_later(connecting: "_t.Any") -> "_t.Any":
    connection = await connecting
    try:
        _check(_database_of(connection))
    except _OtherDatabase:
        await connection.close()
        raise
    return connection


def _guard_engines(module: "_t.Any") -> None:
    dialect = module.DefaultDialect
    dialect.connect = _checked(dialect.connect, lambda self, *_: self.name == "postgresql")


def _guard_driver(module: "_t.Any") -> None:
    module.connect = _checked(module.connect)


def _guard_psycopg(module: "_t.Any") -> None:
    for connection in (module.Connection, module.AsyncConnection):
        connection.connect = classmethod(_checked(vars(connection)["connect"].__func__))
    module.connect = module.Connection.connect


def _guard_environment(module: "_t.Any") -> None:
    """Have ``context.configure`` accept only connections to scratch databases, wherever they come from."""
    from alembic.runtime.environment import EnvironmentContext

    configure = EnvironmentContext.configure

    def guarded(self: "_t.Any", *arguments: "_t.Any", **options: "_t.Any") -> None:
        configure(self, *arguments, **options)
        connection = self.get_context().connection
        if connection is None or self.is_offline_mode():
            return
        if connection.dialect.name == "postgresql":
            _check(_database_of(connection.connection.dbapi_connection))

    # type.__setattr__ bypasses Alembic's metaclass, which would compile the proxies of `alembic.context` again.
    type.__setattr__(EnvironmentContext, "configure", guarded)


def _guard_url(module: "_t.Any") -> None:
    """Guard the sessions of ``migrate-ext`` itself, and the engine of a thin ``env.py``."""
    database_url = module.database_url

    def guarded(settings: "_t.Any") -> str:
        url: str = database_url(settings)
        _check(module._core.parse_url(url).get("dbname"))
        return url

    module.database_url = guarded


def _change_options(module: "_t.Any") -> None:
    """In an ini file that is read, replace the project's URLs by those of scratch databases."""
    parser = module.RawConfigParser
    read = parser.read

    def read_changed(
        self: "_t.Any", filenames: "_t.Any", encoding: "str | None" = None
    ) -> "list[str]":
        import json

        found: list[str] = read(self, filenames, encoding)
        with open(_OPTIONS, encoding="utf-8") as file:
            changes = json.load(file)
        for name in found:
            for section, options in changes.get(_os.path.abspath(name), {}).items():
                if self.has_section(section):
                    for option, value in options.items():
                        self.set(section, option, value)
        return found

    parser.read = read_changed


class _AfterImport:
    """A finder that leaves the search to the other finders, and guards some modules after their execution."""

    guards: "_t.ClassVar[dict[str, _t.Callable[[_t.Any], None]]]" = {
        "configparser": _change_options,
        "sqlalchemy.engine.default": _guard_engines,
        "psycopg": _guard_psycopg,
        "psycopg2": _guard_driver,
        "asyncpg": _guard_driver,
        # After its import `alembic.context` has its proxies, and the runtime is installed.
        "alembic.command": _guard_environment,
        "migrate_ext.project.environment": _guard_url,
    }

    @classmethod
    def find_spec(cls, name: str, path: "_t.Any" = None, target: "_t.Any" = None) -> "_t.Any":
        guard = cls.guards.pop(name, None)
        if guard is None:
            return None
        for finder in sys.meta_path:
            find = getattr(finder, "find_spec", None)
            spec = find and find(name, path, target)
            if spec is not None:
                break
        else:
            return None
        execute = spec.loader.exec_module

        def execute_and_guard(module: "_t.Any") -> None:
            execute(module)
            if module.__name__ == name:  # all modules of an archive share a loader
                guard(module)

        spec.loader.exec_module = execute_and_guard
        return spec


def _run() -> None:
    sys.path[0] = _FOLDER
    name = "migrate-ext" if _PROGRAM == "migrate-ext" else "alembic"
    sys.argv[:] = [name, *sys.argv[6:]]
    sys.meta_path.insert(0, _AfterImport)
    if _PROGRAM == "migrate-ext":
        from migrate_ext.cli import main
    else:
        from alembic.config import main  # type: ignore[assignment]

        if _PROGRAM == "drop-in":
            import migrate_ext

            migrate_ext.install()  # for an Alembic that is too old to load the plugin
    sys.exit(main())


if __name__ == "__main__":
    _run()
