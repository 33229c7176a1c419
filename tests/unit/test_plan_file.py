"""A plan file is read exactly as written, or refused."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from migrate_ext import _core

HEAD = "migrate_ext plan 1\n"
HASH = "0123456789abcdef" * 4
FUNCTION = f"revision {HASH} abc\nupgrade\n"


def sealed(body: str | bytes) -> bytes:
    data = body.encode() if isinstance(body, str) else body
    return data + b"end " + hashlib.sha256(data).hexdigest().encode() + b"\n"


def test_keys_and_statements_of_a_plan_are_read_as_written() -> None:
    text = (
        f"{HEAD}# a comment\n\nkey one  two\nkey x\n{FUNCTION}sql 12\n\tCREATE é\n\t\n\t\ty\nautocommit\nsql 0\n\tz\n"
        f"transaction\ndowngrade\nrevision {HASH[::-1]} d e\n# upgrade: line 3: a call\ndowngrade\nsql 7\n\t\n"
    )
    keys, functions = _core.read_plan(sealed(text))
    assert keys == ["one  two", "x"]
    assert functions == {
        ("abc", True): (
            HASH, [(12, "CREATE é\n\n\ty"), (-1, "autocommit"), (0, "z"), (-1, "transaction")],
        ),
        ("abc", False): (HASH, []),
        ("d e", False): (HASH[::-1], [(7, "")]),
    }  # fmt: skip


REFUSED = (
    "", "migrate_ext plan 2\n", "migrate_ext plan 1 \n", HEAD + "nonsense\n", HEAD + "upgrade\n", HEAD + "sql 1\n\tx\n",
    HEAD + FUNCTION + "sql 1\n", HEAD + FUNCTION + "sql x\n\ty\n", HEAD + FUNCTION + "sql 12345678901\n\ty\n",
    HEAD + FUNCTION + "sql 1\n\ta\0b\n", HEAD + FUNCTION + "\tx\n", HEAD + FUNCTION + "transaction\n",
    HEAD + FUNCTION + "autocommit\n", HEAD + FUNCTION + "autocommit\nautocommit\n", HEAD + FUNCTION + "key x\n",
    HEAD + FUNCTION + "autocommit\ndowngrade\n", HEAD + f"revision {HASH[1:]} abc\nupgrade\n",
    HEAD + f"revision {HASH} \nupgrade\n", HEAD + f"revision {HASH.upper()} abc\nupgrade\n", HEAD + f"revision {HASH}\n",
    HEAD + "sql\n", HEAD + FUNCTION + "upgrade x\n",
)  # fmt: skip


@pytest.mark.parametrize("body", REFUSED)
def test_a_malformed_plan_is_refused_even_with_the_right_hash(body: str) -> None:
    with pytest.raises(ValueError, match=r"line \d+: "):
        _core.read_plan(sealed(body))


def test_each_byte_counts() -> None:
    data = sealed(HEAD + "key a\n" + FUNCTION + "sql 1\n\tx\n")
    for at in range(len(data)):
        for bit in range(8):
            changed = bytearray(data)
            changed[at] ^= 1 << bit
            with pytest.raises(ValueError):
                _core.read_plan(bytes(changed))
        with pytest.raises(ValueError):
            _core.read_plan(data[:at])
        with pytest.raises(ValueError):
            _core.read_plan(data[:at] + b"\n" + data[at:])
    with pytest.raises(ValueError):
        _core.read_plan(data + b"\n")


@given(
    st.lists(
        st.sampled_from(
            (b"sql 1\n", b"\tx\n", b"\t", b"\n", b"key a\n", b"upgrade\n", b"autocommit\n", b"transaction\n", b"end ",
             b"revision ", HASH.encode(), b" id\n", b"\0", b"\xff", b"#")
        ),
        max_size=20,
    ).map(b"".join)
)  # fmt: skip
@settings(max_examples=500, deadline=None)
def test_any_bytes_in_a_plan_are_read_or_refused_without_a_crash(body: bytes) -> None:
    try:
        _core.read_plan(sealed(HEAD.encode() + body))
    except (ValueError, UnicodeDecodeError):
        pass


def test_a_files_hash_is_the_one_that_sha256sum_prints(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for length in (0, 1, 55, 56, 57, 63, 64, 65, 119, 120, 128, 16383, 16384, 16385, 100_000):
        path.write_bytes(bytes(range(251)) * (length // 251 + 1))
        data = path.read_bytes()[:length]
        path.write_bytes(data)
        assert _core.hash_files([path]) == [hashlib.sha256(data).hexdigest()]
    assert _core.hash_files([tmp_path / "gone", tmp_path]) == [None, None]
