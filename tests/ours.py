"""Finds what of ours stands in Alembic's own classes, so that no comparison becomes one of ours with ours."""

from __future__ import annotations

import sys


def _origin(value: object) -> str:
    function = getattr(value, "fget", None) or getattr(value, "__func__", None) or value
    return getattr(function, "__module__", None) or type(value).__module__


def in_alembic() -> list[str]:
    """``Class.attribute`` of all that comes from migrate_ext; it does not ask migrate_ext what it has installed.

    ``Script.module`` stays after ``uninstall()``, for scripts that were read before; others have an attribute of their own.
    """
    found = set()
    for name, module in list(sys.modules.items()):
        if name != "alembic" and not name.startswith("alembic."):
            continue
        classes = [v for v in vars(module).values() if isinstance(v, type)]
        for owner in (module, *(cls for cls in classes if cls.__module__.startswith("alembic"))):
            for attribute, value in list(vars(owner).items()):
                if _origin(value).startswith("migrate_ext"):
                    found.add(f"{owner.__name__}.{attribute}")
    return sorted(found - {"Script.module"})
