"""The settings of a run of migrations: its lock, its timeouts, its repetitions.

Each is an option of the command line (``--no-lock``, ``--lock-timeout``, ``--repair``, ``-v``), else an
environment variable (``MIGRATE_EXT_LOCK_TIMEOUT``), else a key of the project's configuration
(``migrate_ext_lock_timeout``):

``lock``
    ``false``: no lock (``--no-lock``). ``true``: fail if the role may not take it. Not set: then
    continue with a warning.
``lock_timeout``
    seconds to wait for another run; not set: no limit (``--lock-timeout``).
``pooler``
    ``transaction``: the URL leads to a pooler that shares server sessions between transactions;
    ``none``: it does not; ``auto``, the default: detect it.
``ddl_lock_timeout``, ``statement_timeout``
    PostgreSQL's ``lock_timeout`` and ``statement_timeout`` for the statements of the run.
``repair``
    ``true``: first drop an INVALID index that the next migration left when it was interrupted
    (``--repair``).
``retries``
    how often to repeat a migration that failed because of ``ddl_lock_timeout``, a deadlock or a
    serialization failure; 0, the default: never.
``verbose``
    ``true``: list the slowest statements afterwards (``-v`` of ``upgrade`` and ``downgrade``).

Imports as little as possible, because every command imports it.
"""

from __future__ import annotations

import os

from migrate_ext.errors import CommandError

TYPE_CHECKING = False  # saves the import of typing
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

# The settings given on the command line.
given: dict[str, str] = {}


class Limits:
    """The settings of one run; see the module's docstring."""

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
    """Replace the settings given on the command line. options: by the names above.

    Raises :class:`~migrate_ext.errors.CommandError` for an invalid value of ``--lock-timeout``.
    """
    given.clear()
    for name, value in options.items():
        given[name] = str(_checked(name, value.strip(), "--" + name.replace("_", "-")))


def read(option: Callable[[str], str | None]) -> Limits:
    """The settings in effect. option: returns the value of a key of the configuration, or None.

    Raises :class:`~migrate_ext.errors.CommandError` for an invalid value.
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
    import re  # most runs have no settings

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
