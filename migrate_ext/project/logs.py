"""Writes Alembic's log lines when Alembic does not run.

Importing :mod:`logging` and its configuration takes longer than the start of Python. If the ini
file has the sections that ``alembic init`` writes, this module writes the lines to stderr in their
format. With any other configuration, or an ``env.py`` that uses logging, it uses :mod:`logging`.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False  # saves the import of typing
if TYPE_CHECKING:
    from migrate_ext.project.config import Config

LOGGER = "alembic.runtime.migration"
_LEVELS = ("CRITICAL", "FATAL", "ERROR", "WARN", "WARNING", "INFO", "DEBUG")
# The sections in alembic/templates (the same in 1.13 and 1.20.1) -> their options. None: a level,
# one of _LEVELS.
_STANDARD: dict[str, dict[str, str | None]] = {
    "loggers": {"keys": "root,sqlalchemy,alembic"},
    "handlers": {"keys": "console"},
    "formatters": {"keys": "generic"},
    "logger_root": {"level": None, "handlers": "console", "qualname": ""},
    "logger_sqlalchemy": {"level": None, "handlers": "", "qualname": "sqlalchemy.engine"},
    "logger_alembic": {"level": None, "handlers": "", "qualname": "alembic"},
    "handler_console": {
        "class": "StreamHandler",
        "args": "(sys.stderr,)",
        "level": "NOTSET",
        "formatter": "generic",
    },
    "formatter_generic": {
        "format": "%(levelname)-5.5s [%(name)s] %(message)s",
        "datefmt": "%H:%M:%S",
    },
}

# Where lines go: "nowhere", "stderr" in the standard format, "logging".
_way = "nowhere"
_config: Config | None = None


def configure(config: Config) -> None:
    """Set up the ini file's logging, if it has any, as the ``env.py`` of Alembic's templates does."""
    global _way, _config
    _config = config
    if "logging" not in sys.modules:
        if not config.parser.has_section("loggers"):
            _way = "nowhere"
            return
        level = _standard_level(config)
        if level is not None:
            _way = "stderr" if level in ("INFO", "DEBUG") else "nowhere"
            return
    in_full()


def in_full() -> None:
    """Use :mod:`logging` from here on, because other code is about to use it.

    Does nothing before :func:`configure` is called.
    """
    global _way
    if _way == "logging" or _config is None:
        return
    _way = "logging"
    import logging

    logging.getLogger("alembic").addHandler(logging.NullHandler())
    if _config.parser.has_section("loggers"):
        import logging.config

        logging.config.fileConfig(_config.ini, disable_existing_loggers=False)


def _standard_level(config: Config) -> str | None:
    """The level of Alembic's logger if all sections are the standard ones, else None."""
    for section, options in _STANDARD.items():
        for option, expected in options.items():
            value = config.parser.get(section, option, raw=True, fallback="?")
            if value != expected and not (expected is None and value in _LEVELS):
                return None
    names = ("propagate", "stream", "style", "defaults", "validate", "class")
    for section in _STANDARD:
        for name in names:
            if name not in _STANDARD[section] and config.parser.has_option(section, name):
                return None
    return config.parser.get("logger_alembic", "level", raw=True, fallback=None)


def info(text: str) -> None:
    """Log one INFO line of ``alembic.runtime.migration``."""
    if _way == "logging":
        import logging

        logging.getLogger(LOGGER).info("%s", text)
    elif _way == "stderr" and sys.stderr is not None:
        sys.stderr.write(f"INFO  [{LOGGER}] {text}\n")
        sys.stderr.flush()


def context() -> None:
    """Log what Alembic logs when ``env.py`` configures a PostgreSQL connection."""
    info("Context impl PostgresqlImpl.")
    info("Will assume transactional DDL.")


class importing_alembic:  # a class, because contextlib would have to be imported
    """Import Alembic within this block. Sets up logging first, but suppresses what the import logs.

    Under ``alembic`` that is not visible either, because ``env.py`` sets up logging later. Garbage
    collection is off during the import, which takes a tenth less time, and later ignores the
    objects that it created, which saves as much in a run and at the program's end.
    """

    def __enter__(self) -> None:
        in_full()
        import gc
        import logging

        self.collects = gc.isenabled()
        gc.disable()
        self.logger = logging.getLogger("alembic.runtime.plugins")
        self.level = self.logger.level
        self.logger.setLevel(logging.WARNING)

    def __exit__(self, *_: object) -> None:
        self.logger.setLevel(self.level)
        if self.collects:
            import gc

            gc.freeze()
            gc.enable()
