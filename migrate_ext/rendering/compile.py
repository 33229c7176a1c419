"""``migrate-ext compile``: writes the SQL of constant migrations into the plan file.

A migration is constant if its syntax tree is plain (:mod:`migrate_ext.execution.plain`) and
contains nothing that could differ from run to run, and if it runs without an error against a
recorder, which returns no results. Importing this module imports Alembic and SQLAlchemy; the
command imports models, as Alembic does.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.metadata
import os
import re
import sys
import sysconfig
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import sqlalchemy
from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from sqlalchemy import schema

from migrate_ext import _core, errors
from migrate_ext.direct import database, reading
from migrate_ext.dropin.environment import metadata_of
from migrate_ext.dropin.foreign import foreign_rendering, with_standard_strings
from migrate_ext.execution import plain
from migrate_ext.plans import key
from migrate_ext.plans.run import OLDEST_SERVER
from migrate_ext.project import scripts
from migrate_ext.project.environment import Settings

if TYPE_CHECKING:
    from migrate_ext.plans.key import Items

_HEAD = """\
migrate_ext plan 1
# The SQL of the migrations that are the same every time; `migrate-ext compile` wrote it, and `compile --check` says
# whether it is up to date. Do not edit it: it is only used as it was written, and otherwise ignored.
"""
# The order of their elements differs from run to run.
_SETS = frozenset(("set", "frozenset"))
# What SQLAlchemy renders differently by the server's version, and the first version that has it. What all
# servers have that plans are for is not here.
SINCE = {"_supports_jsonb_subscripting": 140000, "supports_virtual_generated_columns": 180000}
_TRANSACTION = frozenset("ABORT BEGIN COMMIT END PREPARE RELEASE ROLLBACK SAVEPOINT START".split())


class NotConstant(Exception):
    """A migration is not constant; the text says why."""


# -------------------------------------------------------------------------------------------------
# The syntax tree


class _Checker(plain.Checker):
    """Refuses what is not plain, and what could render other SQL the next time."""

    def expression(self, node: ast.expr) -> None:
        if isinstance(node, ast.Set) or (isinstance(node, ast.Name) and node.id in _SETS):
            self.refuse(node, "a set, which has no order")
        super().expression(node)

    def _call(self, node: ast.Call) -> None:
        function = node.func
        if isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name):
            if self.is_value(function.value.id):
                self.refuse(node, f"a method of {function.value.id}, which may change it")
        super()._call(node)

    def _is_get_bind(self, node: ast.expr) -> bool:
        return False  # a recorder has no connection

    def _arguments(self, call: ast.Call) -> None:
        for keyword in call.keywords:
            if keyword.arg is None or keyword.arg == "execution_options":
                self.refuse(call, "execution options, or arguments that do not show")
        super()._arguments(call)

    def _with(self, node: ast.With) -> None:
        if self._is_autocommit_block(node):
            self.body(node.body)
        else:
            super()._with(node)


def reason_not_constant(source: bytes, function: str) -> str | None:
    """None if `function` of a revision file always renders the same SQL, by its tree; else why not."""
    try:
        return plain.reason_not_plain(source, function, _Checker)
    except (SyntaxError, ValueError) as error:
        return f"it cannot be parsed: {error}"


# -------------------------------------------------------------------------------------------------
# Rendering


class _Context(MigrationContext):
    """Alembic's context over a recorder; an autocommit block is a boundary."""

    recorder: Recorder

    @contextmanager
    def autocommit_block(self) -> Iterator[None]:
        self.recorder.boundary("autocommit")
        yield
        self.recorder.boundary("transaction")


class Recorder:
    """Renders and records what directives execute, in place of a connection. Returns no results.

    path: the revision file, for the lines of its directives. server: the version to render for.
    """

    def __init__(
        self, path: str, settings: Settings, metadata: sqlalchemy.MetaData, server: int
    ) -> None:
        self.path = path
        self.items: Items = []
        self.table: schema.Table | None = None  # of the last statement, if CREATE TABLE
        self.indexes: list[tuple[int, str, int]] = []  # of it: (column, SQL, position in `items`)
        # With this paramstyle SQLAlchemy does not double percent signs.
        engine = sqlalchemy.create_mock_engine("postgresql://", self.execute, paramstyle="named")
        self.dialect = with_standard_strings(engine.dialect)
        vars(self.dialect).update((name, server >= first) for name, first in SINCE.items())
        opts = {**settings.configure, "target_metadata": metadata}
        opts.pop("on_version_apply", None)
        self.context = _Context(self.dialect, engine, opts)  # type: ignore[arg-type]
        self.context.recorder = self

    def boundary(self, kind: str) -> None:
        inside = [sql for line, sql in self.items if line < 0][-1:] == ["autocommit"]
        if inside == (kind == "autocommit"):
            raise NotConstant("an autocommit block inside another")
        self._end_of_table()
        self.items.append((-1, kind))

    def execute(self, construct: Any, parameters: Any = None) -> None:
        if parameters:
            raise NotConstant("a statement with parameters")
        if not isinstance(construct, (schema.ExecutableDDLElement, sqlalchemy.TextClause)):
            raise NotConstant(f"a statement of the kind {type(construct).__name__}")
        compiled = construct.compile(dialect=self.dialect)
        if getattr(compiled, "params", None):
            raise NotConstant("a statement with parameters")
        sql = str(compiled)
        kind, keyword = _core.statement_kind(sql)
        words = re.split(r"\W+", sql.upper()) if kind in ("several", "unsure") else [keyword]
        if _TRANSACTION.intersection(words):
            raise NotConstant("a statement that may change the transaction")
        if "\0" in sql or kind == "none":
            raise NotConstant("a statement that says nothing")
        self._in_order(construct, sql)

    def _in_order(self, construct: Any, sql: str) -> None:
        """Record a statement. Indexes of a new table come from a set: sort them by its columns."""
        if isinstance(construct, schema.CreateIndex) and construct.element.table is self.table:
            columns = list(self.table.columns) if self.table is not None else []
            first = next(iter(construct.element.columns), None)
            place = columns.index(first) if first is not None and first in set(columns) else -1
            self.indexes.append((place, sql, len(self.items)))
        else:
            self._end_of_table()
            if isinstance(construct, schema.CreateTable):
                self.table = construct.element
        self.items.append((_line(self.path), sql))

    def _end_of_table(self) -> None:
        places = [at for _, _, at in self.indexes]
        for at, (_, sql, _) in zip(places, sorted(self.indexes), strict=True):
            self.items[at] = (self.items[at][0], sql)
        self.table = None
        self.indexes = []

    def run(self, function: Any) -> Items:
        """Run `function` and return its statements. Raises NotConstant."""
        try:
            with Operations.context(self.context):
                function()
        except NotConstant:
            raise
        except Exception as error:
            raise NotConstant(f"{type(error).__name__}: {errors.first_line(error)}") from error
        self._end_of_table()
        return self.items


def _line(path: str) -> int:
    """The line of the revision file that is being executed."""
    frame = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_filename == path:
            return frame.f_lineno
        frame = frame.f_back  # type: ignore[assignment]
    return 0


# -------------------------------------------------------------------------------------------------
# Dependencies


def _inputs(before: set[str], base: str) -> list[str]:
    """The keys of what defines the metadata: files of the project, packages imported since
    `before`.
    """
    roots = [sysconfig.get_path(name) for name in ("stdlib", "platstdlib")]
    roots.append(os.path.dirname(os.path.abspath(errors.__file__)))
    packages = {"alembic", "sqlalchemy"}
    files: dict[str, str] = {}
    folders: dict[str, str] = {}
    for name, module in list(sys.modules.items()):
        path = getattr(module, "__file__", None)
        if not path or name in ("__main__", "sitecustomize", "usercustomize"):
            continue
        path = os.path.abspath(path)
        if "site-packages" in path.split(os.sep) or "dist-packages" in path.split(os.sep):
            if name not in before:
                packages.add(name.partition(".")[0])
        elif not any(path.startswith(os.path.join(root, "")) for root in roots):
            files[os.path.relpath(path, base)] = path
            if os.path.basename(path) == "__init__.py":
                folder = os.path.dirname(path)
                folders[os.path.relpath(folder, base)] = key.folder_hash_text(folder)
    hashes = _core.hash_files(list(files.values()))
    keys = [f"package {name}" for name in sorted(_versions(packages))]
    keys += sorted(f"folder {path}: {names}" for path, names in folders.items())
    return keys + [
        f"file {hash_} {path}" for path, hash_ in sorted(zip(files, hashes, strict=True))
    ]


def _versions(modules: set[str]) -> set[str]:
    """Names of the metadata folders, with the versions, of the distributions of top-level modules."""
    owners = importlib.metadata.packages_distributions()
    installed = key.installed()
    found: set[str] = set()
    for module in modules:
        for owner in owners.get(module, ()):
            folder = installed.get(owner.replace("-", "_").replace(".", "_").lower())
            folder = folder or installed.get(owner.lower())
            if folder is None:
                raise errors.CommandError(f"the version of {owner} cannot be told: no dist-info")
            found.add(folder)
    if len(found) < 2:
        raise errors.CommandError("Alembic and SQLAlchemy are not installed as packages")
    return found


# -------------------------------------------------------------------------------------------------
# The command


class Compiled:
    """One function of one revision: its ``items``, or the ``reason`` why it is not constant."""

    def __init__(self, name: str, items: Items | None, reason: str = "") -> None:
        self.name = name
        self.items = items
        self.reason = reason


def compile_file(
    path: str,
    source: bytes,
    settings: Settings,
    metadata: sqlalchemy.MetaData,
    spoiled: str | None,
    server: int | None = None,
) -> list[Compiled]:
    """Both functions of a revision file. source: its whole text, which is executed. spoiled: why no
    function of any file is constant, or None. server: the version that the SQL is for; None: for all, and
    nothing is constant that would warn.
    """
    found: list[Compiled] = []
    for name in ("upgrade", "downgrade"):
        reason = spoiled or reason_not_constant(source, name)
        if reason is not None:
            found.append(Compiled(name, None, reason))
            continue
        try:
            # Execute the file and its function twice, and compare.
            items, again = (
                _rendered(path, _load(path, source)[name], settings, metadata, server, is_second)
                for is_second in (False, True)
            )
            if again != items:
                of = "for another server" if server is None else "the second time"
                raise NotConstant(f"it renders something else {of}")
            found.append(Compiled(name, items))
        except NotConstant as error:
            found.append(Compiled(name, None, str(error)))
    return found


def _rendered(
    path: str,
    function: Any,
    settings: Settings,
    metadata: sqlalchemy.MetaData,
    server: int | None,
    is_second: bool,
) -> Items:
    """The statements of a function. If it is for one server, its warnings are shown, the first time."""
    server_of_plans = OLDEST_SERVER if is_second else max(SINCE.values())
    recorder = Recorder(path, settings, metadata, server or server_of_plans)
    if server is not None and not is_second:
        return recorder.run(function)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        items = recorder.run(function)
    if told and server is None:
        raise NotConstant("it warns: " + str(told[0].message).partition("\n")[0])
    return items


def _load(path: str, source: bytes) -> dict[str, Any]:
    """The globals of a revision file, executed from the bytes whose hash is stored: cached bytecode
    could come from others.
    """
    names: dict[str, Any] = {"__name__": "migration", "__file__": path}
    try:
        exec(compile(source, path, "exec", dont_inherit=True), names)
    except Exception as error:
        raise NotConstant(str(errors.BrokenFile(path, error))) from error
    return names


def _text(keys: list[str], revisions: list[tuple[str, str, list[Compiled]]]) -> str:
    lines = [f"key {key}\n" for key in keys]
    for revision, hash_, functions in revisions:
        lines.append(f"\nrevision {hash_} {revision}\n")
        for function in functions:
            if function.items is None:
                lines.append(f"# {function.name} is rendered: {function.reason}\n")
                continue
            lines.append(f"{function.name}\n")
            for line, sql in function.items:
                if line < 0:
                    lines.append(f"{sql}\n")
                else:
                    text = "".join(f"\t{part}\n" for part in sql.split("\n"))
                    lines.append(f"sql {line}\n{text}")
    body = _HEAD + "".join(lines)
    return f"{body}end {hashlib.sha256(body.encode()).hexdigest()}\n"


def compile_project(run: database.Run, settings: Settings) -> None:
    """Run the command. With ``--check``, raises CommandError if the file is not up to date."""
    path = key.path_of(run.config)
    base = os.path.dirname(path)
    try:
        keys = key.setting_keys(settings)
    except errors.Declined as reason:
        raise errors.CommandError(f"nothing can be compiled here: {reason}") from None
    found = scripts.Scripts(run.config)
    before = set(sys.modules)
    metadata = metadata_of(settings)
    keys += _inputs(before, base)
    spoiled = foreign_rendering()
    revisions: list[tuple[str, str, list[Compiled]]] = []
    said: list[str] = []
    count = 0
    for index, path_ in enumerate(found.paths):
        revision = found.graph.revision(index)
        with open(path_, "rb") as file:
            source = file.read()
        functions = compile_file(path_, source, settings, metadata, spoiled)
        if "\n" in revision:
            continue
        revisions.append((revision, hashlib.sha256(source).hexdigest(), functions))
        for function in functions:
            count += function.items is not None
            if function.items is None:
                said.append(
                    f"{revision} {function.name} is rendered each time: {function.reason}\n"
                )
    text = _text(keys, revisions)
    _core.read_plan(text.encode())  # never write a file that cannot be read back
    said.append(f"{count} of {2 * len(found.paths)} functions are constant\n")
    if "check" in run.options.flags:
        try:
            with open(path, "rb") as file:
                same = file.read() == text.encode()
        except FileNotFoundError:
            same = False
        if not same:
            raise errors.CommandError(f"{path} is not up to date; run 'compile', and commit it")
    else:
        try:
            with open(path + ".new", "wb") as file:
                file.write(text.encode())
            os.replace(path + ".new", path)
        except OSError as error:
            with suppress(OSError):
                os.unlink(path + ".new")
            raise errors.CommandError(f"{path} cannot be written: {error.strerror}") from error
        said.append(f"{path} is written\n")
    reading.print_text(run.options, "".join(said))


# As in dropin/run.py: SQLAlchemy's warnings are about the migration's line.
__name__ = "sqlalchemy.migrate_ext"
