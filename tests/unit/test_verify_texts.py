"""verify excuses only differences that are listed or that two runs of Alembic itself show."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from migrate_ext.verify import texts
from migrate_ext.verify.compare import Verdict, compare
from migrate_ext.verify.places import postgresql_url
from migrate_ext.verify.report import without
from migrate_ext.verify.sides import Outcome, Step, steps
from migrate_ext.verify.snapshot import Rows, Snapshot

UP = Step(("upgrade", "heads"))
TEXTS = st.lists(st.sampled_from(["a 1", "a 2", "b 1", "c", "", "a b", "b a"]), max_size=4).map(
    lambda lines: "".join(f"{line}\n" for line in lines)
)


def outcome(
    *, code: int = 0, out: str = "", err: str = "", lines: str = "", **columns: int
) -> Outcome:
    rows = Rows(2, columns)
    return Outcome(
        code, out, err, 1.0, {}, (Snapshot(tuple(lines.splitlines()), {"public.t": rows}),)
    )


@given(stock=TEXTS, ours=TEXTS)
@example("a\nb\n", "b\na\n")
def test_without_a_further_run_of_alembic_every_difference_counts(stock: str, ours: str) -> None:
    assert bool(texts.differ(stock, ours, [])) == (stock != ours)
    assert bool(texts.differ(stock, ours, [stock])) == (stock != ours)


@given(stock=TEXTS, ours=TEXTS, again=st.lists(TEXTS, max_size=2))
def test_a_missing_line_that_alembic_always_prints_is_a_difference(
    stock: str, ours: str, again: list[str]
) -> None:
    theirs = [stock + "always\n", *(f"{text}always\n" for text in again)]
    assert texts.differ(theirs[0], ours, theirs[1:])
    assert texts.differ(theirs[0], f"{ours}always, but\n", theirs[1:])


def test_a_time_hides_nothing_beside_it() -> None:
    stock, again = "12:00:01,5 INFO upgrade a\n", ["12:04:09,1 INFO upgrade a\n"]
    assert texts.differ(stock, "12:00:02,7 INFO upgrade a\n", again) == ""
    assert "+12:00:02,7 INFO upgrade b" in texts.differ(stock, "12:00:02,7 INFO upgrade b\n", again)


def test_a_sets_order_hides_no_member() -> None:
    stock, again = "heads: a b c\nx\n", ["heads: c a b\nx\n"]
    assert texts.differ(stock, "heads: b a c\nx\n", again) == ""
    assert texts.differ(stock, "heads: b a d\nx\n", again)
    assert texts.differ("a\nb\n", "b\na\n", ["b\na\n"]) == ""
    assert texts.differ("a\nb\n", "b\nc\n", ["b\na\n"])
    assert texts.differ("a\nb\nc\nd\n", "a\nb\nd\nc\n", ["b\na\nc\nd\n"])


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("Branch names: a, b\n", "Branch names: b, a\n"),
        ("a -> b (x, y), m\n", "a -> b (y, x), m\n"),
        (" -> b\n -> c\n", " -> c\n -> b\n"),
        ("FAILED: x\n", "FAILED: x\nhint: do that\n"),
        ("<object at 0x7f0012ab>\n", "<object at 0x7f00aaab>\n"),
        ("v.py:3: SyntaxWarning: invalid\n  x\nINFO a\n", "INFO a\n"),
    ],
)
def test_what_is_listed_may_differ(theirs: str, ours: str) -> None:
    assert texts.stderr(theirs) == texts.stderr(ours)
    assert texts.stderr(theirs + "x") != texts.stderr(f"{ours}y")


def test_indexes_of_one_table_may_change_places_in_sql_and_only_they() -> None:
    one, two, other = (
        f"CREATE INDEX {name} ON {table} (x);\n\n" for name, table in (("i", "t"), ("j", "t"), ("k", "u"))
    )  # fmt: skip
    words = ("upgrade", "heads", "--sql")
    table = "CREATE TABLE t (\n    x INTEGER\n);\n\n"
    assert texts.stdout(words, table + one + two) == texts.stdout(words, table + two + one)
    for before, after in ((one + other, other + one), (table + one, one + table)):
        assert texts.stdout(words, before) != texts.stdout(words, after)
    assert texts.stdout(("heads",), one + two) != texts.stdout(("heads",), two + one)


def test_a_random_column_hides_no_other() -> None:
    stock, again = outcome(id=1, n=5), outcome(id=2, n=5)
    assert compare(UP, "drop-in", stock, outcome(id=3, n=5), [again]).what == ""
    found = compare(UP, "drop-in", stock, outcome(id=3, n=6), [again])
    assert (found.what, found.how) == ("rows", "public.t: 2 rows by both; different: n")
    assert compare(UP, "drop-in", stock, outcome(id=3, n=5)).what == "rows"


def test_an_exit_code_is_excused_by_nothing() -> None:
    found = compare(UP, "drop-in", outcome(), outcome(code=1), [outcome(code=1)])
    assert found.what == "exit code"


@pytest.mark.parametrize(
    ("ours", "what"),
    [
        ("INFO a\nFAILED: x.py, line 3: ValueError: no such\n", ""),
        ("INFO a\nFAILED: x.py, line 3: ValueError: such\n", "error"),
        ("INFO b\nFAILED: x.py, line 3: ValueError: no such\n", "stderr"),
        ("INFO a\nno such\n", "error"),
    ],
)
def test_a_traceback_may_be_told_in_other_words_but_must_be_told(ours: str, what: str) -> None:
    theirs = 'INFO a\nTraceback (most recent call last):\n  File "x.py", line 3\n    f()\nValueError: no such\n'
    stock = outcome(code=1, err=theirs)
    found: Verdict = compare(UP, "migrate-ext", stock, outcome(code=1, err=ours))
    assert found.what == what


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ("postgres://h/d", True),
        ("postgresql+asyncpg://u:p%40@h:1/d?ssl=require", True),
        ("sqlite:///d", False),
        ("postgresql", False),
        ("xpostgresql://h/d", False),
        ("postgresql://h:port/d", False),
    ],
)
def test_only_a_url_of_postgresql_is_taken_for_one(text: str, is_one: bool) -> None:
    assert (postgresql_url(text) is not None) == is_one


def test_no_password_is_printed_in_any_spelling() -> None:
    text = without(["p@s", None], "postgresql://u:p%40s@h/d password='p@s' http://u:p@s@h")
    assert text == "postgresql://u:***@h/d password='***' http://u:***@h"


def test_from_a_revision_nothing_goes_below_it() -> None:
    words = [str(step) for step in steps("r1")]
    assert words[3:5] == ["upgrade r1:heads --sql", "upgrade heads"]
    assert "downgrade r1" in words and not any("base" in word for word in words)
    assert "downgrade base" in [str(step) for step in steps(None)]
