"""What a thin ``env.py`` calls.

A thin ``env.py`` names things and imports none of them::

    from migrate_ext import environment

    environment(
        url_variable="DATABASE_URL",
        metadata="lib.database:Base.metadata",
        models="models.orm",
        compare_type=True,
        compare_server_default=True,
    )

Run by ``alembic``, it does what Alembic's usual ``env.py`` does. Run by ``migrate-ext``, it hands
the settings to the running command, which often needs no Alembic, no SQLAlchemy and no models at
all.
"""

from __future__ import annotations

TYPE_CHECKING = False  # typing's own costs its import
if TYPE_CHECKING:
    from typing import Any

    from migrate_ext.direct.database import Run


class Settings:
    """What ``env.py`` named; see :func:`environment`."""

    __slots__ = ("configure", "metadata", "models", "url_variable")

    def __init__(
        self, url_variable: str, metadata: str, models: str | None, configure: dict[str, Any]
    ) -> None:
        self.url_variable = url_variable
        self.metadata = metadata
        self.models = models
        self.configure = configure


# The direct command that is executing env.py, if one is (set by migrate_ext.direct.database).
running: Run | None = None


def environment(
    *,
    metadata: str,
    models: str | None = None,
    url_variable: str = "DATABASE_URL",
    **configure: Any,
) -> None:
    """Run the current command in this migration environment.

    metadata
        ``"package.module:attribute.attribute"`` of the ``MetaData`` that autogenerate compares
        with.
    models
        The package whose import defines the tables, or None when the metadata's module does.
    url_variable
        The environment variable that holds the database's URL (any form SQLAlchemy takes for
        PostgreSQL). It is read when a command needs the database, not before.
    configure
        Further arguments of Alembic's ``EnvironmentContext.configure``: ``compare_type``,
        ``version_table``, ``include_object`` ...

    Raises ``CommandError`` (Alembic's under ``alembic``, ours under ``migrate-ext``) when the
    variable is unset or malformed, or when the models cannot be imported.
    """
    settings = Settings(url_variable, metadata, models, configure)
    if running is not None:
        running.serve(settings)
    else:
        from migrate_ext.dropin import (
            run as seam,  # only where Alembic runs env.py, so it is imported already
        )

        seam.run_environment(settings)
