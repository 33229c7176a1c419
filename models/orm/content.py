"""What organisations keep here: projects, their documents, and every version of those."""

import enum
import uuid
from typing import Any

from sqlalchemy import (
    CheckConstraint,
    Enum,
    ForeignKey,
    Index,
    String,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import Mapped, mapped_column, relationship

from lib.database import Base

from .columns import Moment, SerialKey, UuidKey, WrittenAt


class DocumentStatus(enum.Enum):
    """Where a document stands: the database's type ``document_status``."""

    DRAFT = "draft"
    PUBLISHED = "published"
    ARCHIVED = "archived"


class Project(Base):
    """A set of documents inside an organisation."""

    __tablename__ = "projects"
    __table_args__ = (
        UniqueConstraint("organisation_id", "key"),
        CheckConstraint("key ~ '^[A-Z][A-Z0-9]{1,9}$'", name="key_format"),
    )

    id: Mapped[UuidKey]
    organisation_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("organisations.id", ondelete="CASCADE")
    )
    #: The short name that prefixes the project's document numbers: ``DOCS``.
    key: Mapped[str] = mapped_column(String(10))
    name: Mapped[str] = mapped_column(String(120))
    description: Mapped[str] = mapped_column(Text, server_default="")
    created_at: Mapped[WrittenAt]
    archived_at: Mapped[Moment | None]

    documents: Mapped[list["Document"]] = relationship(
        back_populates="project", passive_deletes=True
    )


class Document(Base):
    """A document as it stands now."""

    __tablename__ = "documents"
    __table_args__ = (
        CheckConstraint("char_length(title) BETWEEN 1 AND 200", name="title_length"),
        CheckConstraint("word_count >= 0", name="word_count_not_negative"),
        Index("ix_documents_tags", "tags", postgresql_using="gin"),
        Index(
            "ix_documents_metadata",
            "metadata",
            postgresql_using="gin",
            postgresql_ops={"metadata": "jsonb_path_ops"},
        ),
        Index(
            "ix_documents_project_id_title_published",
            "project_id",
            "title",
            unique=True,
            postgresql_where=text("status = 'published'"),
        ),
    )

    id: Mapped[UuidKey]
    project_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("projects.id", ondelete="CASCADE"), index=True
    )
    author_id: Mapped[uuid.UUID | None] = mapped_column(
        ForeignKey("accounts.id", ondelete="SET NULL"), index=True
    )
    title: Mapped[str] = mapped_column(Text)
    status: Mapped[DocumentStatus] = mapped_column(
        Enum(
            DocumentStatus,
            name="document_status",
            values_callable=lambda states: [state.value for state in states],
        ),
        server_default="draft",
    )
    body: Mapped[str] = mapped_column(Text, server_default="")
    word_count: Mapped[int] = mapped_column(server_default=text("0"))
    tags: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default=text("'{}'::text[]"))
    #: The column ``metadata``, a name the declarative base keeps for itself.
    details: Mapped[dict[str, Any]] = mapped_column(
        "metadata", JSONB, server_default=text("'{}'::jsonb")
    )
    created_at: Mapped[WrittenAt]
    #: Kept by the trigger touch_updated_at.
    updated_at: Mapped[WrittenAt]

    project: Mapped[Project] = relationship(back_populates="documents")
    revisions: Mapped[list["DocumentRevision"]] = relationship(
        back_populates="document", passive_deletes=True
    )


class DocumentRevision(Base):
    """A document as it was saved once. Never changed."""

    __tablename__ = "document_revisions"
    __table_args__ = (
        UniqueConstraint("document_id", "number"),
        CheckConstraint("number > 0", name="number_positive"),
    )

    id: Mapped[SerialKey]
    document_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("documents.id", ondelete="CASCADE"))
    number: Mapped[int]
    editor_id: Mapped[uuid.UUID | None] = mapped_column(
        ForeignKey("accounts.id", ondelete="SET NULL")
    )
    title: Mapped[str] = mapped_column(Text)
    body: Mapped[str] = mapped_column(Text)
    comment: Mapped[str | None]
    created_at: Mapped[WrittenAt]

    document: Mapped[Document] = relationship(back_populates="revisions")
