"""A method that somebody overrides or patches is called by all the others, as in Alembic."""

from __future__ import annotations

import re
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
from alembic.runtime import migration as alembic_migration
from alembic.script import base as alembic_base
from alembic.script import revision as alembic_revision
from alembic.script.revision import Revision

import migrate_ext
from migrate_ext.revision import _ours

METHODS = [
    name
    for name, value in vars(alembic_revision.RevisionMap).items()
    if callable(value) and not re.fullmatch(r"__\w+__", name)
]


def revisions() -> list[Revision]:
    return [
        Revision("aaaa1", None, branch_labels=("left",)),
        Revision("bbbb1", "aaaa1"),
        Revision("cccc1", "aaaa1", branch_labels=("right",)),
        Revision("dddd1", ("bbbb1", "cccc1")),
        Revision("eeee1", None, dependencies=("bbbb1",), branch_labels=("apart",)),
    ]


QUESTIONS: dict[str, Callable[[Any], Any]] = {
    "walk": lambda m: [r.revision for r in m.iterate_revisions("heads", "base", inclusive=True)],
    "upgrade": lambda m: [r.revision for r in m.iterate_revisions("left@head", "bbbb1")],
    "relative": lambda m: [r.revision for r in m.iterate_revisions("bbbb1+1", "aaaa1")],
    "downgrade": lambda m: [
        r.revision for r in m.iterate_revisions(("bbbb1",), "-1", select_for_downgrade=True)
    ],
    "current": lambda m: sorted(r.revision for r in m._get_all_current(("dddd1", "eeee1"))),
    "partial": lambda m: m.get_revision("cccc").revision,
    "branch": lambda m: m.get_revision("right@head").revision,
    "lineage": lambda m: m.filter_for_lineage(["aaaa1", "eeee1"], "left"),
    "heads": lambda m: (m.heads, m.bases),
}


def answer_and_calls(cls: type, name: str, ask: Callable[[Any], Any], how: str) -> tuple[Any, bool]:
    """What `ask` is answered, and whether method `name`, which is not Alembic's any more, was called for it."""
    calls: list[str] = []
    original = getattr(cls, name)

    def method(self: Any, *args: Any, **kw: Any) -> Any:
        calls.append(name)
        return original(self, *args, **kw)

    if how == "overridden":
        return ask(type("Made", (cls,), {name: method})(revisions)), bool(calls)
    with mock.patch.object(cls, name, method):
        return ask(cls(revisions)), bool(calls)


@pytest.mark.parametrize("how", ["overridden", "patched"])
@pytest.mark.parametrize("name", METHODS)
def test_method_is_honoured_by_all_the_others(name: str, how: str) -> None:
    for question, ask in QUESTIONS.items():
        theirs = answer_and_calls(alembic_revision.RevisionMap, name, ask, how)
        ours = answer_and_calls(migrate_ext.RevisionMap, name, ask, how)
        assert ours == theirs, question


def test_our_map_answers_from_the_graph_when_nothing_is_overridden() -> None:
    before = migrate_ext.stats()
    map_ = migrate_ext.RevisionMap(revisions)
    for ask in QUESTIONS.values():
        assert ask(map_) == ask(alembic_revision.RevisionMap(revisions))
    after = migrate_ext.stats()
    assert after["graph_builds"] == before["graph_builds"] + 1
    assert after["plain_reasons"] == before["plain_reasons"]


def test_a_patched_script_builds_alembics_map() -> None:
    scripts = [migrate_ext.Script(None, "aaaa1", "one.py", ("aaaa1", None, None, None, None))]
    before = migrate_ext.stats()["graph_builds"]
    with mock.patch.object(alembic_base.Script, "is_head", False):
        assert migrate_ext.RevisionMap(lambda: scripts).heads == ("aaaa1",)
    assert migrate_ext.stats()["graph_builds"] == before


def step(cls: type, map_: Any, revision: Any) -> Any:
    revision.module = SimpleNamespace(upgrade=None, downgrade=None)
    return cls(map_, revision, True)


def test_a_step_of_a_revision_that_is_not_in_the_map_is_alembics() -> None:
    def rows(map_class: type, step_class: type) -> list[str]:
        stranger = Revision("zzzz1", ("bbbb1", "cccc1"))
        stranger._resolved_dependencies = stranger._normalized_resolved_dependencies = ()
        merge = step(step_class, map_class(revisions), stranger)
        deleted, *moved = merge.merge_branch_idents({"bbbb1", "cccc1"})
        return sorted([*deleted, *moved])

    theirs = rows(alembic_revision.RevisionMap, alembic_migration.RevisionStep)
    assert rows(migrate_ext.RevisionMap, migrate_ext.RevisionStep) == theirs


def test_a_patched_step_stays_alembics() -> None:
    theirs = alembic_migration.RevisionStep
    made = step(theirs, migrate_ext.RevisionMap(revisions), revisions()[0])
    with mock.patch.object(theirs, "_unmerge_to_revisions", None):
        assert type(_ours([made])[0]) is theirs
    assert type(_ours([made])[0]) is migrate_ext.RevisionStep


def test_a_changed_map_is_answered_by_alembic() -> None:
    map_ = migrate_ext.RevisionMap(revisions)
    map_.add_revision(Revision("ffff1", "dddd1"))
    assert QUESTIONS["walk"](map_)[0] in ("ffff1", "eeee1")
    assert set(map_.heads) == {"eeee1", "ffff1"}
