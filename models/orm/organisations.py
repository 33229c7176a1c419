"""Organisations: what they pay for, who belongs to them, and who is asked to."""

import datetime
import decimal
import enum
import uuid
from typing import Any

from sqlalchemy import (
    CheckConstraint,
    DateTime,
    Enum,
    ForeignKey,
    Index,
    Numeric,
    String,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column, relationship

from lib.database import Base

from .accounts import Account
from .columns import Moment, UuidKey, WrittenAt


class MemberRole(enum.Enum):
    """What a member may do: the database's type ``member_role``."""

    OWNER = "owner"
    ADMIN = "admin"
    MEMBER = "member"
    VIEWER = "viewer"


def _member_role() -> Enum:
    return Enum(
        MemberRole, name="member_role", values_callable=lambda roles: [role.value for role in roles]
    )


class Plan(Base):
    """What an organisation pays for. A short list, kept by migrations."""

    __tablename__ = "plans"
    __table_args__ = (
        CheckConstraint("seat_limit > 0", name="seat_limit_positive"),
        CheckConstraint("discount LIKE '%\\%'", name="discount_is_percentage"),
    )

    code: Mapped[str] = mapped_column(String(32), primary_key=True)
    title: Mapped[str] = mapped_column(String(80))
    seat_limit: Mapped[int] = mapped_column(server_default=text("5"))
    monthly_price: Mapped[decimal.Decimal] = mapped_column(
        Numeric(10, 2), server_default=text("0.00")
    )
    #: As printed on an invoice.
    discount: Mapped[str] = mapped_column(String(8), server_default="0%")


class Organisation(Base):
    """A customer: owns projects, has members."""

    __tablename__ = "organisations"
    __table_args__ = (CheckConstraint("slug = lower(slug) AND slug <> ''", name="slug_lower_case"),)

    id: Mapped[UuidKey]
    name: Mapped[str] = mapped_column(String(120))
    #: The name in URLs.
    slug: Mapped[str] = mapped_column(String(140), unique=True)
    plan_code: Mapped[str] = mapped_column(
        ForeignKey("plans.code", ondelete="RESTRICT"), index=True, server_default="free"
    )
    settings: Mapped[dict[str, Any]] = mapped_column(JSONB, server_default=text("'{}'::jsonb"))
    created_at: Mapped[WrittenAt]
    #: Kept by the trigger touch_updated_at.
    updated_at: Mapped[WrittenAt]

    plan: Mapped[Plan] = relationship()
    memberships: Mapped[list["Membership"]] = relationship(
        back_populates="organisation", passive_deletes=True
    )


class Membership(Base):
    """An account's place in an organisation."""

    __tablename__ = "memberships"

    organisation_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("organisations.id", ondelete="CASCADE"), primary_key=True
    )
    account_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("accounts.id", ondelete="CASCADE"), primary_key=True, index=True
    )
    role: Mapped[MemberRole] = mapped_column(_member_role(), server_default="member")
    joined_at: Mapped[WrittenAt]

    organisation: Mapped[Organisation] = relationship(back_populates="memberships")
    account: Mapped[Account] = relationship()


class Invitation(Base):
    """An address asked to join an organisation."""

    __tablename__ = "invitations"
    __table_args__ = (
        # One open invitation an address and organisation; accepted ones stay as a record.
        Index(
            "ix_invitations_organisation_id_email_open",
            "organisation_id",
            text("lower(email)"),
            unique=True,
            postgresql_where=text("accepted_at IS NULL"),
        ),
    )

    id: Mapped[UuidKey]
    organisation_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("organisations.id", ondelete="CASCADE")
    )
    invited_by: Mapped[uuid.UUID | None] = mapped_column(
        ForeignKey("accounts.id", ondelete="SET NULL")
    )
    email: Mapped[str] = mapped_column(String(320))
    role: Mapped[MemberRole] = mapped_column(_member_role(), server_default="viewer")
    # As SQL: autogenerate does not quote the quote of a plain string when it compares.
    message: Mapped[str] = mapped_column(Text, server_default=text("'You''re invited.'"))
    created_at: Mapped[WrittenAt]
    expires_at: Mapped[datetime.datetime] = mapped_column(
        DateTime(timezone=True), server_default=text("now() + interval '7 days'")
    )
    accepted_at: Mapped[Moment | None]
