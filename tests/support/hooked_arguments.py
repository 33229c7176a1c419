"""Arguments for a call into C that run Python code while they are read, and what that code does.

It comes from callbacks of the collector (which an allocation starts before Python 3.12) and from hooks of the
arguments: ``__iter__``, ``__eq__``, ``__index__``, ``__bool__``, ``__fspath__``, ``__del__`` and the like.
:func:`outcome` makes a call with such arguments.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from migrate_ext import _core, errors

# A function, its arguments and its keyword arguments.
Call = tuple[Callable[..., object], tuple[Any, ...], dict[str, Any]]

# What a call may raise when its arguments change while it reads them, or its session is in use.
ALLOWED = (
    TypeError,
    ValueError,  # also: the session is closed
    LookupError,
    AttributeError,
    RuntimeError,  # the session is in use; a set changed
    OSError,
    AssertionError,  # the graph's own, as Alembic's
    errors.Declined,
    errors.CommandError,
    errors.InternalError,
    errors.ConnectError,
    errors.ServerError,
    errors.RevisionError,
)

action: Callable[[], object] | None = None  # what the hooks do
only: int | None = None  # at which moment; None: at each
threshold = 1  # of the collector: after how many allocations it starts
moments = 0  # those that there were in this call
lists: list[list[Any]] = []  # those that are arguments now
keywords: set[str] = set()
used: list[_core.Session] = []  # by the call that was made last


def meddle(*_: object) -> None:
    global action, moments
    if action is None:
        return
    doing, action = action, None
    moments += 1
    try:
        look()
        if only is None or moments == only:
            with contextlib.suppress(*ALLOWED):
                doing()
    finally:
        action = doing


def look() -> None:
    """Each object that exists is complete: half-made ones have items that are none."""
    for found in gc.get_objects():
        kind = type(found)
        if kind is tuple or kind is list:
            for _ in found:
                pass
        elif kind is _core.Graph:
            assert len(found.iterate("heads", "base")) == len(found)
        elif kind is _core.Session:
            with contextlib.suppress(RuntimeError):
                [getattr(found, name) for name in ("pending", "closed", "in_transaction")]


def change() -> None:
    for given in lists:
        given.clear()
    for found in gc.get_objects():
        if type(found) is dict and found and found.keys() <= keywords:
            found.clear()


def close() -> None:
    for session in used:
        session.close()


HOOKS = (
    "__len__ __getitem__ __contains__ __eq__ __ne__ __lt__ __hash__ __str__ __repr__ __format__ "
    "__bytes__ __bool__ __index__ __int__ __fspath__ strip encode keys items values get copy"
).split()


def odd_class(base: type) -> type:
    def hooked(name: str) -> Callable[..., object]:
        plain = getattr(base, name)

        def method(self: object, *args: object) -> object:
            meddle()
            return plain(self, *args)

        return method

    def iterate(self: Any) -> Iterator[object]:
        for item in base.__iter__(self):  # type: ignore[attr-defined]
            meddle()
            yield item
        meddle()

    body: dict[str, object] = {name: hooked(name) for name in HOOKS if hasattr(base, name)}
    if hasattr(base, "__iter__"):
        body["__iter__"] = iterate
    return type(f"Odd{base.__name__}", (base,), {**body, "__del__": meddle})


ODD = {base: odd_class(base) for base in (str, bytes, tuple, list, set, dict)}


class OddPath:
    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __fspath__(self) -> str:
        meddle()
        return self.path


class OddNumber:
    def __init__(self, number: int) -> None:
        self.number = number

    def __index__(self) -> int:
        meddle()
        return self.number

    def __bool__(self) -> bool:
        meddle()
        return bool(self.number)

    def __repr__(self) -> str:
        meddle()
        return repr(self.number)

    __int__ = __index__
    __del__ = meddle


class Number(int):
    """Where only an int is taken."""

    __index__ = __int__ = odd_class(int).__int__  # type: ignore[assignment]


class Node:
    """A script, or a node of a revision map."""

    __slots__ = ("__dict__",)

    def __new__(cls) -> Node:
        meddle()
        return super().__new__(cls)

    def __setattr__(self, name: str, value: object) -> None:
        meddle()
        super().__setattr__(name, value)
        meddle()


class Errors:
    def __getattr__(self, name: str) -> object:
        meddle()
        return getattr(errors, name)


def fresh(value: Any, odd: bool) -> Any:
    """A copy that nothing else refers to, with hooks if `odd`; exact lists are noted in `lists`."""
    kind = type(value)
    if kind is str:
        return ODD[str](value) if odd else "".join([*value])
    if kind is bytes:
        return ODD[bytes](value) if odd else b"".join([value[:1], value[1:]])
    if kind in (int, bool):
        return OddNumber(value) if odd else value
    if isinstance(value, Path):
        return OddPath(value) if odd else value
    if kind is dict:
        made = {fresh(k, odd): fresh(v, odd) for k, v in value.items()}
        return ODD[dict](made) if odd else made
    if kind is list:
        made = [fresh(item, odd) for item in value]
        lists.append(made)
        return made
    if kind in (tuple, set):
        items = [fresh(item, odd) for item in value]
        return ODD[kind](items) if odd else kind(items)
    return value


def outcome(given: Call, odd: bool, doing: Callable[[], object] | None = None) -> object:
    """What a call gives: its answer, or the class and the arguments of its error.

    It is `doing` that is done meanwhile: by the hooks of the arguments, or by the collector.
    """
    global action, moments
    function, args, kwargs = given
    lists.clear()
    keywords.clear()
    keywords.update(kwargs)
    # The call has the only references to its arguments.
    positional, named = [tuple([fresh(arg, odd) for arg in args])], [fresh_names(kwargs, odd)]
    gc.collect()  # empties the free lists, too: what is made next is allocated
    if doing is not None and not odd:
        gc.callbacks.append(meddle)
        gc.set_threshold(threshold)
    action, moments = doing, 0
    try:
        answer: object = function(*positional.pop(), **named.pop())
    except ALLOWED as error:
        action = None
        answer = (type(error), [str(arg) for arg in error.args])
    finally:
        action = None
        gc.callbacks.clear()
        gc.set_threshold(700)
    return answer


def fresh_names(kwargs: dict[str, Any], odd: bool) -> dict[str, Any]:
    return {name: fresh(value, odd) for name, value in kwargs.items()}
