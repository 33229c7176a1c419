"""Values that the plugin derives from pytest's options and settings."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest


def run_name(config: pytest.Config) -> str:
    """A name of this run, the same in all its processes."""
    worker: dict[str, Any] | None = getattr(config, "workerinput", None)
    if worker is not None:
        return str(worker["testrunuid"])
    return os.urandom(8).hex()


def configuration_files(config: pytest.Config) -> tuple[Path, Path]:
    """The paths of ``alembic.ini`` and ``pyproject.toml``: from the ini option, ``ALEMBIC_CONFIG``, or in the root
    folder.
    """
    named = config.getini("migrate_ext_config") or os.environ.get("ALEMBIC_CONFIG")
    path = config.rootpath / (named or "alembic.ini")
    if path.name == "pyproject.toml":
        return path.with_name("alembic.ini"), path
    return path, path.with_name("pyproject.toml")
