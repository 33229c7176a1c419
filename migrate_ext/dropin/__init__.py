"""Behind Alembic's own classes: the revision map, the version table, the run, and its transactions.

The only package that touches private names of Alembic. Importing its modules imports Alembic and SQLAlchemy.
May import: ``direct`` and what lies below it. May not import ``rendering`` and what lies above it.
"""
