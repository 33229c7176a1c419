"""The SQL lexer counts statements as PostgreSQL's parser does, on PostgreSQL's own test files (from pglast's sdist)."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path

import third_party_suites
from pglast.parser import ParseError, split

from migrate_ext import _core

# What psql keeps to itself: the lines that COPY reads, its own commands on lines of theirs, those that send.
_COPIED = re.compile(r"(^copy\b[^;]*\bfrom stdin\b[^;]*;).*?^\\\.$", re.I | re.M | re.S)
_COMMAND = re.compile(r"^\\.*$", re.M)
_SENT = re.compile(r"\\g.*$", re.M)
LONGEST = 100  # semicolons at ends of lines in one statement


def parsed(sql: str) -> str | None:
    """What PostgreSQL's grammar says; None where it refuses the text."""
    try:
        count = len(split(sql, only_slices=True))
    except ParseError:
        return None
    return ("none", "one")[count] if count < 2 else "several"


def texts(script: str) -> Iterator[str | None]:
    """What lies between semicolons at ends of lines, joined until the parser takes it; None for what it never does."""
    for pattern, by in ((_COPIED, r"\1"), (_COMMAND, ""), (_SENT, ";")):
        script = pattern.sub(by, script)
    pieces = re.split(r"(?<=;)[ \t]*\n", script)
    while pieces:
        for taken in range(1, min(LONGEST, len(pieces)) + 1):
            text = "\n".join(pieces[:taken])
            if parsed(text):
                yield text
                break
        else:
            yield None
            taken = 1
        del pieces[:taken]


def test_postgresqls_own_statements_are_counted_as_its_parser_counts_them(tmp_path: Path) -> None:
    archive = third_party_suites.download(f"pglast=={version('pglast')}", tmp_path)
    folder = third_party_suites.unpack(archive, tmp_path / "sdist") / "libpg_query/test/sql"
    wrong, counted = [], Counter[str]()
    for file in sorted(folder.rglob("*.sql")):
        script = file.read_text(errors="replace")
        found = list(texts(script))
        known = [text for text in found if text]
        counted["left out"] += len(found) - len(known)
        pairs = [before.rstrip("; \n") + ";" + after for before, after in pairwise(known)]
        for text in (script, *known, *pairs):
            expected, answer = parsed(text), _core.statement_kind(text)[0]
            counted[expected or "refused"] += 1
            if expected and answer != expected:
                wrong.append((file.name, expected, answer, text))
    assert wrong == []
    assert counted["one"] > 40_000 and counted["several"] > 40_000
    assert counted["left out"] < counted["one"] / 20
