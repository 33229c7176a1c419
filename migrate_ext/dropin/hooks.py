"""Table of monkey-patches for Alembic's classes, the versions they fit, and their installation.

Imported during the import of Alembic (:mod:`migrate_ext.plugin`), in every program that uses it. So
:mod:`migrate_ext.dropin.run`, which executes SQL, is imported only when migrations are run. Classes
are patched in place, so names imported from Alembic and users' subclasses remain valid.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy
from alembic.runtime.migration import HeadMaintainer, MigrationContext, _ProxyTransaction

from migrate_ext.dropin import script
from migrate_ext.dropin.originals import originals


def _from_run(cls: type, name: str) -> Callable[..., Any]:
    """A replacement for the method `name` of `cls`: it calls the function ``_name`` of
    :mod:`migrate_ext.dropin.run`.
    """
    hook = f"_{name.strip('_')}" if name != "__exit__" else "_end_transaction"

    @functools.wraps(vars(cls)[name], assigned=("__name__", "__qualname__", "__doc__"))
    def method(*args: Any, **kw: Any) -> Any:
        from migrate_ext.dropin import run

        return getattr(run, hook)(*args, **kw)

    return method


# By part. A part is installed as a whole or not at all.
_HOOKS: dict[str, tuple[tuple[type, str, Any], ...]] = {
    **script.REPLACEMENTS,
    "execution": tuple(
        (cls, name, _from_run(cls, name))
        for cls, name in (
            (MigrationContext, "run_migrations"),
            (MigrationContext, "begin_transaction"),
            (MigrationContext, "autocommit_block"),
            (_ProxyTransaction, "__exit__"),
            (HeadMaintainer, "_insert_version"),
            (HeadMaintainer, "_delete_version"),
            (HeadMaintainer, "_update_version"),
            (HeadMaintainer, "update_to_step"),
        )
    ),
}
originals.update(
    {(cls, name): vars(cls).get(name) for part in _HOOKS.values() for cls, name, _ in part}
)
_active: list[str] = []

# -------------------------------------------------------------------------------------------------
# Versions of Alembic and SQLAlchemy

# The oldest and the newest version that this was read in and tested with; what each part mirrors or
# calls in Alembic, and a digest of its source. With a newer Alembic a part is used if the digest
# matches.
ALEMBIC = ((1, 13), (1, 20, 1))
SQLALCHEMY = ((2, 0), (2, 2))  # excluding the latter
_MIRRORED: dict[str, tuple[tuple[str, ...], str]] = {
    "revision map": (("alembic.script.revision",), "e344a758dfabad19"),
    "revision files": (
        (
            "alembic.script.base:Script",
            "alembic.script.base:ScriptDirectory._load_revisions",
            "alembic.script.base:ScriptDirectory._version_locations",
            "alembic.util.pyfiles:load_python_file",
            "alembic.util.pyfiles:load_module_py",
        ),
        "848d0fb37688a3bb",
    ),
    "version steps": (
        ("alembic.runtime.migration:RevisionStep", "alembic.runtime.migration:MigrationStep"),
        "670ef7b3e14ddc5a",
    ),
    "execution": (
        (
            "alembic.runtime.migration:MigrationContext",
            "alembic.runtime.migration:HeadMaintainer",
            "alembic.runtime.migration:_ProxyTransaction",
            "alembic.ddl.impl:DefaultImpl._exec",
        ),
        "845fd4917a4d2ed3",
    ),
}


def numbers(version: str) -> tuple[int, ...]:
    """The leading numbers of a version: ``"1.20.1b2"`` gives (1, 20, 1)."""
    found = []
    for part in version.split(".")[:3]:
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        if digits:
            found.append(int(digits))
    return tuple(found)


def alembic_version() -> str:
    """The version of the imported Alembic; works during its import, too."""
    import alembic

    known: str | None = getattr(alembic, "__version__", None)
    if known is None:  # not set yet; reading the source is faster than reading the metadata
        source = alembic.__loader__.get_source("alembic") or ""  # type: ignore[union-attr]
        known = source.partition('__version__ = "')[2].partition('"')[0]
    if not known:
        from importlib.metadata import version

        known = version("alembic")
    return known


def mirrored_digest(part: str) -> str:
    """A digest of the source of all that `part` mirrors in the imported Alembic."""
    import hashlib
    import inspect

    digest = hashlib.sha256()
    for name in _MIRRORED[part][0]:
        module_name, _, path = name.partition(":")
        found: Any = importlib.import_module(module_name)
        for attribute in filter(None, path.split(".")):
            found = inspect.getattr_static(found, attribute)
        found = getattr(found, "fget", found)  # of a property
        digest.update(inspect.getsource(found).encode())
    return digest.hexdigest()[:16]


def left_out() -> dict[str, str]:
    """The parts that do not fit the imported Alembic and SQLAlchemy -> why not."""
    version, oldest, newest = alembic_version(), *ALEMBIC
    if numbers(version) < oldest:
        return dict.fromkeys(_HOOKS, f"Alembic {version} is older than 1.13")
    reasons = {}
    if not SQLALCHEMY[0] <= numbers(sqlalchemy.__version__) < SQLALCHEMY[1]:
        reasons["execution"] = f"SQLAlchemy {sqlalchemy.__version__} is not known"
    if numbers(version) > newest:
        for part, (_, digest) in _MIRRORED.items():
            if mirrored_digest(part) != digest:
                reasons[part] = f"Alembic {version} is new, and differs where it is used"
    return reasons


# -------------------------------------------------------------------------------------------------
# Installation


def install() -> str:
    """Set the hooks of all parts that fit in Alembic's classes. A second call does nothing.

    Returns a text for the user about parts that are left to Alembic, or about a new version; "" if
    there is nothing to say.
    """
    if _active:
        return ""
    reasons = left_out()
    try:
        for part, hooks in _HOOKS.items():
            if part not in reasons:
                _active.append(part)
                for cls, name, hook in hooks:
                    setattr(cls, name, hook)
    except BaseException:
        uninstall()
        raise
    version = alembic_version()
    if reasons:
        texts = [f"{part} ({reason})" for part, reason in reasons.items()]
        return f"left to Alembic itself: {', '.join(texts)}"
    if numbers(version) > ALEMBIC[1]:
        known = ".".join(map(str, ALEMBIC[1]))
        return f"Alembic {version} is newer than {known}, which is known; all parts still fit"
    return ""


def uninstall() -> None:
    """Restore Alembic's own methods, except those that other code has replaced since.

    ``Script.module``, which Alembic's class does not have, stays: scripts that were read from files
    need it, all others have an attribute of their own.
    """
    for part in _active:
        for cls, name, hook in _HOOKS[part]:
            original = originals.get((cls, name))
            if original is not None and vars(cls).get(name) is hook:
                setattr(cls, name, original)
    _active.clear()


def active_parts() -> tuple[list[str], dict[str, str]]:
    """The installed parts; and the other parts -> why they are not installed."""
    reasons = left_out()
    others = [part for part in _HOOKS if part not in _active]
    return list(_active), {part: reasons.get(part, "not installed") for part in others}


@contextmanager
def installed() -> Iterator[None]:
    """Install the hooks within this block; hooks that were installed before stay."""
    if _active:
        yield
        return
    install()
    try:
        yield
    finally:
        uninstall()
