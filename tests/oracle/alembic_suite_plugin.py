"""Put our revision classes in the place of Alembic's, for Alembic's own tests (``-p alembic_suite_plugin``)."""

import alembic.command
import alembic.script
from alembic.script import base, revision

from migrate_ext import revision as ours

revision.RevisionMap = ours.RevisionMap
for module in (base, alembic.script, alembic.command):
    module.ScriptDirectory = ours.ScriptDirectory
