"""The command line, its help texts, and its error messages."""

from migrate_ext.cli.command_line import main, program

__all__ = ["main", "program"]
