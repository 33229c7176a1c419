"""Our reader of ini files answers what configparser answers, or leaves the file to it."""

from __future__ import annotations

import configparser
from pathlib import Path

import alembic
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sample_project import ROOT

from migrate_ext.errors import Declined
from migrate_ext.project import ini

PIECES = (
    "[a]", "[b]", "[DEFAULT]", "[", "]", "x", "Y", "here", "=", ":", " ", "  ", "\t", "\n", "\n", "\n  ", "#", ";",
    "%", "%%", "%(x)s", "%(Y)s", "%(here)s", "(", ")s", "ß", "İ", "\xa0", "\x0c", "\r", "value", "\\", " = ", "[a]\n",
    "x = ", "y: ",
)  # fmt: skip


def check(text: str, here: str) -> bool:
    """Compare every answer; False where our reader leaves the text to configparser."""
    parser = configparser.ConfigParser({"here": here})
    ours = ini.read(text, {"here": here})
    try:
        parser.read_string(text)
    except configparser.Error:
        assert ours is None
        return False
    if ours is None:
        return False
    assert list(ours.sections) == parser.sections()
    for section in ("a", "b", "nowhere", *parser.sections()):
        there = parser.has_section(section)
        assert ours.has_section(section) == there
        for option in ("x", "y", "here", "value", *(parser.options(section) if there else ())):
            assert ours.has_option(section, option) == parser.has_option(section, option)
            raw = parser.get(section, option, raw=True, fallback="none")
            assert ours.get(section, option, raw=True, fallback="none") == raw
            try:
                value = ours.get(section, option, fallback="none")
            except Declined:
                continue
            assert value == parser.get(section, option, fallback="none")
    return True


@given(st.lists(st.sampled_from(PIECES), max_size=30).map("".join), st.sampled_from(["/p", "/50%"]))
@settings(max_examples=500, deadline=None)
@example("[a]\nx = 1\n  2\n\n  3\n\n# c\n y = %(x)s%%\n", "/p")
@example("[DEFAULT]\nx=%(here)s\n[DEFAULT]\ny=2\n[a]\n  x : 3\n   [b]\nz\n", "/p")
@example("[a]\nx=%(y)s\ny=%(x)s\n", "/p")
@example("[]]x\nx=1\n", "/p")
def test_an_ini_file_means_what_configparser_makes_of_it(text: str, here: str) -> None:
    check(text, here)


@pytest.mark.parametrize("name", ["generic", "async", "multidb", "pyproject"])
def test_the_files_that_alembic_writes_are_read_without_configparser(name: str) -> None:
    template = Path(alembic.__file__).parent / "templates" / name / "alembic.ini.mako"
    if not template.exists():
        pytest.skip("this Alembic has no such template")
    text = template.read_text().replace("${script_location}", "%(here)s/alembic")
    assert check(text.replace("${cmd.prog}", "alembic"), "/p")


def test_the_sample_is_read_without_configparser() -> None:
    assert check((ROOT / "alembic.ini").read_text(), "/p")
