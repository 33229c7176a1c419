"""What a thin ``env.py`` says: see :func:`migrate_ext.environment`."""

from __future__ import annotations

TYPE_CHECKING = False  # typing's own costs its import
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


class Settings:
    """What ``env.py`` named; see :func:`migrate_ext.environment`."""

    __slots__ = ("configure", "metadata", "models", "url_variable")

    def __init__(
        self, url_variable: str, metadata: str, models: str | None, configure: dict[str, Any]
    ) -> None:
        self.url_variable = url_variable
        self.metadata = metadata
        self.models = models
        self.configure = configure


# What :func:`migrate_ext.environment` hands its settings to, while a direct command executes env.py.
serve: Callable[[Settings], None] | None = None
