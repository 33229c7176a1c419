"""How other programs reach an organisation, and how it reaches them."""

import uuid
from typing import Any

from sqlalchemy import (
    CheckConstraint,
    ForeignKey,
    Index,
    LargeBinary,
    SmallInteger,
    String,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import Mapped, mapped_column, relationship

from lib.database import Base

from .columns import Moment, SerialKey, UuidKey, WrittenAt


class ApiKey(Base):
    """A program's key to an organisation. Only its prefix and its hash are stored."""

    __tablename__ = "api_keys"
    __table_args__ = (
        # A name may be used again once the key that had it is revoked.
        Index(
            "ix_api_keys_organisation_id_name_live",
            "organisation_id",
            "name",
            unique=True,
            postgresql_where=text("revoked_at IS NULL"),
        ),
        CheckConstraint("prefix LIKE 'bk\\_%'", name="prefix_format"),
    )

    id: Mapped[UuidKey]
    organisation_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("organisations.id", ondelete="CASCADE")
    )
    created_by: Mapped[uuid.UUID | None] = mapped_column(
        ForeignKey("accounts.id", ondelete="SET NULL")
    )
    name: Mapped[str] = mapped_column(String(80))
    prefix: Mapped[str] = mapped_column(String(12))
    key_hash: Mapped[bytes] = mapped_column(LargeBinary, unique=True)
    scopes: Mapped[list[str]] = mapped_column(
        ARRAY(String(40)), server_default=text("'{documents:read}'")
    )
    created_at: Mapped[WrittenAt]
    last_used_at: Mapped[Moment | None]
    revoked_at: Mapped[Moment | None]


class Webhook(Base):
    """An address that is told of events."""

    __tablename__ = "webhooks"
    __table_args__ = (CheckConstraint("url LIKE 'https://%'", name="url_is_https"),)

    id: Mapped[UuidKey]
    organisation_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("organisations.id", ondelete="CASCADE"), index=True
    )
    #: None: events of every project.
    project_id: Mapped[uuid.UUID | None] = mapped_column(
        ForeignKey("projects.id", ondelete="CASCADE"), index=True
    )
    url: Mapped[str] = mapped_column(Text)
    events: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default=text("'{}'::text[]"))
    signing_secret: Mapped[str] = mapped_column(Text)
    is_enabled: Mapped[bool] = mapped_column(server_default=text("true"))
    created_at: Mapped[WrittenAt]

    deliveries: Mapped[list["WebhookDelivery"]] = relationship(
        back_populates="webhook", passive_deletes=True
    )


class WebhookDelivery(Base):
    """One event on its way to one webhook."""

    __tablename__ = "webhook_deliveries"
    __table_args__ = (
        CheckConstraint("attempts BETWEEN 0 AND 12", name="attempts_range"),
        # What the delivery worker takes next.
        Index(
            "ix_webhook_deliveries_due_at_pending",
            "due_at",
            postgresql_where=text("delivered_at IS NULL"),
        ),
    )

    id: Mapped[SerialKey]
    webhook_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("webhooks.id", ondelete="CASCADE"), index=True
    )
    event: Mapped[str] = mapped_column(String(80))
    payload: Mapped[dict[str, Any]] = mapped_column(JSONB)
    attempts: Mapped[int] = mapped_column(SmallInteger, server_default=text("0"))
    status_code: Mapped[int | None] = mapped_column(SmallInteger)
    due_at: Mapped[WrittenAt]
    delivered_at: Mapped[Moment | None]

    webhook: Mapped[Webhook] = relationship(back_populates="deliveries")
