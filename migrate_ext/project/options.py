"""What was asked for on the command line, as values."""

from __future__ import annotations

TYPE_CHECKING = False  # typing's own costs its import
if TYPE_CHECKING:
    from collections.abc import Sequence


class Options:
    """What was asked for: ``command``, ``arguments``; ``flags``, ``values`` by Alembic's names."""

    def __init__(self, argv: Sequence[str], prog: str) -> None:
        self.argv = list(argv)
        self.prog = prog
        self.config: list[str] = []
        self.section = "alembic"
        self.raiseerr = False
        self.quiet = False
        self.command = ""
        self.arguments: list[str] = []
        self.flags: set[str] = set()
        self.values: dict[str, str] = {}

    def value(self, name: str) -> str | None:
        return self.values.get(name)
