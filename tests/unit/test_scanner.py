"""The scanner against Python itself: where it answers, executing the source must give the same."""

from __future__ import annotations

import builtins
import codecs
import os
import re
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from migrate_ext import _core

NAMES = ("revision", "down_revision", "branch_labels", "depends_on")

VALID = b'''"""add users

Revision ID: abc
Revises: def
"""
from alembic import op
import sqlalchemy as sa

# revision identifiers, used by Alembic.
revision = "abc"
down_revision = "def"
branch_labels = None
depends_on = None
'''


class Unknown:
    """Stands for any name of application code: calls, attributes, operators give another."""

    def __call__(self, *a: object, **k: object) -> Any:
        return self

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __getitem__(self, key: object) -> Any:
        return self

    def __or__(self, other: object) -> Any:
        return self

    __ror__ = __or__


class Namespace(dict[str, Any]):
    """A module's names, in which an unknown name is no error (its annotations, its imports)."""

    def __missing__(self, key: str) -> Any:
        if hasattr(builtins, key):
            return getattr(builtins, key)
        return Unknown()


def execute(source: bytes) -> dict[str, Any] | None:
    """What executing leaves; None when it raises."""
    namespace: dict[str, Any] = {"__name__": "a_revision", "__doc__": None}
    namespace["__builtins__"] = Namespace(
        __import__=lambda *a, **k: Unknown(), __build_class__=__build_class__
    )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            exec(compile(source, "<revision>", "exec", dont_inherit=True), namespace)
    except Exception:
        return None
    return namespace


def compiles(source: bytes) -> bool:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            compile(source, "<revision>", "exec", dont_inherit=True)
    except Exception:
        return False
    return True


def plain(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


def assert_agrees(source: bytes) -> bool:
    """False when the scanner has declined, or when Python cannot execute the file."""
    scanned = _core.scan_source(source)
    if isinstance(scanned, str):
        return False
    executed = execute(source)
    if executed is None:
        return False
    expected = tuple(plain(executed.get(name)) for name in NAMES) + (executed["__doc__"],)
    assert scanned == expected, source
    if scanned[0] is not None:
        assert "revision" in executed and "down_revision" in executed, source
    else:
        assert "revision" not in executed, source
    assert [type(v) for v in scanned] == [type(v) for v in expected]
    return True


def module(*lines: str, doc: str = "", newline: str = "\n") -> bytes:
    return (doc + newline.join(lines) + newline).encode()


ANSWERED = {
    "template of today": VALID,
    "annotated": module(
        "from typing import Sequence, Union",
        'revision: str = "abc"',
        'down_revision: Union[str, Sequence[str], None] = "def"',
        "branch_labels: str | Sequence[str] | None = None",
        'depends_on: "str | None" = None',
    ),
    "annotated with everything": module(
        "import typing as t",
        'revision: t.Final[str] = "abc"',
        'down_revision: t.Optional[t.Tuple[str, ...]] = ("a", "b")',
    ),
    "dynamic escapes": module(
        r"""revision = "a\x62\143\u0064\U00000065\n\t\\\'\"\a\b\f\r\v\0" """,
        "down_revision = None",
    ),
    "line continuation in a string": module('revision = "a\\', 'b"', "down_revision = None"),
    "adjacent": module('revision = "a" \'b\' """c""" r"\\d" u"e"', "down_revision = ('x'", " 'y')"),
    "continued line": module("revision \\", "  = \\", "  'a' \\", "  'b'", "down_revision = None"),
    "merge over lines": module(
        "revision = 'a'",
        "down_revision = (  # a merge",
        "    'x',",
        "",
        "    # the other",
        "    ('y'),",
        ")",
    ),
    "merge as a list": module("revision = 'a'", "down_revision = ['x', 'y']", "depends_on = []"),
    "merge bare": module("revision = 'a'", "down_revision = 'x', 'y'", "branch_labels = 'l',"),
    "parentheses": module(
        "revision = (('a'))", "down_revision = (None)", "branch_labels = (('l', 'm'))"
    ),
    "empty tuple": module("revision = 'a'", "down_revision = ()", "branch_labels = ((()))"),
    "tuple of parenthesised": module("revision = 'a'", "down_revision = ('x'), ('y')"),
    "string after import is no docstring": module(
        "import x", "'''no doc'''", "revision='a';"[:-1], "down_revision=None"
    ),
    "docstring with a semicolon": module("'doc'; import x", "revision='a'", "down_revision=None"),
    "docstring in parentheses": module(
        "('doc'", "  'string')", "revision='a'", "down_revision=None"
    ),
    "docstring raw": module("r'''a\\d", "b'''", "revision='a'", "down_revision=None"),
    "docstring behind comments": module(
        "#!/usr/bin/python", "", "# c", "'doc'", "revision='a'", "down_revision=None"
    ),
    "docstring empty": module("''", "revision='a'", "down_revision=None"),
    "docstring indented": module(
        '"""first',
        "",
        "\tsecond",
        "      third",
        "   ",
        "        é\tfourth",
        '    """',
        "revision='a'",
        "down_revision=None",
    ),
    "docstring of spaces": module(
        '"""   first', "  ", " ", '"""', "revision='a'", "down_revision=None"
    ),
    "CRLF": VALID.replace(b"\n", b"\r\n"),
    "CRLF and escapes": module(
        "'''a\\", "b", "c'''", "revision='a'", "down_revision=None", newline="\r\n"
    ),
    "BOM": b"\xef\xbb\xbf" + VALID,
    "BOM and cookie": b"\xef\xbb\xbf# coding: utf-8\n" + VALID,
    "cookie": b"# -*- coding: utf-8 -*-\n" + VALID,
    "cookie in line 2": b"#!/usr/bin/python\n# vim: set fileencoding=UTF_8 :\n" + VALID,
    "cookie latin-1, ASCII text": b"# coding: latin-1\n" + VALID,
    "cookie in line 3 is none": "#\n#\n# coding: latin-1\n'é'\n".encode()
    + VALID[VALID.index(b"from") :],
    "cookie after code is none": "'é'\n# coding: latin-1\n".encode()
    + VALID[VALID.index(b"from") :],
    "non-ASCII docstring": "'''Überprüfung €\U0001f600'''\n".encode()
    + VALID[VALID.index(b"from") :],
    "no newline at the end": VALID + b"def upgrade(): pass",
    "names in bodies": VALID
    + b"def f():\n    revision = 'b'\n    for depends_on in revision: pass\n"
    + b"async def g(): down_revision = 1\n"
    + b"class C:\n    revision = 'c'\n    def __init__(s, revision): s.revision = revision\n",
    "attributes": VALID + b"op.revision = 'b'\nx = op.depends_on\n",
    "names in strings and comments": VALID
    + b"x = 'revision = 1' # revision = 2\ny = '''\nrevision = 'b'\n'''\n",
    "methods named like built-ins": VALID
    + b"def upgrade():\n    session.exec(op.eval('x'))\n    modules = 1\n",
    "f-strings in a body": VALID
    + b'def f():\n    x = f"{a[\'b\']:>{w}} {{}} {x!r} {y=} {\'a\' f\'{z}\'}"\n    y = f"""{a["b"]}\n"{c}" \'{d}\' """\n'
    + b"    z = rf'\\d{{2}}{a}\\'' + fr'\\{a}'\n    revision = f'{revision}'\n",
    "tabs": VALID + b"def f():\n\tif x:\n\t\tpass\n\t# c\n\n\tpass\nx = 1\n",
    "no revision": b"'doc'\nimport x\n",
    "empty file": b"",
    "numbers": VALID + b"x = 1if 0x1f else 1_0e-5+.5j\ny = 1..real\n",
    "code before and after": module(
        "x = {", " 'a': [1, (2)],", "}", "if x:", "    y = 1", "else: pass"
    )
    + VALID[VALID.index(b"from") :],
    "decorated": VALID + b"@op.x(1)\ndef f(a: int = 1, *, b='x') -> 'C': revision = 1\n",
    "form feed in a comment": VALID + b"# \x0c\nx = '\x0c'\n",
}

DECLINED = {
    "expression": "revision = 'a' + 'b'",
    "call": "revision = str('a')",
    "method": "revision = 'a'.strip()",
    "conditional": "revision = 'a' if x else 'b'",
    "f-string": "revision = f'a'",
    "bytes": "revision = b'a'",
    "number": "revision = 1",
    "empty": "revision = ''",
    "empty in a tuple": "depends_on = ('',)",
    "revision is a tuple": "revision = ('a',)",
    "revision is None": "revision = None",
    "nested tuple": "depends_on = (('a',),)",
    "nested list": "depends_on = ['a', ['b']]",
    "list in parentheses": "depends_on = (['a'])",
    "set": "depends_on = {'a'}",
    "tuple with None": "depends_on = ('a', None)",
    "star": "depends_on = (*x, 'a')",
    "chained": "depends_on = x = 'a'",
    "second": "depends_on = 'a'\ndepends_on = 'b'",
    "augmented": "depends_on = 'a'\ndepends_on += 'b'",
    "second statement of a line": "x = 1; depends_on = 'a'",
    "tuple target": "depends_on, x = 'a', 'b'",
    "parenthesised target": "(depends_on) = 'a'",
    "star target": "*depends_on, x = 'a', 'b'",
    "walrus": "print(depends_on := 'a')",
    "walrus in a default": "def f(x=(depends_on := 'a')): pass",
    "walrus in a class head": "class C(metaclass=(depends_on := type)): pass",
    "walrus in an f-string": "x = f'{(depends_on := 1)}'",
    "walrus in a nested f-string": "x = f'{f\"{(depends_on := 1)}\"}'",
    "walrus in an annotation": "x: (depends_on := 'a') = 1",
    "walrus in an index": "x = a[depends_on := 'a']",
    "statement walrus": "depends_on := 'a'",
    "for": "for depends_on in 'ab': pass",
    "comprehension": "x = [depends_on for depends_on in 'ab']",
    "with": "with x as depends_on: pass",
    "except": "try: pass\nexcept E as depends_on: pass",
    "import": "import depends_on",
    "import as": "import x as depends_on",
    "import from": "from x import (a,\n  depends_on)",
    "import star": "from x import *",
    "del": "depends_on = 'a'\ndel depends_on",
    "def": "def depends_on(): pass",
    "class": "class depends_on: pass",
    "in if": "if x:\n    depends_on = 'a'",
    "in one-line if": "if x: depends_on = 'a'",
    "in try": "try:\n    depends_on = 'a'\nfinally:\n    pass",
    "in match": "match x:\n    case depends_on: pass",
    "annotation only": "depends_on: str",
    "global in a function": "def f():\n    global depends_on\n    depends_on = 'a'\nf()",
    "global in a class": "class C:\n    global x, \\\n      depends_on\n    depends_on = 'a'",
    "global in one line": "def f(): global depends_on; depends_on = 'a'",
    "doc assigned": "__doc__ = 'x'",
    "doc global": "def f():\n    global __doc__",
    "exec": "exec('depends_on = 1')",
    "exec in a function": "def f():\n  exec('depends_on = 1')",
    "exec in an f-string": "x = f'{exec(y)}'",
    "globals": "globals()['depends_on'] = 1",
    "vars": "vars()['depends_on'] = 1",
    "locals": "locals()['depends_on'] = 1",
    "sys.modules": "import sys\nsys.modules[__name__].depends_on = 1",
    "modules by name": "from sys import modules as m",
    "modules by importlib": "import importlib\nimportlib.import_module('s' 'ys').modules",
    "module getattr": "def __getattr__(name): return 'x'",
    "fullwidth name": "ｄepends_on = 'a'",
    "non-ASCII name": "é = 'a'",
    "escape N": "depends_on = '\\N{DASH}'",
    "escape surrogate": "depends_on = '\\ud800'",
    "escape unknown": "depends_on = '\\d'",
    "escape octal": "depends_on = '\\400'",
    "escape truncated": "depends_on = '\\x1'",
    "escape range": "depends_on = '\\U00110000'",
    "unterminated": "depends_on = 'a",
    "unterminated triple": "x = '''a",
    "open bracket": "depends_on = ('a'",
    "wrong bracket": "depends_on = ('a']",
    "bad dedent": "if x:\n        a\n    b",
    "unexpected indent": "a\n    b",
    "missing block": "if x:\na",
    "tabs and spaces": "if x:\n        a\n\tb",
    "template string": "x = t'a'",
    "quotes of 3.12": "x = f'{a['b']}'",
    "backslash at the end": "x = 1 \\",
    "dollar": "x = $a",
    "string behind a parenthesis": "depends_on = ('a') 'b'",
    "lambda annotation": "depends_on: lambda x = 1: x = 'a'",
    "call annotation": "depends_on: f(1) = 'a'",
}


@pytest.mark.parametrize("name", ANSWERED)
def test_history_shows_what_the_file_says(name: str) -> None:
    scanned = _core.scan_source(ANSWERED[name])
    assert not isinstance(scanned, str), scanned
    assert assert_agrees(ANSWERED[name])


@pytest.mark.parametrize("name", DECLINED)
def test_identifiers_that_are_not_literals_are_not_guessed(name: str) -> None:
    head = VALID[: VALID.index(b"depends_on")]
    if DECLINED[name].startswith("revision"):
        head = b"down_revision = None\n"
    source = head + DECLINED[name].encode() + b"\n"
    assert isinstance(_core.scan_source(source), str)


@pytest.mark.parametrize(
    "first",
    [
        "'a'.strip()",
        "'a' % x",
        "'a', 'b'",
        "'a' + 'b'",
        "('a',)",
        "b'a'",
        "f'a'",
        "'a' if x else 'b'",
        "(x)",
        "'a' b'c'",
    ],
)
def test_message_of_a_file_without_docstring_is_not_invented(first: str) -> None:
    source = first.encode() + b"\nrevision = 'a'\ndown_revision = None\n"
    assert isinstance(_core.scan_source(source), str)


@pytest.mark.parametrize(
    "source",
    [
        VALID + b"# \x00\n",
        VALID + b"x = 1\ry = 2\n",
        VALID + b"# \xff\n",
        VALID + b"# \xed\xa0\x80\n",
        VALID + b"# \xc0\xaf\n",
        VALID + b"\x0cx = 1\n",
        "# coding: latin-1\n# é\n".encode() + VALID,
        b"# coding: utf-16\n" + VALID,
        b"# coding: nonsense\n" + VALID,
        b"# coding: utf-7\n" + VALID,
        b"\xef\xbb\xbf# coding: latin-1\n" + VALID,
        b"\xef\xbb\xbf# coding: utf8\n" + VALID,
        VALID + b"\xef\xbb\xbf",
        b"  \n " + VALID,
        b"revision = 'a'\n",
    ],
)
def test_a_damaged_file_meets_pythons_own_error(source: bytes) -> None:
    assert isinstance(_core.scan_source(source), str)


def test_a_coding_cookie_is_known_to_python_by_the_same_name() -> None:
    for name in (
        "latin-1",
        "iso-8859-15",
        "ISO_8859_1",
        "cp1252",
        "windows-1251",
        "koi8-r",
        "us-ascii",
    ):
        source = b"# coding: %s\n" % name.encode() + VALID
        assert not isinstance(_core.scan_source(source), str)
        codecs.lookup(name)
        assert assert_agrees(source)


def test_a_reason_names_the_line() -> None:
    assert _core.scan_source(VALID + b"\nrevision = 'b'\n") == (
        "a second assignment to a revision identifier (line 15)"
    )


def test_a_folder_is_read_like_its_files(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_bytes(VALID)
    (tmp_path / "big.py").write_bytes(VALID + b"x = '" + b"y" * 300_000 + b"'\n")
    (tmp_path / "é.py").write_bytes(VALID)
    (tmp_path / "none.py").write_bytes(b"x = 1\n")
    (tmp_path / "dir.py").mkdir()
    (tmp_path / "loop.py").symlink_to("loop.py")
    os.mkfifo(tmp_path / "fifo.py")
    before = _core.counters()["files_scanned"]
    names = ["a.py", "dir.py", "gone.py", "big.py", "é.py", "loop.py", "none.py"] + ["a.py"] * 600
    answers = _core.scan_files(str(tmp_path), names)
    expected = _core.scan_source(VALID)
    assert [a for a in answers if not isinstance(a, str)] == [expected] * 3 + [
        (None, None, None, None, None)
    ] + [expected] * 600
    assert [n for n, a in zip(names, answers, strict=True) if isinstance(a, str)] == [
        "dir.py",
        "gone.py",
        "loop.py",
    ]
    assert _core.counters()["files_scanned"] - before == 604
    assert not isinstance(_core.scan_files(tmp_path, ["fifo.py"])[0], str)
    assert all(isinstance(a, str) for a in _core.scan_files(str(tmp_path / "gone"), ["a.py"]))
    assert _core.scan_files(str(tmp_path), []) == []
    for bad in ((str(tmp_path), ["a\0.py"]), (str(tmp_path), [1]), (str(tmp_path), 1), ("\0", [])):
        with pytest.raises((TypeError, ValueError)):
            _core.scan_files(*bad)
    with pytest.raises(TypeError):
        _core.scan_source("text")  # type: ignore[arg-type]


def test_an_answer_leaks_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_bytes(VALID)
    names = ["a.py", "gone.py"] * 300
    before = [sys.getrefcount(n) for n in names[:2]]
    for _ in range(20):
        _core.scan_files(str(tmp_path), names)
        _core.scan_source(VALID)
    assert [sys.getrefcount(n) for n in names[:2]] == before


# ---- generated ----

words = st.sampled_from(
    [*NAMES, "__doc__", "x", "None", "if", "else", "for", "in", "def", "class", "import", "from", "as", "global",
     "lambda", "exec", "pass", "return", "try", "finally", "with", "del", "not", "async", "str"]
)  # fmt: skip
operators = st.sampled_from(
    list("()[]{}.,:;=+*|@\\")
    + [":=", "==", "->", "...", "+=", "!=", " ", " ", "\n", "\n    ", "\n\t", "\r\n", "#", "\\\n"]
)
quotes = st.sampled_from(["'", '"', "'''", '"""'])
bodies = st.lists(
    st.sampled_from(
        list("abé{}'\"\\nx41{} \t:!f[]#")
        + ["\n", "\\\n", "{x}", "{{", "}}", "{x['a']}", '{x["a"]}', "{f'{x}'}", "\\u00e9", "  \n"]
    ),
    max_size=8,
).map("".join)


@st.composite
def strings(draw: st.DrawFn) -> str:
    prefix = draw(st.sampled_from(["", "", "", "", "u", "r", "R", "f", "b", "rb", "fr", "t"]))
    quote = draw(quotes)
    return prefix + quote + draw(bodies) + quote


tokens = st.one_of(words, operators, strings(), st.sampled_from(["1", "0x1f", "1if", "1.", "é"]))
simple = st.sampled_from(
    ["'a'", '"b"', "None", "('a', 'b')", "['a',\n 'b']", "'a',", "('a'\n 'b')", "()", "(('a'))"]
)


@st.composite
def statements(draw: st.DrawFn) -> str:
    kind = draw(st.integers(0, 6))
    if kind <= 1:
        name = draw(st.sampled_from(NAMES))
        note = draw(
            st.sampled_from(["", "", ": str", ": str | None", ": a.b[c, ...]", ": x if y else z"])
        )
        return f"{name}{note} = {draw(st.one_of(simple, strings()))}\n"
    if kind == 2:
        return "".join(draw(st.lists(tokens, max_size=8))) + "\n"
    if kind == 3:
        body = "".join(draw(st.lists(tokens, max_size=6))).replace("\n", " ")
        return f"{draw(st.sampled_from(['def f():', 'class C:', 'if x:', 'async def f(a=1):', 'with x:']))}\n    {body}\n"
    if kind == 4:
        return " ".join(draw(st.lists(tokens, max_size=8))) + "\n"
    if kind == 5:
        return f"x = {draw(strings())}\n"
    return draw(strings()) + draw(
        st.sampled_from(["\n", ";\n", " % x\n", "\\\n", " 'a'\n", ", 'b'\n"])
    )


def assigns_validly(source: bytes, name: str) -> bool:
    """Is the one assignment that the scanner has read a statement of Python, whatever surrounds it?"""
    lines = source.splitlines(keepends=True)
    starts = [i for i, line in enumerate(lines) if re.match(rb"%s\s*[:=\\]" % name.encode(), line)]
    if len(starts) != 1:  # none, or one inside a string
        return True
    return any(
        compiles(b"".join(lines[starts[0] : stop])) for stop in range(starts[0] + 1, len(lines) + 1)
    )


def answered_if_python_agrees(source: bytes) -> None:
    """The property. A file whose fault is in a part that is skipped may be answered."""
    if compiles(source):
        assert_agrees(source)
        return
    scanned = _core.scan_source(source)
    if not isinstance(scanned, str):
        for name, value in zip(NAMES, scanned, strict=False):
            assert value is None or assigns_validly(source, name), source


@settings(max_examples=int(os.environ.get("SCAN_EXAMPLES", "400")), deadline=None,
          suppress_health_check=list(HealthCheck))  # fmt: skip
@given(st.lists(statements(), max_size=5), st.booleans(), st.booleans())
def test_no_generated_file_is_misread(parts: list[str], valid: bool, crlf: bool) -> None:
    text = "".join(parts)
    if valid:
        text = "revision = 'a'\ndown_revision = 'b'\n" + text
    source = text.encode()
    answered_if_python_agrees(source.replace(b"\n", b"\r\n") if crlf else source)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    source = draw(st.sampled_from(list(ANSWERED.values())))
    for _ in range(draw(st.integers(1, 4))):
        lines = source.splitlines(keepends=True)
        kind = draw(st.integers(0, 5))
        at = draw(st.integers(0, len(source)))
        line = draw(st.integers(0, max(len(lines) - 1, 0)))
        if kind == 0:
            source = source[:at] + source[at + draw(st.integers(1, 3)) :]
        elif kind == 1:
            source = source[:at] + draw(tokens).encode() + source[at:]
        elif kind == 2:
            to = min(len(source), at + draw(st.integers(1, 30)))
            source = source[:to] + source[at:to] + source[to:]
        elif kind == 3:
            source = b"".join(lines[:line] + lines[line + 1 :])
        elif kind == 4 and lines:
            source = b"".join(lines[: line + 1] + lines[line:])
        elif lines:
            other = draw(st.integers(0, len(lines) - 1))
            lines[line], lines[other] = lines[other], lines[line]
            source = b"".join(lines)
    return source


@settings(max_examples=int(os.environ.get("SCAN_EXAMPLES", "400")), deadline=None,
          suppress_health_check=list(HealthCheck))  # fmt: skip
@given(mutated())
def test_no_damaged_file_is_misread(source: bytes) -> None:
    answered_if_python_agrees(source)
