"""keep updated_at and the audit trail by trigger

Revision ID: 44a1baf3d0aa
Revises: 796058a680ab
Create Date: 2026-05-06 13:19:59.382716

"""

from collections.abc import Sequence

from alembic import op

# revision identifiers, used by Alembic.
revision: str = "44a1baf3d0aa"
down_revision: str | Sequence[str] | None = "796058a680ab"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


TABLES = ("accounts", "organisations", "documents")


def upgrade() -> None:
    op.execute(
        """
        CREATE FUNCTION touch_updated_at() RETURNS trigger
        LANGUAGE plpgsql AS $touch$
        BEGIN
            NEW.updated_at := now();
            RETURN NEW;
        END;
        $touch$
        """
    )
    for table in TABLES:
        op.execute(
            f"""
            CREATE TRIGGER {table}_touch_updated_at BEFORE UPDATE ON {table}
            FOR EACH ROW WHEN (OLD.* IS DISTINCT FROM NEW.*)
            EXECUTE FUNCTION touch_updated_at()
            """
        )
    op.execute(
        """
        CREATE FUNCTION refuse_audit_change() RETURNS trigger
        LANGUAGE plpgsql AS $$
        BEGIN
            RAISE EXCEPTION 'audit event % is not to be changed', OLD.id
                USING HINT = 'Write another event; the trail isn''t edited.';
        END;
        $$
        """
    )
    # Not on actor_id: an account that is deleted leaves its events without an actor.
    op.execute(
        """
        CREATE TRIGGER audit_events_append_only
        BEFORE UPDATE OF action, subject_id, payload, created_at ON audit_events
        FOR EACH ROW EXECUTE FUNCTION refuse_audit_change()
        """
    )


def downgrade() -> None:
    op.execute("DROP TRIGGER audit_events_append_only ON audit_events")
    op.execute("DROP FUNCTION refuse_audit_change()")
    for table in reversed(TABLES):
        op.execute(f"DROP TRIGGER {table}_touch_updated_at ON {table}")
    op.execute("DROP FUNCTION touch_updated_at()")
