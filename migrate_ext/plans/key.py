"""The plan file, and whether it may be used.

``migrate-ext compile`` (:mod:`migrate_ext.rendering.compile`) writes the SQL of constant migrations
into one file beside the folder of revisions. This module compares that file with its sources,
without importing them: settings, packages, the project's modules, the revision files. In case of
doubt the file is not used, and the migrations are rendered.
"""

from __future__ import annotations

import os
import sys

from migrate_ext import __version__, _core, errors

TYPE_CHECKING = False  # saves the import of typing
if TYPE_CHECKING:
    from typing import TypeAlias

    from migrate_ext.project.config import Config
    from migrate_ext.project.environment import Settings

    # (line of the directive, statement); line -1: "autocommit" or "transaction"
    Items: TypeAlias = list[tuple[int, str]]
    # (revision, is an upgrade) -> (hash of the revision's file, items)
    Functions: TypeAlias = dict[tuple[str, bool], tuple[str, Items]]

# Options of configure() that do not change the rendered SQL, and that a run on our own session
# obeys.
_HARMLESS = frozenset(
    "alembic_module_prefix autogenerate_plugins compare_server_default compare_type include_name "
    "include_object include_schemas process_revision_directives render_as_batch render_item "
    "sqlalchemy_module_prefix template_args transaction_per_migration user_module_prefix "
    "version_table version_table_pk version_table_schema downgrade_token upgrade_token".split()
)


def path_of(config: Config) -> str:
    """The plan file: beside the first folder of revisions, ``versions.plan``."""
    return config.version_locations(config.script_location())[0] + ".plan"


def setting_keys(settings: Settings) -> list[str]:
    """The settings that ``env.py`` gave, as lines to compare.

    Raises :class:`~migrate_ext.errors.Declined` for an option that may change the SQL, or the run.
    """
    keys = [f"migrate_ext {__version__}"]
    keys += [f"metadata {settings.metadata!r}", f"models {settings.models!r}"]
    for name, value in sorted(settings.configure.items()):
        if name not in _HARMLESS:
            raise errors.Declined(f"the option {name}")
        keys.append(f"option {name} {_literal(value)}")
    return keys


def _literal(value: object) -> str:
    if value is None or isinstance(value, (str, int)):
        return repr(value)
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join([_literal(part) for part in value]) + "]"
    return type(value).__name__  # a function, which does not change the rendered SQL


def folder_hash_text(path: str) -> str:
    """The modules in a package's folder, as in a key: others may import one that is added later."""
    names = sorted(name for name in os.listdir(path) if name.endswith(".py") or "." not in name)
    return " ".join(names).replace("__pycache__", "").replace("\n", "?")


def installed() -> dict[str, str]:
    """Normalised names of installed packages -> names of their metadata folders, with the version."""
    found: dict[str, str] = {}
    for place in sys.path:
        try:
            names = os.listdir(place or os.curdir)
        except OSError:
            continue
        for name in names:
            if name.endswith((".dist-info", ".egg-info")):
                found.setdefault(name.partition("-")[0].lower(), name)
    return found


def reason_stale(keys: list[str], settings: list[str], base: str) -> str | None:
    """None if the `keys` of a plan file match the present state; else which one does not.

    settings: from :func:`setting_keys`. base: the folder to which paths in `keys` are relative.
    """
    packages: dict[str, str] | None = None
    mine: list[str] = []
    files: list[str] = []
    hashes: list[str] = []
    for key in keys:
        kind, _, rest = key.partition(" ")
        if kind == "package":
            if packages is None:
                packages = installed()
            if packages.get(rest.partition("-")[0].lower()) != rest:
                return f"another version than {rest}"
        elif kind == "file":
            hash_, _, path = rest.partition(" ")
            files.append(path)
            hashes.append(hash_)
        elif kind == "folder":
            path, _, names = rest.partition(": ")
            try:
                if folder_hash_text(os.path.join(base, path)) != names:
                    return f"{path} has other modules"
            except OSError:
                return f"{path} is gone"
        else:
            mine.append(key)
    if mine != settings:
        return "other settings in env.py, or another migrate_ext"
    for path, hash_, now in zip(
        files, hashes, _core.hash_files([os.path.join(base, path) for path in files]), strict=True
    ):
        if hash_ != now:
            return f"{path} was changed"
    return None


def load(config: Config, settings: Settings) -> Functions | str:
    """The functions of the plan file, or why it is not used."""
    path = path_of(config)
    try:
        with open(path, "rb") as file:
            data = file.read()
    except FileNotFoundError:
        return "none"
    except OSError as error:
        return str(error)
    try:
        keys, functions = _core.read_plan(data)
        stale = reason_stale(keys, setting_keys(settings), os.path.dirname(path))
    except (ValueError, errors.Declined) as error:
        return str(error)
    return functions if stale is None else stale
