"""``init -t thin`` lays out an environment that works; all else that ``init`` can do is Alembic's."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from sample_project import ROOT


def run(folder: Path, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "migrate_ext", *command],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), **variables},
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize("folder", [".", "migrations", "a/b"])
def test_what_is_laid_out_works(tmp_path: Path, database_url: str, folder: str) -> None:
    done = run(tmp_path, "init", "-t", "thin", folder)
    assert done.returncode == 0, done.stderr
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "database.py").write_text(
        "import sqlalchemy as sa\nfrom sqlalchemy.orm import DeclarativeBase\nclass Base(DeclarativeBase): pass\n"
    )
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "orm.py").write_text(
        "import sqlalchemy as sa\nfrom lib.database import Base\nsa.Table('t', Base.metadata, sa.Column('a', sa.Integer))\n"
    )
    assert os.access(tmp_path / "scripts" / "migrate.sh", os.X_OK)
    for command in (
        ["revision", "--autogenerate", "-m", "first"], ["compile"], ["upgrade", "head"], ["current", "--check-heads"],
    ):  # fmt: skip
        done = subprocess.run(
            [sys.executable, "scripts/migrate.py", *command],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT), "DATABASE_URL": database_url},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
    assert "(head)" in done.stdout
    assert len(list((tmp_path / folder / "versions").glob("*_first.py"))) == 1


def test_the_template_is_the_sample() -> None:
    template = ROOT / "migrate_ext" / "templates" / "thin"
    for path in template.iterdir():
        folder = ROOT / "scripts" if path.name.startswith("migrate.") else ROOT
        assert path.read_bytes() == (folder / path.name).read_bytes(), path.name


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "alembic.ini").write_text("mine")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("")
    assert run(tmp_path, "init", "-t", "thin", "full").returncode == 255
    done = run(tmp_path, "init", "--template", "thin", "new")
    assert "alembic.ini already exists, skipping" in done.stdout
    assert (tmp_path / "alembic.ini").read_text() == "mine"
    assert run(tmp_path, "init", "--template=thin", "new").returncode == 255
    for wrong in (["init", "-t", "thin"], ["init", "-t", "thin", "a", "b"], ["init", "-t", "thin", "--package", "a"],
                  ["init", "-t", "thin", "../a"]):  # fmt: skip
        assert run(tmp_path, *wrong).returncode == 255
    assert sorted(os.listdir(tmp_path)) == ["alembic.ini", "full", "new", "scripts"]


def test_other_templates_are_alembics(tmp_path: Path) -> None:
    done = run(tmp_path, "init", "-t", "generic", "alembic")
    assert done.returncode == 0
    assert (tmp_path / "alembic" / "env.py").read_text().startswith("from logging.config")
