"""``migrate-ext init -t thin``: creates a migration environment with a thin ``env.py``.

``init`` leaves all other templates to Alembic. The files of this one are those of our own sample.
"""

from __future__ import annotations

import os
import sys

from migrate_ext.errors import CommandError

TYPE_CHECKING = False  # saves the import of typing
if TYPE_CHECKING:
    from typing import Any

_SYNOPSIS = "PostgreSQL configuration whose env.py names the models and imports none of them."
_FILES = os.path.join(os.path.dirname(os.path.dirname(__file__)), "templates", "thin")
# The text of the template that depends on where it is created.
_LOCATION = "script_location = %(here)s\n"


def is_ours(words: list[str]) -> bool:
    """Whether the words after ``init`` name this template; all others are Alembic's."""
    template, _ = _template(words)
    return template == "thin"


def _template(words: list[str]) -> tuple[str, list[str]]:
    """The template that the words name, and the other words."""
    template, others, rest = "", [], iter(words)
    for word in rest:
        if word in ("-t", "--template"):
            template = next(rest, "")
        elif word.startswith("--template="):
            template = word.partition("=")[2]
        elif word.startswith("-t") and not word.startswith("--"):
            template = word[2:]
        else:
            others.append(word)
    return template, others


def add_thin(config: Any) -> None:
    """Have Alembic's ``list_templates``, which prints through `config`, list our template last."""
    print_stdout = config.print_stdout

    def print_more(text: str, *arguments: Any) -> None:
        if text.startswith("\nTemplates are used"):
            print_stdout("%s - %s", "thin", _SYNOPSIS)
        print_stdout(text, *arguments)

    config.print_stdout = print_more


def run(words: list[str], *, quiet: bool) -> None:
    """Create the environment in the folder named in `words`, the words after ``init``;
    configuration and scripts go into the current folder.

    Raises :class:`~migrate_ext.errors.CommandError` if the folder is in use, or for an argument
    that this template does not have.
    """
    _, folders = _template(words)
    for word in folders:
        if word.startswith("-"):
            raise CommandError(f"init -t thin takes no {word}")
    if len(folders) != 1:
        raise CommandError("init -t thin needs one folder: migrate-ext init -t thin migrations")
    _lay_out(folders[0], quiet=quiet)


def _lay_out(folder: str, *, quiet: bool) -> None:
    here = os.path.normpath(folder) == os.curdir
    taken = [name for name in ("env.py", "versions", "script.py.mako") if _is_there(folder, name)]
    if taken or (not here and os.path.isdir(folder) and os.listdir(folder)):
        what = f"{os.path.join(folder, taken[0])} exists already" if taken else "is not empty"
        raise CommandError(f"{folder}: {what}; nothing was written")
    if os.path.isabs(folder) or folder.startswith(os.pardir):
        raise CommandError(f"{folder} is not below the current folder")
    location = _LOCATION if here else _LOCATION[:-1] + f"/{folder.strip('/')}\n"
    versions = os.path.join(folder, "versions")
    os.makedirs(versions)
    _say(f"Creating directory {os.path.abspath(versions)}", quiet)
    for name, to in (
        ("env.py", folder),
        ("script.py.mako", folder),
        ("alembic.ini", "."),
        ("migrate.py", "scripts"),
        ("migrate.sh", "scripts"),
    ):
        path = os.path.abspath(os.path.join(to, name))
        if os.path.exists(path):
            _say(f"File {path} already exists, skipping", quiet)
            continue
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(os.path.join(_FILES, name), encoding="utf-8") as source:
            text = source.read()
        with open(path, "x", encoding="utf-8") as file:
            file.write(text.replace(_LOCATION, location) if name == "alembic.ini" else text)
        if to == "scripts":
            os.chmod(path, os.stat(path).st_mode | 0o111)
        _say(f"Generating {path}", quiet)
    _say("Name your metadata and your models in env.py; the URL is read from DATABASE_URL.", quiet)


def _is_there(folder: str, name: str) -> bool:
    return os.path.exists(os.path.join(folder, name))


def _say(text: str, quiet: bool) -> None:
    if not quiet and sys.stdout is not None:
        print(text)
