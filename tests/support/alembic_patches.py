"""Finds the attributes of Alembic's classes that migrate_ext has replaced: a comparison needs an Alembic without them."""

from __future__ import annotations

import sys
from collections.abc import Mapping


def _origin(value: object) -> str:
    function = getattr(value, "fget", None) or getattr(value, "__func__", None) or value
    return getattr(function, "__module__", None) or type(value).__module__


def patched_attributes() -> list[str]:
    """``Class.attribute`` of all that comes from migrate_ext; it does not ask migrate_ext what it has installed.

    ``Script.module`` stays after ``uninstall()``, for scripts that were read before; others have an attribute of their own.
    """
    found = set()
    for name, module in list(sys.modules.items()):
        if name != "alembic" and not name.startswith("alembic."):
            continue
        classes = [v for v in vars(module).values() if isinstance(v, type)]
        owners: dict[str, Mapping[str, object]] = {name: vars(module)}
        owners.update((c.__name__, vars(c)) for c in classes if c.__module__.startswith("alembic"))
        for owner, attributes in owners.items():
            for attribute, value in list(attributes.items()):
                if _origin(value).startswith("migrate_ext"):
                    found.add(f"{owner}.{attribute}")
    return sorted(found - {"Script.module"})
