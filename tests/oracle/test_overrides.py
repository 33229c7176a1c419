"""A method that somebody overrides or patches is called by all the others, as in Alembic."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from types import FunctionType, SimpleNamespace
from typing import Any
from unittest import mock

import ordered_alembic
import pytest
from alembic import util
from alembic.runtime import migration as alembic_migration
from alembic.script import base as alembic_base
from alembic.script import revision as alembic_revision
from alembic.script.revision import Revision

import migrate_ext
from migrate_ext.dropin import hooks
from migrate_ext.dropin.script import _ours

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
        with hooks.installed():
            in_place = answer_and_calls(alembic_revision.RevisionMap, name, ask, how)
        assert in_place == theirs, question


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


def test_heads_that_somebody_sets_are_the_heads() -> None:
    answers = []
    for cls in (alembic_revision.RevisionMap, migrate_ext.RevisionMap):
        map_: Any = cls(revisions)
        assert map_.heads == ("dddd1", "eeee1")
        map_.heads = map_._real_heads = ("bbbb1",)
        answers.append([r.revision for r in map_.iterate_revisions("heads", "base")])
    assert answers == [["bbbb1", "aaaa1"]] * 2


@pytest.mark.parametrize("name", ["iterate_revisions", "_get_all_current", "_topological_sort"])
def test_a_patch_on_alembics_class_is_honoured_where_ours_covers_it(name: str) -> None:
    calls: list[str] = []
    original = getattr(alembic_revision.RevisionMap, name)

    def method(self: Any, *args: Any, **kw: Any) -> Any:
        calls.append(name)
        return original(self, *args, **kw)

    map_ = migrate_ext.RevisionMap(revisions)
    with mock.patch.object(alembic_revision.RevisionMap, name, method):
        asked = "current" if name == "_get_all_current" else "walk"
        assert QUESTIONS[asked](map_) == QUESTIONS[asked](migrate_ext.RevisionMap(revisions))
    assert calls


# --- Directories, files and steps -----------------------------------------------------------------------------------


def is_method(name: str, value: object) -> bool:
    kinds = (property, FunctionType, util.memoized_property)
    return isinstance(value, kinds) and not re.fullmatch(r"__\w+__", name)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A script directory of `revisions`."""
    made = tmp_path_factory.mktemp("scripts")
    (made / "versions").mkdir()
    for revision in revisions():
        lines = [
            f'"""{revision.revision} is made."""',
            f"revision = {revision.revision!r}",
            f"down_revision = {revision.down_revision!r}",
            f"branch_labels = {tuple(revision.branch_labels) or None!r}",
            f"depends_on = {revision.dependencies!r}",
            "def upgrade(): pass",
            "def downgrade(): pass",
        ]
        (made / "versions" / f"{revision.revision}.py").write_text("\n".join(lines))
    return made


def rows_of(scripts: Any, steps: list[Any], heads: tuple[str, ...]) -> list[list[str]]:
    """The version rows after each step."""
    maintainer = alembic_migration.HeadMaintainer(ordered_alembic.Anything(), heads)  # type: ignore[arg-type]
    rows = []
    for step in steps:
        maintainer.update_to_step(step)
        rows.append(sorted(maintainer.heads))
    return rows


def use_directory(scripts: Any) -> list[Any]:
    """Whatever a command asks a ScriptDirectory, its files and its steps."""
    up = scripts._upgrade_revs("heads", ())
    down = scripts._downgrade_revs("base", ("dddd1", "eeee1"))
    stamp = scripts._stamp_revs("heads", ())
    return [
        [(s.revision, s.doc, s.longdoc, s.log_entry, s.is_head) for s in scripts.walk_revisions()],
        [s.cmd_format(True, True, True, True) for s in scripts.iterate_revisions("dddd1", "base")],
        [s.cmd_format(False, include_branches=True) for s in scripts.get_revisions("heads")],
        scripts.get_heads(),
        scripts.get_bases(),
        scripts.get_revision("cccc").revision,
        sorted(s.revision for s in scripts.get_all_current(("dddd1",))),
        scripts.as_revision_number("left@head"),
        Path(scripts.versions).name,
        [(step.is_upgrade, step.from_revisions, step.to_revisions, step.doc) for step in up],
        [(step.info.up_revision_ids, step.info.down_revision_ids) for step in down],
        [(step.is_upgrade, step.from_revisions, step.to_revisions) for step in stamp],
        rows_of(scripts, up, ()),
        rows_of(scripts, down, ("dddd1", "eeee1")),
        rows_of(scripts, stamp, ()),
    ]


def seen(value: Any, calls: list[str]) -> Any:
    """`value`, a function or a property, counting its calls."""
    get = value if isinstance(value, FunctionType) else value.fget

    def method(self: Any, *args: Any, **kw: Any) -> Any:
        calls.append("called")
        return get(self, *args, **kw)

    return method if isinstance(value, FunctionType) else property(method)


def in_any_order(answer: Any) -> Any:
    """Texts, and lists of names, whatever the order of Alembic's sets was."""
    if isinstance(answer, str):
        return sorted(re.split(r"[\s,()]+", answer))
    if isinstance(answer, (list, tuple)):
        made = [in_any_order(item) for item in answer]
        return sorted(made) if all(isinstance(item, str) for item in answer) else made
    return answer


CLASSES = [
    alembic_base.ScriptDirectory,
    alembic_base.Script,
    Revision,
    alembic_migration.RevisionStep,
    alembic_migration.StampStep,
    alembic_migration.HeadMaintainer,
]
PLACES = [
    (cls, name) for cls in CLASSES for name, value in vars(cls).items() if is_method(name, value)
]


@pytest.mark.parametrize(("cls", "name"), PLACES, ids=[f"{c.__name__}.{n}" for c, n in PLACES])
def test_a_patch_of_alembics_directory_files_and_steps_is_honoured(
    folder: Path, cls: type, name: str
) -> None:
    outcomes = []
    for directory in (alembic_base.ScriptDirectory, migrate_ext.ScriptDirectory):
        calls: list[str] = []
        with mock.patch.object(cls, name, seen(vars(cls)[name], calls)):
            answer = use_directory(directory(folder))
        outcomes.append((in_any_order(answer), bool(calls)))
    assert outcomes[0] == outcomes[1]


DIRECTORY = [n for n, v in vars(alembic_base.ScriptDirectory).items() if is_method(n, v)]


@pytest.mark.parametrize("name", DIRECTORY)
def test_a_directory_that_overrides_a_method_is_used_by_all_the_others(
    folder: Path, name: str
) -> None:
    outcomes = []
    for directory in (alembic_base.ScriptDirectory, migrate_ext.ScriptDirectory):
        calls: list[str] = []
        value = vars(alembic_base.ScriptDirectory)[name]
        value = vars(directory).get(name, value)
        made = type("Made", (directory,), {name: seen(value, calls)})
        outcomes.append((in_any_order(use_directory(made(folder))), bool(calls)))
    assert outcomes[0] == outcomes[1]
