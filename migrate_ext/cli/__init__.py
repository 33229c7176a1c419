"""What a person types and reads: the command line, its help, and the report of an error."""

from migrate_ext.cli.command_line import main, program

__all__ = ["main", "program"]
