"""Projects of many shapes: with the runtime, nothing that a user can see differs from Alembic alone."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

import alembic
import pytest
from shapes import Shape

from migrate_ext.dropin import hooks

TEMPLATES = sorted(p.name for p in (Path(alembic.__file__).parent / "templates").iterdir())
TABLE = 'op.create_table("t", sa.Column("id", sa.Integer, primary_key=True), sa.Column("name", sa.Text))'
DROP = 'op.drop_table("t")'


def two(shape: Shape, up: str, down: str = "", *, top: str = "", life: bool = True) -> None:
    """A revision that makes a table, and after it one with these bodies."""
    shape.revision("aaaa1", TABLE, DROP)
    shape.revision("bbbb1", up, down, after="aaaa1", top=top)
    if life:
        shape.life()


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_template_of_alembics(shape: Shape, template: str) -> None:
    driver = "asyncpg" if "async" in template else "psycopg"
    shape.init(template, driver)
    shape.agree("revision", "-m", "a table", "--rev-id", "aaaa1", database=False)
    name = "migrations/versions/aaaa1_a_table.py"
    if template == "multidb":
        for side in shape.sides:  # the second database is the first, in another schema
            path = side.folder / "alembic.ini"
            path.write_text(path.read_text().replace(f"{side.url}2", side.url))
        shape.edit(
            "migrations/env.py",
            ("upgrade_token=", "version_table=f'version_{name}', upgrade_token="),
        )
        shape.edit(
            name,
            ("def upgrade_engine1() -> None:\n", f"def upgrade_engine1() -> None:\n    {TABLE}\n"),
            (
                "def upgrade_engine2() -> None:\n",
                "def upgrade_engine2() -> None:\n    op.execute('CREATE TABLE u (id int)')\n",
            ),
        )
        shape.agree("upgrade", "head")
        shape.agree("current", database=False)
        shape.agree("upgrade", "head", "--sql", database=False)
        return
    for kind, body in (("upgrade", TABLE), ("downgrade", DROP)):
        old = f"def {kind}() -> None:\n"
        shape.edit(name, (old, f"{old}    {body}\n"))
    shape.agree("revision", "-m", "nothing", "--rev-id", "bbbb1", database=False)
    shape.life()
    shape.agree("check", code=255, database=False)  # no metadata


def test_an_async_project_over_psycopg(shape: Shape) -> None:
    shape.init("async", "psycopg")
    two(shape, 'op.add_column("t", sa.Column("x", sa.Integer))', 'op.drop_column("t", "x")')


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2"])
def test_statements_of_all_kinds(shape: Shape, driver: str) -> None:
    shape.init(driver=driver)
    two(
        shape,
        """
        op.execute("INSERT INTO t (name) VALUES ('50%'), ('a:b'), ('it''s')")
        op.bulk_insert(sa.table("t", sa.column("name", sa.Text)), [{"name": "x%y"}, {"name": None}])
        op.create_index("ix", "t", ["name"], postgresql_where=sa.text("name LIKE 'a%'"))
        op.add_column("t", sa.Column("at", sa.Integer, server_default=sa.text("5 % 3")))
        op.alter_column("t", "name", new_column_name="title", server_default="100%")
        op.execute("CREATE TYPE kinds AS ENUM ('a', 'b')")
        with op.batch_alter_table("t") as batch:
            batch.add_column(sa.Column("kind", sa.Enum("a", "b", name="kinds")))
            batch.create_check_constraint("ck", "id % 2 < 2")
        """,
        'op.drop_table("t"); op.execute("DROP TYPE kinds")\n' + TABLE,
        life=False,
    )
    shape.revision("cccc1", 'op.execute("SELECT 1; SELECT 2")', after="bbbb1")
    shape.life() if driver == "psycopg2" else shape.agree("upgrade", "head")


def test_several_folders_with_labels_and_dependencies(shape: Shape) -> None:
    shape.init()
    shape.edit(
        "alembic.ini",
        ("path_separator = os", "path_separator = space"),
        (
            "script_location = %(here)s/migrations",
            "script_location = %(here)s/migrations\nrecursive_version_locations = true\n"
            "version_locations = %(here)s/migrations/versions %(here)s/more %(here)s/nowhere",
        ),
        ("prepend_sys_path = .", "prepend_sys_path = %(here)s"),
    )
    shape.revision("aaaa1", TABLE, DROP, top='branch_labels = ("core",)')
    shape.revision("bbbb1", "", after="aaaa1")
    shape.revision(
        "cccc1", "", top='branch_labels = "extra"\ndepends_on = ("core",)', folder="more/deep/er"
    )
    shape.revision("dddd1", "", after="cccc1", top='depends_on = "bbbb1"', folder="more/deep")
    shape.revision("eeee1", "", after="bbbb1", folder="more")
    for command in ("heads", "branches", "history -v", "show extra@head", "heads -v"):
        shape.agree(*command.split(), database=False)
    shape.agree("upgrade", "extra@head")
    shape.agree("current", database=False)
    shape.agree("downgrade", "extra@base")
    shape.agree("upgrade", "heads")
    shape.agree("upgrade", "head", code=255, database=False)
    options = ("--head", "core@head", "--version-path", "more", "--rev-id", "ffff1")
    shape.agree("revision", "-m", "later", *options, database=False)
    shape.agree("merge", "heads", "-m", "together", "--rev-id", "gggg1", database=False)
    shape.agree("upgrade", "head")
    shape.agree("downgrade", "-1", code=255)  # ambiguous
    shape.agree("downgrade", "eeee1")


def test_file_names_with_folders_in_them(shape: Shape) -> None:
    shape.init()
    shape.edit(
        "alembic.ini",
        (
            "script_location = %(here)s/migrations",
            "script_location = %(here)s/migrations\nrecursive_version_locations = true\n"
            "file_template = v%%(rev)s/%%(slug)s",
        ),
    )
    shape.agree("revision", "-m", "One, two", "--rev-id", "aaaa1", database=False)
    shape.agree("revision", "-m", "three", "--rev-id", "bbbb1", database=False)
    shape.life()


def test_a_project_inside_a_package(shape: Shape) -> None:
    shape.init()
    shape.edit(
        "alembic.ini", ("script_location = %(here)s/migrations", "script_location = app.db:m")
    )
    for side in shape.sides:
        (side.folder / "app" / "db").mkdir(parents=True)
        (side.folder / "migrations").rename(side.folder / "app" / "db" / "m")
        for package in ("app", "app/db"):
            (side.folder / package / "__init__.py").write_text("")
    shape.revision("aaaa1", TABLE, DROP, folder="app/db/m/versions")
    shape.life()
    shape.agree("revision", "-m", "x", "--rev-id", "bbbb1", database=False)


def test_a_project_inside_a_zip(shape: Shape) -> None:
    shape.init()
    shape.revision("aaaa1", TABLE, DROP)
    shape.edit(
        "alembic.ini",
        ("script_location = %(here)s/migrations", "script_location = app:migrations"),
        ("prepend_sys_path = .", "prepend_sys_path = app.zip"),
    )
    for side in shape.sides:
        with zipfile.ZipFile(side.folder / "app.zip", "w") as file:
            file.writestr("app/__init__.py", "")
            for path in sorted((side.folder / "migrations").rglob("*.*")):
                if path.suffix != ".pyc":
                    file.write(path, f"app/{path.relative_to(side.folder)}")
    theirs, ours = (side.run("heads") for side in shape.sides)
    assert ours == theirs  # whether a folder can be had from a zip is Python's affair
    if theirs.code == 0:
        shape.life()


def test_an_editable_installation(shape: Shape) -> None:
    """A finder of its own leads to the package, no folder of sys.path."""
    shape.init()
    shape.edit("alembic.ini", ("script_location = %(here)s/migrations", "script_location = app:"))
    shape.write("migrations/__init__.py", "")
    shape.write(
        "site/sitecustomize_app.py",
        """
        import importlib.util, os, sys
        class Finder:
            @staticmethod
            def find_spec(name, path=None, target=None):
                if name == "app":
                    file = os.path.abspath("migrations/__init__.py")
                    return importlib.util.spec_from_file_location(
                        name, file, submodule_search_locations=[os.path.dirname(file)])
        sys.meta_path.append(Finder)
        """,
    )
    shape.write(
        "run.py",
        """
        import sys
        sys.path.insert(0, "site")
        import sitecustomize_app
        import alembic.config
        alembic.config.main(sys.argv[2:], prog="alembic")
        """,
    )
    shape.revision("aaaa1", TABLE, DROP)
    for command in (["upgrade", "head"], ["history"], ["downgrade", "base"]):
        shape.agree("run.py", *command)


def test_a_naming_convention_with_schemas(shape: Shape) -> None:
    shape.init(env='include_schemas=True, include_name=lambda n, k, p: n != "hidden"')
    shape.write(
        "models.py",
        """
        import sqlalchemy as sa
        metadata = sa.MetaData(naming_convention={
            "ix": "ix_%(column_0_label)s", "uq": "uq_%(table_name)s_%(column_0_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s", "pk": "pk_%(table_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s"})
        sa.Table("a", metadata, sa.Column("id", sa.Integer, primary_key=True),
                 sa.Column("n", sa.Integer, sa.CheckConstraint("n > 0", name="positive"), unique=True),
                 schema="one")
        sa.Table("b", metadata, sa.Column("id", sa.Integer, primary_key=True),
                 sa.Column("a", sa.ForeignKey("one.a.id"), index=True), schema="two")
        """,
    )
    shape.edit(
        "migrations/env.py",
        ("target_metadata = None", "from models import metadata as target_metadata"),
    )
    shape.revision(
        "aaaa1",
        'op.execute("CREATE SCHEMA one"); op.execute("CREATE SCHEMA two")\n'
        'op.execute("CREATE SCHEMA hidden"); op.execute("CREATE TABLE hidden.h (id int)")',
        'op.execute("DROP SCHEMA one; DROP SCHEMA two; DROP SCHEMA hidden CASCADE")',
    )
    shape.agree("upgrade", "head")
    shape.agree("check", code=255, database=False)
    shape.agree("revision", "--autogenerate", "-m", "all", "--rev-id", "bbbb1")
    shape.life()
    finds = hooks.numbers(alembic.__version__)[:2] == (1, 19)  # the check constraint, anew
    shape.agree("check", code=255 if finds else 0)


def test_autogenerate_and_all_its_hooks(shape: Shape) -> None:
    shape.init(
        env="process_revision_directives=process, include_object=include, render_item=render, "
        "compare_type=True, compare_server_default=True, user_module_prefix='sa.'"
    )
    shape.write(
        "models.py",
        """
        import sqlalchemy as sa
        metadata = sa.MetaData()
        class Odd(sa.types.UserDefinedType):
            cache_ok = True
            def get_col_spec(self, **kw):
                return "int4range"
        sa.Table("t", metadata, sa.Column("id", sa.Integer, primary_key=True),
                 sa.Column("name", sa.String(7), server_default="x"), sa.Column("odd", Odd()))
        sa.Table("left_out", metadata, sa.Column("id", sa.Integer, primary_key=True))
        def process(context, revision, directives):
            print("directives", revision, [d.rev_id for d in directives])
            if directives[0].upgrade_ops.is_empty():
                directives[:] = []
        def include(object, name, type_, reflected, compare_to):
            return name != "left_out"
        def render(type_, object, autogen_context):
            if type_ == "type" and isinstance(object, Odd):
                autogen_context.imports.add("import models")
                return "models.Odd()"
            return False
        """,
    )
    shape.edit(
        "migrations/env.py",
        (
            "target_metadata = None",
            "from models import include, metadata as target_metadata, process, render",
        ),
    )
    shape.write("hook.py", "import sys; print('hook', open(sys.argv[1]).read().count('op.'))")
    shape.edit(
        "alembic.ini",
        (
            "[post_write_hooks]",
            "[post_write_hooks]\nhooks = mine\nmine.type = exec\n"
            f"mine.executable = {sys.executable}\nmine.options = hook.py REVISION_SCRIPT_FILENAME",
        ),
    )
    two(shape, "", life=False)
    shape.agree("upgrade", "head")
    shape.agree("revision", "--autogenerate", "-m", "odd", "--rev-id", "cccc1")
    shape.agree("upgrade", "head")
    shape.agree("revision", "--autogenerate", "-m", "none", "--rev-id", "dddd1", database=False)


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2"])
def test_the_drivers_own_connection(shape: Shape, driver: str) -> None:
    """Raw cursors and COPY, between directives that wait to be sent."""
    shape.init(driver=driver)
    shape.drivers = [driver]
    copy = (
        'with raw.cursor() as cursor, cursor.copy("COPY t (name) FROM STDIN") as copy:\n'
        '    copy.write("copied\\n")\n'
        if driver == "psycopg"
        else 'import io\nraw.cursor().copy_from(io.StringIO("copied\\n"), "t", columns=("name",))\n'
    )
    two(
        shape,
        "op.execute(\"INSERT INTO t (name) VALUES ('before')\")\n"
        "if not context.is_offline_mode():\n"
        "    raw = op.get_bind().connection.dbapi_connection\n"
        "    cursor = raw.cursor()\n"
        '    cursor.execute("SELECT count(*), pg_backend_pid() > 0 FROM t")\n'
        "    print(cursor.fetchone())\n"
        '    cursor.execute("INSERT INTO t (name) VALUES (%s)", ("raw",))\n'
        + "".join(f"    {line}\n" for line in copy.splitlines())
        + "op.execute(\"INSERT INTO t (name) VALUES ('after')\")",
        'op.execute("DELETE FROM t")',
    )


def test_an_orm_session_and_queries_in_a_migration(shape: Shape) -> None:
    shape.init()
    two(
        shape,
        """
        op.execute("INSERT INTO t (name) VALUES ('one'), ('two')")
        if context.is_offline_mode():
            return
        with Session(bind=op.get_bind()) as session:
            for thing in session.scalars(sa.select(Thing).order_by(Thing.id)):
                print(thing.id, thing.name)
                thing.name = thing.name.upper()
            session.add(Thing(name="three"))
            session.commit()
        op.add_column("t", sa.Column("length", sa.Integer))
        bind = op.get_bind()
        done = bind.execute(sa.text("UPDATE t SET length = length(name) WHERE name <> :n"), {"n": "TWO"})
        print(done.rowcount, bind.scalar(sa.text("SELECT sum(length) FROM t")))
        print(sa.inspect(bind).get_columns("t")[-1]["name"], bind.in_transaction())
        """,
        'op.execute("DELETE FROM t"); op.drop_column("t", "length")',
        top="""
        from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

        class Base(DeclarativeBase):
            pass

        class Thing(Base):
            __tablename__ = "t"
            id: Mapped[int] = mapped_column(primary_key=True)
            name: Mapped[str]
        """,
    )


def test_extensions_of_autogenerate(shape: Shape) -> None:
    """alembic-utils (operations, comparators) and alembic-postgresql-enum (comparators, a patch of rendering)."""
    shape.init()
    shape.edit(
        "migrations/env.py",
        ("target_metadata = None", "import models\ntarget_metadata = models.metadata"),
    )
    models = """
        import alembic_postgresql_enum
        import sqlalchemy as sa
        from alembic_utils.pg_function import PGFunction
        from alembic_utils.pg_view import PGView
        from alembic_utils.replaceable_entity import register_entities

        metadata = sa.MetaData()
        sa.Table("t", metadata, sa.Column("id", sa.Integer, primary_key=True),
                 sa.Column("mood", sa.Enum({moods}, name="mood"), nullable=False, server_default="sad"))
        register_entities([
            PGFunction("public", "twice(n integer)", "RETURNS integer LANGUAGE sql AS $$ SELECT {twice} $$"),
            PGView("public", "v", "SELECT 1 AS one{more}"),
        ], schemas=["public"])
        """
    shape.write("models.py", models.format(moods="'sad', 'ok'", twice="n * 2", more=""))
    revise = ("revision", "--autogenerate", "-m", "x", "--rev-id")
    shape.agree(*revise, "aaaa1")
    shape.agree("upgrade", "head")
    shape.agree("check", database=False)
    changed = models.format(moods="'sad', 'ok', 'good'", twice="n + n", more=", 2 AS two")
    shape.write("models.py", changed)
    done = shape.agree(*revise, "bbbb1")
    assert "replace_entity" in str(done.files) and "sync_enum_values" in str(done.files)
    shape.life()


def test_savepoints_and_errors_that_a_migration_catches(shape: Shape) -> None:
    shape.init()
    two(
        shape,
        """
        bind = op.get_bind()
        op.execute("INSERT INTO t (id, name) VALUES (1, 'kept')")
        try:
            with bind.begin_nested():
                op.execute("INSERT INTO t (id, name) VALUES (1, 'again')")
        except sa.exc.IntegrityError as error:
            print(type(error.orig).__name__, error.statement)
        op.execute("SAVEPOINT s")
        op.execute("INSERT INTO t (id, name) VALUES (2, 'gone')")
        op.execute("ROLLBACK TO SAVEPOINT s")
        op.execute("RELEASE SAVEPOINT s")
        nested = bind.begin_nested()
        op.execute("INSERT INTO t (id, name) VALUES (3, 'gone too')")
        nested.rollback()
        op.execute("INSERT INTO t (id, name) VALUES (4, 'stays')")
        """,
        'op.execute("DELETE FROM t")',
        life=False,
    )
    shape.agree("upgrade", "head")
    shape.agree("downgrade", "base")


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2"])
def test_a_run_that_fails(shape: Shape, driver: str) -> None:
    shape.init(driver=driver)
    two(shape, 'op.execute("INSERT INTO t (id) VALUES (1)")', life=False)
    shape.revision("cccc1", 'op.add_column("t", sa.Column("name", sa.Text))', after="bbbb1")
    shape.revision("dddd1", 'print("never")', after="cccc1")
    done = shape.agree("upgrade", "head", code=1)
    assert "DuplicateColumn" in done.stderr
    shape.revision("cccc1", 'raise ValueError("of our own")', after="bbbb1")
    shape.agree("upgrade", "head", code=1)
    shape.agree("upgrade", "bbbb1")
    shape.agree("upgrade", "head", code=1)


def test_what_a_module_prints_and_warns_of_when_it_is_run(shape: Shape) -> None:
    """Those that are not run are not executed: docs/differences.md."""
    shape.init()
    two(
        shape,
        "",
        top='import warnings\nprint("imported")\nwarnings.warn("old", UserWarning)',
        life=False,
    )
    done = shape.agree("upgrade", "head")
    assert "imported" in done.stdout
    assert "UserWarning: old" in done.stderr
    shape.agree("downgrade", "base")
    shape.agree("upgrade", "head", "--sql", database=False)


NOTICE = """op.execute("DO $$ BEGIN RAISE NOTICE '{}'; END $$")"""


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2"])
def test_notices_of_the_server(shape: Shape, driver: str) -> None:
    shape.init(driver=driver)
    shape.drivers = [driver]
    listen = (
        "connection.connection.dbapi_connection.add_notice_handler("
        "lambda n: print('notice', n.message_primary))"
        if driver == "psycopg"
        else "notices = connection.connection.dbapi_connection.notices"
    )
    tell = "" if driver == "psycopg" else "\n        print(notices)"
    shape.edit(
        "migrations/env.py",
        (
            "as connection:\n        context.configure(",
            f"as connection:\n        {listen}\n        context.configure(",
        ),
        ("run_migrations_online()\n", "run_migrations_online()\n"),
    )
    if tell:
        for side in shape.sides:
            path = side.folder / "migrations" / "env.py"
            head, tail = path.read_text().rsplit("            context.run_migrations()\n", 1)
            path.write_text(f"{head}            context.run_migrations(){tell}\n{tail}")
    body = "\n".join(NOTICE.format(text) for text in ("one", "two"))
    two(shape, f"{body}\nprint('between')\n{NOTICE.format('three')}", NOTICE.format("down"))


def test_search_path_and_translated_schemas(shape: Shape) -> None:
    shape.init()
    shape.edit(
        "migrations/env.py",
        (
            "as connection:\n        context.configure(",
            "as connection:\n"
            "        connection.execute(sqlalchemy.text('CREATE SCHEMA IF NOT EXISTS tenant'))\n"
            "        connection.commit()\n"
            "        connection = connection.execution_options(schema_translate_map={None: 'tenant'})\n"
            "        context.configure(version_table_schema='tenant', ",
        ),
        ("from alembic import context", "import sqlalchemy\nfrom alembic import context"),
    )
    two(
        shape,
        """
        op.execute("INSERT INTO tenant.t (name) VALUES ('a')")
        op.execute("SET search_path = tenant")
        op.execute("INSERT INTO t (name) VALUES ('b')")
        op.create_index("ix", "t", ["name"])
        op.execute("SET LOCAL search_path = public")
        op.execute("CREATE TABLE elsewhere (id int)")
        """,
        'op.execute("RESET search_path"); op.execute("DROP TABLE elsewhere")\nop.drop_index("ix", "t")',
    )


def test_listeners_on_the_engine(shape: Shape) -> None:
    shape.init()
    shape.edit(
        "migrations/env.py",
        (
            "    with connectable.connect() as connection:",
            "    from sqlalchemy import event\n"
            "    @event.listens_for(connectable, 'before_cursor_execute', retval=True)\n"
            "    def before(connection, cursor, statement, *rest):\n"
            "        print('>', ' '.join(statement.split())[:60])\n"
            "        return statement.replace('title', 'name'), rest[0]\n"
            "    for name in ('begin', 'commit', 'rollback', 'savepoint'):\n"
            "        event.listen(connectable, name, lambda *a, name=name: print(name))\n"
            "    with connectable.connect() as connection:",
        ),
    )
    two(shape, "op.execute(\"INSERT INTO t (title) VALUES ('x')\")", 'op.execute("DELETE FROM t")')


def test_a_listener_for_tables_and_for_applied_versions(shape: Shape) -> None:
    shape.init(env="on_version_apply=applied")
    shape.edit(
        "migrations/env.py",
        (
            "target_metadata = None",
            """target_metadata = None
import sqlalchemy
@sqlalchemy.event.listens_for(sqlalchemy.Table, "after_create")
def created(table, connection, **kw):
    connection.execute(sqlalchemy.text(f"COMMENT ON TABLE {table.name} IS 'made'"))
def applied(ctx, step, heads, run_args, **kw):
    print("applied", step.up_revision_id, sorted(heads), step.is_upgrade, sorted(run_args), sorted(kw))
    if not ctx.as_sql:
        print(ctx.connection.scalar(sqlalchemy.text("SELECT count(*) FROM pg_class WHERE relname = 't'")))
""",
        ),
    )
    two(shape, 'op.create_table("u", sa.Column("id", sa.Integer))', 'op.drop_table("u")')


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2"])
def test_a_transaction_for_each_migration_and_autocommit_blocks(shape: Shape, driver: str) -> None:
    shape.init(driver=driver, env="transaction_per_migration=True")
    two(
        shape,
        """
        op.execute("INSERT INTO t (name) VALUES ('a')")
        with op.get_context().autocommit_block():
            op.create_index("ix", "t", ["name"], postgresql_concurrently=True)
            op.execute("VACUUM t")
        op.execute("INSERT INTO t (name) VALUES ('b')")
        """,
        """
        with op.get_context().autocommit_block():
            op.drop_index("ix", "t", postgresql_concurrently=True)
        op.execute("DELETE FROM t")
        """,
    )
    shape.revision("cccc1", "op.execute(\"INSERT INTO t (name) VALUES ('c')\")", after="bbbb1")
    shape.revision("dddd1", 'op.execute("SELECT 1 / 0")', after="cccc1")
    shape.agree("upgrade", "head", code=1)  # three are kept
    shape.agree("current", database=False)


def test_an_autocommit_block_in_one_transaction(shape: Shape) -> None:
    shape.init()
    block = "with op.get_context().autocommit_block():\n    {}"
    two(
        shape,
        block.format("op.execute(\"ALTER TYPE mood ADD VALUE 'c'\")"),
        'op.execute("DELETE FROM t")',
        life=False,
    )
    shape.revision("aaaa1", TABLE + "\nop.execute(\"CREATE TYPE mood AS ENUM ('a', 'b')\")")
    shape.revision(
        "cccc1",
        "op.execute(\"CREATE TABLE m AS SELECT 'c'::mood\")\n"
        + block.format('raise RuntimeError("x")'),
        after="bbbb1",
    )
    shape.agree("upgrade", "head", code=1)
    shape.agree("upgrade", "bbbb1:head", "--sql", code=1, database=False)


def test_a_migration_that_runs_for_seconds(shape: Shape) -> None:
    shape.init()
    two(shape, 'op.execute("SELECT pg_sleep(1.2)")', life=False)
    shape.agree("upgrade", "head", PGOPTIONS="-c client_connection_check_interval=200")


def test_temporary_tables(shape: Shape) -> None:
    shape.init()
    two(
        shape,
        """
        op.create_table("temp", sa.Column("id", sa.Integer), prefixes=["TEMPORARY"],
                        postgresql_on_commit="DROP")
        op.execute("CREATE TEMP TABLE other AS SELECT generate_series(1, 3) AS id")
        op.execute("INSERT INTO temp SELECT id FROM other")
        op.execute("INSERT INTO t (id) SELECT id FROM temp")
        """,
        'op.execute("DELETE FROM t")',
    )
    shape.revision(
        "cccc1", 'op.execute("INSERT INTO t (id) SELECT id + 9 FROM other")', after="bbbb1"
    )
    shape.agree("upgrade", "head", code=1)  # another session


def test_an_implementation_of_the_projects_own(shape: Shape) -> None:
    shape.init()
    shape.edit(
        "migrations/env.py",
        (
            "target_metadata = None",
            """target_metadata = None
from alembic.ddl.postgresql import PostgresqlImpl
class Mine(PostgresqlImpl):
    __dialect__ = "postgresql"
    transactional_ddl = True
    def create_table(self, table, **kw):
        print("create", table.name)
        super().create_table(table, **kw)
        self.execute(f"COMMENT ON TABLE {table.name} IS 'of mine'")
    def version_table_impl(self, **kw):
        table = super().version_table_impl(**kw)
        table.comment = "where we are"
        return table
    def _exec(self, construct, *args, **kw):
        print("exec", type(construct).__name__)
        return super()._exec(construct, *args, **kw)
""",
        ),
    )
    two(shape, 'op.create_table("u", sa.Column("id", sa.Integer))', 'op.drop_table("u")')


def test_operations_of_the_projects_own_and_compiled_constructs(shape: Shape) -> None:
    shape.init()
    two(
        shape,
        """
        op.grant("t", "public")
        op.execute(Shout("hello"))
        op.create_table("u", sa.Column("id", Odd()))
        """,
        'op.drop_table("u")',
        top="""
        from alembic.operations import MigrateOperation, Operations
        from sqlalchemy.ext.compiler import compiles
        from sqlalchemy.schema import DDLElement

        @Operations.register_operation("grant")
        class Grant(MigrateOperation):
            def __init__(self, table, to):
                self.table, self.to = table, to
            @classmethod
            def grant(cls, operations, table, to):
                return operations.invoke(cls(table, to))

        @Operations.implementation_for(Grant)
        def run_grant(operations, operation):
            operations.execute(f"GRANT SELECT ON {operation.table} TO {operation.to}")

        class Shout(DDLElement):
            inherit_cache = False
            def __init__(self, text):
                self.text = text

        @compiles(Shout)
        def compile_shout(element, compiler, **kw):
            return f"COMMENT ON TABLE t IS '{element.text.upper()}'"

        class Odd(sa.types.UserDefinedType):
            cache_ok = True

        @compiles(Odd)
        def compile_odd(element, compiler, **kw):
            return "int4range"
        """,
    )


def test_what_reaches_env_py_from_outside(shape: Shape) -> None:
    shape.init()
    shape.edit(
        "migrations/env.py",
        (
            "config = context.config\n",
            """config = context.config
print(context.get_x_argument(as_dictionary=True), context.get_tag_argument())
print(config.attributes.get("mine"), getattr(config.cmd_opts, "cmd", (None,))[0] is not None)
try:
    print(context.get_revision_argument(), context.get_head_revision(), context.is_offline_mode())
except Exception as error:
    print(type(error).__name__)
""",
        ),
    )
    two(
        shape,
        "print(context.get_context().opts.get('tag'), kw)",
        'op.execute("DELETE FROM t")',
        life=False,
    )
    shape.edit("migrations/versions/bbbb1.py", ("def upgrade():", "def upgrade(**kw):"))
    shape.edit("migrations/env.py", ("run_migrations()", "run_migrations(extra=1)"))
    shape.edit("migrations/versions/aaaa1.py", ("def upgrade():", "def upgrade(extra):"))
    shape.agree("-x", "a=1", "-x", "b", "upgrade", "head", "--tag", "v1")
    shape.agree("-x", "a=2", "upgrade", "head", "--sql", "--tag", "v1", database=False)
    shape.agree("stamp", "aaaa1")
    shape.write(
        "program.py",
        """
        import io, sys
        from alembic import command
        from alembic.config import Config
        from alembic.script import ScriptDirectory

        for name in ("out", "sql"):
            config = Config("alembic.ini", stdout=io.StringIO(), output_buffer=io.StringIO())
            config.attributes["mine"] = name
            command.current(config, verbose=name == "sql")
            command.upgrade(config, "head", sql=name == "sql")
            command.history(config, indicate_current=True)
            print(config.stdout.getvalue().replace(config.get_main_option("sqlalchemy.url"), "url"))
            print(config.output_buffer.getvalue())
        scripts = ScriptDirectory.from_config(Config("alembic.ini"))
        print(scripts.get_heads(), [s.module.revision for s in scripts.walk_revisions()])
        print(scripts.as_revision_number("bbbb"), scripts.get_revision("aaaa").doc)
        """,
    )
    shape.agree("program.py")


def test_contexts_in_threads(shape: Shape) -> None:
    shape.init()
    two(
        shape,
        "op.execute(\"INSERT INTO t (name) VALUES ('x')\")",
        'op.execute("DELETE FROM t")',
        life=False,
    )
    shape.write(
        "program.py",
        """
        import threading
        import sqlalchemy as sa
        from alembic.config import Config
        from alembic.operations import Operations
        from alembic.runtime.migration import MigrationContext
        from alembic.script import ScriptDirectory

        config = Config("alembic.ini")
        scripts = ScriptDirectory.from_config(config)
        engine = sa.create_engine(config.get_main_option("sqlalchemy.url"))
        said = {}
        names = ("one", "two", "three")
        all_open, all_migrated, turn = threading.Barrier(3), threading.Barrier(3), threading.Lock()

        def run(name):
            with engine.connect() as connection:
                with connection.begin():
                    connection.execute(sa.schema.CreateSchema(name))
                    connection.execute(sa.text(f"SET search_path = {name}"))
                connection.dialect.default_schema_name = "public"
                context = MigrationContext.configure(connection, opts={
                    "version_table_schema": name, "fn": lambda heads, c: scripts._upgrade_revs("head", heads)})
                operations = Operations(context)
                with context.begin_transaction():
                    all_open.wait(60)
                    with turn, Operations.context(context):  # `op` is one for all threads
                        context.run_migrations()
                    all_migrated.wait(60)
                    for number in range(5):
                        operations.create_table(f"t{number}", sa.Column("id", sa.Integer))
                rows = connection.execute(sa.text("SELECT name FROM t")).all()
                said[name] = context.get_current_heads(), rows

        threads = [threading.Thread(target=run, args=(name,)) for name in names]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        print([said[name] for name in names])
        """,
    )
    shape.agree("program.py")


def test_another_database(shape: Shape) -> None:
    shape.init(env="render_as_batch=True")
    for side in shape.sides:
        path = side.folder / "alembic.ini"
        path.write_text(path.read_text().replace(side.url, "sqlite:///here.db"))
    two(
        shape,
        'with op.batch_alter_table("t") as batch:\n'
        '    batch.add_column(sa.Column("n", sa.Integer))\n    batch.drop_column("name")\n'
        "print(op.get_bind().dialect.name)",
        'with op.batch_alter_table("t") as batch:\n    batch.drop_column("n")\n'
        '    batch.add_column(sa.Column("name", sa.Text))',
        life=False,
    )
    for command in ("upgrade head", "current", "downgrade -1", "upgrade head", "downgrade base"):
        shape.agree(*command.split(), database=False)


def test_configuration_in_pyproject_alone(shape: Shape) -> None:
    shape.init()
    shape.revision("aaaa1", TABLE, DROP, folder="db/versions")
    shape.revision("bbbb1", "", after="aaaa1", folder="db/more")
    for side in shape.sides:
        (side.folder / "alembic.ini").unlink()
        env = (side.folder / "migrations" / "env.py").read_text()
        (side.folder / "db" / "env.py").write_text(
            env.replace(
                "fileConfig(config.config_file_name)",
                f"config.set_main_option('sqlalchemy.url', {side.url!r})",
            )
        )
        (side.folder / "db" / "script.py.mako").write_text(
            (side.folder / "migrations" / "script.py.mako").read_text()
        )
    shape.write(
        "pyproject.toml",
        """
        [tool.alembic]
        script_location = "%(here)s/db"
        version_locations = ["%(here)s/db/versions", "%(here)s/db/more"]
        file_template = "%%(year)d_%%(slug)s_%%(rev)s"
        prepend_sys_path = ["."]
        truncate_slug_length = 9
        """,
    )
    shape.life()
    options = ("--rev-id", "cccc1", "--version-path", "db/more")
    theirs, ours = (side.run("revision", "-m", "a long message", *options) for side in shape.sides)
    assert ours == theirs
    shape.agree("heads", database=False)
