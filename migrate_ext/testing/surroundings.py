"""What holds while a project's ``env.py`` runs for a test's database: variables, our runtime, pytest's logging, a guard."""

from __future__ import annotations

import logging.config
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any


class WrongDatabase(Exception):
    """``env.py`` connected to another database than the one that it was given; nothing was run there."""


@contextmanager
def surroundings(
    url: str | None,
    variables: Sequence[str],
    env: str,
    prepare: Callable[[dict[str, Any]], None] | None = None,
) -> Iterator[None]:
    """A block in which ``env.py`` can run for the database of `url`: sets the environment variables, installs our
    runtime, keeps pytest's logging, refuses connections to other databases.

    url: None for a database that is not PostgreSQL; then connections are not checked. variables: environment variables
    for the URL. env: the path of ``env.py``, for messages. prepare: as for :meth:`~migrate_ext.testing.project.Project.run`.
    """
    from migrate_ext.dropin import hooks

    values = {"MIGRATE_EXT_LOCK": "false"}
    if url is not None:
        values.update(dict.fromkeys(variables, url))
    with (
        _environment(values),
        _quiet_logging(),
        hooks.installed(),
        _only_on(url, variables, env, prepare),
    ):
        yield


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def _quiet_logging() -> Iterator[None]:
    """Disables ``fileConfig``, which ``env.py`` usually calls: it closes all handlers, including pytest's."""
    configure = logging.config.fileConfig
    logging.config.fileConfig = lambda *_, **__: None
    try:
        yield
    finally:
        logging.config.fileConfig = configure


@lru_cache
def _database_of(url: str) -> str | None:
    from sqlalchemy.engine import make_url

    return make_url(url).database


@contextmanager
def _only_on(
    url: str | None,
    variables: Sequence[str],
    env: str,
    prepare: Callable[[dict[str, Any]], None] | None,
) -> Iterator[None]:
    """Within this block ``EnvironmentContext.configure`` refuses connections to other databases."""
    from alembic.runtime.environment import EnvironmentContext

    expected = _database_of(url) if url is not None else None
    configure = EnvironmentContext.configure

    def guarded(self: EnvironmentContext, *args: Any, **kw: Any) -> None:
        if prepare is not None:
            prepare(kw)
        configure(self, *args, **kw)
        connection = self.get_context().connection
        if connection is None or expected is None or self.is_offline_mode():
            return
        info = getattr(connection.connection.dbapi_connection, "info", None)
        name = getattr(info, "dbname", None) or connection.engine.url.database
        if name != expected:
            raise WrongDatabase(
                f"{env} connected to the database {name!r}, not to {expected!r} that the test made. "
                f"It was offered in {', '.join(variables)}, in the option sqlalchemy.url of the "
                "configuration and nowhere else; name the variable that it reads with the ini option "
                "migrate_ext_url_variable (docs/testing.md)"
            )

    # type.__setattr__ bypasses Alembic's metaclass, which would compile the function `alembic.context.configure` again.
    # That is not needed: the function calls this attribute, and its signature is the same.
    type.__setattr__(EnvironmentContext, "configure", guarded)
    try:
        yield
    finally:
        type.__setattr__(EnvironmentContext, "configure", configure)


def outside_of_loops(run: Callable[[], object]) -> None:
    """Call `run`, which may start an event loop: in another thread if a loop is running in this one."""
    asyncio = sys.modules.get("asyncio")
    if asyncio is None or asyncio._get_running_loop() is None:
        run()
        return
    raised: list[BaseException] = []

    def target() -> None:
        try:
            run()
        except BaseException as error:  # raised again in the caller's thread
            raised.append(error)

    thread = threading.Thread(target=target, name="migrate_ext")
    thread.start()
    thread.join()
    if raised:
        raise raised[0]
