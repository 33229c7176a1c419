"""The record of who did what."""

import uuid
from typing import Any

from sqlalchemy import CheckConstraint, ForeignKey, Index, String, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from lib.database import Base

from .columns import SerialKey, WrittenAt


class AuditEvent(Base):
    """Something an account or a program did. A trigger, audit_events_append_only, keeps it so."""

    __tablename__ = "audit_events"
    __table_args__ = (
        CheckConstraint("action LIKE '%.%'", name="action_format"),
        # Made concurrently: the table is written to all day.
        Index(
            "ix_audit_events_organisation_id_created_at", "organisation_id", text("created_at DESC")
        ),
    )

    id: Mapped[SerialKey]
    organisation_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("organisations.id", ondelete="CASCADE")
    )
    #: None: a program, or an account that is gone.
    actor_id: Mapped[uuid.UUID | None] = mapped_column(
        ForeignKey("accounts.id", ondelete="SET NULL")
    )
    #: What was done, as ``subject.verb``: ``document.published``.
    action: Mapped[str] = mapped_column(String(80))
    subject_id: Mapped[uuid.UUID | None]
    payload: Mapped[dict[str, Any]] = mapped_column(JSONB, server_default=text("'{}'::jsonb"))
    created_at: Mapped[WrittenAt]
