"""store session addresses as inet

Revision ID: d122a1651391
Revises: a3794ccd4778
Create Date: 2026-03-31 16:58:04.031592

"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

# revision identifiers, used by Alembic.
revision: str = "d122a1651391"
down_revision: str | Sequence[str] | None = "a3794ccd4778"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.alter_column(
        "sessions",
        "ip_address",
        existing_type=sa.String(length=45),
        type_=postgresql.INET(),
        existing_nullable=True,
        postgresql_using="ip_address::inet",
    )


def downgrade() -> None:
    op.alter_column(
        "sessions",
        "ip_address",
        existing_type=postgresql.INET(),
        type_=sa.String(length=45),
        existing_nullable=True,
        postgresql_using="host(ip_address)",
    )
