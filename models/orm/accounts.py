"""People: their accounts, and the sessions they are signed in with."""

import datetime
import uuid

from sqlalchemy import CheckConstraint, DateTime, ForeignKey, Index, LargeBinary, String, text
from sqlalchemy.dialects.postgresql import INET
from sqlalchemy.orm import Mapped, mapped_column, relationship

from lib.database import Base

from .columns import Moment, UuidKey, WrittenAt


class Account(Base):
    """A person. Belongs to any number of organisations."""

    __tablename__ = "accounts"
    __table_args__ = (
        CheckConstraint("email LIKE '%_@_%'", name="email_has_at_sign"),
        # An address is one account's, whatever its case.
        Index("ix_accounts_email_lower", text("lower(email)"), unique=True),
    )

    id: Mapped[UuidKey]
    email: Mapped[str] = mapped_column(String(320))
    display_name: Mapped[str] = mapped_column(String(120))
    #: None for an account that signs in through an identity provider.
    password_hash: Mapped[str | None]
    is_active: Mapped[bool] = mapped_column(server_default=text("true"))
    locale: Mapped[str] = mapped_column(String(16), server_default="en")
    created_at: Mapped[WrittenAt]
    #: Kept by the trigger touch_updated_at.
    updated_at: Mapped[WrittenAt]

    sessions: Mapped[list["LoginSession"]] = relationship(
        back_populates="account", passive_deletes=True
    )


class LoginSession(Base):
    """A signed-in browser or device. Only the hash of its token is stored."""

    __tablename__ = "sessions"
    __table_args__ = (
        CheckConstraint("expires_at > created_at", name="expires_after_creation"),
        # Signing in looks at live sessions only.
        Index(
            "ix_sessions_account_id_live", "account_id", postgresql_where=text("revoked_at IS NULL")
        ),
    )

    id: Mapped[UuidKey]
    account_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("accounts.id", ondelete="CASCADE"))
    token_hash: Mapped[bytes] = mapped_column(LargeBinary, unique=True)
    ip_address: Mapped[str | None] = mapped_column(INET)
    user_agent: Mapped[str | None]
    created_at: Mapped[WrittenAt]
    expires_at: Mapped[datetime.datetime] = mapped_column(
        DateTime(timezone=True), server_default=text("now() + interval '14 days'")
    )
    revoked_at: Mapped[Moment | None]

    account: Mapped[Account] = relationship(back_populates="sessions")
