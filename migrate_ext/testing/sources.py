"""Finds the files that determine what a migrated database contains: their contents are part of a template's key.

A revision file may import the project's own code, and that code may import more; all of it determines what the
migration does. ``env.py`` usually imports the models, but a migration does not depend on them, only on code that
changes how SQL is rendered (a naming convention, a listener, a custom compiler). So of the files that ``env.py``
imports, only those that mention such things count.

Nothing is imported: import statements are read and followed, except into ``site-packages`` and the standard library.
Imports made in another way are not found; such files can be named with the ini option ``migrate_ext_watch``.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import sys
from collections.abc import Iterable, Iterator

# "import a.b as c, d", "from .a import (b, c)"; and the modules that a thin env.py names.
_IMPORT = re.compile(
    rb"^[ \t]*(?:from[ \t]+(\.*[\w.]*)[ \t]+import[ \t]*(\([^)]*\)|[^\n#;]+)|import[ \t]+([\w., \t]+))",
    re.M,
)
_NAMED = re.compile(rb"\b(?:metadata|models)\s*=\s*[\"']([\w.]+)")
_RENDERS = re.compile(
    rb"\balembic\b|naming_convention|compiles\(|\blisten|MetaData\(|\bexecute\(|register_operation"
)
_LIBRARIES = ("site-packages", "dist-packages")
_VERSIONED = frozenset((*sys.stdlib_module_names, "alembic", "migrate_ext", "sqlalchemy"))
_STANDARD = os.path.dirname(os.__file__) + os.sep


def read(path: str) -> bytes:
    """The bytes of a file; empty if it cannot be read."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return b""


class Imports:
    """Follows import statements through the project's own files, and reads each file once.

    Modules are looked up in the present ``sys.path``.
    """

    def __init__(self) -> None:
        self._tops: dict[str, list[str]] = {}
        self._direct: dict[str, set[str]] = {}
        self._contents: dict[str, bytes] = {}

    def content(self, path: str) -> bytes:
        if path not in self._contents:
            self._contents[path] = read(path)
        return self._contents[path]

    def closure(self, paths: Iterable[str]) -> set[str]:
        """The project's files that `paths` import, directly or not, without `paths` themselves."""
        starts = set(paths)
        seen, waiting = set(starts), list(starts)
        while waiting:
            for found in self._imported(waiting.pop()) - seen:
                seen.add(found)
                waiting.append(found)
        return seen - starts

    def that_render(self, paths: Iterable[str]) -> set[str]:
        """Those of `paths` that may change the SQL of a migration that does not import them."""
        return {path for path in paths if _RENDERS.search(self.content(path))}

    def digest(self, paths: Iterable[str]) -> bytes:
        """One hash of the files' contents, independent of their paths."""
        digests = sorted(hashlib.sha256(self.content(path)).digest() for path in paths)
        return hashlib.sha256(b"".join(digests)).digest()

    def _imported(self, path: str) -> set[str]:
        if path not in self._direct:
            self._direct[path] = {
                file for module in self._modules(path) for file in self._files(module, path)
            }
        return self._direct[path]

    def _modules(self, path: str) -> Iterator[str]:
        source = self.content(path)
        for origin, names, plain in _IMPORT.findall(source):
            if plain:
                for part in plain.decode().split(","):
                    yield part.split()[0] if part.split() else ""
                continue
            base = origin.decode()
            yield base
            for name in re.findall(r"(\w+)(?:\s+as\s+\w+)?", names.decode(errors="replace")):
                yield f"{base}{'' if base.endswith('.') else '.'}{name}"
        for name in _NAMED.findall(source):
            yield name.decode()

    def _files(self, module: str, importer: str) -> Iterator[str]:
        """The files that are executed when `module` is imported: its own, and ``__init__.py`` of its packages."""
        if module.startswith("."):
            level = len(module) - len(module.lstrip("."))
            folder = os.path.dirname(importer)
            for _ in range(level - 1):
                folder = os.path.dirname(folder)
            folders, parts = [folder], [part for part in module.split(".") if part]
        else:
            top, *parts = module.split(".")
            if not top:
                return
            folders = self._top(top)
            for place in folders:
                if place.endswith(".py"):
                    yield place
                elif os.path.isfile(init := os.path.join(place, "__init__.py")):
                    yield init
        for part in parts:
            deeper: list[str] = []
            for folder in folders:
                place = os.path.join(folder, part)
                if os.path.isfile(place + ".py"):
                    yield place + ".py"
                elif os.path.isdir(place):
                    deeper.append(place)
                    if os.path.isfile(init := os.path.join(place, "__init__.py")):
                        yield init
            folders = deeper

    def _top(self, name: str) -> list[str]:
        """The file, or the folders, of a top-level module of the project; empty for other modules."""
        if name not in self._tops:
            self._tops[name] = [] if name in _VERSIONED else _locate(name)
        return self._tops[name]


def _locate(name: str) -> list[str]:
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):  # a module without a usable __spec__
        return []
    if spec is None:
        return []
    places = list(spec.submodule_search_locations or ())
    if not places and spec.origin is not None and spec.origin.endswith(".py"):
        places = [spec.origin]
    return [
        os.path.abspath(place)
        for place in places
        if not any(part in place for part in _LIBRARIES) and not place.startswith(_STANDARD)
    ]
