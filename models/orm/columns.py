"""Column types that several tables share."""

import datetime
import uuid
from typing import Annotated

from sqlalchemy import BigInteger, DateTime, Identity, text
from sqlalchemy.orm import mapped_column

#: A primary key the server makes, unguessable: for what appears in URLs.
UuidKey = Annotated[
    uuid.UUID, mapped_column(primary_key=True, server_default=text("gen_random_uuid()"))
]

#: A primary key in order of insertion: for rows that are only ever appended.
SerialKey = Annotated[int, mapped_column(BigInteger, Identity(always=True), primary_key=True)]

#: A moment, in UTC.
Moment = Annotated[datetime.datetime, mapped_column(DateTime(timezone=True))]

#: The moment the row was written, by the server's clock.
WrittenAt = Annotated[
    datetime.datetime, mapped_column(DateTime(timezone=True), server_default=text("now()"))
]
