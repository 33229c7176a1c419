"""The syntax tree of a function that runs, read from its file."""

from __future__ import annotations
import __future__

import ast
import re
from types import FunctionType, ModuleType


def tree_of(path: str, function: FunctionType) -> ast.FunctionDef | str:
    """The syntax tree of a function that was executed from the file at `path`; a text says why there is
    none. Only a tree that compiles to the code of `function` is one: the file may have changed.
    """
    try:
        with open(path, "rb") as file:
            source = file.read()
        node = _tree_in(_segment(source, function), path, function)
        return node or _tree_in(source, path, function) or "its source is not what runs"
    except (OSError, SyntaxError, ValueError):
        return "its source cannot be read"


def _segment(source: bytes, function: FunctionType) -> bytes:
    """The lines of a function at the top of a file, in their place; empty where they are not found."""
    lines = source.splitlines(keepends=True)
    first = function.__code__.co_firstlineno - 1
    if (
        not lines[first : first + 1]
        or lines[first][:4] != b"def "
        or any(map(_COOKIE.search, lines[:2]))
    ):
        return b""
    last = first + 1
    while last < len(lines) and not _BEGINS_STATEMENT.match(lines[last]):
        last += 1
    # The compiler calls methods of imported names in a way of its own. A wrong guess is found out.
    found = function.__globals__
    imported = [
        name
        for name in function.__code__.co_names
        if name in found
        and (
            type(found[name]) is ModuleType
            or getattr(type(found[name]), "__module__", "") != "builtins"
            or (
                type(found[name]) in (FunctionType, type)
                and found[name].__module__ != found.get("__name__")
            )
        )
    ]
    top = f"import {', '.join(imported)}".encode() if imported and first else b""
    return top + b"\n" * first + b"".join(lines[first:last])


_BEGINS_STATEMENT = re.compile(rb"[\w@]")
_COOKIE = re.compile(rb"\xef\xbb\xbf|coding")


def _tree_in(source: bytes, path: str, function: FunctionType) -> ast.FunctionDef | None:
    code = function.__code__
    try:
        tree = ast.parse(source)
        compiled = compile(tree, path, "exec", code.co_flags & _FUTURE, dont_inherit=True)
    except (SyntaxError, ValueError):
        return None
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.FunctionDef)
            and (node.name, node.lineno) == (code.co_name, code.co_firstlineno)
            and not node.decorator_list
            and code in compiled.co_consts
        ):
            return node
    return None


_FUTURE = 0
for _feature in __future__.all_feature_names:
    _FUTURE |= getattr(__future__, _feature).compiler_flag
