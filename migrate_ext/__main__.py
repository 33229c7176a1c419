"""``python -m migrate_ext``."""

from __future__ import annotations

from migrate_ext.cli import program

if __name__ == "__main__":
    program()
