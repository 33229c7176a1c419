"""add the viewer role

A value cannot be taken out of an enum. The downgrade makes the type anew; viewers become members.

Revision ID: b47a3100f623
Revises: d122a1651391
Create Date: 2026-04-15 09:26:50.613278

"""

from collections.abc import Sequence

from alembic import op

# revision identifiers, used by Alembic.
revision: str = "b47a3100f623"
down_revision: str | Sequence[str] | None = "d122a1651391"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    # Outside the transaction: a new value can be used only after the commit that added it.
    with op.get_context().autocommit_block():
        op.execute("ALTER TYPE member_role ADD VALUE IF NOT EXISTS 'viewer'")


def downgrade() -> None:
    op.execute("ALTER TABLE memberships ALTER COLUMN role DROP DEFAULT")
    op.execute("ALTER TYPE member_role RENAME TO member_role_with_viewer")
    op.execute("CREATE TYPE member_role AS ENUM ('owner', 'admin', 'member')")
    op.execute(
        """
        ALTER TABLE memberships ALTER COLUMN role TYPE member_role
        USING (CASE role::text WHEN 'viewer' THEN 'member' ELSE role::text END)::member_role
        """
    )
    op.execute("ALTER TABLE memberships ALTER COLUMN role SET DEFAULT 'member'")
    op.execute("DROP TYPE member_role_with_viewer")
