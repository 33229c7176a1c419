"""Pytest items of the checks in :mod:`migrate_ext.testing.checks`: one for each revision, one for each other check.

They belong to a file of the project's tests, usually ``conftest.py``. So fixtures that the project overrides there
apply to them, and pytest finds each by its name: ``pytest 'tests/conftest.py::revision[1a2b3c]'``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from migrate_ext.testing import session

NAMES = ("files", "heads", "plans", "revision", "models", "offline", "base")


class Migrations(pytest.Module):
    """Collects the checks. ``obj``, the module of its functions, is this one."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        import migrate_ext.testing.collect as this

        self.obj = this

    def collect(self) -> Iterator[pytest.Item]:
        project = session.project(self.config)
        chosen = chosen_names(self.config)
        if "files" in chosen:
            yield self._item("files", _check_without_database("check_files"))
        try:
            revisions = project.history.revisions
        except Exception as error:
            if "files" in chosen:
                return  # that check reports the error
            raise self.CollectError(str(error)) from error
        if "heads" in chosen:
            yield self._item("heads", _check_without_database("check_heads"))
        named = "plans" in self.config.getini("migrate_ext_tests")
        if "plans" in chosen and (named or project.plan_file()):
            yield self._item("plans", _check_without_database("check_plans"))
        if "revision" in chosen:
            for revision in revisions:
                yield self._item(f"revision[{revision.id}]", _check_of_revision(revision.id))
        # The last of these changes the database that they may share.
        for name in ("models", "offline", "base"):
            if name in chosen:
                yield self._item(name, _check(name))

    def _item(self, name: str, function: Callable[..., None]) -> pytest.Item:
        item: pytest.Item = Check.from_parent(self, name=name, callobj=function)
        item.add_marker("migrations")
        return item


class Check(pytest.Function):
    """One check. It fails with its text, without a traceback."""

    def reportinfo(self) -> tuple[Path, int | None, str]:
        return self.path, None, f"migrations: {self.name}"

    def runtest(self) -> None:
        from migrate_ext.testing import ground

        failure = reason = None
        try:
            super().runtest()
        except ground.Skipped as skipped:
            reason = str(skipped)
        except ground.Failed as failed:
            failure = f"{failed}\nagain: pytest '{self.nodeid}'"
        if reason is not None:
            pytest.skip(reason)
        if failure is not None:
            pytest.fail(failure, pytrace=False)


def _check_without_database(name: str) -> Callable[..., None]:
    def check(request: pytest.FixtureRequest) -> None:
        from migrate_ext.testing import checks

        getattr(checks, name)(session.project(request.config))

    return check


def _check_of_revision(id_: str) -> Callable[..., None]:
    def check(_migrate_ext_checks: Any) -> None:
        _migrate_ext_checks.check_revision(id_)

    return check


def _check(name: str) -> Callable[..., None]:
    def check(_migrate_ext_checks: Any) -> None:
        getattr(_migrate_ext_checks, f"check_{name}")()

    return check


def chosen_names(config: pytest.Config) -> tuple[str, ...]:
    """The names of the selected checks. Raises ``UsageError`` for an unknown name."""
    named = config.getini("migrate_ext_tests")
    if not named or named == ["all"]:
        return NAMES
    wrong = [name for name in named if name not in NAMES]
    if wrong:
        raise pytest.UsageError(
            f"migrate_ext_tests: {' '.join(wrong)}: expected all, or some of {' '.join(NAMES)}"
        )
    return tuple(named)
