"""The migrations of well-known projects, as they come in their packages, with and without us.

For `make compat`, which installs one of the packages and names this file; no other run of pytest collects it.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import sqlalchemy
from shapes import Shape


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

# What two runs of one history write otherwise, into rows and logs.
_OWN = re.compile(
    r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(\.\d+)?|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
)


def without_own(function: Callable[..., str]) -> Callable[..., str]:
    return lambda *args: _OWN.sub("<own>", function(*args))


@pytest.mark.parametrize("package", INSTALLED)
def test_a_history(shape: Shape, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    history = HISTORIES[package]
    spec = importlib.util.find_spec(package)
    assert spec is not None
    assert spec.submodule_search_locations is not None
    versions = Path(spec.submodule_search_locations[0], history.versions)
    shape.init("async" if history.driver == "asyncpg" else "generic", driver=history.driver)
    location = "script_location = %(here)s/migrations"
    shape.edit("alembic.ini", (location, f"{location}\nversion_locations = {versions}"))
    module, _, names = history.metadata.partition(":")
    if module:
        lines = f"import {module} as models\ntarget_metadata = models.{names}"
        shape.edit("migrations/env.py", ("target_metadata = None", lines))
    if history.create:
        metadata = importlib.import_module(module)
        for name in names.split("."):
            metadata = getattr(metadata, name)
        for side in shape.sides:
            engine = sqlalchemy.create_engine(side.url)
            metadata.create_all(engine)
            engine.dispose()
    for thing, name in ((shape, "dump"), *((side, "same") for side in shape.sides)):
        monkeypatch.setattr(thing, name, without_own(getattr(thing, name)))

    shape.agree("heads", database=False)
    shape.agree("history", "-v", database=False)
    shape.agree("branches", "-v", database=False)
    # The indexes of a new table are a set: in no order.
    theirs, ours = (side.run("upgrade", "heads", "--sql") for side in shape.sides)
    assert ours.code == theirs.code
    assert sorted(ours.stdout.splitlines()) == sorted(theirs.stdout.splitlines())
    shape.agree("upgrade", "heads")
    shape.agree("current", "-v", database=False)
    shape.agree("upgrade", "heads")
    shape.agree("downgrade", "base", code=None)  # some of these end at what they cannot undo
    shape.agree("upgrade", "heads")
