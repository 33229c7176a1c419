"""merge content and integrations

Revision ID: 4312adf83ceb
Revises: 42875af5fdfa, 25aa13ba1001
Create Date: 2026-02-17 09:15:40.836019

"""

from collections.abc import Sequence

# revision identifiers, used by Alembic.
revision: str = "4312adf83ceb"
down_revision: str | Sequence[str] | None = ("42875af5fdfa", "25aa13ba1001")
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    pass


def downgrade() -> None:
    pass
