"""index audit events by organisation

Revision ID: 99857156e65d
Revises: 44a1baf3d0aa
Create Date: 2026-05-21 07:05:31.694820

"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

# revision identifiers, used by Alembic.
revision: str = "99857156e65d"
down_revision: str | Sequence[str] | None = "44a1baf3d0aa"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    # Concurrently, which no transaction allows: the table is written to all day. A build that was
    # broken off leaves an invalid index, to be dropped by hand before the next attempt.
    with op.get_context().autocommit_block():
        op.create_index(
            "ix_audit_events_organisation_id_created_at",
            "audit_events",
            ["organisation_id", sa.text("created_at DESC")],
            unique=False,
            postgresql_concurrently=True,
        )


def downgrade() -> None:
    with op.get_context().autocommit_block():
        op.drop_index(
            "ix_audit_events_organisation_id_created_at",
            table_name="audit_events",
            postgresql_concurrently=True,
        )
