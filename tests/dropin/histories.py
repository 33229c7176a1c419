"""The migrations of well-known projects, as they come in their packages: ``migrate-ext verify`` finds them the same.

For `make compat`, which installs one of the packages and names this file; no other run of pytest collects it. The table
that verify prints is in the run's log (build/compat/runs).
"""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest
import sqlalchemy
from alembic import command
from alembic.config import Config
from sqlalchemy.engine import URL

from migrate_ext.testing.databases import Databases
from migrate_ext.verify import report
from migrate_ext.verify.places import Project
from migrate_ext.verify.run import verify


@dataclass(frozen=True)
class History:
    """versions: a folder of the package. metadata: ``module:names``, the target. create: its tables are there from the start."""

    versions: str
    driver: str = "psycopg"
    metadata: str = ""
    create: bool = False


HISTORIES = {
    "airflow": History("migrations/versions", driver="psycopg2"),
    "mlflow": History(
        "store/db_migrations/versions",
        metadata="mlflow.store.tracking.dbmodels.initial_models:Base.metadata",
        create=True,
    ),
    "phoenix": History("db/migrations/versions", metadata="phoenix.db.models:Base.metadata"),
    "prefect": History("server/database/_migrations/versions/postgresql", driver="asyncpg"),
    "sky": History("schemas/db/spot_jobs"),
}
INSTALLED = [package for package in HISTORIES if importlib.util.find_spec(package)]
assert INSTALLED, "none of the projects is installed"


@pytest.fixture
def databases(server_url: URL) -> Iterator[Databases]:
    with closing(Databases(server_url.render_as_string(hide_password=False))) as found:
        yield found


def lay_out(history: History, versions: Path, url: URL) -> None:
    """Alembic's own project in the present folder, with the package's revisions."""
    with open(os.devnull, "w") as nothing:
        template = "async" if history.driver == "asyncpg" else "generic"
        command.init(Config("alembic.ini", stdout=nothing), "migrations", template)
    text = url.set(drivername=f"postgresql+{history.driver}").render_as_string(hide_password=False)
    location = "script_location = %(here)s/migrations"
    edit(
        Path("alembic.ini"),
        ("driver://user:pass@localhost/dbname", text.replace("%", "%%")),
        (location, f"{location}\nversion_locations = {versions}"),
    )
    module, _, names = history.metadata.partition(":")
    if module:
        lines = f"import {module} as models\ntarget_metadata = models.{names}"
        edit(Path("migrations/env.py"), ("target_metadata = None", lines))


def edit(path: Path, *changes: tuple[str, str]) -> None:
    text = path.read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path.write_text(text)


@pytest.mark.parametrize("package", INSTALLED)
def test_a_history(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, databases: Databases, package: str
) -> None:
    history = HISTORIES[package]
    spec = importlib.util.find_spec(package)
    assert spec is not None
    assert spec.submodule_search_locations is not None
    monkeypatch.chdir(tmp_path)
    versions = Path(spec.submodule_search_locations[0], history.versions)
    lay_out(history, versions, databases.url("named_by_the_project"))

    def create(url: URL) -> None:
        if history.create:
            module, _, names = history.metadata.partition(":")
            metadata = importlib.import_module(module)
            for name in names.split("."):
                metadata = getattr(metadata, name)
            engine = sqlalchemy.create_engine(url)
            metadata.create_all(engine)
            engine.dispose()

    project = Project((), "alembic.ini", "pyproject.toml", "alembic")
    result = verify(project, databases, prepare=create)
    print(package)
    print("\n".join(report.table(result)))
    assert result.code == 0
