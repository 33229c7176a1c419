"""A DATABASE_URL connects where SQLAlchemy would connect, and its password is never printed."""

from __future__ import annotations

import re
from urllib.parse import unquote_plus

import pytest
import sqlalchemy
from hypothesis import given, settings
from hypothesis import strategies as st
from psycopg.pq import Conninfo
from sqlalchemy.dialects.postgresql import psycopg, psycopg2
from sqlalchemy.engine import make_url

from migrate_ext import _core
from migrate_ext.dropin import hooks
from migrate_ext.errors import Declined

pytestmark = pytest.mark.skipif(
    hooks.numbers(sqlalchemy.__version__) < (2, 0, 25),
    reason="some URLs are read as by newer ones: docs/differences.md",
)
DIALECTS = {"psycopg": psycopg.dialect(), "psycopg2": psycopg2.dialect()}


def oracle(url: str, driver: str) -> dict[str, str] | None:
    """What SQLAlchemy hands to the driver, or None where it refuses or hands over what is no string."""
    try:
        _, options = DIALECTS[driver].create_connect_args(make_url(url))
    except Exception:  # whatever it refuses with
        return None
    options.pop("context", None)
    if any(isinstance(v, tuple) for v in options.values()):
        return None
    return {k: str(v) for k, v in options.items()}


def check(url: str, driver: str) -> None:
    """Compare; what we leave to SQLAlchemy must be a database's name that its versions read differently."""
    try:
        ours = _core.parse_url(url)
    except ValueError:
        ours = None
    except Declined:
        assert re.search(r"/[^?]*[^\w.~ +/?-]", url.partition("://")[2], re.A)
        return
    assert ours == oracle(url, driver)


EXAMPLES = [
    "",
    "h",
    "h:5433/d",
    "u@h/d",
    "u:p@h:1/d",
    "u:p%40%3A%2F%3F%25@h/d",
    "u%40corp:p@h/d",
    "u@corp@h/d",
    "u:p:q/r?s@h/d",
    ":p@h",
    "@h",
    ":@h",
    "u:@h/d",
    "/d",
    "/",
    "/d/e%2Ff%20g+h",
    "h:/d",
    "h:abc/d",
    "h:0/d",
    "h: 5_4 /d",
    "h:+7/d",
    "h:-7/d",
    "[::1]/d",
    "[::1]:5432/d",
    "u:p@[fe80::1%25eth0]:5432/d",
    "[::1]x:5/d",
    "[]/d",
    "[::1/d",
    "/d?host=/var/run/postgresql",
    "u:p@/d?host=/tmp&port=5433",
    "/d?host=a:1&host=b:2",
    "/d?host=a&host=b:2",
    "/d?host=a:1:2&host=b:2",
    "/d?host=a:1:2&host=b:2:3",
    "/d?host=a,b&port=1,2",
    "/d?host=a,b&port=1",
    "/d?host=a,b&port=1,",
    "/d?host=a,b&port=1&port=2",
    "/d?host=a,b",
    "/d?host=a:1",
    "/d?host=a:",
    "/d?host=a:x",
    "/d?host=a:1&port=2",
    "/d?host=::1&port=2",
    "h:9/d?host=a,b",
    "h:9/d?port=8",
    "h:9/d?port=8,9",
    "h:9/d?port=x",
    "h/d?host=",
    "h/d?sslmode=verify-full&sslrootcert=%2Fetc%2Fca.pem&application_name=a+b%2Bc",
    "h/d?sslmode=require&sslmode=disable",
    "h/d?options=-c%20search_path%3Da%2Cb&connect_timeout=10",
    "h/d?user=x&password=y&dbname=z&target_session_attrs=read-write",
    "h/d?novalue&x=&&=y&keepalives=1",
    "h/d\nignored?sslmode=require",
    "h/d?sslmode=require\nignored",
    "u:%C3%28%E2%82@h/%F0%9F%90%98%ED%A0%80",
    "u:p%4@h/%",
    "ünï:pässwörd@höst/dätä?application_name=ä",
]


@pytest.mark.parametrize("rest", EXAMPLES)
@pytest.mark.parametrize("driver", ["psycopg", "psycopg2"])
def test_a_url_connects_where_sqlalchemy_would_connect(rest: str, driver: str) -> None:
    url = f"postgresql+{driver}://{rest}"
    check(url, driver)


PIECES = st.sampled_from(
    list(":/@?&=,[]%+_-.#; \n")
    + ["%40", "%3A", "%2f", "%25", "%C3%A9", "%ff", "é", "host=", "port=", "&host=", "&port="]
    + ["host=a:1&host=b:2", "sslmode=require", "5432", "0", "user", "word", "::1", "/var/run"]
)


@given(st.lists(PIECES, max_size=14).map("".join), st.sampled_from(["psycopg", "psycopg2"]))
@settings(max_examples=1500, deadline=None)
def test_any_url_connects_where_sqlalchemy_would_connect(rest: str, driver: str) -> None:
    url = f"postgresql+{driver}://{rest}"
    check(url, driver)


@given(st.lists(PIECES, max_size=14).map("".join))
@settings(max_examples=1500, deadline=None)
def test_current_prints_the_url_as_alembic_does(rest: str) -> None:
    url = f"postgresql://{rest}"
    try:
        _core.parse_url(url)
    except Declined:  # and so not printed
        return
    except ValueError:
        pass
    try:
        expected = make_url(url).render_as_string(hide_password=True)
    except Exception:  # whatever it refuses with
        with pytest.raises(ValueError):
            _core.redact_url(url)
        return
    assert _core.redact_url(url) == hidden(expected)


def hidden(url: str) -> str:
    """What SQLAlchemy prints, without the values of options that may be secrets."""
    before, mark, query = url.partition("?")
    found = [option.partition("=") for option in query.split("&")] if mark else []
    shown = [
        f"{key}={value if unquote_plus(key) in HARMLESS and not is_url(key, value) else '***'}"
        for key, _, value in found
    ]
    return before + mark + "&".join(shown)


def is_url(key: str, value: str) -> bool:
    """libpq takes such a name of a database for a URL or a connection string."""
    return unquote_plus(key) == "dbname" and not {"=", ":"}.isdisjoint(unquote_plus(value))


HARMLESS = frozenset(
    "application_name client_encoding connect_timeout dbname host port sslmode target_session_attrs user".split()
)


@pytest.mark.parametrize("option", [option.keyword.decode() for option in Conninfo.get_defaults()])
def test_no_option_of_libpq_that_may_be_secret_is_printed(option: str) -> None:
    shown = "hunter2" in _core.redact_url(f"postgresql://h/d?{option}=hunter2")
    secret = any(word in option for word in ("pass", "secret", "key", "oauth", "token", "options"))
    assert not (shown and secret and option != "sslkey")
    assert shown or option not in HARMLESS


def test_a_password_in_the_query_is_hidden_though_sqlalchemy_shows_it() -> None:
    url = "postgresql://h/d?oauth_client_secret=a&options=-c%20a.b%3Dc&password=hunter2&x=y"
    assert (
        _core.redact_url(url)
        == "postgresql://h/d?oauth_client_secret=***&options=***&password=***&x=***"
    )


def test_a_database_that_is_a_url_itself_is_hidden() -> None:
    assert _core.redact_url("postgresql://h/?dbname=a%3A//u:p@h") == "postgresql://h/?dbname=***"
    assert _core.redact_url("postgresql://h/?dbname=password%3Dx") == "postgresql://h/?dbname=***"


@pytest.mark.parametrize(
    "name", ["postgresql", "postgres", "postgresql+pg8000", "postgresql+psycopg_async"]
)
def test_every_name_of_postgresql_is_accepted(name: str) -> None:
    assert _core.parse_url(f"{name}://u:p@h:1/d") == {
        "host": "h",
        "dbname": "d",
        "user": "u",
        "password": "p",
        "port": "1",
    }


def test_a_url_without_anything_leaves_all_to_libpq() -> None:
    assert _core.parse_url("postgresql://") == {}


@pytest.mark.parametrize("name", ["d%20x", "%64", "a%", "ä", "a#b"])
def test_a_database_that_sqlalchemys_versions_read_differently_is_left_to_the_one_here(
    name: str,
) -> None:
    with pytest.raises(Declined):
        _core.parse_url(f"postgresql://h/{name}?sslmode=require")


def test_asyncpg_spellings_become_libpqs() -> None:
    parse = _core.parse_url
    assert parse("postgresql+asyncpg://h/d?ssl=require")["sslmode"] == "require"
    assert parse("postgresql+asyncpg://h/d?ssl=verify_full")["sslmode"] == "verify-full"
    assert parse("postgresql+asyncpg://h/?database=x")["dbname"] == "x"
    for query in ("ssl=true", "prepared_statement_cache_size=0", "command_timeout=5"):
        with pytest.raises(Declined):
            parse(f"postgresql+asyncpg://h/d?{query}")


@pytest.mark.parametrize(
    "url",
    [
        "mysql://u:hunter2@h/d",
        "sqlite:///hunter2.db",
        "u:hunter2@h/d",
        "postgresql//u:hunter2@h",
        "postgresql://u:hunter2",
        "postgresql://u:hun?ter2:hunter2",
        "postgresql://u:hunter2/x@h:hunter2",
        "postgresql://u:x@h/d?password=hunter2&password=hunter2",
        "postgresql://u:x@h/d?host=a:hunter2&host=b:2",
        "postgresql://u:%00hunter2@h/d",
        "",
    ],
)
def test_a_url_that_cannot_be_used_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(ValueError) as caught:
        _core.parse_url(url)
    assert "hunter2" not in str(caught.value)
