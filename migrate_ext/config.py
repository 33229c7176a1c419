"""``alembic.ini`` and ``pyproject.toml``, read as Alembic reads them, without importing Alembic.

What is out of the ordinary (a missing file, a value that Alembic would complain about, a package
resource as script location) raises :class:`~migrate_ext.errors.Declined`: then Alembic's own
configuration runs and gives its own answer. Source of the rules: ``alembic/config.py`` and
``ScriptDirectory.from_config``, read in 1.13 and 1.20.1.
"""

from __future__ import annotations

import os
import sys
from configparser import ConfigParser
from configparser import Error as ConfigParserError
from typing import Any

from migrate_ext.errors import CommandError, Declined

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_SEPARATORS = {"space": " ", "newline": "\n", "os": os.pathsep, ":": ":", ";": ";"}


class Config:
    """The options a direct command needs.

    ini: path of the ini file, which need not exist. toml: path of ``pyproject.toml``, likewise.
    section: name of the main section of the ini file.
    """

    def __init__(self, ini: str, toml: str, section: str) -> None:
        self.ini = ini
        self.section = section
        self.parser = ConfigParser({"here": _here(ini)})
        self.toml: dict[str, Any] = {}
        self.toml_here = _here(toml)
        try:
            self.parser.read(ini, encoding="locale")
            if os.path.exists(toml):
                with open(toml, "rb") as file:
                    self.toml = tomllib.load(file).get("tool", {}).get("alembic", {})
        except tomllib.TOMLDecodeError as error:
            raise CommandError(f"{toml}: {error}") from error
        except (ConfigParserError, OSError, UnicodeDecodeError) as error:
            raise Declined(f"configuration: {error}") from error
        if not isinstance(self.toml, dict):
            raise Declined("configuration: [tool.alembic] is not a table")

    def option(self, name: str) -> str | None:
        """The option from the ini file's section, else from ``[tool.alembic]``; strings only."""
        try:
            if self.parser.has_option(self.section, name):
                return self.parser.get(self.section, name)
            value = self.toml.get(name)
            if value is None:
                return None
            if isinstance(value, str):
                return value % {"here": self.toml_here}
        except (ConfigParserError, ValueError, TypeError, KeyError) as error:
            raise Declined(f"configuration: {name}: {error}") from error
        raise Declined(f"configuration: {name} is not a string")

    def boolean(self, name: str) -> bool:
        """As Alembic: the word ``true`` in the ini file, a real boolean in TOML."""
        if self.parser.has_option(self.section, name):
            return self.option(name) == "true"
        value = self.toml.get(name, False)
        if not isinstance(value, bool):
            raise Declined(f"configuration: {name} is not a boolean")
        return value

    def paths(self, name: str) -> list[str]:
        """A list of paths: split by ``path_separator`` in the ini file, an array in TOML."""
        try:
            text = self.parser.get(self.section, name, fallback=None)
            chosen = self.parser.get(self.section, "path_separator", fallback="")
        except ConfigParserError as error:
            raise Declined(f"configuration: {name}: {error}") from error
        if text:
            separator = _SEPARATORS.get(chosen)
            if separator is None:
                raise Declined(f"configuration: {name} without path_separator")
            return [part.strip() for part in text.split(separator) if part]
        value = self.toml.get(name) or []
        if not isinstance(value, list) or not all(isinstance(part, str) for part in value):
            raise Declined(f"configuration: {name} is not a list of strings")
        try:
            return [part % {"here": self.toml_here} for part in value]
        except (ValueError, TypeError, KeyError) as error:
            raise Declined(f"configuration: {name}: {error}") from error

    def script_location(self) -> str:
        """The folder of ``env.py``."""
        location = self.option("script_location")
        if location is None:
            raise Declined("configuration: no script_location")
        return _folder(location)

    def version_locations(self, script_location: str) -> list[str]:
        """Absolute paths of the folders with revision files, as Alembic orders them."""
        paths = [_folder(path) for path in self.paths("version_locations")]
        return [
            os.path.abspath(path) for path in paths or [os.path.join(script_location, "versions")]
        ]


def _here(path: str) -> str:
    """The folder of a file, as ``Path(path).absolute().parent``: ``..`` may lead through a link."""
    parts = os.path.join(os.getcwd(), path).split(os.sep)
    return os.sep + os.sep.join([part for part in parts if part not in ("", ".")][:-1])


def _folder(path: str) -> str:
    if ":" in path and not os.path.isabs(path):
        raise Declined("configuration: a package resource")
    if not os.path.isdir(path):
        raise Declined(f"configuration: no folder {path}")
    return path


def default_files(named: list[str]) -> tuple[str, str]:
    """The ini and TOML files that ``-c`` and ``ALEMBIC_CONFIG`` choose, as in Alembic."""
    ini, toml = "alembic.ini", "pyproject.toml"
    chosen = os.environ.get("ALEMBIC_CONFIG")
    if chosen:
        if os.path.basename(chosen) == "pyproject.toml":
            toml = chosen
        else:
            ini = chosen
    seen: set[bool] = set()
    for name in named:
        is_toml = os.path.basename(name) == "pyproject.toml"
        if is_toml in seen:
            raise Declined("two configuration files of one kind")
        seen.add(is_toml)
        if is_toml:
            toml = name
        else:
            ini = name
    return ini, toml
