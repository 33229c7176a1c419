"""The settings that a thin ``env.py`` gives (:func:`migrate_ext.environment`), and the database's
URL.
"""

from __future__ import annotations

import os
import sys

from migrate_ext import _core, errors

TYPE_CHECKING = False  # saves the import of typing
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


class Settings:
    """The settings that ``env.py`` gave; see :func:`migrate_ext.environment`."""

    __slots__ = ("configure", "metadata", "models", "url_variable")

    def __init__(
        self, url_variable: str, metadata: str, models: str | None, configure: dict[str, Any]
    ) -> None:
        self.url_variable = url_variable
        self.metadata = metadata
        self.models = models
        self.configure = configure


# Called by :func:`migrate_ext.environment` with its settings while a direct command executes
# env.py.
serve: Callable[[Settings], None] | None = None


def connection_params(settings: Settings, url: str) -> dict[str, str]:
    try:
        return _core.parse_url(url)
    except ValueError as error:
        raise errors.CommandError(
            f"{settings.url_variable}: {error}; expected {errors.URL_FORM}"
        ) from error


def database_url(settings: Settings) -> str:
    """The URL from the environment, with the scheme that SQLAlchemy requires.

    Raises :class:`~migrate_ext.errors.CommandError` if it is not set, or has two '@' before the
    host.
    """
    name = settings.url_variable
    url = (os.environ.get(f"DIRECT_{name}") or os.environ.get(name, "")).strip()
    if not url:
        raise errors.CommandError(
            f"{settings.url_variable} is not set; give the database's URL, for example "
            f"{settings.url_variable}={errors.URL_FORM}"
        )
    scheme, separator, rest = url.partition("://")
    if rest.replace("?", "/").replace("#", "/").partition("/")[0].count("@") > 1:
        # libpq would parse the end of the password as the host, and print it.
        raise errors.CommandError(
            f"{settings.url_variable} has more than one '@' before the host; "
            "in a user name or a password write it as %40"
        )
    if separator and scheme.split("+")[0] == "postgres":
        return "postgresql" + scheme[len("postgres") :] + separator + rest
    return url


def with_driver(url: str, default: str) -> str | None:
    """A PostgreSQL URL for SQLAlchemy. If it names no driver and the `default` is not installed,
    with one that is; None if no driver is installed.
    """
    scheme, _, rest = url.partition("://")
    if "+" in scheme:
        return url
    for driver in (default, "psycopg", "psycopg2"):
        if _is_importable(driver):
            return url if driver == default else f"{scheme}+{driver}://{rest}"
    return None


def _is_importable(package: str) -> bool:
    """Like ``importlib.util.find_spec``, for a package in a folder, without importing
    ``importlib.util``.
    """
    if package in sys.modules:
        return sys.modules[package] is not None
    return any(os.path.isfile(os.path.join(place, package, "__init__.py")) for place in sys.path)


def default_driver() -> str:
    """SQLAlchemy's default driver, by its version, without importing it."""
    for place in sys.path:
        for name in os.listdir(place or os.curdir) if os.path.isdir(place or os.curdir) else ():
            if name.lower().startswith("sqlalchemy-2.0."):
                return "psycopg2"
    return "psycopg"
