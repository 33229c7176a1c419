"""``upgrade --plan`` and ``downgrade --plan``: print what would run from the database's present
state.

The output is an SQL script: the revisions in their order, each with its statements and their locks
or, if its SQL is not known before it runs, with the reason. Executed unchanged, the script leads to
the same schema; if something is not known, it ends in ROLLBACK. Importing this module imports
Alembic and SQLAlchemy.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from migrate_ext.direct import database, reading
from migrate_ext.dropin.environment import metadata_of
from migrate_ext.dropin.foreign import foreign_rendering
from migrate_ext.plans import run as plans
from migrate_ext.rendering import compile as compiling

if TYPE_CHECKING:
    from migrate_ext.locking.version_table import VersionTable
    from migrate_ext.project.environment import Settings

_PART = r'(?:"(?:[^"]|"")+"|\w+)'
_NAME = rf"({_PART}(?:\.{_PART})?)"
_EXCLUSIVE = "ACCESS EXCLUSIVE"
_ROWS = "SHARE ROW EXCLUSIVE"
_UPDATE = "SHARE UPDATE EXCLUSIVE"

# Pattern for the beginning of a statement -> the lock on the table that it names; "": no table
# lock. The first match counts. Source: PostgreSQL 18's documentation, "Explicit Locking" and each
# command's page.
_LOCKS = tuple(
    (re.compile(pattern.replace("NAME", _NAME), re.I | re.S), mode)
    for pattern, mode in (
        (r"CREATE (?:UNLOGGED |TEMP\w* |FOREIGN )?TABLE (?:IF NOT EXISTS )?NAME", _EXCLUSIVE),
        (r"ALTER TABLE (?:IF EXISTS )?(?:ONLY )?NAME VALIDATE CONSTRAINT ", _UPDATE),
        (r"ALTER TABLE (?:IF EXISTS )?(?:ONLY )?NAME ADD (?:CONSTRAINT \S+ )?FOREIGN KEY", _ROWS),
        (r"ALTER TABLE (?:IF EXISTS )?(?:ONLY )?NAME ALTER (?:COLUMN )?\S+ SET STATISTICS ", _UPDATE),
        (r"ALTER TABLE (?:IF EXISTS )?(?:ONLY )?NAME ATTACH PARTITION ", _UPDATE),
        (r"ALTER TABLE (?:IF EXISTS )?(?:ONLY )?NAME (?:ENABLE|DISABLE) (?:REPLICA |ALWAYS )?TRIGGER", _ROWS),
        (r"ALTER TABLE (?:IF EXISTS )?(?:ONLY )?NAME", _EXCLUSIVE),
        (r"CREATE (?:UNIQUE )?INDEX CONCURRENTLY .*? ON (?:ONLY )?NAME", _UPDATE),
        (r"CREATE (?:UNIQUE )?INDEX .*? ON (?:ONLY )?NAME", "SHARE"),
        (r"DROP TABLE (?:IF EXISTS )?NAME", _EXCLUSIVE),
        (r"TRUNCATE (?:TABLE )?(?:ONLY )?NAME", _EXCLUSIVE),
        (r"CREATE (?:OR REPLACE )?(?:CONSTRAINT )?TRIGGER .*? ON NAME", _ROWS),
        (r"(?:DROP TRIGGER|DROP POLICY|ALTER POLICY|CREATE POLICY|ALTER TRIGGER) .*? ON NAME", _EXCLUSIVE),
        (r"COMMENT ON TABLE NAME", _UPDATE),
        (rf"COMMENT ON COLUMN ((?:{_PART}\.)?{_PART})\.{_PART} IS", _UPDATE),
        (r"(?:INSERT INTO|UPDATE|DELETE FROM|MERGE INTO) (?:ONLY )?NAME", "ROW EXCLUSIVE"),
        (r"LOCK (?:TABLE )?(?:ONLY )?NAME IN EXCLUSIVE MODE", "EXCLUSIVE"),
        (r"REFRESH MATERIALIZED VIEW CONCURRENTLY NAME", "EXCLUSIVE"),
        (r"(?:REFRESH MATERIALIZED|DROP|CREATE OR REPLACE|CREATE|ALTER) (?:MATERIALIZED )?VIEW (?:IF EXISTS )?NAME", _EXCLUSIVE),
        (r"(?:CREATE|ALTER|DROP) (?:OR REPLACE )?(?:TYPE|DOMAIN|FUNCTION|PROCEDURE|SCHEMA|EXTENSION|ROLE|SEQUENCE)\b", ""),
        (r"(?:SET|RESET|GRANT|REVOKE|COMMENT ON (?:TYPE|FUNCTION|SCHEMA))\b", ""),
    )
)  # fmt: skip
_REFERENCES = re.compile(rf"\bREFERENCES {_NAME}", re.I)
_INDEX = re.compile(rf"(?:DROP INDEX (CONCURRENTLY )?|ALTER INDEX )(?:IF EXISTS )?{_NAME}", re.I)
_SELECT = re.compile(r"\s*SELECT\b(?!.*\bFROM\b)", re.I | re.S)


def locks(sql: str) -> list[tuple[str, str]] | None:
    """(mode, table) for each table that a statement locks, including one that it creates; None if
    that cannot be known from its text.
    """
    text = " ".join(sql.split())
    index = _INDEX.match(text)
    if index:
        return [(_UPDATE if index[1] else _EXCLUSIVE, f"the table of {index[2]}")]
    if _SELECT.match(text) and "(" not in text:
        return []
    for pattern, mode in _LOCKS:
        found = pattern.match(text)
        if found is None:
            continue
        if not mode:
            return []
        taken = [(mode, found[1])]
        if text[:5].upper() in ("CREAT", "ALTER") and "TABLE" in text.upper():
            taken += [(_ROWS, name) for name in dict.fromkeys(_REFERENCES.findall(text))]
        return [one for one in taken if one[1] != found[1] or one is taken[0]]
    return None


def show(run: database.Run, table: VersionTable, settings: Settings) -> None:
    """Print what the command of `run` would do. Reads the database and changes nothing."""
    scripts = run.scripts
    assert scripts is not None
    heads = table.heads()
    indexes = database.steps_of(run.options, scripts, heads)
    is_upgrade = run.options.command == "upgrade"
    metadata = metadata_of(settings)
    spoiled = foreign_rendering()
    operations = scripts.graph.version_operations(heads, [(i, is_upgrade) for i in indexes])
    per_migration = bool(settings.configure.get("transaction_per_migration"))
    lines: list[str] = []
    unknown = 0
    if not per_migration and indexes:
        lines.append("BEGIN;\n")
    if not heads and table.missing and indexes:
        created = table.session.version_create_sql(table.name, table.schema, table.primary_key)
        lines.append(f"{_terminated(created)}\n\n")
    for index, writes in zip(indexes, operations, strict=True):
        path = scripts.paths[index]
        with open(path, "rb") as file:
            source = file.read()
        up, down = compiling.compile_file(
            path, source, settings, metadata, spoiled, table.session.server_version
        )
        function = up if is_upgrade else down
        step = plans.Step(scripts, index, is_upgrade, function.items or [])
        lines.append(f"-- {step.log}\n-- {path}\n")
        if per_migration:
            lines.append("BEGIN;\n")
        if function.items is None:
            unknown += 1
            lines.append(f"-- NOT KNOWN before it runs: {function.reason}\n")
        for line, sql in step.items:
            if line < 0:
                lines.append("COMMIT;\n" if sql == "autocommit" else "BEGIN;\n")
            else:
                lines.append(f"{_told(sql)}{_terminated(sql)}\n")
        for operation in writes:
            lines.append(f"{table.session.version_sql(operation, table.name, table.schema)};\n")
        end = "ROLLBACK" if unknown else "COMMIT"  # no version row without its migration
        lines.append(f"{end};\n\n" if per_migration else "\n")
    if not per_migration and indexes:
        lines.append("ROLLBACK;\n" if unknown else "COMMIT;\n")
    lines.append(f"-- {len(indexes)} migrations")
    lines.append(f", {unknown} of them not known\n" if unknown else "\n")
    reading.print_text(run.options, "".join(lines))


def _terminated(sql: str) -> str:
    text = sql.strip()
    # After a comment on the last line, the semicolon must be on a new line.
    return text + ("" if text.endswith(";") else "\n;" if "--" in text.rsplit("\n", 1)[-1] else ";")


def _told(sql: str) -> str:
    taken = locks(sql)
    if taken is None:
        return "-- lock: not known from its text\n"
    return "".join(f"-- lock: {mode} on {name}\n" for mode, name in taken)
