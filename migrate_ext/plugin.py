"""The ``alembic.plugins`` entry point: what Alembic >= 1.18 loads while it is itself being imported.

At that moment Alembic's classes are half made, and whatever is raised here breaks ``import alembic``. So :func:`setup` only arms
an import hook; it installs the runtime (:mod:`migrate_ext.dropin.hooks`) when the import has come as far as ``alembic.op``, with all
classes made and ``alembic.command`` not loaded yet. Whatever goes wrong, a missing or foreign binary, a version we do not know, is
one warning, and Alembic runs as if we were not there.

Alembic 1.18 and 1.19 iterate over what the entry point names, 1.20 wants a module: this module iterates over itself.
Imports os and sys only: every program that imports Alembic pays for it.
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


# The last names that these define. Who imports one of them before Alembic is in the middle of it when the hook is asked.
_OURS = (
    ("migrate_ext.dropin.revision_map", "_is_identifier"),
    ("migrate_ext.dropin.script", "REPLACEMENTS"),
    ("migrate_ext.dropin.hooks", "installed"),
)


class _Hook:
    """A finder that finds nothing: it installs the runtime when ``alembic.context`` and all below it are complete."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> None:
        if not name.startswith("alembic.") or not hasattr(sys.modules.get("alembic"), "context"):
            return
        if all(hasattr(sys.modules[ours], last) for ours, last in _OURS if ours in sys.modules):
            sys.meta_path.remove(_Hook)
            install()
            _spare_the_collector()


def _spare_the_collector() -> None:
    """Where the program is ``alembic`` itself, let the garbage collector pass over what was imported by now, also at the
    program's end: there it is a sixth of the time of ``alembic heads``. Nothing of the project's is among it.
    """
    command, words = os.path.basename((getattr(sys, "argv", None) or [""])[0]), sys.orig_argv
    if command == "-m":  # until the module runs
        command = words[words.index("-m") + 1] if "-m" in words[:-1] else ""
    if command not in ("alembic", "alembic.config") or os.environ.get("MIGRATE_EXT") == "0":
        return
    begun = {name for name in vars(sys.modules["__main__"]) if name[0] != "_"}
    if begun <= {"re", "sys"}:  # what pip's script imports before Alembic
        import gc

        gc.freeze()


def setup(plugin: _Plugin) -> None:
    """What Alembic calls. plugin: its record of us, which we leave: there are no comparators in it."""
    plugin.remove()
    if _Hook not in sys.meta_path:
        sys.meta_path.insert(0, _Hook)


def install() -> None:
    """Put the C core behind Alembic's own classes, in place, as far as it fits the Alembic that is here; twice is once.

    Never raises: what cannot be installed is one ``RuntimeWarning``, and that part stays Alembic's. Does nothing when
    ``MIGRATE_EXT=0`` is in the environment. Only Alembic before 1.18 needs to be told.
    """
    if os.environ.get("MIGRATE_EXT") == "0":
        return
    try:
        import alembic  # noqa: F401  (if this is what brings us in, hooks must not be half imported then)

        from migrate_ext.dropin import hooks

        left_out = hooks.install()
    except Exception as error:
        left_out = (
            f"nothing of it is active, Alembic runs as it is: {type(error).__name__}: {error}"
        )
    if left_out:
        _warn(f"migrate_ext: {left_out}")


def uninstall() -> None:
    """Put everything of Alembic's back; revisions that were read meanwhile stay usable."""
    hooks = sys.modules.get("migrate_ext.dropin.hooks")
    if hooks is not None:
        hooks.uninstall()


def _warn(text: str) -> None:
    import warnings  # only when something is wrong

    try:
        warnings.warn(text, RuntimeWarning, stacklevel=2)
    except RuntimeWarning:  # turned into an error, which must not stop the import of Alembic
        print(text, file=sys.stderr)
