"""Commands that run without Alembic: ``history``, ``heads``, ``current``, ``stamp``, ``upgrade`` and others.

May import: ``plans`` and what lies below it. May not import ``dropin`` and what lies above it: where a
command needs Alembic, it says why, and :mod:`migrate_ext.cli` goes on.
"""
