"""Whether a migration is plain, judged by the byte code of straight-line code, in a few
microseconds.

It accepts nothing that the syntax tree (:mod:`migrate_ext.execution.plain`) does not accept.
"""

from __future__ import annotations

import builtins
import sys
from opcode import opmap
from types import FunctionType, ModuleType
from typing import Any

from migrate_ext.execution import allowed

# -------------------------------------------------------------------------------------------------
# The byte code

# Instructions of straight-line code: no blocks, no stores to anything but locals, no function
# definitions, no calls with * or **. For a Python version that is not here, the tree decides.
_COMMON = (
    "NOP POP_TOP EXTENDED_ARG LOAD_CONST LOAD_FAST STORE_FAST LOAD_GLOBAL LOAD_ATTR RETURN_VALUE "
    "BUILD_TUPLE BUILD_LIST BUILD_SET BUILD_MAP BUILD_STRING BUILD_SLICE LIST_EXTEND SET_UPDATE "
    "UNPACK_SEQUENCE COMPARE_OP IS_OP CONTAINS_OP UNARY_NEGATIVE UNARY_NOT UNARY_INVERT "
)
_SINCE_3_11 = "CACHE RESUME CALL PUSH_NULL BINARY_OP COPY SWAP "
_SINCE_3_13 = (
    "CALL_KW FORMAT_SIMPLE FORMAT_WITH_SPEC CONVERT_VALUE BINARY_SLICE LOAD_FAST_CHECK "
    "LOAD_FAST_LOAD_FAST STORE_FAST_LOAD_FAST STORE_FAST_STORE_FAST TO_BOOL "
)
_INSTRUCTIONS = {
    (3, 10): _COMMON
    + "UNARY_POSITIVE BUILD_CONST_KEY_MAP LOAD_METHOD CALL_METHOD CALL_FUNCTION CALL_FUNCTION_KW "
    "FORMAT_VALUE BINARY_ADD BINARY_AND BINARY_FLOOR_DIVIDE BINARY_LSHIFT BINARY_MATRIX_MULTIPLY "
    "BINARY_MODULO BINARY_MULTIPLY BINARY_OR BINARY_POWER BINARY_RSHIFT BINARY_SUBSCR "
    "BINARY_SUBTRACT BINARY_TRUE_DIVIDE BINARY_XOR DUP_TOP ROT_TWO ROT_THREE ROT_FOUR",
    (3, 11): _COMMON
    + _SINCE_3_11
    + "UNARY_POSITIVE BUILD_CONST_KEY_MAP LOAD_METHOD PRECALL KW_NAMES FORMAT_VALUE BINARY_SUBSCR",
    (3, 12): _COMMON
    + _SINCE_3_11
    + "BUILD_CONST_KEY_MAP KW_NAMES FORMAT_VALUE BINARY_SUBSCR BINARY_SLICE RETURN_CONST LOAD_FAST_CHECK",
    (3, 13): _COMMON + _SINCE_3_11 + _SINCE_3_13 + "BUILD_CONST_KEY_MAP BINARY_SUBSCR RETURN_CONST",
    (3, 14): _COMMON
    + _SINCE_3_11
    + _SINCE_3_13
    + "LOAD_FAST_BORROW LOAD_FAST_BORROW_LOAD_FAST_BORROW LOAD_SMALL_INT",
}
_VERSION = sys.version_info[:2]
_ALLOWED = bytes(opmap[name] for name in _INSTRUCTIONS.get(_VERSION, "").split())
_EXTENDED_ARG = opmap["EXTENDED_ARG"]
# Kinds of instructions whose argument is checked, too: names and operators. Where the lowest bit of
# the argument is a flag, the index of the name starts at the second; _IS_ATTRIBUTE + 1 is such a
# LOAD_ATTR.
_IS_GLOBAL, _IS_OPERATOR, _IS_ATTRIBUTE = 1, 2, 3
_GLOBAL_SHIFT = int(_VERSION >= (3, 11))
_KINDS_BY_NAME = {
    "LOAD_GLOBAL": _IS_GLOBAL,
    "BINARY_OP": _IS_OPERATOR,
    "LOAD_ATTR": _IS_ATTRIBUTE + int(_VERSION >= (3, 12)),
    "LOAD_METHOD": _IS_ATTRIBUTE,
}
_KINDS = bytearray(256)
for _name, _kind in _KINDS_BY_NAME.items():
    if opmap.get(_name, 256) < 256:  # larger ones are pseudo-instructions of the compiler
        _KINDS[opmap[_name]] = _kind
_OPERATORS = frozenset(range(13)) | ({26} if _VERSION >= (3, 14) else set())  # NB_*, none in-place
# Generators, coroutines, *args and **keywords (CO_*, see the inspect module).
_NOT_PLAIN_FLAGS = 0x04 | 0x08 | 0x20 | 0x80 | 0x200


def looks_plain(function: Any) -> bool:
    """Whether a function of an executed revision file is plain, judged by its byte code alone.

    True is as reliable as the tree's answer, at a hundredth of the cost. False only means that the
    tree must be checked.
    """
    if type(function) is not FunctionType or _VERSION not in _INSTRUCTIONS:
        return False
    code = function.__code__
    if code.co_argcount or code.co_kwonlyargcount or code.co_flags & _NOT_PLAIN_FLAGS:
        return False
    if code.co_freevars or code.co_cellvars:
        return False
    arguments = code.co_code
    opcodes = arguments[::2]
    if opcodes.translate(None, _ALLOWED) or getattr(code, "co_exceptiontable", b""):
        return False
    names = code.co_names
    globals_, attributes = set(), set()
    for kind, argument in _uses(opcodes, arguments[1::2]):
        if kind == _IS_GLOBAL:
            globals_.add(names[argument >> _GLOBAL_SHIFT])
        elif kind == _IS_OPERATOR:
            if argument not in _OPERATORS:
                return False
        elif kind:
            attributes.add(names[argument >> (kind - _IS_ATTRIBUTE)])
    return _are_plain(function, globals_, attributes)


def _uses(opcodes: bytes, arguments: bytes) -> set[tuple[int, int]]:
    """The pairs (kind, argument) that occur; kind 0 is any instruction not listed in _KINDS."""
    kinds = opcodes.translate(_KINDS)
    if _EXTENDED_ARG not in opcodes:
        return set(zip(kinds, arguments, strict=True))
    found, extended = set(), 0
    for opcode, kind, argument in zip(opcodes, kinds, arguments, strict=True):
        argument |= extended << 8
        extended = argument if opcode == _EXTENDED_ARG else 0
        found.add((kind, argument))
    return found


def _are_plain(function: Any, globals_: set[str], attributes: set[str]) -> bool:
    names = function.__globals__
    if function.__builtins__ is not vars(builtins):
        return False
    modules = {"alembic.op": sys.modules["alembic.op"]}
    changes = not allowed.MUTATORS.isdisjoint(attributes)
    for name in globals_:
        if name not in names:
            if not allowed.is_builtin(name):
                return False
            continue
        value = names[name]
        if not allowed.is_allowed(value) or (changes and type(value) in (list, dict, set)):
            return False
        if type(value) is ModuleType:
            modules[value.__name__] = value
    left = [*modules.values()]
    for module in left:  # grows while it is iterated: modules are attributes of modules
        for name in attributes:
            found = vars(module).get(name)
            if type(found) is ModuleType and found.__name__ not in modules:
                modules[found.__name__] = found
                left.append(found)
    return all(_may_be_asked(name, modules) for name in attributes)


def _may_be_asked(name: str, modules: dict[str, ModuleType]) -> bool:
    known = name in allowed.ATTRIBUTES or name in allowed.OF_OP
    for module in modules.values():
        if name in vars(module):
            if not allowed.is_attribute(module, name):
                return False
            known = True
    return known
