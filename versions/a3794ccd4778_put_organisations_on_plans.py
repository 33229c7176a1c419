"""put organisations on plans

Revision ID: a3794ccd4778
Revises: 8258dde70d56
Create Date: 2026-03-19 14:11:37.256083

"""

from collections.abc import Sequence
from decimal import Decimal

import sqlalchemy as sa
from alembic import op

# revision identifiers, used by Alembic.
revision: str = "a3794ccd4778"
down_revision: str | Sequence[str] | None = "8258dde70d56"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    plans = op.create_table(
        "plans",
        sa.Column("code", sa.String(length=32), nullable=False),
        sa.Column("title", sa.String(length=80), nullable=False),
        sa.Column("seat_limit", sa.Integer(), server_default=sa.text("5"), nullable=False),
        sa.Column(
            "monthly_price",
            sa.Numeric(precision=10, scale=2),
            server_default=sa.text("0.00"),
            nullable=False,
        ),
        sa.Column("discount", sa.String(length=8), server_default="0%", nullable=False),
        sa.CheckConstraint("seat_limit > 0", name=op.f("ck_plans_seat_limit_positive")),
        sa.CheckConstraint("discount LIKE '%\\%'", name=op.f("ck_plans_discount_is_percentage")),
        sa.PrimaryKeyConstraint("code", name=op.f("pk_plans")),
    )
    op.bulk_insert(
        plans,
        [
            {
                "code": "free",
                "title": "Free",
                "seat_limit": 5,
                "monthly_price": Decimal("0.00"),
                "discount": "0%",
            },
            {
                "code": "team",
                "title": "Team",
                "seat_limit": 50,
                "monthly_price": Decimal("49.00"),
                "discount": "10%",
            },
            {
                "code": "enterprise",
                "title": "Enterprise",
                "seat_limit": 5000,
                "monthly_price": Decimal("990.00"),
                "discount": "12.5%",
            },
        ],
    )
    op.add_column(
        "organisations",
        sa.Column("plan_code", sa.String(length=32), server_default="free", nullable=False),
    )
    op.create_index(
        op.f("ix_organisations_plan_code"), "organisations", ["plan_code"], unique=False
    )
    op.create_foreign_key(
        op.f("fk_organisations_plan_code_plans"),
        "organisations",
        "plans",
        ["plan_code"],
        ["code"],
        ondelete="RESTRICT",
    )


def downgrade() -> None:
    op.drop_constraint(
        op.f("fk_organisations_plan_code_plans"), "organisations", type_="foreignkey"
    )
    op.drop_index(op.f("ix_organisations_plan_code"), table_name="organisations")
    op.drop_column("organisations", "plan_code")
    op.drop_table("plans")
