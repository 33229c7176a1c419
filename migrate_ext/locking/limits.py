"""What a run of migrations may wait for, and how it takes its lock: options, variables, settings.

Each is an option of the command line (``--no-lock``, ``--lock-timeout``, ``--repair``, ``-v``), else an
environment variable (``MIGRATE_EXT_LOCK_TIMEOUT``), else a key of the project's configuration
(``migrate_ext_lock_timeout``):

``lock``
    ``false``: no lock (``--no-lock``). ``true``: fail where the role may not take it; without it, go
    on and say so.
``lock_timeout``
    seconds to wait for another run; without it, as long as it takes (``--lock-timeout``).
``pooler``
    ``transaction``: the URL leads to a pooler that shares server sessions between transactions;
    ``none``: it does not; ``auto``, the default: found out.
``ddl_lock_timeout``, ``statement_timeout``
    PostgreSQL's ``lock_timeout`` and ``statement_timeout`` for the statements of the run.
``repair``
    ``true``: an INVALID index that the next migration left when it was interrupted is dropped
    first (``--repair``).
``retries``
    how often a migration is repeated that failed because of those, a deadlock or a serialization
    failure; 0, the default: never.
``verbose``
    ``true``: the slowest statements are listed afterwards (``-v`` of ``upgrade`` and ``downgrade``).

Imports next to nothing: it is on the way of every command.
"""

from __future__ import annotations

import os

from migrate_ext.errors import CommandError

TYPE_CHECKING = False  # typing's own costs its import
if TYPE_CHECKING:
    from collections.abc import Callable

_NAMES = (
    "lock",
    "lock_timeout",
    "pooler",
    "ddl_lock_timeout",
    "statement_timeout",
    "retries",
    "repair",
    "verbose",
)

# What the command line gave.
given: dict[str, str] = {}


class Limits:
    """The settings of one run; see the module's text."""

    __slots__ = (
        "ddl_lock_timeout",
        "lock",
        "lock_is_required",
        "lock_timeout",
        "pooler",
        "repair",
        "retries",
        "statement_timeout",
        "verbose",
    )

    def __init__(self) -> None:
        self.lock = True
        self.lock_is_required = False
        self.lock_timeout: float | None = None
        self.pooler = "auto"
        self.ddl_lock_timeout: str | None = None
        self.statement_timeout: str | None = None
        self.retries = 0
        self.repair = False
        self.verbose = False


def give(options: dict[str, str]) -> None:
    """Set what the command line gives, by the names above; forget what an earlier one gave.

    Raises :class:`~migrate_ext.errors.CommandError` where ``--lock-timeout`` has no number.
    """
    given.clear()
    for name, value in options.items():
        given[name] = str(_checked(name, value.strip(), "--" + name.replace("_", "-")))


def read(option: Callable[[str], str | None]) -> Limits:
    """The settings in force. option: gives a key of the configuration, or None.

    Raises :class:`~migrate_ext.errors.CommandError` for a value that makes no sense.
    """
    limits = Limits()
    for name in _NAMES:
        key = f"migrate_ext_{name}"
        value = given.get(name)
        where = "--" + name.replace("_", "-")
        if value is None:
            value, where = os.environ.get(key.upper()), key.upper()
        if value is None:
            value, where = option(key), key
        if value is None or not value.strip():
            continue
        setattr(limits, name, _checked(name, value.strip(), where))
        if name == "lock":
            limits.lock_is_required = limits.lock
    return limits


def _checked(name: str, value: str, where: str) -> object:
    import re  # few settings are given

    if name in ("lock", "repair", "verbose"):
        if value.lower() in ("true", "yes", "on", "1", "false", "no", "off", "0"):
            return value.lower() in ("true", "yes", "on", "1")
        expected = "true or false"
    elif name == "pooler":
        if value in ("auto", "transaction", "none"):
            return value
        expected = "auto, transaction or none"
    elif name == "lock_timeout":
        if re.fullmatch(r"\d+(\.\d+)?", value):
            return float(value)
        expected = "a number of seconds"
    elif name == "retries":
        if re.fullmatch(r"\d{1,4}", value):
            return int(value)
        expected = "a number of at most four digits"
    else:
        if re.fullmatch(r"\d+ ?(us|ms|s|min|h|d)?", value):
            return value
        expected = "a time as PostgreSQL writes it, such as 1s or 500ms"
    raise CommandError(f"{where} is {value!r}; expected {expected}")
