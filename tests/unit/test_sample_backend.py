"""The sample backend as files: its models, its revisions, its template, its configuration."""

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory

ROOT = Path(__file__).resolve().parents[2]
VERSIONS = sorted((ROOT / "versions").glob("*.py"))


@pytest.fixture(scope="module", autouse=True)
def root_on_path():
    """The repository root, where lib and models are, first on sys.path."""
    sys.path.insert(0, str(ROOT))
    yield
    sys.path.remove(str(ROOT))


@pytest.fixture
def script() -> ScriptDirectory:
    return ScriptDirectory.from_config(Config(ROOT / "alembic.ini"))


def run(*command: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """A command in the root, with DATABASE_URL only if it is given."""
    env = {key: value for key, value in os.environ.items() if key != "DATABASE_URL"}
    return subprocess.run(
        command, cwd=ROOT, env={**env, **environ}, capture_output=True, text=True, check=False
    )


def test_models_package_defines_every_table():
    import models.orm  # noqa: F401
    from lib.database import Base

    assert sorted(Base.metadata.tables) == [
        "accounts",
        "api_keys",
        "audit_events",
        "document_revisions",
        "documents",
        "invitations",
        "memberships",
        "organisations",
        "plans",
        "projects",
        "sessions",
        "webhook_deliveries",
        "webhooks",
    ]


def test_every_model_module_is_imported_by_the_package():
    imported = {
        node.module
        for node in ast.walk(ast.parse((ROOT / "models/orm/__init__.py").read_text()))
        if isinstance(node, ast.ImportFrom)
    }
    modules = {path.stem for path in (ROOT / "models/orm").glob("*.py")} - {"__init__", "columns"}
    assert imported == modules


def test_mappers_configure():
    from sqlalchemy.orm import configure_mappers

    import models.orm  # noqa: F401

    configure_mappers()


def test_every_constraint_and_index_has_a_name_by_the_convention():
    from sqlalchemy.dialects import postgresql
    from sqlalchemy.schema import CreateIndex, CreateTable

    import models.orm  # noqa: F401
    from lib.database import Base

    for table in Base.metadata.tables.values():
        ddl = str(CreateTable(table).compile(dialect=postgresql.dialect()))
        for line in ddl.splitlines():
            if re.search(r"PRIMARY KEY|FOREIGN KEY|UNIQUE|CHECK", line):
                name = re.search(rf"CONSTRAINT (?:pk|fk|uq|ck)_{table.name}(?:_\w+)? ", line)
                assert name, line
                assert len(name[0].split()[1]) <= 63, line
        for index in table.indexes:
            ddl = str(CreateIndex(index).compile(dialect=postgresql.dialect()))
            assert f"INDEX ix_{table.name}_" in ddl, ddl


@pytest.mark.parametrize("path", VERSIONS, ids=lambda path: path.stem)
def test_revision_file_is_complete(path: Path):
    tree = ast.parse(path.read_text())
    docstring = ast.get_docstring(tree) or ""
    names = {
        node.target.id: node.value
        for node in tree.body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    }
    revision = ast.literal_eval(names["revision"])
    parents = ast.literal_eval(names["down_revision"]) or ()
    parents = (parents,) if isinstance(parents, str) else parents

    assert {"revision", "down_revision", "branch_labels", "depends_on"} <= set(names)
    assert path.name.startswith(f"{revision}_")
    assert f"\nRevision ID: {revision}\nRevises: {', '.join(parents)}".rstrip() in docstring
    assert re.search(r"^Create Date: 2026-\d\d-\d\d \d\d:\d\d:\d\d\.\d{6}$", docstring, re.M)
    functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    assert {"upgrade", "downgrade"} <= functions


def test_history_has_one_base_one_head_a_branch_its_merge_and_a_dependency(script: ScriptDirectory):
    revisions = list(script.walk_revisions())

    assert len(revisions) == len(VERSIONS) == 18
    assert len(script.get_bases()) == len(script.get_heads()) == 1
    assert [r.revision for r in revisions if r.is_branch_point] == ["c2045ea3fa0f"]
    assert [r.revision for r in revisions if r.is_merge_point] == ["4312adf83ceb"]
    assert {r.revision: r.dependencies for r in revisions if r.dependencies} == {
        "25aa13ba1001": "34fd13fa27b5"
    }
    assert {label for r in revisions for label in r.branch_labels} == {"content", "integrations"}


def test_dates_follow_the_history(script: ScriptDirectory):
    dates = {
        r.revision: re.search(r"Create Date: (.+)", r.longdoc).group(1)  # type: ignore[union-attr]
        for r in script.walk_revisions()
    }
    for r in script.walk_revisions():
        for parent in r._all_down_revisions:
            assert dates[parent] < dates[r.revision]


def test_configuration_holds_no_url():
    assert "sqlalchemy.url" not in (ROOT / "alembic.ini").read_text()
    assert "://" not in (ROOT / "alembic.ini").read_text()


@pytest.mark.parametrize("command", [["history"], ["heads"], ["show", "head"], ["branches"]])
def test_files_are_listed_without_a_database_url(command: list[str]):
    done = run(sys.executable, "-m", "alembic", *command)
    assert (done.returncode, done.stderr) == (0, "")


def test_unset_database_url_is_one_clear_message():
    done = run(sys.executable, "-m", "alembic", "current")
    assert done.returncode != 0
    assert "DATABASE_URL" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("postgres://u:p%40w@h/d", "postgresql+psycopg://u:p%40w@h/d"),
        ("postgresql://u@h:5433/d", "postgresql+psycopg://u@h:5433/d"),
        ("postgresql+asyncpg://u@h/d", "postgresql+psycopg://u@h/d"),
        ("postgresql+psycopg2://u@h/d", "postgresql+psycopg2://u@h/d"),
        (" postgresql+psycopg://u@h/d\n", "postgresql+psycopg://u@h/d"),
        ("postgresql:///d?host=/tmp", "postgresql+psycopg:///d?host=/tmp"),
    ],
)
def test_database_url_names_an_installed_driver(given, expected, monkeypatch):
    pytest.importorskip("psycopg")
    from sqlalchemy import make_url

    from lib.database import database_url

    monkeypatch.setenv("DATABASE_URL", given)
    assert database_url() == make_url(expected)


@pytest.mark.parametrize(
    "given", ["", "secret", "postgresql://u:secret@h:port/d", "mysql://u:secret@h/d"]
)
def test_unusable_database_url_is_refused_without_printing_it(given, monkeypatch):
    from lib.database import DatabaseNotConfigured, database_url

    monkeypatch.setenv("DATABASE_URL", given)
    with pytest.raises(DatabaseNotConfigured, match="DATABASE_URL") as caught:
        database_url()
    assert "secret" not in str(caught.value)


def template_namespace() -> dict[str, object]:
    """The functions defined in the template's first block."""
    from mako.template import Template

    return vars(Template(filename=str(ROOT / "script.py.mako")).module)


@pytest.mark.parametrize(
    "value",
    [
        None,
        "plain",
        "it's",
        'say "so"',
        'it\'s "so"',
        '"it\'s" "so"',
        "back\\slash'\"",
        "50%\n",
        "é\t",
    ],
)
def test_template_literal_is_the_value(value):
    assert ast.literal_eval(template_namespace()["literal"](value)) == value


def test_template_literal_of_a_tuple_is_the_tuple():
    literal = template_namespace()["literal"]
    assert literal(("a",)) == '("a",)'
    assert ast.literal_eval(literal(("a", "b"))) == ("a", "b")


@pytest.mark.parametrize(
    "body",
    [
        "pass",
        "# ### only a comment ###",
        "# ### x ###\n    op.drop_table('x')\n    # ### y ###",
        "op.create_table('x',\n    sa.Column('a', sa.Integer()),\n    *more, **options)",
        "op.f(1, -2.5, None, True, b'x', (), ('a',), ('a', 'b'), {'k': 'v'}, {'k': 1, **w})",
        "op.f([i for i in x], f'{y}', lambda: 0, x[1:], x or y, not z)",
        "op.execute('a' if x else 'b')\n    with op.batch_alter_table('t') as batch_op:\n"
        "        batch_op.drop_column('c')",
        "op.execute('not # a comment')",
        "op.create_index(op.f('ix_" + "x" * 70 + "'), 't', ['a', sa.text('lower(b)')])",
        "op.alter_column('t', 'c', type_=sa.Enum(" + "'long one', " * 9 + "name='e'))",
        "not valid python",
    ],
)
def test_template_layout_changes_no_meaning(body):
    laid_out = template_namespace()["laid_out"](body)
    try:
        before = ast.parse(f"def f():\n    {body}")
    except SyntaxError:
        assert laid_out == body
        return
    assert ast.dump(ast.parse(f"def f():\n    {laid_out}")) == ast.dump(before)
    assert re.findall(r"^ *# .*", laid_out, re.M) == re.findall(r"^ *# .*", body, re.M)


def test_new_revision_is_left_alone_by_a_formatter(tmp_path: Path):
    pytest.importorskip("ruff")
    for name in ("alembic.ini", "env.py", "script.py.mako"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "versions").mkdir()
    for message in ("first", 'say "what" it\'s for '):
        command = [sys.executable, "-m", "alembic", "revision", "-m", message]
        subprocess.run(command, cwd=tmp_path, capture_output=True, check=True)
    for width in ("79", "88", "120"):
        command = [sys.executable, "-m", "ruff", "format", "--isolated", "--line-length", width]
        done = subprocess.run(
            [*command, "--diff", "versions"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout
