"""Commands that run without Alembic: ``history``, ``heads``, ``current``, ``stamp``, ``upgrade`` and others.

May import: ``plans`` and what lies below it. May not import ``dropin`` and what lies above it: a command
that needs Alembic returns the reason, and :mod:`migrate_ext.cli` continues with Alembic.
"""
