"""The migration environment: names what migrations need, and hands over to migrate_ext."""

from migrate_ext import environment

environment(
    url_variable="DATABASE_URL",
    metadata="lib.database:Base.metadata",
    models="models.orm",
    compare_type=True,
    compare_server_default=True,
)
