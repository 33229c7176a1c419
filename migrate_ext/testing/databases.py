"""Databases on one server: created, cloned and dropped, with nothing left behind if a process is killed.

Every name tells its kind: ``migrate_ext_t_<key>`` is a template (template_store.py),
``migrate_ext_c_<place>_<owner>_<n>`` a database of one process (a clone, or a template that is being built). An owner
holds an advisory lock on its number for as long as it is connected, so whoever can take that lock may drop what the
owner left. Advisory locks belong to one database of the server: ``place`` is the oid of the database in which they are
taken.
"""

from __future__ import annotations

import secrets
import warnings
from functools import cached_property
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import sql
from sqlalchemy.engine import URL, make_url

from migrate_ext.errors import CommandError

if TYPE_CHECKING:
    from sqlalchemy.engine import Engine

_OWNER_LOCK = 0x6D5F6F77  # the first of an advisory lock's two numbers
CLONE_PREFIX = "migrate_ext_c_"
MAX_DOOMED = 8  # databases that may wait for being dropped, per process


class TemplateGone(Exception):
    """The template was dropped by somebody else after it was looked up."""


class Database:
    """A database of a test's own.

    ``name``; ``url``: for SQLAlchemy, with the project's driver; ``dsn``: the same for libpq (psycopg, ``psql``).
    """

    def __init__(self, url: URL) -> None:
        self._url = url
        self.name = str(url.database)
        self.url = url.render_as_string(hide_password=False)
        self.dsn = _bare(url)
        self._connections: list[psycopg.Connection[Any]] = []

    def __repr__(self) -> str:
        return f"<Database {self.name}>"

    @cached_property
    def engine(self) -> Engine:
        """An SQLAlchemy engine of a synchronous driver, without a pool; disposed after the test."""
        from sqlalchemy import create_engine
        from sqlalchemy.pool import NullPool

        url = self._url
        if url.get_dialect().is_async:
            url = _for_libpq(url).set(drivername="postgresql+psycopg")
        return create_engine(url, poolclass=NullPool)

    def connect(self, **options: Any) -> psycopg.Connection[Any]:
        """A psycopg connection, closed after the test. options: as for ``psycopg.connect``."""
        connection = psycopg.connect(self.dsn, **options)
        self._connections.append(connection)
        return connection

    def execute(self, statement: str, parameters: Any = None) -> list[tuple[Any, ...]]:
        """Run one statement, committed, and give the rows of its answer, if it has any."""
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            cursor = connection.execute(statement, parameters)
            return cursor.fetchall() if cursor.description is not None else []

    def close(self) -> None:
        """Close what was opened here."""
        for connection in self._connections:
            connection.close()
        if "engine" in self.__dict__:
            self.engine.dispose()


# Options of asyncpg that say nothing of where the server is.
_OF_ASYNCPG = ("prepared_statement_cache_size", "statement_cache_size", "command_timeout")


def _for_libpq(url: URL) -> URL:
    """`url` with the names that libpq has for asyncpg's options."""
    if url.drivername != "postgresql+asyncpg":
        return url
    query = {key: value for key, value in url.query.items() if key not in _OF_ASYNCPG}
    if "ssl" in query:
        query["sslmode"] = query.pop("ssl")
    return url.set(query=query)


def _bare(url: URL) -> str:
    return _for_libpq(url).set(drivername="postgresql").render_as_string(hide_password=False)


class Databases:
    """One server. Connects when it is first needed, and again when the server was restarted.

    url: of any database on it (forms as SQLAlchemy takes them); its user must be allowed to create databases.
    Connections to the databases made here use the driver that `url` names. base: the database that empty ones are
    made from. keep: drop nothing.
    """

    def __init__(self, url: str, *, base: str = "template0", keep: bool = False) -> None:
        try:
            self._url = make_url(url.replace("postgres://", "postgresql://", 1))
        except Exception as error:
            # The library's text may quote the URL, and with it the password.
            raise CommandError(
                "the test server's URL is not a URL that SQLAlchemy takes"
            ) from error
        self.base = base
        self.keep = keep
        self.kept: list[str] = []
        self._owner = secrets.randbits(31)
        self._place = 0
        self._number = 0
        self._admin: psycopg.Connection[Any] | None = None
        self._broom: psycopg.Connection[Any] | None = None
        self._sweeping = (
            False  # an answer of the broom's is outstanding, to the drop of the first of
        )
        self._doomed: list[str] = []

    # connections

    def query(self, statement: sql.Composed | str, parameters: Any = None) -> list[tuple[Any, ...]]:
        """Run one statement of the administration; once more if the connection turns out to be dead."""
        for attempt in (0, 1):
            connection = self.admin
            try:
                cursor = connection.execute(statement, parameters)
                return cursor.fetchall() if cursor.description is not None else []
            except psycopg.OperationalError:
                if attempt or not connection.broken:
                    raise
        raise AssertionError

    @property
    def admin(self) -> psycopg.Connection[Any]:
        """The connection that owns the databases made here."""
        if self._admin is None or self._admin.closed:
            self._admin = self._connect()
            self._place = _one(
                self._admin, "SELECT oid FROM pg_database WHERE datname = current_database()"
            )
            while not _one(
                self._admin, "SELECT pg_try_advisory_lock(%s, %s)", _OWNER_LOCK, self._owner
            ):
                self._owner = secrets.randbits(31)
        return self._admin

    def _connect(self) -> psycopg.Connection[Any]:
        """To ``postgres``, so that all runs take their locks in one place; else to the URL's own database."""
        options: dict[str, Any] = {"autocommit": True, "prepare_threshold": None}
        try:
            return psycopg.connect(_bare(self._url.set(database="postgres")), **options)
        except psycopg.OperationalError:
            if self._url.database in (None, "", "postgres"):
                raise
            return psycopg.connect(_bare(self._url), **options)

    @cached_property
    def facts(self) -> str:
        """What of the server decides what a migrated database looks like, or who may use it."""
        row = self.query("SELECT current_setting('server_version_num'), current_user::text")[0]
        return repr((*row, self.base))

    @property
    def version(self) -> int:
        """The server's version, as ``server_version_num``."""
        return self.admin.info.server_version

    # databases

    def create(self, template: str | None = None, strategy: str | None = None) -> str:
        """Make a database of our own, and return its name.

        template: the name of another to copy; None: an empty one. Raises :class:`TemplateGone`.
        """
        self._number += 1
        _ = self.admin  # decides owner and place
        name = f"{CLONE_PREFIX}{self._place}_{self._owner:08x}_{self._number}"
        statement = sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(
            sql.Identifier(name), sql.Identifier(template or self.base)
        )
        if strategy is not None:
            statement += sql.SQL(" STRATEGY {}").format(sql.Identifier(strategy))
        try:
            self.query(statement)
        except psycopg.errors.InvalidCatalogName as error:
            if template is None:
                raise CommandError(
                    f"the database {self.base!r} of migrate_ext_base is not there"
                ) from error
            raise TemplateGone(template) from error
        return name

    def url(self, name: str) -> URL:
        """The URL of a database here."""
        return self._url.set(database=name)

    def database(self, name: str) -> Database:
        """How a test sees a database."""
        return Database(self.url(name))

    def drop(self, name: str) -> None:
        """Drop a database of our own, while we go on: the server works through what is to be dropped."""
        if self.keep:
            self.kept.append(name)
            return
        self.doom(name)
        self.sweep(leave=MAX_DOOMED)

    def doom(self, name: str) -> None:
        """Have a database of our own dropped by the next :meth:`sweep`."""
        self._doomed.append(name)

    def sweep(self, leave: int = 0) -> None:
        """Have doomed databases dropped, and wait until no more than `leave` are left.

        One that cannot be dropped is a warning; the next run tries again.
        """
        while self._doomed:
            if self.version < 130000:
                self.drop_now(self._doomed.pop(0))
                continue
            if self._broom is None or self._broom.closed:
                self._broom, self._sweeping = self._connect(), False
            pgconn = self._broom.pgconn
            if not self._sweeping:
                name = sql.Identifier(self._doomed[0])
                statement = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(name)
                pgconn.send_query(statement.as_bytes(self._broom))
                self._sweeping = True
            if len(self._doomed) <= leave and _is_busy(pgconn):
                return
            failed = _answer(pgconn)
            self._sweeping = False
            if pgconn.status != psycopg.pq.ConnStatus.OK:
                self._broom.close()  # the server was restarted: once more
                continue
            dropped = self._doomed.pop(0)
            if failed:
                warnings.warn(f"migrate_ext: {dropped} was not dropped: {failed}", stacklevel=2)

    def drop_now(self, name: str) -> None:
        """Drop a database, and wait until that is done."""
        self.disconnect(name)
        force = " WITH (FORCE)" if self.version >= 130000 else ""
        self.query(sql.SQL("DROP DATABASE IF EXISTS {}" + force).format(sql.Identifier(name)))

    def disconnect(self, name: str) -> None:
        """End all sessions on a database: engines of ``env.py`` often keep one open in their pool."""
        self.query(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name]
        )

    def drop_orphans(self) -> list[str]:
        """Drop the databases of owners that are gone, and return their names."""
        _ = self.admin  # decides the place
        place = f"{CLONE_PREFIX}{self._place}_"
        names = self.query(
            "SELECT datname::text FROM pg_database WHERE starts_with(datname::text, %s)", [place]
        )
        dropped = []
        for (name,) in names:
            owner = int(name[len(place) :].split("_")[0], 16)
            if owner == self._owner:
                continue
            if self.query("SELECT pg_try_advisory_lock(%s, %s)", [_OWNER_LOCK, owner])[0][0]:
                try:
                    self.drop_now(name)
                    dropped.append(name)
                finally:
                    self.query("SELECT pg_advisory_unlock(%s, %s)", [_OWNER_LOCK, owner])
        return dropped

    def close(self) -> None:
        """Wait for what is being dropped, and disconnect."""
        self.sweep()
        for connection in (self._broom, self._admin):
            if connection is not None:
                connection.close()


def _is_busy(pgconn: Any) -> bool:
    try:
        pgconn.consume_input()
    except psycopg.OperationalError:  # lost; the answer says so
        return False
    return bool(pgconn.is_busy())


def _answer(pgconn: Any) -> str | None:
    """Wait for the answer to one command; what went wrong, if anything."""
    failed = None
    while (result := pgconn.get_result()) is not None:
        if result.status != psycopg.pq.ExecStatus.COMMAND_OK:
            failed = result.error_message.decode(errors="replace").strip()
    return failed


def _one(connection: psycopg.Connection[Any], statement: str, *parameters: object) -> Any:
    row = connection.execute(statement, parameters or None).fetchone()
    return row and row[0]
