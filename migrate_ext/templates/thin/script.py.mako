<%!
    def literal(value):
        """None, a string or a tuple of strings as source, in the quotes that formatters prefer."""
        if value is None:
            return "None"
        if isinstance(value, str):
            return '"' + '\\"'.join(repr("'" + part)[2:-1] for part in value.split('"')) + '"'
        return "(" + ", ".join(map(literal, value)) + ("," if len(value) == 1 else "") + ")"
%>\
"""${message | trim}

Revision ID: ${up_revision}
Revises:${" " + comma(down_revision) if down_revision else ""}
Create Date: ${create_date}

"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
% if imports:
${imports}
% endif

# revision identifiers, used by Alembic.
revision: str = ${literal(up_revision)}
down_revision: str | Sequence[str] | None = ${literal(down_revision)}
branch_labels: str | Sequence[str] | None = ${literal(branch_labels)}
depends_on: str | Sequence[str] | None = ${literal(depends_on)}


def upgrade() -> None:
    ${upgrades if upgrades else "pass"}


def downgrade() -> None:
    ${downgrades if downgrades else "pass"}
