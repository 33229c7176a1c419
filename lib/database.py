"""The backend's database: the declarative base, the engine and the sessions.

Nothing connects on import. The engine is made from the environment variable ``DATABASE_URL`` when
it is first asked for, so that models can be imported, and migrations listed, without a database.
"""

import functools
import importlib.util
import os

from sqlalchemy import URL, Engine, MetaData, create_engine, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.orm import DeclarativeBase, Session, sessionmaker

#: A constraint's name follows from what it is on, so that a migration can name it to drop it.
NAMING_CONVENTION = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}


class Base(DeclarativeBase):
    """The base of every model. Autogenerate compares ``Base.metadata`` with the database."""

    metadata = MetaData(naming_convention=NAMING_CONVENTION)


class DatabaseNotConfigured(RuntimeError):
    """``DATABASE_URL`` is not set, or is not the URL of a PostgreSQL database."""


def database_url() -> URL:
    """The URL in ``DATABASE_URL``, for a synchronous driver.

    ``postgres://``, the scheme hosting providers hand out, means ``postgresql://``. A URL that
    names no driver, or names asyncpg, gets the synchronous driver that is installed: psycopg if
    there is one, psycopg2 otherwise.

    Raises DatabaseNotConfigured, whose text never holds the URL: it may hold a password.
    """
    text = os.environ.get("DATABASE_URL", "").strip()
    if not text:
        raise DatabaseNotConfigured(
            "DATABASE_URL is not set. Set it to the database's URL, "
            "for example postgresql://user:password@localhost:5432/backend"
        )
    scheme, separator, rest = text.partition("://")
    if scheme == "postgres":
        scheme = "postgresql"
    try:
        url = make_url(scheme + separator + rest)
    except (ArgumentError, ValueError):
        # make_url quotes the whole string, password included; hence "from None".
        raise DatabaseNotConfigured(
            "DATABASE_URL is not a database URL, which looks like "
            "postgresql://user:password@host:5432/database; "
            "characters such as @ : / ? in a password are written percent-encoded."
        ) from None
    if url.get_backend_name() != "postgresql":
        raise DatabaseNotConfigured(
            f"DATABASE_URL is a URL for {url.get_backend_name()}; "
            "this backend needs PostgreSQL (postgresql://...)."
        )
    if url.drivername in ("postgresql", "postgresql+asyncpg"):
        driver = "psycopg" if importlib.util.find_spec("psycopg") else "psycopg2"
        url = url.set(drivername=f"postgresql+{driver}")
    return url


@functools.cache
def engine() -> Engine:
    """The process's engine, made on the first call.

    Raises DatabaseNotConfigured, like `database_url`. Connects to nothing by itself.
    """
    return create_engine(database_url(), pool_pre_ping=True)


@functools.cache
def session_factory() -> sessionmaker[Session]:
    """Makes the process's sessions: ``with session_factory()() as session: ...``."""
    return sessionmaker(engine(), expire_on_commit=False)
