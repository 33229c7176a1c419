"""`migrate-ext doctor` tells what is active, and what is not and why."""

from __future__ import annotations

from dropin_site import Site

DOCTOR = "import sys; from migrate_ext.cli import main; sys.exit(main(['doctor']))"


def test_all_is_well(site: Site) -> None:
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
        "import sys; from migrate_ext import doctor; sys.exit(doctor.main())", "-W", "ignore"
    )
    assert done.returncode == 1
    assert "C core           NOT USABLE" in done.stdout
