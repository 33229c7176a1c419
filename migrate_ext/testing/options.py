"""What pytest's options and settings say to the plugin."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest


def run_name(config: pytest.Config) -> str:
    """One name for all processes of this run."""
    worker: dict[str, Any] | None = getattr(config, "workerinput", None)
    if worker is not None:
        return str(worker["testrunuid"])
    return os.urandom(8).hex()


def configuration_files(config: pytest.Config) -> tuple[Path, Path]:
    """``alembic.ini`` and ``pyproject.toml``, as the option, ``ALEMBIC_CONFIG``, or their usual place says."""
    named = config.getini("migrate_ext_config") or os.environ.get("ALEMBIC_CONFIG")
    path = config.rootpath / (named or "alembic.ini")
    if path.name == "pyproject.toml":
        return path.with_name("alembic.ini"), path
    return path, path.with_name("pyproject.toml")
