"""Marks: what comes behind each call of a directive, and how a call finds its mark when it runs.

:mod:`migrate_ext.execution.spans` says what they mean, and makes them.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from types import BuiltinFunctionType, CodeType, FunctionType, ModuleType
from typing import Any

from migrate_ext.execution import allowed
from migrate_ext.execution.quiet import is_session_class

NEXT, END, LOUD = range(3)
NO_POSITIONS = sys.version_info < (3, 11)  # code objects know lines alone


class Marks:
    """What is known of the calls in one function.

    ``calls``: by offset of the instruction that calls (by line before Python 3.11), the mark of a
    directive or of a helper. ``executes``: those of ``bind.execute(...)`` whose result is thrown away.
    ``blocks``: by line, the marks of ``with`` blocks of Alembic's: what comes behind their end.
    ``names``: the globals and built-ins that quiet code uses, each as (where it is, name, what it was).
    ``helpers``: of functions that are called, an attribute and what it was.
    ``reads``: the calls whose rows are taken for strings and numbers. ``renderers``: the directives whose
    rendering calls types of the project's. ``sessions``: classes of ORM sessions that it makes.
    """

    __slots__ = (
        "blocks",
        "calls",
        "code",
        "executes",
        "helpers",
        "names",
        "reads",
        "renderers",
        "sessions",
    )

    def __init__(self, code: CodeType) -> None:
        self.code = code
        self.calls: dict[int, int] = {}
        self.executes: dict[int, int] = {}
        self.blocks: dict[int, int] = {}
        self.helpers: list[tuple[Any, str, Any]] = []
        self.names: dict[tuple[int, str], tuple[Mapping[str, Any], str, Any]] = {}
        self.reads: set[int] = set()
        self.renderers: set[int] = set()
        self.sessions: set[Any] = set()

    def still_true(self) -> bool:
        """Whether names and functions mean what they meant when the function was analysed. To be asked
        where code of others may have run.
        """
        for where, name, value in self.names.values():
            if where.get(name) is not value:
                return False
            if type(value) not in _UNCHANGING and not _is_code(value):
                if not allowed.is_allowed(value):
                    return False
        for helper, name, value in self.helpers:
            if getattr(helper, name) is not value:
                return False
        return all(map(is_session_class, self.sessions))


_UNCHANGING = (str, int, float, bool, bytes, type(None))


def _is_code(value: Any) -> bool:
    """Whether a value is a class, a function or a module: found to be quiet by what it is."""
    return issubclass(type(value), (type, FunctionType, BuiltinFunctionType, ModuleType))


class Spans:
    """The marks of one migration's function and of the helpers that it calls.

    ``entry``: the state at the function's beginning; where it is LOUD, nothing may be pending there.
    ``functions``: marks by code object. ``reasons``: what ends spans, as (path, line, text).
    """

    __slots__ = ("entry", "functions", "reasons", "top")

    def __init__(self, top: CodeType) -> None:
        self.top = top
        self.entry = LOUD
        self.functions: dict[CodeType, Marks] = {}
        self.reasons: list[tuple[str, int, str]] = []

    def reads(self, frame: Any) -> bool:
        """Whether the rows of the query that is made in `frame` are taken for strings and numbers."""
        at = frame.f_lineno if NO_POSITIONS else frame.f_lasti
        return at in self.functions[frame.f_code].reads

    def renders_own(self, frame: Any) -> bool:
        """Whether rendering the directive that is called in `frame` calls types of the project's."""
        at = frame.f_lineno if NO_POSITIONS else frame.f_lasti
        return at in self.functions[frame.f_code].renderers

    def mark_of(self, frame: Any, *, of_execute: bool = False) -> int | None:
        """The mark of a directive called in `frame`, which its callers decide where it is END; None where
        a caller is not known. of_execute: of ``bind.execute(...)``, instead.
        """
        found = END
        while (marks := self.functions.get(frame.f_code)) is not None:
            calls = marks.executes if of_execute else marks.calls
            of_execute = False
            mark = calls.get(frame.f_lineno if NO_POSITIONS else frame.f_lasti)
            if mark is None:
                return None
            if found == END:
                found = mark
            if frame.f_code is self.top:
                return found
            frame = frame.f_back
        return None
