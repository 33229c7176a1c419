"""Reading commands on generated projects: odd file names, encodings, texts, labels, several folders. What they print is Alembic's."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sample_project import ROOT, run_forked

DOCS = (
    "add a table", "", "\nbegins with an empty line\n", "first line\ngoes on\n\nmore of it\n\nRevision ID: x\n", "100% 'é' \u20ac",
    "   indented   ", "ends with a backslash \\\\", "tab\there", "a\n\n\n\nb", "None",
)  # fmt: skip
ENCODINGS = ("utf-8", "utf-8-sig", "latin-1", "cp1252", "iso-8859-15")
NAMES = ("{id}.py", "{id}_add_a_table.py", "{n:04}.py", "x {n} é.py", "{n}-dash.py", "Z{n}.py", "under_{n}.py", "{id}.PY", "{n}.pyc.py", ".{n}.py", "{n}.py~")  # fmt: skip
IDS = ("{n:012x}", "{n:04}", "rev{n}", "kilo_{n}", "é{n}", "0001_restart_{n}", "{n}.{n}")
FOLDERS = ("versions", "versions/2026", "more", "versions/deep/er")
TOPS = (
    'revision = {id!r}\ndown_revision = {down!r}\nbranch_labels = {labels!r}\ndepends_on = {depends!r}\n',
    'import os\nrevision: str = {id!r}\ndown_revision: "str | None" = {down!r}\nbranch_labels = {labels!r}\ndepends_on = {depends!r}\n',
    "x = '''\nrevision = \"no\"\n'''\nrevision = (\n    {id!r}\n)\ndown_revision = {down!r}  # of it\nbranch_labels = {labels!r}; depends_on = {depends!r}\n",
    'revision = str({id!r})\ndown_revision = {down!r}\nbranch_labels = {labels!r}\ndepends_on = {depends!r}\n',
    'if True:\n    revision = {id!r}\ndown_revision, branch_labels = {down!r}, {labels!r}\ndepends_on = {depends!r}\n',
)  # fmt: skip


class Revision:
    """One file to write, in the ways of the lists above."""

    def __init__(self, draw: Any, number: int, before: list[Revision]) -> None:
        pick = lambda values: draw(st.sampled_from(values))  # noqa: E731
        self.id = pick(IDS).format(n=number)
        ids = [revision.id for revision in before]
        self.down: Any = pick([*[ids[-1]] * 6, *ids, None]) if ids else None
        if len(set(ids)) > 2 and draw(st.integers(0, 5)) == 0:
            self.down = tuple(sorted({ids[-1], pick(ids)}))
        self.labels = pick([None, None, None, (f"label{number}",), [f"l{number}", f"m-{number}"]])
        self.depends = pick([None, None, None, None, *ids])
        self.folder = pick(FOLDERS)
        self.name = pick(NAMES).format(id=self.id, n=number)
        self.doc = pick(DOCS)
        self.encoding = pick(ENCODINGS)
        self.top = pick(TOPS)
        self.end = pick(["\n", "\r\n"])
        self.quote = pick(['"""', "'''"])

    def write(self, project: Path) -> None:
        head = self.encoding.startswith("utf-8")
        lines = "" if head else f"# -*- coding: {self.encoding} -*-\n"
        lines += f"{self.quote}{self.doc}{self.quote}\n" if self.doc != "None" else ""
        lines += self.top.format(
            id=self.id, down=self.down, labels=self.labels, depends=self.depends
        )
        lines += "\n\ndef upgrade():\n    pass\n\n\ndef downgrade():\n    pass\n"
        path = project / self.folder / self.name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(lines.replace("\n", self.end).encode(self.encoding, "replace"))


@st.composite
def histories(draw: st.DrawFn) -> list[Revision]:
    found: list[Revision] = []
    for number in range(1, draw(st.integers(1, 7)) + 1):
        found.append(Revision(draw, number, found))
    return found


def run(program: str, project: Path, *command: str) -> tuple[int, list[str], str]:
    variables = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    if program == "alembic":
        variables["MIGRATE_EXT"] = "0"
    code, stdout, stderr = run_forked(program, project, command, variables)
    # The order of what stands side by side is a set's in Alembic.
    texts = [re.sub(r"[\w.@-]+(, [\w.@-]+)+", in_order, line) for line in stdout.splitlines()]
    return code, texts, re.sub(r"^hint: .*\n", "", stderr, flags=re.M)


def in_order(match: re.Match[str]) -> str:
    return ", ".join(sorted(match[0].split(", ")))


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(history=histories(), recursive=st.booleans(), toml=st.booleans(), several=st.booleans())
def test_reading_commands_print_what_alembic_prints(
    tmp_path: Path, history: list[Revision], recursive: bool, toml: bool, several: bool
) -> None:
    project = tmp_path / "project"
    shutil.rmtree(project, ignore_errors=True)
    (project / "versions").mkdir(parents=True)
    shutil.copy(ROOT / "env.py", project)
    for revision in history:
        revision.write(project)
    places = ["versions", "more"] if several else ["versions"]
    if toml:
        listed = ", ".join(f'"%(here)s/{place}"' for place in places)
        text = f'[tool.alembic]\nscript_location = "%(here)s"\nversion_locations = [{listed}]\nrecursive_version_locations = {str(recursive).lower()}\n'
        (project / "pyproject.toml").write_text(text)
        (project / "alembic.ini").write_text("[alembic]\n")
    else:
        listed = ":".join(f"%(here)s/{place}" for place in places)
        text = f"[alembic]\nscript_location = %(here)s\nversion_locations = {listed}\npath_separator = os\nrecursive_version_locations = {recursive}\n"
        (project / "alembic.ini").write_text(text)
    commands = [("history",), ("history", "-v"), ("heads",), ("heads", "-v"), ("branches",)]
    commands += [("show", revision.id) for revision in history[-1:]]
    linear = all(
        isinstance(now.down, str) and now.down == before.id and not now.depends
        for before, now in zip(history, history[1:], strict=False)
    )
    for command in commands:
        theirs, ours = (run(name, project, *command) for name in ("alembic", "migrate_ext"))
        if theirs[0] != 0 and "Traceback" in theirs[2]:
            assert ours[0] != 0 and "Traceback" not in ours[2]
            continue
        assert ours[0] == theirs[0], ours
        assert ours[2] == theirs[2]
        if not linear:
            theirs[1].sort()
            ours[1].sort()
        assert ours[1] == theirs[1]


@pytest.mark.parametrize(
    "template", ["generic", "async", "multidb", "pyproject", "pyproject_async"]
)
def test_a_project_that_init_has_made(
    tmp_path: Path, template: str, make_database: Callable[[], str]
) -> None:
    projects = {}
    for program in ("alembic", "migrate_ext"):
        project = projects[program] = tmp_path / program / "project"
        project.mkdir(parents=True)
        assert run(program, project, "init", "-t", template, "migrations")[0] == 0
        ini = project / "alembic.ini"  # multidb has two of them
        url = re.compile("driver://.*")
        ini.write_text(url.sub(lambda _: make_database(), ini.read_text()))
    for command in (
        ("revision", "-m", "first one", "--rev-id", "aaaa"),
        ("revision", "-m", "second, é", "--rev-id", "bbbb", "--branch-label", "label"),
        ("history",),
        ("heads", "-v"),
        ("show", "label"),
        ("branches",),
        ("upgrade", "head"),
        ("current",),
        ("upgrade", "head"),
        ("downgrade", "-1"),
        ("current", "-v"),
        ("check",),
    ):
        done = {}
        for program, project in projects.items():
            code, texts, stderr = run(program, project, *command)
            said = "\n".join([*texts, stderr]).replace(str(project), "<project>")
            said = re.sub(r"migrate_ext_test_\w+", "<database>", said)
            done[program] = (code, re.sub(r"(Create Date: ).*", r"\1", said))
        assert done["migrate_ext"] == done["alembic"]
    names = [sorted(p.name for p in project.rglob("*.*")) for project in projects.values()]
    assert names[0] == names[1]
