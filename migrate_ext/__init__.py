"""migrate_ext: Alembic migrations on a C core."""
