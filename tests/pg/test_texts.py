"""What a statement says must reach the server as the driver would have sent it, once and in its place.

Encodings, backslashes, percent signs, quotes, comments: each program runs with the executor and without, and must leave
the same dump, rows and errors.
"""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import quote

import psycopg._encodings
import psycopg2.extensions
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from in_process_project import InProcessProject
from test_async import ENV as ASYNC_ENV

from migrate_ext import _core, counters

DRIVERS = ("psycopg", "psycopg2", "psycopg_async")


def lab_of(folder: Path, url: str, driver: str, **settings_: str) -> InProcessProject:
    """A project whose sessions begin with these settings of the server's."""
    options = " ".join(f"-c {name}={value}" for name, value in settings_.items())
    project = InProcessProject(
        folder / "project", f"{url.replace('://', f'+{driver}://')}?options={quote(options)}"
    )
    project.bare = url
    if driver == "psycopg_async":
        (project.folder / "env.py").write_text(ASYNC_ENV)
        project.configure = {"user_module_prefix": ""}
    return project


BUSY = "sum(range(3000000))"


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2"])
def test_no_table_is_lost_where_an_umlaut_cannot_be_sent_in_a_batch(
    tmp_path: Path, database_url: str, driver: str
) -> None:
    project = lab_of(tmp_path, database_url, driver, client_encoding="latin1")
    lost = [
        BUSY,
        "op.execute('SELECT pg_sleep(0.1)')",
        "op.create_table('lost', sa.Column('id', sa.Integer))",
        BUSY,
        "op.execute(\"COMMENT ON TABLE a IS 'é'\")",
    ]
    project.write(["op.create_table('a', sa.Column('id', sa.Integer))", "\n".join(lost)])
    outcome = project.agree()
    assert outcome.raised == []
    assert {row[0] for row in outcome.database} >= {"a", "lost"}
    assert "é" in {row[-1] for row in outcome.database if row[0] == "a"}


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("strings", ["on", "off"])
def test_a_default_that_ends_in_a_backslash_is_no_error(
    tmp_path: Path, database_url: str, driver: str, strings: str
) -> None:
    project = lab_of(tmp_path, database_url, driver, standard_conforming_strings=strings)
    column = "sa.Column('p', sa.Text, server_default='C:\\\\')"
    project.write(
        ["op.create_table('a', sa.Column('id', sa.Integer))", f"op.add_column('a', {column})"]
    )
    assert project.agree().raised == []


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2"])
@pytest.mark.parametrize("bad", ["\0", "\ud800"], ids=["zero byte", "surrogate"])
def test_what_cannot_be_sent_fails_as_the_driver_says(
    tmp_path: Path, database_url: str, driver: str, bad: str
) -> None:
    project = lab_of(tmp_path, database_url, driver)
    sql = f"CREATE TABLE b (t text DEFAULT 'x{bad}y')"
    project.write(["op.create_table('a')", f"op.create_table('c')\nop.execute({ascii(sql)})"])
    assert project.agree().raised != []


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("encoding", ["latin1", "win1252", "euc_jp", "sql_ascii", "utf8"])
def test_an_error_is_read_in_the_encoding_that_it_comes_in(
    tmp_path: Path, database_url: str, driver: str, encoding: str
) -> None:
    project = lab_of(tmp_path, database_url, driver, client_encoding=encoding)
    constraint = "DO $$ BEGIN EXECUTE 'ALTER TABLE t ADD CONSTRAINT \"' || chr(233) || '\" CHECK (a > 0)'; END $$"
    project.write(
        [
            f"op.execute('CREATE TABLE t (a int)')\nop.execute({constraint!r})",
            "op.execute('INSERT INTO t VALUES (0)')",
        ]
    )
    assert project.agree().raised != []


CHANGES = {
    "a SET": "op.execute(\"SET client_encoding TO 'latin1'\")",
    "a function": "op.execute(\"SELECT set_config('client_encoding', 'latin1', false)\")",
    "a block": (
        "op.execute(\"DO $$ BEGIN PERFORM set_config('client_encoding', 'latin1', false); END $$\")"
    ),
    "an INSERT": (
        "op.execute(\"INSERT INTO t SELECT set_config('client_encoding', 'latin1', false)\")"
    ),
}


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("how", CHANGES)
def test_a_migration_that_changes_the_encoding_does_not_garble_the_next(
    tmp_path: Path, database_url: str, driver: str, how: str
) -> None:
    project = lab_of(tmp_path, database_url, driver)
    table = "op.execute('CREATE TABLE t (a text)')"
    umlaut = "op.execute(\"COMMENT ON COLUMN t.a IS 'ä'\")"
    project.write([table, f"{CHANGES[how]}\n{umlaut}", "op.execute('CREATE TABLE u ()')"])
    project.agree()


def test_an_encoding_that_a_trigger_changes_ends_the_run(tmp_path: Path, database_url: str) -> None:
    """Nobody can say how the server has read what was on its way: nothing of it may stay."""
    project = lab_of(tmp_path, database_url, "psycopg")
    change = "PERFORM set_config('client_encoding', 'latin1', false);"
    project.write(
        [
            "op.execute('CREATE TABLE t (a text)')",
            "op.execute('''CREATE FUNCTION f() RETURNS event_trigger LANGUAGE plpgsql AS "
            f"$$ BEGIN {change} END $$''')\n"
            "op.execute('CREATE EVENT TRIGGER e ON ddl_command_end WHEN TAG IN (''CREATE TABLE'') "
            "EXECUTE FUNCTION f()')".replace("''CREATE TABLE''", "\\'CREATE TABLE\\'"),
            "op.execute('CREATE TABLE u ()')\nop.execute(\"COMMENT ON COLUMN t.a IS 'ä'\")",
        ]
    )
    outcome = project.run(True)
    assert "client_encoding" in str(outcome.error) and "internal error" in str(outcome.error)
    assert outcome.database == []


@pytest.mark.parametrize("driver", ["psycopg", "psycopg_async"])
def test_statements_that_psycopg_has_prepared_survive_a_batch_that_alters(
    tmp_path: Path, database_url: str, driver: str
) -> None:
    """psycopg deallocates them after each ALTER or DROP, before it prepares the next."""
    project = lab_of(tmp_path, database_url, driver)
    table = "sa.table('t0', sa.column('s'))"
    insert = f"op.bulk_insert({table}, [{{'s': 'a'}}, {{'s': 'b'}}])"
    alter = "op.add_column('t0', sa.Column('n', sa.Text))"
    project.write(
        ["op.execute('CREATE TABLE t0 (s text)')", "\n".join([insert, alter, insert, insert])]
    )
    assert project.agree().raised == []


def test_every_encoding_listed_for_batches_encodes_ascii_as_ascii() -> None:
    """The list of csrc/pq/batch_judge.c against the codecs by which the drivers encode."""
    source = (Path(__file__).parents[2] / "csrc/pq/batch_judge.c").read_text()
    listed = source.partition("ASCII_ENCODINGS[] = {")[2].partition("}")[0]
    names = [part.strip(' "\n') for part in listed.split(",") if '"' in part]
    assert len(names) > 20
    text = "".join(map(chr, range(1, 128)))
    for name in names:
        theirs = (
            psycopg._encodings.py_codecs.get(name),
            psycopg2.extensions.encodings.get(name.replace("_", "")),
        )
        assert any(theirs), name
        for codec in filter(None, theirs):
            assert text.encode(codec) == text.encode("ascii"), name


# Pieces of text, each of which some lexer, codec or formatter could take for more than text.
PIECES = [
    *"a Zé ß漢😀\\%:'\";$.,()-/*\n\t",
    *"%% %s %(x)s :x ::text '' \"\" \\' \\\\ -- /* */ $$ $a$ E' U&' \\u00e9 ? {} BEGIN \x7f ÿ".split(
        " "
    ),
    *("; COMMIT;", "COPY t FROM STDIN"),
]
TEXTS = st.lists(st.sampled_from(PIECES), max_size=6).map("".join)
NAMES = st.lists(st.sampled_from([*"aZéß漢", " ", "%", "-", ".", ":", "'", "\\"]), max_size=4).map(
    "".join
)
SQL = [
    "COMMENT ON TABLE t0 IS {quoted}",
    "COMMENT ON TABLE t0 IS {escaped}",
    "INSERT INTO t0 (s) VALUES ({quoted}) -- {line}",
    "INSERT INTO t0 (s) /* {block} */ VALUES ({dollar})",
    "CREATE TABLE {name} (s text DEFAULT {quoted})",
    "SELECT {quoted}, {dollar}",
    "UPDATE t0 SET s = {quoted} WHERE false",
    "DO {dollar_block}",
    "-- {line}",
    "/* {block} */",
    "",
    ";",
    "SELECT 1;",
    "SELECT 1; INSERT INTO t0 (s) VALUES ({quoted})",
    "{raw}",
    "SET standard_conforming_strings = off",
    "SET standard_conforming_strings = on",
    "SET client_encoding = latin1",
    "SET client_encoding = utf8",
    "SELECT set_config('standard_conforming_strings', 'off', false)",
    "SELECT set_config('client_encoding', 'WIN1252', true)",
    "SELECT pg_sleep(0.002)",
]
DIRECTIVES = [
    "op.execute({sql!a})",
    "op.execute({sql!a})",
    "op.execute(sa.text({text_sql!a}))",
    "op.create_table({named!a}, sa.Column({column!a}, sa.Text, server_default={text!a}, comment={text!a}), "
    "comment={text!a})",
    "op.add_column('t0', sa.Column({named!a}, sa.Text, server_default={text!a}))",
    "op.create_table_comment('t0', {text!a})",
    "op.create_check_constraint({named!a}, 't0', {condition!a})",
    "op.bulk_insert(sa.table('t0', sa.column('s')), [{{'s': {text!a}}}, {{'s': {text!a}}}])",
    "op.get_bind().execute(sa.text({text_sql!a}))",
    "sum(range(100000))",
    "see(op.get_bind().scalar(sa.text('SELECT count(*) FROM t0')))",
]


def quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


@st.composite
def statements(draw: st.DrawFn) -> str:
    """A line of a migration."""
    text, name = draw(TEXTS), draw(NAMES)
    tag = "$q$" if "$q$" not in text else "$$"
    sql = draw(st.sampled_from(SQL)).format(
        quoted=quoted(text),
        escaped="E" + quoted(text.replace("\\", "\\\\")),
        dollar=f"{tag}{text}{tag}",
        dollar_block=f"$b$ BEGIN PERFORM {quoted(text)}; END $b$",
        line=text.replace("\n", " "),
        block=text.replace("*/", "").replace("/*", ""),
        name='"' + name.replace('"', '""') + str(draw(st.integers(0, 99))) + '"',
        raw=text,
    )
    number = draw(st.integers(0, 10**6))
    return draw(st.sampled_from(DIRECTIVES)).format(
        sql=sql,
        text_sql=sql.replace("\\", "\\\\").replace(":", "\\:"),
        text=text,
        named=f"{name[:20]}{number}",
        column=f"c{name[:20]}",
        condition=f"s <> {quoted(text)}",
    )


PROGRAMS = st.lists(st.lists(statements(), min_size=1, max_size=5), min_size=1, max_size=5)
ENCODINGS = ("utf8", "utf8", "utf8", "latin1", "win1252", "sql_ascii", "euc_jp", "sjis")


@settings(
    max_examples=int(os.environ.get("MIGRATE_EXT_EXAMPLES", "40")),
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
@given(
    program=PROGRAMS,
    driver=st.sampled_from(DRIVERS),
    encoding=st.sampled_from(ENCODINGS),
    strings=st.sampled_from(["on", "on", "off"]),
    apart=st.booleans(),
)
def test_random_texts_arrive_as_under_alembic(
    tmp_path: Path,
    database_url: str,
    program: list[list[str]],
    driver: str,
    encoding: str,
    strings: str,
    apart: bool,
) -> None:
    project = lab_of(
        tmp_path,
        database_url,
        driver,
        client_encoding=encoding,
        standard_conforming_strings=strings,
    )
    project.configure["transaction_per_migration"] = apart
    bodies = ["\n".join(body) for body in program]
    project.write(["op.execute('CREATE TABLE t0 (s text)')", *bodies])
    before = _core.counters()["statements"], counters.plain_statements
    project.agree()
    batched = _core.counters()["statements"] - before[0]
    event("batched" if batched > 2 else "not batched")
