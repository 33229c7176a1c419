"""What the configuration's fuzzer has in its corpus, and some thousand steps from there, is read as Alembic reads it."""

from __future__ import annotations

import sys
from pathlib import Path

import alembic
import pytest

from migrate_ext.dropin import hooks

sys.path.append(str(Path(__file__).parents[1] / "fuzz"))
import fuzz_config


@pytest.mark.skipif(
    hooks.numbers(alembic.__version__) < (1, 16),
    reason="read as by newer ones: docs/differences.md",
)
def test_no_configuration_of_the_corpus_means_something_else_to_us() -> None:
    assert fuzz_config.run(60, 1, 500) == 500
