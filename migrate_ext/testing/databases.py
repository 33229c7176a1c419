"""Databases on one server: created, cloned and dropped, with nothing left behind if a process is killed.

The name shows the kind of a database: ``migrate_ext_t_<key>`` is a template (template_store.py),
``migrate_ext_c_<place>_<owner>_<n>`` a database of one process (a clone, or a template that is being built). ``owner``
is a number of the process, on which it holds an advisory lock as long as it is connected; a process that can take that
lock may drop the owner's databases. Advisory locks belong to one database of the server: ``place`` is the oid of the
database in which they are taken.
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

_OWNER_LOCK = 0x6D5F6F77  # the first of the two numbers of our advisory locks
CLONE_PREFIX = "migrate_ext_c_"
MAX_DOOMED = 8  # databases per process that may be waiting to be dropped


class TemplateGone(Exception):
    """Another process has dropped the template after it was looked up."""


class Database:
    """A database for one test.

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
        """Run and commit one statement, and return its rows, if any."""
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            cursor = connection.execute(statement, parameters)
            return cursor.fetchall() if cursor.description is not None else []

    def close(self) -> None:
        """Close the connections and the engine that were opened here."""
        for connection in self._connections:
            connection.close()
        if "engine" in self.__dict__:
            self.engine.dispose()


# Options of asyncpg that libpq does not have and does not need to connect.
_OF_ASYNCPG = ("prepared_statement_cache_size", "statement_cache_size", "command_timeout")


def _for_libpq(url: URL) -> URL:
    """`url` with asyncpg's options under libpq's names."""
    if url.drivername != "postgresql+asyncpg":
        return url
    query = {key: value for key, value in url.query.items() if key not in _OF_ASYNCPG}
    if "ssl" in query:
        query["sslmode"] = query.pop("ssl")
    return url.set(query=query)


def _bare(url: URL) -> str:
    return _for_libpq(url).set(drivername="postgresql").render_as_string(hide_password=False)


class Databases:
    """The databases on one server. Connects when first needed, and again after a restart of the server.

    url: of any database on it, as SQLAlchemy accepts it; its user must be allowed to create databases. Connections to
    the databases created here use the driver that `url` names. base: the database that empty ones are copied from.
    keep: drop nothing.
    """

    def __init__(self, url: str, *, base: str = "template0", keep: bool = False) -> None:
        try:
            self._url = make_url(url.replace("postgres://", "postgresql://", 1))
        except Exception as error:
            # SQLAlchemy's message may quote the URL and its password.
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
        self._sweeping = False  # the result of dropping _doomed[0] is outstanding
        self._doomed: list[str] = []

    # connections

    def query(self, statement: sql.Composed | str, parameters: Any = None) -> list[tuple[Any, ...]]:
        """Run one statement on the administrative connection; repeat it once if the connection was lost."""
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
        """The administrative connection, which holds the lock of the owner of the databases created here."""
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
        """Connect to ``postgres``, so that all runs take their locks in one database; else to the URL's database."""
        options: dict[str, Any] = {"autocommit": True, "prepare_threshold": None}
        try:
            return psycopg.connect(_bare(self._url.set(database="postgres")), **options)
        except psycopg.OperationalError:
            if self._url.database in (None, "", "postgres"):
                raise
            return psycopg.connect(_bare(self._url), **options)

    @cached_property
    def facts(self) -> str:
        """Properties of the server that determine what a migrated database contains, or who may use it."""
        row = self.query("SELECT current_setting('server_version_num'), current_user::text")[0]
        return repr((*row, self.base))

    @property
    def version(self) -> int:
        """The server's version, as ``server_version_num``."""
        return self.admin.info.server_version

    # databases

    def create(self, template: str | None = None, strategy: str | None = None) -> str:
        """Create a database of this process, and return its name.

        template: the name of the database to copy; None: an empty one. Raises :class:`TemplateGone`.
        """
        self._number += 1
        _ = self.admin  # sets owner and place
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
        """The URL of a database on this server."""
        return self._url.set(database=name)

    def database(self, name: str) -> Database:
        """The :class:`Database` object of a database."""
        return Database(self.url(name))

    def drop(self, name: str) -> None:
        """Have the server drop a database of this process in the background."""
        if self.keep:
            self.kept.append(name)
            return
        self.doom(name)
        self.sweep(leave=MAX_DOOMED)

    def doom(self, name: str) -> None:
        """Have a database of our own dropped by the next :meth:`sweep`."""
        self._doomed.append(name)

    def sweep(self, leave: int = 0) -> None:
        """Have the server drop the databases that are waiting for it, and wait until at most `leave` are left.

        Warns of a database that cannot be dropped; the next run tries again.
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
                self._broom.close()  # the server was restarted: try again
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
        """End all sessions on a database: an engine of ``env.py`` often keeps one open in its pool."""
        self.query(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name]
        )

    def drop_orphans(self) -> list[str]:
        """Drop the databases of owners that are no longer connected, and return their names."""
        _ = self.admin  # sets the place
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
        """Wait until all waiting databases are dropped, and disconnect."""
        self.sweep()
        for connection in (self._broom, self._admin):
            if connection is not None:
                connection.close()


def _is_busy(pgconn: Any) -> bool:
    try:
        pgconn.consume_input()
    except psycopg.OperationalError:  # the connection is lost, as its result will show
        return False
    return bool(pgconn.is_busy())


def _answer(pgconn: Any) -> str | None:
    """Wait for the result of one command. Returns the error message, or None."""
    failed = None
    while (result := pgconn.get_result()) is not None:
        if result.status != psycopg.pq.ExecStatus.COMMAND_OK:
            failed = result.error_message.decode(errors="replace").strip()
    return failed


def _one(connection: psycopg.Connection[Any], statement: str, *parameters: object) -> Any:
    row = connection.execute(statement, parameters or None).fetchone()
    return row and row[0]
