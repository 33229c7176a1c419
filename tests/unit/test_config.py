"""alembic.ini and pyproject.toml are read as Alembic reads them, or are left to Alembic."""

from __future__ import annotations

import itertools
import os
import sys
import tempfile
from pathlib import Path

import pytest
from alembic.config import Config as AlembicConfig
from alembic.script import ScriptDirectory
from hypothesis import event, example, given, settings
from hypothesis import strategies as st
from sample_project import ROOT

from migrate_ext.errors import CommandError, Declined
from migrate_ext.project import config, environment

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

OPTIONS = (
    "script_location",
    "file_template",
    "timezone",
    "output_encoding",
    "truncate_slug_length",
)

PLACES = "script_location = %(here)s\n"
SEPARATED = "path_separator = {}\nversion_locations = {}\nprepend_sys_path = {}\n"
INIS = {
    "minimal": PLACES,
    "relative": "script_location = .\nprepend_sys_path = .\npath_separator = os\n",
    "interpolation": "place = %(here)s\nscript_location = %(place)s\ntimezone = %(name)s\nname = UTC",
    "percent": PLACES + "file_template = %%(rev)s_%%(slug)s\n",
    "a lone percent": PLACES + "file_template = %(rev)s\n",
    "a key from nowhere": "script_location = %(nowhere)s\n",
    "recursive": PLACES + "recursive_version_locations = true\n",
    "a boolean in capitals": PLACES + "recursive_version_locations = True\n",
    "sourceless": PLACES + "sourceless = true\n",
    "no script_location": "timezone = UTC\n",
    "a package resource": "script_location = migrate_ext:versions\n",
    "no such folder": "script_location = %(here)s/nowhere\n",
    "no separator": PLACES + "version_locations = %(here)s/a %(here)s/b\n",
    "the old separator": PLACES
    + "version_path_separator = os\nversion_locations = %(here)s/a:%(here)s/b\n",
    "a wrong separator": PLACES + "path_separator = x\nversion_locations = a\n",
    "newlines": PLACES
    + "path_separator = newline\nversion_locations =\n  %(here)s/a\n  %(here)s/b\n",
    "no values": PLACES + "version_locations =\nprepend_sys_path =\n",
    "no assignment": PLACES + "nonsense\n",
    "twice": PLACES + PLACES,
    "hooks": PLACES + "[post_write_hooks]\nhooks = a\n",
    **{
        f"separator {name}": PLACES
        + SEPARATED.format(name, f"%(here)s/a{char}%(here)s/b{char}", f".{char} lib {char}")
        for name, char in (("space", " "), ("os", os.pathsep), (":", ":"), (";", ";"))
    },
}
TOMLS = {
    "none": None,
    "empty": "",
    "another tool": "[tool.other]\nscript_location = 'x'\n",
    "all": "[tool.alembic]\nscript_location = '%(here)s'\nprepend_sys_path = ['.', '%(here)s']\n"
    "version_locations = ['%(here)s/a', 'b']\nrecursive_version_locations = true\ntimezone = 'UTC'\n"
    "file_template = '%%(rev)s'\npath_separator = 'os'\n",
    "a boolean as text": "[tool.alembic]\nrecursive_version_locations = 'true'\n",
    "no list": "[tool.alembic]\nversion_locations = 'a'\nprepend_sys_path = 'b'\n",
    "a separator": "[tool.alembic]\npath_separator = 'space'\n",
    "broken": "[tool.alembic\n",
    "a lone percent": "[tool.alembic]\nscript_location = '%(nowhere)s'\ntimezone = '50%'\n",
    "not a table": "[tool]\nalembic = 1\n",
}


knows_toml = pytest.mark.skipif(
    not hasattr(AlembicConfig, "get_alembic_option"),
    reason="Alembic before 1.16: no pyproject.toml",
)


def real(paths: list[str] | None) -> list[str]:
    return [os.path.realpath(path) for path in paths or []]


def check(ini: str, toml: str, section: str = "alembic") -> bool:
    """Compare; False where one of our answers was left to Alembic."""
    theirs = AlembicConfig(file_=ini, toml_file=toml, ini_section=section)
    try:
        ours = config.Config(ini, toml, section)
        options = {name: ours.option(name) for name in OPTIONS}
        lists = [ours.paths(name) for name in ("version_locations", "prepend_sys_path")]
        booleans = [ours.boolean(n) for n in ("recursive_version_locations", "sourceless")]
        location = ours.script_location()
        locations = ours.version_locations(location)
    except Declined:
        return False
    except CommandError as error:
        assert toml in str(error)
        with pytest.raises(ValueError):  # a TOMLDecodeError, of one of two modules
            _ = theirs.toml_alembic_config
        return False
    assert options == {name: theirs.get_alembic_option(name) for name in OPTIONS}
    assert lists[0] == (theirs.get_version_locations_list() or [])
    assert lists[1] == (theirs.get_prepend_sys_paths_list() or [])
    names = "recursive_version_locations", "sourceless"
    assert booleans == [theirs.get_alembic_boolean_option(name) for name in names]
    directory = ScriptDirectory.from_config(theirs)
    assert os.path.realpath(location) == os.path.realpath(directory.dir)
    assert real(locations) == real([str(path) for path in directory._version_locations])
    return True


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", ["kept"])
    for name in "a", "b", "lib", "versions":
        (tmp_path / name).mkdir()
    return tmp_path


DECLINED = """
    a lone percent, a key from nowhere, no script_location, a package resource, no such folder, no separator,
    the old separator, a wrong separator, no assignment, twice
"""


@knows_toml
def test_ini_and_toml_together_give_what_alembic_reads(folder: Path) -> None:
    declined = {name.strip() for name in DECLINED.split(",")}
    for (ini, text), (toml, more) in itertools.product(INIS.items(), TOMLS.items()):
        (folder / "alembic.ini").write_text("[alembic]\n" + text)
        (folder / "pyproject.toml").unlink(missing_ok=True)
        if more is not None:
            (folder / "pyproject.toml").write_text(more)
        taken = check("alembic.ini", "pyproject.toml")
        if toml in ("none", "empty", "another tool"):
            assert taken == (ini not in declined), (ini, toml)


@knows_toml
def test_toml_alone(folder: Path) -> None:
    (folder / "pyproject.toml").write_text(TOMLS["all"] or "")
    assert check("alembic.ini", "pyproject.toml")
    assert check("alembic.ini", str(folder / "pyproject.toml"))


@knows_toml
def test_another_section_and_another_folder(folder: Path) -> None:
    (folder / "lib" / "other.ini").write_text(
        "[DEFAULT]\ntimezone = UTC\n[alembic]\nscript_location = %(here)s\n"
        "[second]\nscript_location = %(here)s/../a\n"
    )
    assert check("lib/other.ini", "pyproject.toml")
    assert check("lib/../lib/other.ini", "pyproject.toml", "second")
    assert not check("lib/other.ini", "pyproject.toml", "third")


@knows_toml
def test_files_are_chosen_as_alembic_chooses_them(monkeypatch: pytest.MonkeyPatch) -> None:
    from argparse import Namespace

    from alembic.config import CommandLine
    from alembic.util import CommandError

    names = ("a.ini", "b/pyproject.toml", "c.ini", "pyproject.toml", "")
    for chosen in None, "", "x.ini", "y/pyproject.toml":
        monkeypatch.delenv("ALEMBIC_CONFIG", raising=False)
        if chosen is not None:
            monkeypatch.setenv("ALEMBIC_CONFIG", chosen)
        for count in range(4):
            for named in itertools.product(names, repeat=count):
                options = Namespace(config=list(named) or None)
                try:
                    toml, ini = CommandLine()._inis_from_config(options)
                except CommandError:
                    with pytest.raises(Declined):
                        config.default_files(list(named))
                else:
                    assert config.default_files(list(named)) == (ini, toml)


VALUES = st.sampled_from(
    ["'a'", "'%(here)s'", "'%%(rev)s'", "'%(rev)s'", "'50%'", "3", "-1", "true", "1.5", "[]", "['a']", "['%(x)s']", "[1]"]
    + ["[{name = 'a', type = 'exec'}]", "[{type = 'exec'}]", "[{name = '%(rev)s'}]", "[{name = 1}]", "{a = 'b'}", "1979-05-27"]
)  # fmt: skip
KEYS = st.sampled_from(
    "script_location file_template timezone output_encoding truncate_slug_length post_write_hooks version_locations "
    "prepend_sys_path sourceless recursive_version_locations revision_environment other".split()
)
INI_LINES = st.sampled_from(
    ["[post_write_hooks]\nhooks = a\na.type = exec\n", "[post_write_hooks]\nhooks = a\na.options = %(x)s\n", "[post_write_hooks]\n"]
    + [f"{key} = {value}\n" for key in ("truncate_slug_length", "file_template", "timezone") for value in ("3", "x", "%(x)s", "%%(x)s", "")]
)  # fmt: skip


@knows_toml
@given(
    st.sampled_from(["", "tool = 3\n", "tool = {}\n", "tool = []\n", "tool.alembic = 1\n", "[tool]\nother = 1\n", "[[tool]]\nother = 1\n", "[[ 'tool' ]]\n"]),
    st.one_of(st.none(), st.dictionaries(KEYS, VALUES, max_size=4)),
    st.lists(INI_LINES, max_size=3, unique=True),
)  # fmt: skip
@settings(max_examples=400, deadline=None)
@example("tool = 3\n", None, [])
@example("[[tool]]\n", None, [])
@example("", {"post_write_hooks": "['a']"}, [])
@example("", {"file_template": "'%(rev)s'"}, [])
def test_what_alembic_refuses_to_read_is_not_accepted(
    head: str, table: dict[str, str] | None, ini: list[str]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "versions").mkdir()
        text = head
        if table is not None:
            lines = "".join(f"{key} = {value}\n" for key, value in table.items())
            text += f"[tool.alembic]\nscript_location = '%(here)s'\n{lines}"
            if "script_location" in table:
                text = head + f"[tool.alembic]\n{lines}"
        toml, file = Path(folder, "pyproject.toml"), Path(folder, "alembic.ini")
        toml.write_text(text)
        place = "script_location = %(here)s\n" if table is None else ""
        sections = [line for line in ini if line.startswith("[")]
        others = {line.partition(" ")[0]: line for line in ini if not line.startswith("[")}
        file.write_text(f"[alembic]\n{place}" + "".join([*others.values(), *sections[:1]]))
        try:
            ours = config.Config(str(file), str(toml), "alembic")
            ours.check()
            ours.paths("version_locations")
            ours.paths("prepend_sys_path")
            ours.boolean("sourceless")
            ours.boolean("recursive_version_locations")
            ours.script_location()
        except (Declined, CommandError):
            return
        event("taken")
        before = list(sys.path)
        try:
            ScriptDirectory.from_config(AlembicConfig(file_=str(file), toml_file=str(toml)))
        finally:
            sys.path[:] = before


TABLES = (
    "[tool.alembic]\n", "[ tool . alembic ]\n", '["tool"."alembic"]\n', "['tool'.alembic]\n", "[tool]\n", "[[tool]]\n",
    "[tool.alembic.x]\n", "[project]\n", "[tool.other]\n", '["tool" ]\n', "alembic.x = 1\n", "alembic = {x = 1}\n",
    "tool.alembic.x = 1\n", "tool.'alembic' = {}\n", "tool = {alembic = {x = 1}}\n", "tool = {\nalembic = {x = 1}}\n",
    "tool.other = 1\n", '"t\\u006fol".alembic.x = 1\n', 'dependencies = ["alembic>=1.13"]\n', 'alembic = "^1.13"\n',
    "x = '''\n[tool.alembic]\n'''\n", "# tool\n", "[tool.a\n",
)  # fmt: skip


@given(st.lists(st.sampled_from(TABLES), max_size=5).map("".join))
@settings(max_examples=400, deadline=None)
def test_toml_that_is_not_parsed_cannot_name_alembic(text: str) -> None:
    if config._may_name_us(text.encode()):
        return
    try:
        found = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return
    tool = found.get("tool", {})
    assert not isinstance(tool, dict) or "alembic" not in tool


def test_an_ordinary_pyproject_is_not_parsed() -> None:
    text = '[project]\ndependencies = ["alembic==1.18"]\n[tool.ruff]\nx = ["alembic"]\n[tool.poetry.dependencies]\nalembic = "1"\n'
    assert not config._may_name_us(text.encode())
    assert not config._may_name_us((ROOT / "pyproject.toml").read_bytes())


@pytest.mark.parametrize(
    ("sqlalchemy", "missing", "shown"),
    [
        ("SQLAlchemy-2.0.58", "psycopg2", "postgresql+psycopg://h/d"),
        ("sqlalchemy-2.1.9", "psycopg", "postgresql+psycopg2://h/d"),
        ("SQLAlchemy-2.0.58", "", "postgresql://h/d"),
        ("sqlalchemy-2.1.9", "psycopg2", "postgresql://h/d"),
    ],
)
def test_a_url_without_a_driver_is_shown_with_the_one_that_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sqlalchemy: str, missing: str, shown: str
) -> None:
    """As Alembic shows the engine's, which the seam makes by the same rule."""
    (tmp_path / f"{sqlalchemy}.dist-info").mkdir()
    for driver in {"psycopg", "psycopg2"} - {missing}:
        (tmp_path / driver).mkdir()
        (tmp_path / driver / "__init__.py").touch()
        monkeypatch.delitem(sys.modules, driver, raising=False)
    if missing:
        monkeypatch.delitem(sys.modules, missing, raising=False)
    monkeypatch.setattr(sys, "path", [str(tmp_path), "", str(tmp_path / "nowhere")])
    assert environment.with_driver("postgresql://h/d", environment.default_driver()) == shown
    assert (
        environment.with_driver("postgresql+asyncpg://h/d", "psycopg") == "postgresql+asyncpg://h/d"
    )
