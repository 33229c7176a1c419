"""``alembic.ini`` and ``pyproject.toml``, read as Alembic reads them, without importing Alembic.

Anything unusual (a missing file, a value that Alembic would reject, a package resource as script
location) raises :class:`~migrate_ext.errors.Declined`: then Alembic reads the configuration itself.
Source of the rules: ``alembic/config.py`` and ``ScriptDirectory.from_config``, read in 1.13 and
1.20.1.
"""

from __future__ import annotations

import os

from migrate_ext.errors import CommandError, Declined
from migrate_ext.project import ini

TYPE_CHECKING = False  # saves the import of typing
if TYPE_CHECKING:
    from collections.abc import Sequence
    from configparser import ConfigParser
    from typing import Any

_SEPARATORS = {"space": " ", "newline": "\n", "os": os.pathsep, ":": ":", ";": ";"}


class Config:
    """The options that a direct command needs.

    ini: path of the ini file, which need not exist. toml: path of ``pyproject.toml``, likewise.
    section: name of the main section of the ini file.
    """

    def __init__(self, ini: str, toml: str, section: str) -> None:
        self.ini = ini
        self.section = section
        self.parser = _read_ini(ini)
        self.toml_here = _here(toml)
        self.toml = _read_toml(toml)

    def option(self, name: str) -> str | None:
        """The option from the ini file's section, else from ``[tool.alembic]``; strings only."""
        try:
            if self.parser.has_option(self.section, name):
                return self.value(self.section, name)
            value = self.toml.get(name)
            if value is None:
                return None
            if isinstance(value, str):
                return value % {"here": self.toml_here}
        except (ValueError, TypeError, KeyError) as error:
            raise Declined(f"configuration: {name}: {error}") from error
        raise Declined(f"configuration: {name} is not a string")

    def value(self, section: str, name: str) -> str | None:
        """An option of the ini file only, or None."""
        if isinstance(self.parser, ini.Ini):
            return self.parser.get(section, name)
        import configparser

        try:
            return self.parser.get(section, name, fallback=None)
        except configparser.Error as error:
            raise Declined(f"configuration: {name}: {error}") from error

    def boolean(self, name: str) -> bool:
        """A boolean, as Alembic reads it: the word ``true`` in the ini file, a boolean in TOML."""
        if self.parser.has_option(self.section, name):
            return self.option(name) == "true"
        value = self.toml.get(name, False)
        if not isinstance(value, bool):
            raise Declined(f"configuration: {name} is not a boolean")
        return value

    def paths(self, name: str) -> list[str]:
        """A list of paths: split by ``path_separator`` in the ini file, an array in TOML."""
        text = self.value(self.section, name)
        if text:
            separator = _SEPARATORS.get(self.value(self.section, "path_separator") or "")
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

    def check(self) -> None:
        """Raises :class:`~migrate_ext.errors.Declined` if Alembic may reject an option that it
        reads before any command, although it is not needed here.
        """
        for name in ("file_template", "output_encoding", "timezone"):
            self.option(name)
        length = self.toml.get("truncate_slug_length")
        if self.parser.has_option(self.section, "truncate_slug_length"):
            length = self.option("truncate_slug_length")
        if type(length) is not int and length is not None and not str(length).isdecimal():
            raise Declined("configuration: truncate_slug_length is not a number")
        if self.parser.has_section("post_write_hooks"):
            for name in self.parser.options("post_write_hooks"):
                self.value("post_write_hooks", name)
            return
        hooks = self.toml.get("post_write_hooks", [])
        tables: list[Any] = hooks if isinstance(hooks, list) else [None]
        if not all(isinstance(table, dict) and "name" in table for table in tables):
            raise Declined("configuration: post_write_hooks are not tables with a name")
        for value in [value for table in tables for value in table.values()]:
            if not isinstance(value, str) or "%" in value.replace("%(here)s", "").replace("%%", ""):
                raise Declined("configuration: post_write_hooks are not strings")

    def script_location(self) -> str:
        """The folder of ``env.py``."""
        location = self.option("script_location")
        if location is None:
            raise Declined("configuration: no script_location")
        return _folder(location)

    def version_locations(self, script_location: str) -> list[str]:
        """Absolute paths of the folders with revision files, as Alembic orders them."""
        paths = [_folder(path) for path in self.paths("version_locations")]
        return [_absolute(path) for path in paths or [os.path.join(script_location, "versions")]]


def _read_ini(path: str) -> ini.Ini | ConfigParser:
    """The ini file, read by :mod:`migrate_ext.project.ini` if possible; empty if it does not exist."""
    here = {"here": _here(path)}
    try:
        with open(path, encoding="locale") as file:
            text = file.read()
    except FileNotFoundError:
        return ini.Ini(here)
    except (OSError, UnicodeDecodeError) as error:
        raise Declined(f"configuration: {error}") from error
    found = ini.read(text, here)
    if found is not None:
        return found
    import configparser

    parser = configparser.ConfigParser(here)
    try:
        parser.read_string(text, path)
    except configparser.Error as error:
        raise Declined(f"configuration: {error}") from error
    return parser


def _read_toml(path: str) -> dict[str, Any]:
    """``[tool.alembic]``, or empty. Imports ``tomllib`` only if the file may have that table."""
    try:
        with open(path, "rb") as file:
            data = file.read()
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise Declined(f"configuration: {error}") from error
    if not _may_name_us(data):
        return {}
    import sys

    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        found = tomllib.loads(data.decode()).get("tool", {}).get("alembic", {})
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise CommandError(f"{path}: {error}") from error
    except AttributeError as error:  # `tool` is no table
        raise Declined(f"configuration: {error}") from error
    if not isinstance(found, dict):
        raise Declined("configuration: [tool.alembic] is not a table")
    return found


def _may_name_us(data: bytes) -> bool:
    """Whether TOML with these bytes may have a key ``tool.alembic``; False only if it cannot.

    Either both keys are on one line (``[tool.alembic]``, ``tool.alembic.x = 1``, ``tool = {alembic
    = ...``), or ``tool`` is a table of its own (``[tool]``) or an inline one (``tool = {``). A
    quoted key may contain escapes.
    """
    if b"\\u" in data or b"\\U" in data or b"\\x" in data:
        return True
    named = b"alembic" in data
    for line in data.splitlines():
        _, *after = line.split(b"tool")
        if named and after and b"alembic" in line:
            return True
        ends = {part.lstrip(b" \t\"'")[:1] for part in after}
        # `tool = 3` and `[[tool]]` are errors in Alembic
        if b"=" in ends or (b"]" in ends and (named or b"[[" in line)):
            return True
    return False


def _here(path: str) -> str:
    """The folder of a file, as ``Path(path).absolute().parent``; keeps ``..``, because of links."""
    parts = os.path.join(os.getcwd(), path).split(os.sep)
    return os.sep + os.sep.join([part for part in parts if part not in ("", ".")][:-1])


def _folder(path: str) -> str:
    if ":" in path and not os.path.isabs(path):
        raise Declined("configuration: a package resource")
    if not os.path.isdir(path):
        raise Declined(f"configuration: no folder {path}")
    return path


def _absolute(path: str) -> str:
    """The path without ``..``. Raises Declined for ``..`` after a link, where Alembic versions
    differ.
    """
    found = os.path.abspath(path)
    if ".." in path and os.path.realpath(path) != os.path.realpath(found):
        raise Declined("configuration: .. behind a link")
    return found


def default_files(named: list[str]) -> tuple[str, str]:
    """The ini and TOML files that ``-c`` and ``ALEMBIC_CONFIG`` choose, as in Alembic."""
    ini, toml = "alembic.ini", "pyproject.toml"
    chosen = os.environ.get("ALEMBIC_CONFIG")
    if chosen:
        if os.path.basename(chosen) == "pyproject.toml":
            toml = chosen
        else:
            ini = chosen
    named_ini = named_toml = None
    for name in named:
        is_toml = os.path.basename(name) == "pyproject.toml"
        if (named_toml if is_toml else named_ini) is not None:
            raise Declined("two configuration files of one kind")
        if is_toml:
            named_toml = name
        else:
            named_ini = name
    return named_ini or ini, named_toml or toml  # an empty name counts as none, as in Alembic


class Options:
    """The parsed command line: ``command``, ``arguments``; ``flags``, ``values`` by Alembic's
    names.
    """

    def __init__(self, argv: Sequence[str], prog: str) -> None:
        self.argv = list(argv)
        self.prog = prog
        self.config: list[str] = []
        self.section = "alembic"
        self.raiseerr = False
        self.quiet = False
        self.command = ""
        self.arguments: list[str] = []
        self.flags: set[str] = set()
        self.values: dict[str, str] = {}

    def value(self, name: str) -> str | None:
        return self.values.get(name)
