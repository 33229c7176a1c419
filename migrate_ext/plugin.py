"""The ``alembic.plugins`` entry point, which Alembic >= 1.18 loads during its own import.

At that moment not all of Alembic's classes exist, and an exception raised here would break ``import alembic``. So
:func:`setup` only adds an import hook. The hook installs the runtime (:mod:`migrate_ext.dropin.hooks`) when the import
reaches ``alembic.op``: then all classes exist, and ``alembic.command`` is not loaded yet. Any error, such as a missing
or incompatible binary or an unknown version, is only a warning, and Alembic runs unchanged.

Alembic 1.18 and 1.19 iterate over the object of the entry point, 1.20 requires a module: this module iterates over
itself. It imports only os and sys, because every program that imports Alembic imports it.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Protocol

    class _Plugin(Protocol):
        def remove(self) -> None: ...


class _Module(type(sys)):  # type: ignore[misc]
    def __iter__(self) -> Iterator[_Module]:
        yield self


sys.modules[__name__].__class__ = _Module


# The last name that each of these modules defines: tells whether its import is complete. If a program imports one of
# them before Alembic, it is incomplete when the hook is called.
_OURS = (
    ("migrate_ext.dropin.revision_map", "_is_identifier"),
    ("migrate_ext.dropin.script", "REPLACEMENTS"),
    ("migrate_ext.dropin.hooks", "installed"),
)


class _Hook:
    """A finder that finds nothing: it installs the runtime once ``alembic.context``, with all it imports, is complete."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> None:
        if not name.startswith("alembic.") or not hasattr(sys.modules.get("alembic"), "context"):
            return
        if all(hasattr(sys.modules[ours], last) for ours, last in _OURS if ours in sys.modules):
            sys.meta_path.remove(_Hook)
            install()
            _spare_the_collector()


def _spare_the_collector() -> None:
    """If the program is ``alembic`` itself, exclude all objects imported so far from garbage collection, also at the
    program's end, where it takes a sixth of the time of ``alembic heads``. None of them are the project's.
    """
    command, words = os.path.basename((getattr(sys, "argv", None) or [""])[0]), sys.orig_argv
    if command == "-m":  # argv[0] before the module runs
        command = words[words.index("-m") + 1] if "-m" in words[:-1] else ""
    if command not in ("alembic", "alembic.config") or os.environ.get("MIGRATE_EXT") == "0":
        return
    begun = {name for name in vars(sys.modules["__main__"]) if name[0] != "_"}
    if begun <= {"re", "sys"}:  # the names in pip's script when it imports Alembic
        import gc

        gc.freeze()


def setup(plugin: _Plugin) -> None:
    """Called by Alembic. plugin: its record of this plugin, which is removed: we have no comparators to add to it."""
    plugin.remove()
    if _Hook not in sys.meta_path:
        sys.meta_path.insert(0, _Hook)


def install() -> None:
    """Patch Alembic's own classes to use the C core, as far as it fits this Alembic. A second call does nothing.

    Never raises: parts that cannot be installed stay Alembic's, with one ``RuntimeWarning``. Does nothing if
    ``MIGRATE_EXT=0`` is in the environment. Must be called only for Alembic before 1.18.
    """
    if os.environ.get("MIGRATE_EXT") == "0":
        return
    try:
        import alembic  # noqa: F401  (may load this plugin, which must not find hooks half imported)

        from migrate_ext.dropin import hooks

        left_out = hooks.install()
    except Exception as error:
        left_out = (
            f"nothing of it is active, Alembic runs as it is: {type(error).__name__}: {error}"
        )
    if left_out:
        _warn(f"migrate_ext: {left_out}")


def uninstall() -> None:
    """Restore Alembic's own methods; revisions that have been read stay usable."""
    hooks = sys.modules.get("migrate_ext.dropin.hooks")
    if hooks is not None:
        hooks.uninstall()


def _warn(text: str) -> None:
    import warnings  # rarely needed

    try:
        warnings.warn(text, RuntimeWarning, stacklevel=2)
    except RuntimeWarning:  # warnings are errors: this must not break the import of Alembic
        print(text, file=sys.stderr)
