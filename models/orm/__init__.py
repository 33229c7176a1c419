"""The backend's tables, one module a subject.

Importing this package defines every table on ``lib.database.Base.metadata``. A new module has to be
imported here: autogenerate compares the database with the tables that are defined, and proposes to
drop the others.
"""

from .accounts import Account, LoginSession
from .audit import AuditEvent
from .content import Document, DocumentRevision, DocumentStatus, Project
from .integrations import ApiKey, Webhook, WebhookDelivery
from .organisations import Invitation, MemberRole, Membership, Organisation, Plan

__all__ = [
    "Account",
    "ApiKey",
    "AuditEvent",
    "Document",
    "DocumentRevision",
    "DocumentStatus",
    "Invitation",
    "LoginSession",
    "MemberRole",
    "Membership",
    "Organisation",
    "Plan",
    "Project",
    "Webhook",
    "WebhookDelivery",
]
