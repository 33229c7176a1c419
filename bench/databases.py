"""Empty databases to measure on, each used once, all dropped at the end.

Never between two runs: ext4 without a journal keeps the inodes of deleted files out of use for minutes, and looks at each of them for
every new file. A server whose database of thousands of files was just dropped spends most of its time there, for whoever asks.
"""

from __future__ import annotations

import secrets

import psycopg


class Databases:
    """On the server of `admin`, the bare URL of a database whose owner may create others."""

    def __init__(self, admin: str) -> None:
        self.admin = admin
        self.made: list[str] = []

    def _on_the_server(self, statement: str) -> None:
        with psycopg.connect(self.admin, autocommit=True) as connection:
            connection.execute(statement.encode())

    def fresh(self) -> str:
        """The name of a new, empty database."""
        name = f"migrate_ext_bench_{secrets.token_hex(4)}"
        self._on_the_server(f'CREATE DATABASE "{name}"')
        self.made.append(name)
        return name

    def drop(self) -> None:
        """All of them."""
        while self.made:
            self._on_the_server(f'DROP DATABASE IF EXISTS "{self.made.pop()}" WITH (FORCE)')
