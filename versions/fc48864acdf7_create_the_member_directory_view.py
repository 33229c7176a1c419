"""create the member directory view

Revision ID: fc48864acdf7
Revises: 99857156e65d
Create Date: 2026-06-09 15:22:44.150967

"""

from collections.abc import Sequence

from alembic import op

# revision identifiers, used by Alembic.
revision: str = "fc48864acdf7"
down_revision: str | Sequence[str] | None = "99857156e65d"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.execute(
        """
        CREATE VIEW member_directory AS
        SELECT
            memberships.organisation_id,
            organisations.slug AS organisation_slug,
            memberships.account_id,
            accounts.display_name,
            accounts.email,
            memberships.role,
            memberships.joined_at
        FROM memberships
        JOIN organisations ON organisations.id = memberships.organisation_id
        JOIN accounts ON accounts.id = memberships.account_id
        WHERE accounts.is_active
        """
    )


def downgrade() -> None:
    op.execute("DROP VIEW member_directory")
