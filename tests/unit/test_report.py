"""What is printed of a failure tells no secret of a URL or a connection string, and changes no other text."""

from __future__ import annotations

import os
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from migrate_ext import errors
from migrate_ext.cli import report

SECRET = "hunter2"
# Around the secret there may be anything; it is what must not be seen.
ANY = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)
WORDS = st.sampled_from(
    [
        "cannot read",
        "(",
        ")",
        "FATAL:",
        "is not valid:",
        "Key (id)=(3)",
        "x=1",
        "a = 'b'",
        "\n",
        "é",
        "",
    ]
)
OPTIONS = st.sampled_from(
    ["host", "dbname", "user", "port", "sslmode", "application_name", "options", "nonsense"]
)
SECRETS = st.sampled_from(
    ["password", "passfile", "sslpassword", "sslkey", "oauth_client_secret", "pwd", "PASSWORD"]
)
ENVIRON = {**os.environ}


@st.composite
def secrets(draw: Any) -> str:
    return f"{draw(ANY)}{SECRET}{draw(ANY)}"


@st.composite
def urls(draw: Any) -> str:
    """A URL with the secret in it, encoded or as people type it."""
    encode = draw(st.sampled_from([quote, lambda text: quote(text, safe=""), lambda text: text]))
    value = encode(draw(secrets()))
    url = f"{draw(st.sampled_from(['postgresql', 'postgres', 'mysql+pymysql', 'amqp']))}://"
    address = "h:1,g:2/d?host=x"
    if draw(st.booleans()):
        value = "".join(value.split()) if encode("/") == "/" else value  # else not one word
        return f"{url}me:{value}@{address}"
    name = draw(st.one_of(SECRETS, st.just("options"), st.just("unknown"), st.just("dbname")))
    value = f"postgresql%3A//u%3A{quote(value, safe='')}%40h" if name == "dbname" else value
    value = value if name != "dbname" else value.replace("%3A", ":")
    value = "".join(value.split()).replace("&", "")
    return f"{url}me:x@{address}&{name}={value}&port=1"


@st.composite
def conninfos(draw: Any) -> str:
    """A connection string, quoted as libpq, SQL or Python quote."""
    value, name = draw(secrets()), draw(SECRETS)
    how = draw(st.integers(0, 4))
    if how == 0:
        value = "".join(value.split()).lstrip("'\"")
        return f"host=h {name}={value} port=1"
    if how == 1:
        escaped = value.replace("\\", "\\\\").replace("'", "\\'")
        return f"host = h {name} = '{escaped}' port = 1"
    if how == 2:
        return f"{name}='{value.replace(chr(92), '').replace(chr(39), chr(39) * 2)}'"
    if how == 3:
        return f"{{'host': 'h', '{name}': {value!r}}}"
    return f"{name}='{value.replace(chr(92), '').replace(chr(39), '')}"  # cut off


@given(WORDS, st.one_of(urls(), conninfos()), WORDS)
@example("", "postgresql://me:a@hunter2@h/d", "")
@example("", "postgresql://h/d?dbname=postgresql://u:hunter2@h", "")
@settings(max_examples=int(os.environ.get("MIGRATE_EXT_EXAMPLES", "500")), deadline=None)
def test_no_secret_is_printed_wherever_it_stands(before: str, text: str, behind: str) -> None:
    assert SECRET not in report.without_secrets(f"{before} {text} {behind}")


@given(st.lists(st.one_of(WORDS, ANY.map(lambda text: text.replace("=", "").replace(":", "")))))
@example(["INSERT INTO t (a) VALUES ('x=1')", "SET search_path = 'a'"])
@example(["postgresql://user:password@host:5432/name"])
@example(["postgresql://host/name?sslmode=require&application_name=x"])
@example(["https://sqlalche.me/e/21/gkpj"])
@example(['password authentication failed for user "me"'])
def test_other_texts_are_printed_as_they_are(words: list[str]) -> None:
    text = " ".join(words)
    assert report.without_secrets(text) == text


def test_a_password_with_a_blank_is_known_from_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    url = "postgresql://me:my hunter2 x@h/d"
    monkeypatch.setenv("DATABASE_URL", url)
    assert SECRET not in report.without_secrets(f"cannot read {url}")


def test_an_error_without_a_message_is_told_by_its_type(capsys: pytest.CaptureFixture[str]) -> None:
    error = errors.ServerError("")
    error.sqlstate = "40001"
    assert report.report(error, quiet=False) == 1
    assert capsys.readouterr().err.startswith("FAILED: ServerError\nSQLSTATE 40001. ")
