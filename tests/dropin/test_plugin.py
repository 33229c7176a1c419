"""`import alembic` never fails because migrate_ext is installed: the runtime is active, or there is one warning."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import alembic
import pytest
from dropin_site import Site

from migrate_ext.dropin import hooks

# What a program sees: the parts of ours in Alembic, and that Alembic works.
REPORT = """
import json, sys
from alembic_patches import patched_attributes
{first}
from alembic.config import Config
from alembic.script import ScriptDirectory
config = Config()
config.set_main_option("script_location", ".")
heads = ScriptDirectory.from_config(config).get_heads()
print(json.dumps({{"patched": patched_attributes(), "heads": heads}}))
"""
FIRST = (
    "import alembic",
    "import alembic.config",
    "import alembic.command",
    "import alembic.op",
    "import alembic.script",
    "import alembic.runtime.migration",
    "import migrate_ext; migrate_ext.install()",
    "import migrate_ext; migrate_ext.ScriptDirectory",
    "import migrate_ext.dropin.script",
    "import migrate_ext.dropin.hooks",
    "import migrate_ext.dropin.revision_map",
    "import migrate_ext.dropin.run",
    "import migrate_ext.dropin.environment",
    "import migrate_ext.dropin.foreign",
    "import migrate_ext.dropin.transactions",
    "import migrate_ext.dropin.stand_in",
)
PARTS = {
    "revision map": "RevisionMap.iterate_revisions",
    "revision files": "ScriptDirectory._load_revisions",
    "version steps": "RevisionStep.merge_branch_idents",
    "execution": "MigrationContext.run_migrations",
}


def active(
    site: Site, *options: str, first: str = "import alembic", **variables: str
) -> tuple[set[str], str]:
    """The active parts in a program of `site`, and what it said on stderr."""
    versions = site.folder / "versions"
    versions.mkdir(exist_ok=True)
    (versions / "a.py").write_text("revision = 'aaaa1'\ndown_revision = None\n")
    done = site.run(REPORT.format(first=first), *options, environment=variables)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["heads"] == ["aaaa1"]
    parts = {part for part, name in PARTS.items() if name in found["patched"]}
    assert bool(parts) == bool(found["patched"]), found["patched"]
    return parts, done.stderr


@pytest.mark.parametrize("first", FIRST)
def test_whatever_is_imported_first_the_runtime_is_active_without_a_warning(
    site: Site, first: str
) -> None:
    site.install_ours()
    assert active(site, "-W", "error", first=first) == (set(PARTS), "")


def test_the_switch_turns_everything_off(site: Site) -> None:
    site.install_ours()
    check = "import atexit; atexit.register(lambda: print(len([m for m in sys.modules if m.startswith('migrate_ext')]), file=sys.stderr))"
    parts, said = active(site, first=f"{check}\nimport alembic", MIGRATE_EXT="0")
    assert (parts, said) == (set(), "2\n")  # the package and plugin.py


SCRIPT = "import re\nimport sys\nfrom alembic.config import main\nsys.exit(main())\n"


@pytest.mark.parametrize(
    ("name", "text", "switch", "spared"),
    [
        ("alembic", SCRIPT, "1", True),
        ("-m", "", "1", True),
        ("alembic", SCRIPT, "0", False),
        ("-m", "", "0", False),
        ("manage", SCRIPT, "1", False),
        ("alembic", "import json\nstate = [json]\n" + SCRIPT, "1", False),
    ],
)
def test_the_collector_passes_over_alembics_own_objects_only(
    site: Site, name: str, text: str, switch: str, spared: bool
) -> None:
    site.install_ours()
    (site.folder / "alembic.ini").write_text("[alembic]\nscript_location = %(here)s\n")
    (site.folder / "env.py").write_text(
        "import gc; print(gc.get_freeze_count() > 1000)"
    )  # Python 3.12 begins with some
    (site.folder / "bin").mkdir()
    (site.folder / "bin" / name).write_text(text)
    program = ("-m", "alembic") if name == "-m" else (f"bin/{name}",)
    done = site.python(*program, "current", environment={"MIGRATE_EXT": switch})
    assert (done.stdout, done.stderr) == (f"{spared}\n", "")


def test_the_entry_point_is_a_module_and_a_collection_of_itself() -> None:
    from migrate_ext import plugin

    assert isinstance(plugin, ModuleType)
    assert list(plugin) == [plugin]  # type: ignore[call-overload]


def no_binary(package: Path) -> None:
    for binary in package.glob("_core*.so"):
        binary.unlink()


def binary_of_junk(package: Path) -> None:
    for binary in package.glob("_core*.so"):
        binary.write_bytes(b"not a library")


def binary_of_another_machine(package: Path) -> None:
    for binary in package.glob("_core*.so"):
        content = bytearray(binary.read_bytes())
        content[18:20] = b"\x16\x00"  # e_machine: S/390
        binary.write_bytes(content)


def binary_of_another_python(package: Path) -> None:
    for binary in package.glob("_core*.so"):
        binary.write_bytes(binary.read_bytes().replace(b"PyModuleDef_Init", b"PyModuleDef_Inix"))


def file_is_missing(package: Path) -> None:
    (package / "dropin" / "script.py").unlink()


def file_is_damaged(package: Path) -> None:
    (package / "dropin" / "hooks.py").write_text("def install(:\n")


def hook_does_not_fit(package: Path) -> None:
    with (package / "dropin" / "hooks.py").open("a") as file:
        file.write('_HOOKS["execution"] += ((object, "run", None),)\n')


@pytest.mark.parametrize(
    "damage",
    [
        no_binary,
        binary_of_junk,
        binary_of_another_machine,
        binary_of_another_python,
        file_is_missing,
        file_is_damaged,
        hook_does_not_fit,
    ],
)
def test_broken_installation_is_one_warning_and_plain_alembic(site: Site, damage: object) -> None:
    package = site.install_ours()
    damage(package)  # type: ignore[operator]
    parts, said = active(site)
    assert parts == set()
    assert said.count("migrate_ext: nothing of it is active") == 1, said
    assert "Traceback" not in said
    as_errors = active(site, "-W", "error")
    assert as_errors[0] == set()
    assert as_errors[1].count("migrate_ext: nothing of it is active") == 1, as_errors


def test_old_alembic_is_one_warning_and_plain_alembic(site: Site) -> None:
    site.install_ours()
    site.install_alembic("1.12.1")
    parts, said = active(site)
    assert parts == set()
    assert said.count("Alembic 1.12.1 is older than 1.13") == len(PARTS)
    assert said.count("RuntimeWarning") == 1


FROM_THE_NEWEST = pytest.mark.skipif(
    hooks.numbers(alembic.__version__) < hooks.ALEMBIC[1],
    reason="what a newer Alembic may still have in common with is the newest that is known",
)


@FROM_THE_NEWEST
def test_new_alembic_with_the_same_source_keeps_all_parts(site: Site) -> None:
    site.install_ours()
    site.install_alembic("1.99.0")
    parts, said = active(site)
    assert parts == set(PARTS)
    assert said.count("Alembic 1.99.0 is newer than") == 1
    assert said.count("RuntimeWarning") == 1


@FROM_THE_NEWEST
@pytest.mark.parametrize(
    ("file", "text", "part"),
    [
        ("script/revision.py", "for rev_id in current_heads]", "revision map"),
        ("script/base.py", "dupes = set()", "revision files"),
        ("runtime/migration.py", "if not self.is_downgrade:", "version steps"),
        ("runtime/migration.py", "head_maintainer = HeadMaintainer(self, heads)", "execution"),
    ],
)
def test_new_alembic_keeps_the_parts_that_fit(site: Site, file: str, text: str, part: str) -> None:
    site.install_ours()
    path = site.install_alembic("1.99.0") / file
    source = path.read_text()
    assert text in source
    path.write_text(source.replace(text, f"{text}  # changed"))
    parts, said = active(site)
    assert parts == set(PARTS) - {part}
    assert f"left to Alembic itself: {part} (Alembic 1.99.0 is new" in said
    assert said.count("RuntimeWarning") == 1


def test_unknown_sqlalchemy_keeps_the_executor_off(site: Site) -> None:
    site.install_ours()
    first = "import sqlalchemy; sqlalchemy.__version__ = '2.9.0'; import alembic"
    parts, said = active(site, first=first)
    assert parts == set(PARTS) - {"execution"}
    assert said.count("SQLAlchemy 2.9.0 is not known") == 1


def test_a_plugin_that_imports_op_too_early_does_not_keep_us_from_commands(site: Site) -> None:
    site.install_ours()
    site.add("aaa_other", "1.0", "[alembic.plugins]\nother = other_plugin\n")
    (site.folder / "other_plugin.py").write_text(
        "import sys, types\n"
        "class M(types.ModuleType):\n    def __iter__(self): yield self\n"
        "sys.modules[__name__].__class__ = M\n"
        "import alembic.op\n"
        "def setup(plugin): pass\n"
    )
    assert active(site, first="import alembic.command") == (set(PARTS), "")


def test_uninstall_leaves_alembic_and_what_was_read_usable(site: Site) -> None:
    site.install_ours()
    folder = site.folder / "versions"
    folder.mkdir()
    (folder / "a.py").write_text("'the text'\nrevision = 'aaaa1'\ndown_revision = None\nx = 1\n")
    done = site.run(
        "import migrate_ext\n"
        "from alembic_patches import patched_attributes\n"
        "from alembic.script import ScriptDirectory\n"
        "script, = ScriptDirectory('.').walk_revisions()\n"
        "migrate_ext.uninstall()\n"
        "assert patched_attributes() == []\n"
        "assert (script.doc, script.module.x, script.module is script.module) == ('the text', 1, True)\n"
        "migrate_ext.install(); migrate_ext.install()\n"
        "assert patched_attributes()\n"
        "migrate_ext.uninstall(); migrate_ext.uninstall()\n"
        "assert patched_attributes() == []\n"
    )
    assert done.returncode == 0, done.stderr


def test_uninstall_leaves_a_method_that_somebody_put_in_place_since(site: Site) -> None:
    site.install_ours()
    done = site.run(
        "import alembic.script, migrate_ext\n"
        "from alembic.script.revision import RevisionMap\n"
        "theirs = lambda self, *args, **kw: iter(())\n"
        "RevisionMap.iterate_revisions = theirs\n"
        "migrate_ext.uninstall()\n"
        "assert RevisionMap.iterate_revisions is theirs\n"
    )
    assert done.returncode == 0, done.stderr


def test_the_source_that_the_parts_mirror_is_what_they_were_written_for() -> None:
    """A new release of Alembic that changes it must be read before it is put in ``hooks.ALEMBIC``."""
    from alembic import __version__

    from migrate_ext.dropin import hooks

    assert hooks.numbers(__version__) <= hooks.ALEMBIC[1]
    if hooks.numbers(__version__) == hooks.ALEMBIC[1]:
        for part, (_, digest) in hooks._MIRRORED.items():
            assert hooks.mirrored_digest(part) == digest, part
