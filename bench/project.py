"""Makes migration projects of any size to measure with."""

from __future__ import annotations

import compileall
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]

_REVISION = '''"""step {number}

Revision ID: {revision}
Revises: {parent}
Create Date: 2026-01-01 00:00:00

"""
from typing import Sequence, Union

from alembic import op
import sqlalchemy as sa


# revision identifiers, used by Alembic.
revision: str = "{revision}"
down_revision: Union[str, Sequence[str], None] = {down_revision!r}
branch_labels: Union[str, Sequence[str], None] = None
depends_on: Union[str, Sequence[str], None] = None


def upgrade() -> None:
    """Upgrade schema."""
{body}


def downgrade() -> None:
    """Downgrade schema."""
    op.drop_table("t{number}")
'''

CREATE_TABLE = """\
    op.create_table(
        "t{number}",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=50), server_default="x", nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )"""

# One file on the server's disk, where the other makes three (table, index, sequence): on some file systems making files is most of
# the server's work.
CREATE_SMALL_TABLE = """\
    op.create_table("t{number}", sa.Column("a", sa.Integer()), sa.Column("b", sa.Integer(), server_default="0"))"""

_ENV = """from migrate_ext import environment

environment(metadata="bench_models:metadata")
"""

_CLASSIC_ENV = """import os

import sqlalchemy
from alembic import context

from bench_models import metadata

engine = sqlalchemy.create_engine(os.environ["DATABASE_URL"])
with engine.connect() as connection:
    context.configure(connection=connection, target_metadata=metadata)
    with context.begin_transaction():
        context.run_migrations()
"""


def compile_package() -> None:
    """As pip does, so that no figure has the cost of compiling migrate_ext itself."""
    compileall.compile_dir(ROOT / "migrate_ext", quiet=1, rx=re.compile("templates"))


def make(folder: Path, revisions: int, body: str = CREATE_TABLE) -> Path:
    """A project with `revisions` linear revisions of one CREATE TABLE each; ``classic.ini`` names a classic ``env.py``.

    body: of each ``upgrade()`` instead, indented; ``{number}`` in it is the revision's.
    """
    for location, env in (("thin", _ENV), ("classic", _CLASSIC_ENV)):
        (folder / location).mkdir(parents=True)
        (folder / location / "env.py").write_text(env)
    (folder / "versions").mkdir()
    (folder / "bench_models.py").write_text(
        "import sqlalchemy\n\nmetadata = sqlalchemy.MetaData()\n"
    )
    for name, location in (("alembic.ini", "thin"), ("classic.ini", "classic")):
        (folder / name).write_text(
            f"[alembic]\nscript_location = %(here)s/{location}\nversion_locations = %(here)s/versions\n"
            "path_separator = os\nprepend_sys_path = %(here)s\n"
        )
    parent = None
    for number in range(revisions):
        revision = f"{number:012x}"
        (folder / "versions" / f"{revision}_step_{number}.py").write_text(
            _REVISION.format(
                number=number,
                revision=revision,
                parent=parent or "",
                down_revision=parent,
                body=body.replace("{number}", str(number)),
            )
        )
        parent = revision
    return folder
