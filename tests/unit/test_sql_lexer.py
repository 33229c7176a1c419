"""A string of several statements must never be taken for one: the server would refuse what it accepts today.

The oracle is PostgreSQL's own parser (pglast).
"""

from __future__ import annotations

import pglast
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pglast.enums import TransactionStmtKind

from migrate_ext import _core

NAMES = {0: "none", 1: "one"}


def parsed(sql: str) -> str | None:
    """What PostgreSQL's grammar says; None where it refuses the text."""
    try:
        return NAMES.get(len(pglast.parser.parse_sql(sql)), "several")
    except pglast.parser.ParseError:
        return None


def kind(sql: str) -> str:
    return _core.statement_kind(sql)[0]


STATEMENTS = [
    "SELECT 1",
    "SELECT ';'",
    "SELECT E'\\';'",
    "SELECT E'a\\\\'",
    "SELECT e'x'\n 'y\\';'",
    "SELECT 'x' -- c\n 'y;'",
    "SELECT U&'\\0041;'",
    'SELECT U&"a;b" FROM t',
    "SELECT b'01', x'1F', n'z;'",
    'SELECT "a;""b" FROM "c;d"',
    "SELECT $$;$$, $a$ $$ ; $b$ $a$",
    "SELECT a$b$c FROM t",
    "SELECT $é$;$é$",
    "SELECT 1 /* ; /* ; */ ' */",
    "SELECT 1 -- ; ' \n",
    "SELECT 1 +-- c;\n 2",
    "SELECT 1 */* ; */ 2",
    "SELECT (1), ((2)), array[1, 2]",
    "SELECT 1.5e10, 0x1F, 1_000, .5",
    "PREPARE p AS SELECT $1::int",
    "SELECT 'it''s;'",
    "INSERT INTO t VALUES ('a'), ('b;')",
    "CREATE RULE r AS ON INSERT TO t DO (SELECT 1; SELECT 2)",
    "CREATE OR REPLACE RULE r AS ON INSERT TO t DO ALSO (SELECT 1; DELETE FROM u;)",
    "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS $$ SELECT 1; SELECT 2 $$",
    "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1; SELECT 2'",
    "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1; SELECT 2; END",
    "CREATE OR REPLACE PROCEDURE f() BEGIN ATOMIC SELECT CASE WHEN true THEN 1 ELSE 2 END; END",
    "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT (CASE WHEN true THEN 1 END); SELECT 1; END",
    "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC END",
    "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1 AS end; SELECT 2; END",
    "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1 end; SELECT 2; END",
    "CREATE FUNCTION begin() RETURNS int RETURN 1",
    "CREATE FUNCTION f(a int DEFAULT 1) RETURNS int RETURN a + CASE WHEN true THEN 1 END",
    "CREATE TRIGGER t BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION f(';')",
    "CREATE SCHEMA s CREATE TABLE t (i int) CREATE VIEW v AS SELECT 1",
    "DO $do$ BEGIN RAISE NOTICE ';'; END $do$",
    "BEGIN",
    "COMMIT",
    "COPY t FROM STDIN",
    "SELECT a[1:2]::text FROM t",
]
SEPARATORS = [";", "; ", ";\n", " ;;", ";--x;\n", "; /* ; */ ", "", "\n", " "]


@pytest.mark.parametrize("sql", STATEMENTS)
def test_one_statement_is_never_taken_for_several(sql: str) -> None:
    assert parsed(sql) == "one"
    allowed = {"one"}
    if "ATOMIC" in sql and " end" in sql:
        allowed = {"unsure", "several"}  # a label named like the end of the body
    for tail in ("", ";", " ; -- done\n", ";;\n"):
        assert kind(sql + tail) in allowed
        assert kind("-- first\n;" + sql + tail) in allowed


@given(
    st.lists(st.tuples(st.sampled_from(STATEMENTS), st.sampled_from(SEPARATORS)), max_size=4).map(
        lambda pairs: "".join(a + b for a, b in pairs)
    )
)
@settings(max_examples=2000, deadline=None)
def test_real_statements_are_counted_as_the_server_counts_them(sql: str) -> None:
    expected = parsed(sql)
    if expected is not None:
        allowed = {expected, "unsure"}
        if " end" in sql:
            allowed.add("several")
        assert kind(sql) in allowed


PIECES = st.sampled_from(
    [
        "'",
        "''",
        '"',
        ";",
        "$$",
        "$a$",
        "$1",
        "/*",
        "*/",
        "--",
        "\n",
        "\\",
        "(",
        ")",
        " ",
        "E'",
        "U&'",
        "b'",
        "n'",
        "x'",
    ]
    + [
        "SELECT",
        "1",
        "1e",
        "a",
        "é",
        ",",
        "+",
        "*",
        "-",
        "/",
        "BEGIN",
        "ATOMIC",
        "END",
        "CASE",
        ".",
    ]
    + [
        "SELECT 1",
        "SELECT 'a'",
        "CREATE RULE r AS ON INSERT TO t DO (",
        "CREATE FUNCTION f() RETURNS int ",
    ]
)


@given(st.lists(PIECES, max_size=16).map("".join))
@settings(max_examples=4000, deadline=None)
def test_any_text_the_server_takes_is_counted_as_the_server_counts_it(sql: str) -> None:
    expected = parsed(sql)
    if expected is None:
        return
    answer = kind(sql)
    assert answer in (expected, "unsure") or (
        expected == "one" and answer == "several" and "ATOMIC" in sql
    )


@pytest.mark.parametrize("sql", ["", " \n", ";", "-- x", "/* x */ ; ;", "/* /* */ */"])
def test_blanks_and_comments_are_no_statement(sql: str) -> None:
    assert _core.statement_kind(sql) == ("none", "")


@pytest.mark.parametrize(
    "sql",
    ["SELECT '", 'SELECT "a', "SELECT $$ ; ", "/* ", "(", ")", "SELECT (1; 2)", "a\0b", "\\d"],
)
def test_an_unterminated_quote_comment_or_bracket_is_left_to_the_plain_path(sql: str) -> None:
    assert kind(sql) == "unsure"


def test_without_standard_conforming_strings_a_backslash_escapes() -> None:
    sql = "SELECT 'a\\'; SELECT 'b'"
    assert _core.statement_kind(sql) == ("several", "SELECT")
    assert _core.statement_kind("SELECT 'a\\';b'", False)[0] == "one"
    assert _core.statement_kind("SELECT 'a\\';b'", True)[0] == "unsure"


@pytest.mark.parametrize(
    ("sql", "word"),
    [
        ("-- c\n commit", "COMMIT"),
        ("/* c */;; Rollback to x", "ROLLBACK"),
        ("set local x = 1", "SET"),
        ("(SELECT 1)", ""),
        ("WITH x AS (SELECT 1) SELECT 1", "WITH"),
    ],
)
def test_the_leading_word_is_reported(sql: str, word: str) -> None:
    assert _core.statement_kind(sql)[1] == word


CONTROL = [
    "COMMIT",
    "commit work",
    "COMMIT AND CHAIN",
    "COMMIT PREPARED 'x'",
    "END",
    "end transaction",
    "ROLLBACK",
    "ROLLBACK WORK AND NO CHAIN",
    "ROLLBACK TO a",
    "rollback work to savepoint a",
    "ROLLBACK TRANSACTION TO a",
    "ROLLBACK PREPARED 'x'",
    "ABORT",
    "PREPARE TRANSACTION 'x'",
    "PREPARE transaction AS SELECT 1",
    "BEGIN",
    "START TRANSACTION",
    "SAVEPOINT commit",
    "RELEASE a",
]
ENDS = {
    TransactionStmtKind.TRANS_STMT_COMMIT: "commit",
    TransactionStmtKind.TRANS_STMT_PREPARE: "commit",
    TransactionStmtKind.TRANS_STMT_ROLLBACK: "rollback",
}


def test_a_statement_that_ends_the_transaction_is_never_overlooked() -> None:
    """Nor is one seen where there is none; in any place of a string of several."""
    found = set()
    for sql in CONTROL + [sql for sql in STATEMENTS if " end;" not in sql]:  # unsure, see above
        statement, end = pglast.parser.parse_sql(sql)[0].stmt, ""
        if isinstance(statement, pglast.ast.TransactionStmt):
            found.add(statement.kind)
            end = ENDS.get(statement.kind, "")
        for text in (sql, f"-- c\n /* ; */ {sql} ; -- d", f"SELECT ';', $$;$$; {sql}"):
            assert _core.transaction_end(text) == end, text
    assert len(found) == len(TransactionStmtKind)
    assert _core.transaction_end("ROLLBACK TO a; ROLLBACK; COMMIT") == "rollback"
    assert _core.transaction_end("COMMIT; ROLLBACK") == "commit"
    assert (
        _core.transaction_end("CREATE RULE r AS ON INSERT TO t DO (SELECT 1; DELETE FROM u)") == ""
    )
