"""``migrate-ext doctor``: what is active in this environment, over which versions, and why anything is not."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterator


def lines() -> Iterator[tuple[str, str]]:
    """The findings, a name and a text each; imports Alembic as a program that uses it would."""
    from importlib import metadata, util

    import migrate_ext

    yield "migrate_ext", f"{migrate_ext.__version__}, {os.path.dirname(migrate_ext.__file__)}"
    yield "Python", f"{platform.python_version()}, {sys.executable}"
    try:
        from migrate_ext import _core

        yield "C core", str(_core.__file__)
    except ImportError as error:
        yield "C core", f"NOT USABLE: {error}"
    for name in ("alembic", "SQLAlchemy", "psycopg", "psycopg2"):
        distributions = (name, f"{name}-binary") if name == "psycopg2" else (name,)
        for distribution in distributions:
            try:
                yield name, metadata.version(distribution)
                break
            except metadata.PackageNotFoundError:
                continue
        else:
            found = util.find_spec(name) is not None
            yield name, "installed, of an unknown version" if found else "not installed"
    points = metadata.entry_points(group="alembic.plugins")
    found = any(point.value == "migrate_ext.plugin" for point in points)
    yield "entry point", "found" if found else "NOT FOUND: install the package, or call install()"
    yield from _active()
    yield from _libpq()


def _active() -> Iterator[tuple[str, str]]:
    if os.environ.get("MIGRATE_EXT") == "0":
        yield "runtime", "OFF: MIGRATE_EXT=0"
        return
    import alembic.config  # noqa: F401  (installs the runtime where the entry point is found)

    try:
        from migrate_ext import hooks
    except ImportError as error:
        yield "runtime", f"OFF: {error}"
        return
    active, others = hooks.active_parts()
    for part in active:
        yield part, "active"
    for part, reason in others.items():
        yield part, f"OFF: {reason}"


def _libpq() -> Iterator[tuple[str, str]]:
    try:
        from migrate_ext import _core, libpq

        path = libpq.find()
        version = _core.load_libpq(path)
        yield "libpq", f"{version // 10000}.{version % 10000}, {path or 'the system library'}"
    except (ImportError, OSError) as error:
        yield "libpq", f"NOT FOUND for commands of migrate-ext: {error}"


def main() -> int:
    """Print the findings; 1 when something is missing or off, 0 otherwise."""
    trouble = 0
    for name, text in lines():
        print(f"{name:16} {text}")
        trouble |= text.startswith(("OFF", "NOT ")) or (name == "C core" and "NOT USABLE" in text)
    return int(trouble)
