"""count in cents"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.add_column("orders", sa.Column("cents", sa.BigInteger))
    op.execute("UPDATE orders SET cents = amount * 100")
    op.alter_column("orders", "cents", nullable=False)
    op.drop_column("orders", "amount")


def downgrade() -> None:
    op.add_column("orders", sa.Column("amount", sa.Numeric(12, 2)))
    op.execute("UPDATE orders SET amount = cents / 100.0")
    op.alter_column("orders", "amount", nullable=False)
    op.drop_column("orders", "cents")
