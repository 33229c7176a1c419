"""The revisions of a project: what is in their files, and the order in which they run.

They are read by the C core, or by Alembic's own classes where the core declines.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from migrate_ext import errors

if TYPE_CHECKING:
    from alembic.config import Config as AlembicConfig

    from migrate_ext import _core


class Revision(NamedTuple):
    """One revision file: its id, the ids of ``down_revision`` and ``depends_on``, its labels, and its path."""

    id: str
    down: tuple[str, ...]
    depends_on: tuple[str, ...]
    labels: tuple[str, ...]
    path: str

    @property
    def parents(self) -> tuple[str, ...]:
        return (*self.down, *self.depends_on)


class Files(NamedTuple):
    """The files in the version folders, even if they are no valid history: revisions, and (path, problem)."""

    revisions: list[Revision]
    broken: list[tuple[str, str]]


class History:
    """All revisions in the order in which ``upgrade heads`` runs them, and the heads."""

    def __init__(
        self,
        revisions: list[Revision],
        heads: tuple[str, ...],
        order: Callable[[str], list[str]],
        labels: Callable[[str], tuple[str, ...]],
    ) -> None:
        self.revisions = revisions
        self.heads = heads
        self._order = order
        self.labels = labels  # of the branch that a revision is on

    def up_to(self, target: str) -> tuple[str, ...]:
        """The ids that ``upgrade TARGET`` runs on an empty database, in that order.

        target: as for that command. Raises ``CommandError`` (ours or Alembic's) if it does not exist.
        """
        return tuple(self._order(target))


def _names(value: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    return (value,) if isinstance(value, str) else tuple(value)


def _revision(scanned: _core._Scanned, path: str) -> Revision:
    id_, down, labels, depends_on, _ = scanned
    assert id_ is not None
    return Revision(id_, _names(down), _names(depends_on), _names(labels), path)


def read_history(ini: str, toml: str) -> tuple[History, str]:
    """The history, through the C core, and the folder of its scripts; adds ``prepend_sys_path`` to ``sys.path``.

    Raises :class:`~migrate_ext.errors.Declined` for what is Alembic's to read.
    """
    from migrate_ext.project.config import Config
    from migrate_ext.project.scripts import Scripts, command_errors

    config = Config(ini, toml, "alembic")
    sys.path[:0] = config.paths("prepend_sys_path")
    scripts = Scripts(config)
    graph = scripts.graph

    def order(target: str) -> list[str]:
        with command_errors():
            found = graph.iterate(target, (), implicit_base=True)
        return [graph.revision(index) for index in reversed(found)]

    revisions = []
    for id_ in order("heads"):
        index = graph.lookup(id_)
        revisions.append(_revision(scripts.scanned[index], scripts.paths[index]))
    found = History(revisions, graph.heads, order, lambda id_: graph.labels(graph.lookup(id_)))
    return found, scripts.directory


def read_with_alembic(config: AlembicConfig) -> tuple[History, str]:
    """As :func:`read_history`, through Alembic's own classes."""
    from alembic.script import ScriptDirectory

    scripts = ScriptDirectory.from_config(config)

    def order(target: str) -> list[str]:
        found = scripts.iterate_revisions(target, (), implicit_base=True)
        return [script.revision for script in found][::-1]

    revisions = []
    for id_ in order("heads"):
        script = scripts.get_revision(id_)
        revisions.append(
            Revision(
                id_,
                _names(script.down_revision),
                _names(script.dependencies),
                tuple(sorted(_names(script.branch_labels))),
                script.path,
            )
        )
    found = History(
        revisions,
        tuple(scripts.get_heads()),
        order,
        lambda id_: tuple(sorted(scripts.get_revision(id_).branch_labels)),
    )
    return found, scripts.dir


def read_folders(folders: Iterable[str], recursive: bool) -> Files:
    """The revision files in version folders, each by itself."""
    from migrate_ext import _core
    from migrate_ext.project.scripts import identifiers, load

    files = Files([], [])
    for folder in folders:
        for place, _, _ in os.walk(folder):
            if (place != folder and not recursive) or place.endswith("__pycache__"):
                continue
            for name, answer in zip(*_core.scan_folder(place), strict=True):
                path = os.path.join(place, name)
                try:
                    if isinstance(answer, str) or answer[0] is None:
                        answer = identifiers(load(path))
                except (errors.CommandError, errors.Declined) as error:
                    files.broken.append((path, str(error)))
                else:
                    files.revisions.append(_revision(answer, path))
    return files
