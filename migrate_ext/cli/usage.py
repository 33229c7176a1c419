"""Help texts of our own options and commands, which ``--help`` prints below Alembic's text."""

from __future__ import annotations

import argparse

_LOCK = """
Of migrate-ext:
  --no-lock               take no lock against other runs
  --lock-timeout SECONDS  give up waiting for another run after that
"""
_RUN = """\
  --plan                  show what would run, its SQL and its locks; run nothing
  --repair                first drop the INVALID index that an interrupted run left
  --no-plan               do not use what 'migrate-ext compile' has written: render all SQL
  -v, --verbose           afterwards, list the slowest statements
"""
_LIMITS = """
Limits for the statements of a run are set by variables, or by keys in [alembic] in lower case:
  MIGRATE_EXT_DDL_LOCK_TIMEOUT=1s  MIGRATE_EXT_STATEMENT_TIMEOUT=5min  MIGRATE_EXT_RETRIES=20
"""
_COMPILE = """\
usage: %(prog)s compile [--check]

Write the SQL of the migrations that are the same every time into versions.plan, beside the folder
of revisions; 'upgrade' and 'downgrade' send it without rendering. Needs a thin env.py, no database.

options:
  --check     write nothing; fail when the file is not up to date
"""
_COMMANDS = """
Of migrate-ext:
    compile [--check]     Render constant migrations once, for upgrades without SQLAlchemy.
    doctor [-v]           Show what is active here, and what takes Alembic's own path, and why. With -v, each
                          line that is waited at; executes revision files for it, needs no database.
    verify                Run the history with Alembic alone and with migrate_ext, and compare.
"""
_OF_COMMANDS = {
    "upgrade": _LOCK + _RUN + _LIMITS,
    "downgrade": _LOCK + _RUN + _LIMITS,
    "stamp": _LOCK,
    "init": "\nOf migrate-ext:\n  -t thin                 PostgreSQL configuration whose env.py names the models and "
    "imports none of them\n",
}


def add(parser: argparse.ArgumentParser) -> None:
    """Add our own to the help of Alembic's `parser`."""
    parser.epilog = _COMMANDS
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    for action in parser._actions:
        if isinstance(action.choices, dict):
            for name, text in _OF_COMMANDS.items():
                action.choices[name].epilog = text
                action.choices[name].formatter_class = argparse.RawDescriptionHelpFormatter


def of_compile(prog: str) -> str:
    """The help of ``compile``, which Alembic does not have."""
    return _COMPILE % {"prog": prog}
