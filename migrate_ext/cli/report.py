"""Reports the error of a failed command: one clear message, what to do next, no traceback.

Alembic's own function prints a ``CommandError`` (text, log line, exit code). For all other errors
Alembic shows a traceback; here they are reported in a few lines on stderr, with Alembic's exit code
for them, 1. ``--raiseerr`` shows the traceback instead.
"""

from __future__ import annotations

import os
import re
import sys

from migrate_ext import _core, errors
from migrate_ext.project import logs

# Words of a command error, whose text is Alembic's -> what to do next.
_HINTS = (
    (
        "Target database is not up to date",
        "run 'upgrade head' first, then autogenerate again",
    ),
    (
        "Multiple head",
        "'heads' lists them; 'upgrade heads' runs all, 'merge heads' joins them",
    ),
    (
        "Can't locate revision identified by",
        "'history' lists the revisions; is a file missing from versions, "
        "or the database newer than the code?",
    ),
    (
        "No 'script_location' key found",
        "run the command in the folder of alembic.ini, or name the file with -c",
    ),
)

_AROUND = 1000  # characters of a long statement that are shown, on each side of the error

_CONNECT_HINTS = (
    (
        ("too many clients", "too many connections", "connection slots"),
        "the server has no connection left: end some, raise max_connections, or use a pooler",
    ),
    (("password", "role "), "check user and password in the URL; @ : / ? in them are %-encoded"),
    (("database ",), "create the database, or correct its name in the URL"),
    (("",), "check host and port in the URL, and that the server is running"),
)


def report(error: BaseException, *, quiet: bool) -> int:
    """Print what `error` means, and return the exit code. quiet: ``-q`` was given."""
    if isinstance(error, KeyboardInterrupt):
        # asyncio raises KeyboardInterrupt instead of the cancelled task's exception.
        told = [getattr(found, "migration_outcome", "") for found in (error, error.__context__)]
        doubt = any("in doubt" in text for text in told)
        rolled_back = "" if doubt else "the open transaction was rolled back; "
        _say(f"Interrupted: {rolled_back}'current' shows where the database is.")
        return 130
    if _is_command_error(error):
        return _command_error(error, quiet)
    if isinstance(error, errors.ConnectError):
        return _connect_error(error)
    if isinstance(error, errors.ServerError):
        return _database_error(error, error)
    original = getattr(error, "orig", None)
    if original is not None and "sqlalchemy" in sys.modules:
        return _database_error(error, original)
    text = error.msg if isinstance(error, SyntaxError) else str(error)
    _say(f"FAILED: {_where(error)}{type(error).__name__}: {text}")
    _say_what_is_behind(error, text)
    if hasattr(error, "migration_step"):
        _say("Nothing of the open transaction was kept.")
    _say("(--raiseerr shows the traceback)")
    return 1


def _where(error: BaseException) -> str:
    """The beginning of a message: the migration that failed, or the file and line; or empty."""
    step = getattr(error, "migration_step", None) or getattr(error, "revision_file", None)
    if step is None:
        path, line = errors.blamed_line(error)
        step = path and f"{path}, line {line}"
    return f"{step}: " if step else ""


def _say_what_is_behind(error: BaseException, told: str) -> None:
    """Print the exceptions that led to `error`, the last one first: those that Python's traceback shows. told:
    what has been printed of `error`; what says the same is left out.
    """
    seen = {id(error)}
    while True:
        behind, how = error.__cause__, "caused by"
        if behind is None and not error.__suppress_context__:
            behind, how = error.__context__, "raised while handling"
        if behind is None or id(behind) in seen:
            return
        seen.add(id(behind))
        error = behind
        if type(error).__module__.partition(".")[0] == "migrate_ext":
            continue
        original = getattr(error, "orig", None)
        text = _one_paragraph(errors.without_severity(original) if original else str(error))
        if text not in told:
            _say(f"{how}: {_where(error)}{type(error).__name__}: {text}")
            told = text


def _is_command_error(error: BaseException) -> bool:
    if isinstance(error, errors.CommandError):
        return True
    alembic = sys.modules.get("alembic.util.exc")
    return alembic is not None and isinstance(error, alembic.CommandError)


def _command_error(error: BaseException, quiet: bool) -> int:
    with logs.importing_alembic():
        from alembic.util import messaging  # so that the output is Alembic's

    try:
        messaging.err(without_secrets(str(error)), quiet=quiet)
    except SystemExit:
        pass
    for words, hint in _HINTS:
        if words in str(error):
            _say(f"hint: {hint}")
    return 255


def _connect_error(error: BaseException) -> int:
    message = _one_paragraph(str(error))
    _say(f"FAILED: cannot connect to the database: {message}")
    _say(
        "hint: " + next(hint for words, hint in _CONNECT_HINTS if any(w in message for w in words))
    )
    return 1


def _database_error(error: BaseException, original: BaseException) -> int:
    """error: ours or SQLAlchemy's. original: the exception with the server's message and SQLSTATE."""
    statement = getattr(error, "statement", None)
    state = getattr(original, "sqlstate", None) or getattr(original, "pgcode", None)
    outcome = getattr(error, "migration_outcome", "")
    connected = isinstance(error, errors.ServerError) or getattr(
        error, "connection_invalidated", False
    )
    if statement is None and state is None and not outcome and not connected:
        return _connect_error(original)
    message = _one_paragraph(errors.without_severity(original)) or type(original).__name__
    _say(f"FAILED: {_where(error)}{message}")
    if statement is not None:
        _say(f"[SQL: {_excerpt(statement, original)}]")
    _say_what_is_behind(error, message)
    kept = "" if "in doubt" in outcome else "Nothing of the open transaction was kept."
    _say(f"{f'SQLSTATE {state}. ' if state else ''}{kept}".strip())
    if state == "42501":
        _say(
            "hint: GRANT the role what it lacks (CREATE ON SCHEMA, to make tables), or use another"
        )
    _say("(--raiseerr shows the traceback)")
    return 1


def _excerpt(statement: str, error: BaseException) -> str:
    """A statement; of a long one, the text around the position of `error`."""
    if len(statement) <= 2 * _AROUND:
        return statement.strip()
    from migrate_ext.execution import driver_errors

    found = driver_errors.position(error) or getattr(error, "fields", {}).get(ord("P")) or 1
    begin = max(int(found) - _AROUND, 0)
    end = begin + 2 * _AROUND
    left = len(statement) - (min(end, len(statement)) - begin)
    before, after = "... " if begin else "", " ..." if end < len(statement) else ""
    return f"{before}{statement[begin:end].strip()}{after} ({left:,} characters more)"


def _one_paragraph(text: str) -> str:
    return "\n".join(line for line in text.strip().splitlines() if line.strip())


_NAMES = r"\w*(?:pass|pwd|secret|token|sslkey|oauth|credential|api_?key)\w*"
# Strings as libpq, SQL and Python quote them; one that was cut off has no closing quote.
_QUOTED = r"""'(?:[^'\\]|\\.|'')*(?:'|\Z)|"(?:[^"\\]|\\.|"")*(?:"|\Z)"""
# A URL: its scheme; user, address and options. (Not our own example of a URL.)
_URL = re.compile(r"\b([A-Za-z][\w.+-]*://)(?!user:password@)(\S+)")
# password=x, password = 'x y', {'password': 'x y'}
_SECRET = re.compile(
    rf"""(\b{_NAMES}(?:\s*=\s*|['"]\s*:\s*))({_QUOTED}|\S+)""", re.IGNORECASE | re.DOTALL
)


def without_secrets(text: str) -> str:
    """`text` without secrets: libraries quote URLs and connection strings that they cannot parse.

    Hides a URL's password, and all its options but those known to be harmless (``csrc/pq/url.c``).
    Elsewhere ``name=value`` may be SQL or any text: there values of suspicious names are hidden.
    """
    for value in os.environ.values():
        password = _userinfo(value)[2]
        if any(map(str.isspace, password)):  # _URL would end at the blank
            text = text.replace(password, "***")
    text = _URL.sub(lambda found: found[1] + _hidden_in_url(found[2]), text)
    return _SECRET.sub(lambda found: found[1] + _hidden(found[2]), text)


def _userinfo(url: str) -> tuple[str, str, str]:
    """User name, colon and password. The password may have any characters; the last ``@`` ends it."""
    return url.partition("://")[2].rpartition("@")[0].partition(":")


def _hidden_in_url(rest: str) -> str:
    """`rest`, which follows ``://``, without secrets."""
    user, colon, password = _userinfo(f"://{rest}")
    _, at, address = rest.rpartition("@")
    if "?" in password or "?" in user:  # or the @ is in an option: the address cannot be found
        return "***"
    before, mark, query = address.partition("?")
    shown = [_hidden_option(*pair.partition("=")) for pair in query.split("&")] if mark else []
    return (f"{user}{colon and ':***'}@" if at else "") + before + mark + "&".join(shown)


def _hidden_option(name: str, equals: str, value: str) -> str:
    plain = [text.encode("ascii", "replace").decode().replace("\0", "?") for text in (name, value)]
    return name + equals + (value if _core.is_harmless_option(*plain) else "***")


def _hidden(value: str) -> str:
    if value == "***":
        return value
    return f"{value[0]}***{value[0]}" if value[0] in "'\"" else "***"


def _say(text: str) -> None:
    if sys.stdout is not None:  # it is None when the caller has closed it
        sys.stdout.flush()
    if sys.stderr is None:
        return
    print(without_secrets(text), file=sys.stderr)
