"""`migrate-ext doctor` tells what is active, and what is not and why."""

from __future__ import annotations

from dropin_site import Site

DOCTOR = "import sys; from migrate_ext.cli import main; sys.exit(main(['doctor']))"

VERBOSE = DOCTOR.replace("'doctor'", "'doctor', '-v'")


def test_doctor_lists_every_part_of_a_whole_installation_as_active(site: Site) -> None:
    site.install_ours()
    done = site.run(DOCTOR)
    assert done.returncode == 0, done.stdout + done.stderr
    for part in ("revision map", "revision files", "version steps", "execution"):
        assert f"{part:16} active" in done.stdout
    assert "entry point      found" in done.stdout
    assert "libpq            " in done.stdout


def test_what_is_off_is_named_with_its_reason(site: Site) -> None:
    site.install_ours()
    done = site.run(DOCTOR, environment={"MIGRATE_EXT": "0"})
    assert done.returncode == 1
    assert "OFF: MIGRATE_EXT=0" in done.stdout
    site.install_alembic("1.12.1")
    done = site.run(DOCTOR, "-W", "ignore")
    assert done.returncode == 1
    assert "execution        OFF: Alembic 1.12.1 is older than 1.13" in done.stdout


def test_a_missing_binary_is_named(site: Site) -> None:
    package = site.install_ours()
    for binary in package.glob("_core*.so"):
        binary.unlink()
    done = site.run(
        "import sys; from migrate_ext.cli import doctor; sys.exit(doctor.main())", "-W", "ignore"
    )
    assert done.returncode == 1
    assert "C core           NOT USABLE" in done.stdout


def test_a_project_is_told_what_takes_the_plain_path_and_no_password(site: Site) -> None:
    site.install_ours()
    (site.folder / "alembic.ini").write_text(
        "[alembic]\nscript_location = %(here)s/m\npath_separator = os\n"
        "sqlalchemy.url = postgresql://u:secret@h/d\nmigrate_ext_lock = false\n"
    )
    versions = site.folder / "m" / "versions"
    versions.mkdir(parents=True)
    (versions.parent / "env.py").write_text("from alembic import context\nraise SystemExit(9)\n")
    top = "from alembic import op\nrevision = {!r}\ndown_revision = None\n"
    bodies = "def upgrade():\n    {}\ndef downgrade():\n    pass\n"
    (versions / "a.py").write_text(top.format("a") + bodies.format("op.drop_table('t')"))
    for number in range(7):
        (versions / f"b{number}.py").write_text(top.format("b") + bodies.format("print(1)"))
    (versions / "c.py").write_text("revision = str(1)\nraise SystemExit(9)\n")
    done = site.run(DOCTOR)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "secret" not in done.stdout + done.stderr
    assert "env.py           classic" in done.stdout
    assert "lock             turned off" in done.stdout
    assert "executed files   1 of 9" in done.stdout
    assert f"{versions / 'c.py'}: " in done.stdout
    assert f"{versions / 'b0.py'}: upgrade(): line 5: " in done.stdout
    assert str(versions / "a.py") not in done.stdout
    assert "b6.py" not in done.stdout
    assert "migrate-ext doctor -v" in done.stdout
    every = site.run(VERBOSE)
    assert "b6.py" in every.stdout
    assert "migrate-ext doctor -v" not in every.stdout


def test_each_line_is_named_that_is_waited_at_and_no_database_is_needed(site: Site) -> None:
    site.install_ours()
    (site.folder / "alembic.ini").write_text(
        "[alembic]\nscript_location = %(here)s/m\npath_separator = os\nprepend_sys_path = lib\n"
    )
    versions, lib = site.folder / "m" / "versions", site.folder / "lib"
    versions.mkdir(parents=True)
    lib.mkdir()
    (lib / "application.py").write_text("SIZE = 9\ndef is_wanted():\n    return print()\n")
    (versions.parent / "env.py").write_text("raise SystemExit(9)\n")
    top = (
        "import sqlalchemy as sa\nfrom alembic import op\nimport application\nfrom application import SIZE\n"
        "revision = {!r}\ndown_revision = None\n{}\n"
    )
    bodies = "def upgrade():\n    {}\n    {}\n    {}\ndef downgrade():\n    pass\n"
    three = ("op.drop_table('a')", "application.is_wanted() or print()", "op.drop_table('b')")
    column = "op.add_column('a', sa.Column('b', sa.String(SIZE)))"
    for name, more, body in (
        ("calls", "", three),
        ("outside", "", (column, "pass", "pass")),
        ("read", "", ("bind = op.get_bind()", "n = bind.scalar(sa.text('SELECT 1'))", column)),
        ("broken", "1 / 0 # 'postgresql://u:secret@h/d'", three),
        ("ends", "raise SystemExit(7)", three),
    ):
        (versions / f"{name}.py").write_text(top.format(name, more) + bodies.format(*body))
    done = site.run(VERBOSE)
    assert done.returncode == 0, done.stdout + done.stderr
    told = done.stdout.partition("not all in batches")[2]
    assert told.startswith(" 4 of 10;"), told
    assert f"{versions / 'calls.py'}:10: upgrade(): the name print" in told
    assert f"{versions / 'calls.py'}: upgrade(): {lib / 'application.py'}:3: the name print" in told
    assert (
        f"{versions / 'calls.py'}:9: " not in told and f"{versions / 'calls.py'}:11: " not in told
    )
    assert f"{versions / 'read.py'}:10: upgrade(): " in told
    assert "outside.py" not in told  # what SIZE is, only the executed file tells
    assert f"{versions / 'broken.py'}: upgrade(): line 10: " in told
    assert "(it cannot be executed: ZeroDivisionError: division by zero)" in told
    assert "(it cannot be executed: SystemExit: 7)" in told
    short = site.run(DOCTOR).stdout
    assert "outside.py" in short and "ZeroDivisionError" not in short
