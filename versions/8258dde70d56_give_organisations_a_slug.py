"""give organisations a slug

Names are turned into slugs here and not in SQL, because PostgreSQL strips accents only with an
extension. Written out with --sql the migration cannot read the names: there the server makes the
slugs, and a letter with an accent becomes a hyphen.

Revision ID: 8258dde70d56
Revises: 362ace3115bf
Create Date: 2026-03-10 10:33:25.779461

"""

import re
import unicodedata
from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

# revision identifiers, used by Alembic.
revision: str = "8258dde70d56"
down_revision: str | Sequence[str] | None = "362ace3115bf"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


organisations = sa.table(
    "organisations",
    sa.column("id", sa.Uuid()),
    sa.column("name", sa.String()),
    sa.column("slug", sa.String()),
    sa.column("created_at", sa.DateTime(timezone=True)),
)

SLUGS_IN_SQL = """
    UPDATE organisations
    SET slug = numbered.slug || CASE numbered.nth WHEN 1 THEN '' ELSE '-' || numbered.nth END
    FROM (
        SELECT id, slug, row_number() OVER (PARTITION BY slug ORDER BY created_at, id) AS nth
        FROM (
            SELECT id, created_at, coalesce(
                nullif(trim(BOTH '-' FROM regexp_replace(lower(name), '[^a-z0-9]+', '-', 'g')), ''),
                'organisation'
            ) AS slug
            FROM organisations
        ) AS plain
    ) AS numbered
    WHERE numbered.id = organisations.id
"""


def slugify(name: str) -> str:
    """The name in lower-case ASCII letters, digits and single hyphens."""
    ascii_name = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9]+", "-", ascii_name.lower()).strip("-") or "organisation"


def fill_slugs(bind: sa.Connection) -> None:
    """Give every organisation a slug of its own; the oldest gets the plain one."""
    rows = bind.execute(
        sa.select(organisations.c.id, organisations.c.name).order_by(
            organisations.c.created_at, organisations.c.id
        )
    )
    slugs: dict[str, object] = {}
    for organisation_id, name in rows:
        plain = slug = slugify(name)
        number = 1
        while slug in slugs:
            number += 1
            slug = f"{plain}-{number}"
        slugs[slug] = organisation_id
    if slugs:
        bind.execute(
            organisations.update()
            .where(organisations.c.id == sa.bindparam("organisation_id"))
            .values(slug=sa.bindparam("new_slug")),
            [{"organisation_id": key, "new_slug": slug} for slug, key in slugs.items()],
        )


def upgrade() -> None:
    op.add_column("organisations", sa.Column("slug", sa.String(length=140), nullable=True))
    if op.get_context().as_sql:
        op.execute(SLUGS_IN_SQL)
    else:
        fill_slugs(op.get_bind())
    op.alter_column("organisations", "slug", existing_type=sa.String(length=140), nullable=False)
    op.create_unique_constraint(op.f("uq_organisations_slug"), "organisations", ["slug"])
    op.create_check_constraint(
        op.f("ck_organisations_slug_lower_case"),
        "organisations",
        "slug = lower(slug) AND slug <> ''",
    )


def downgrade() -> None:
    op.drop_constraint(op.f("ck_organisations_slug_lower_case"), "organisations", type_="check")
    op.drop_constraint(op.f("uq_organisations_slug"), "organisations", type_="unique")
    op.drop_column("organisations", "slug")
