"""Finds the places from which a project gets the URL of its database, and the values that name a scratch database
there.

These are environment variables (``DATABASE_URL``, the one that a thin ``env.py`` names, those of ``--url-variable``),
options of the ini file, and ``-x name=URL``. Each database that they name is a *target* with its own scratch database;
the first one determines the server.
"""

from __future__ import annotations

import configparser
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from migrate_ext.direct import database
from migrate_ext.errors import Declined

if TYPE_CHECKING:
    from alembic.config import Config

_THIN_VARIABLE = re.compile(r"\burl_variable\s*=\s*[\"'](\w+)[\"']")
_VARIABLE = "DATABASE_URL"
_OPTION, _PLACEHOLDER = "sqlalchemy.url", "driver"  # the scheme that `alembic init` writes


class Cannot(Exception):
    """The comparison is not possible; the text says why, and what to do."""


class Place(NamedTuple):
    """One place that names a database.

    kind: ``variable``, ``option`` or ``argument``; name: its name, ``section/option``, or the argument's index. url:
    its value; None if that is no URL of PostgreSQL. form: the form of the new value. target: the database that it
    names; None: the one that the others name.
    """

    kind: str
    name: str
    url: URL | None
    form: str = "{url}"
    target: object = None


def _place(kind: str, name: str, url: URL | None, form: str = "{url}") -> Place:
    return Place(kind, name, url, form, None if url is None else _key(url))


class Setting(NamedTuple):
    """Settings with which a command uses scratch databases: variables, options of the ini file, arguments."""

    variables: dict[str, str]
    options: dict[str, dict[str, str]]
    arguments: list[str]


class Project:
    """A project as the command line selects it.

    arguments: Alembic's global options. ini, toml, section: the configuration that they select. variables: the values
    of ``--url-variable``, ``NAME`` or ``NAME=FORM``. embedded: use databases of another server than the project's.
    Raises :class:`Cannot` if there is no such project, or it is not for PostgreSQL.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        ini: str,
        toml: str,
        section: str,
        variables: Sequence[str] = (),
        *,
        embedded: bool = False,
    ) -> None:
        self.arguments = list(arguments)
        self.embedded = embedded
        self.ini, self.section = os.path.abspath(ini), section
        self.env = env_file(_config(ini, toml, section))
        self.thin = _is_thin(self.env)
        self.places = self._find(variables)
        # The first URL, if there is one, determines the server.
        self.url = next((place.url for place in self.places if place.url is not None), None)
        self.embedded = embedded or self.url is None
        targets = dict.fromkeys(p.target for p in self.places if p.target is not None)
        self.targets: list[object] = [*targets] or [None]

    def setting(self, names: Sequence[str], server: URL) -> Setting:
        """The values of all places for the databases `names`, one for each target.

        server: a URL of the server of these databases.
        """
        found = Setting({}, {}, list(self.arguments))
        for place in self.places:
            at = 0 if place.target is None else self.targets.index(place.target)
            text = _text(place, names[at], server, same=not self.embedded)
            if place.kind == "variable":
                found.variables[place.name] = text
            elif place.kind == "option":
                section, _, option = place.name.partition("/")
                found.options.setdefault(section, {})[option] = text.replace("%", "%%")
            else:
                at = int(place.name)
                key = found.arguments[at].partition("=")[0]
                found.arguments[at] = f"{key}={text}"
        return found

    def _find(self, named: Sequence[str]) -> list[Place]:
        """The places; the one that determines the server is the first."""
        forms = dict(word.partition("=")[::2] for word in named)
        names = [*forms]
        if self.thin:
            source = Path(self.env).read_text(encoding="utf-8", errors="replace")
            for name in _THIN_VARIABLE.findall(source):
                names += [f"DIRECT_{name}"] if os.environ.get(f"DIRECT_{name}") else []
                names.append(name)
        places = [self._of_variable(name, forms.get(name, "")) for name in dict.fromkeys(names)]
        usual = os.environ.get(_VARIABLE, "")
        if _VARIABLE not in names and (not any(x.url for x in places) or postgresql_url(usual)):
            places.append(self._of_variable(_VARIABLE, ""))
        if not any(place.url for place in places):
            self._check_option()
        places += self._options()
        for at, (option, word) in enumerate(
            zip(self.arguments, self.arguments[1:], strict=False), 1
        ):
            url = postgresql_url(word.partition("=")[2])
            if option == "-x" and url is not None:
                places.append(_place("argument", str(at), url))
        known = {place.target for place in places}
        seen = {place.name for place in places if place.kind == "variable"}
        for name, value in os.environ.items():
            url = postgresql_url(value)
            if name not in seen and url is not None and _key(url) in known:
                places.append(_place("variable", name, url))
        # Places that name a database come before those that do not.
        return sorted(places, key=lambda place: place.url is None)

    def _of_variable(self, name: str, form: str) -> Place:
        value = os.environ.get(name, "").strip()
        url = postgresql_url(value)
        if value and url is None and not form and not self.embedded:
            raise Cannot(
                f"the variable {name} holds no URL of PostgreSQL, on which the comparison is made. "
                "Set it to postgresql://..., unset it, or use a server of verify's own with --embedded"
            )
        short = value.startswith(("postgres:", "postgres+"))
        return _place("variable", name, url, form or ("{short}" if short else "{url}"))

    def _check_option(self) -> None:
        value = dict(self._values()).get((self.section, _OPTION), "")
        scheme = value.partition("://")[0]
        if value and scheme != _PLACEHOLDER and not postgresql_url(value) and not self.embedded:
            raise Cannot(
                f"{_OPTION} in {self.ini} is no URL of PostgreSQL, on which the comparison is made. "
                "Name the variable that env.py reads with --url-variable, or use --embedded"
            )

    def _options(self) -> Iterator[Place]:
        """The options of the ini file that name a database; ``sqlalchemy.url`` in any case."""
        yield from (
            _place("option", f"{section}/{option}", url)
            for (section, option), value in self._values()
            if (url := postgresql_url(value)) is not None
        )
        values = dict(self._values())
        if postgresql_url(values.get((self.section, _OPTION), "")) is None:
            yield _place("option", f"{self.section}/{_OPTION}", None)
        for (section, option), value in values.items():
            # From Alembic's template for several databases: a further one that is not filled in yet.
            if section != self.section and value.startswith(f"{_PLACEHOLDER}://"):
                yield Place("option", f"{section}/{option}", None, target=section)

    def _values(self) -> Iterator[tuple[tuple[str, str], str]]:
        parser = configparser.ConfigParser({"here": os.path.dirname(self.ini)})
        try:
            parser.read(self.ini, encoding="locale")
        except (configparser.Error, UnicodeDecodeError) as error:
            raise Cannot(f"{self.ini}: {error}") from error
        for section in parser.sections():
            for option in parser.options(section):
                with suppress(configparser.InterpolationError):  # then no program can use it
                    yield (section, option), parser.get(section, option)


def _config(ini: str, toml: str, section: str) -> Config:
    from alembic.config import Config

    if hasattr(Config, "get_alembic_option"):  # 1.16: it reads pyproject.toml
        return Config(ini, toml_file=toml if os.path.exists(toml) else None, ini_section=section)
    return Config(ini, ini_section=section)


def env_file(config: Config) -> str:
    """The path of the project's ``env.py``. Raises :class:`Cannot` if Alembic finds none."""
    from alembic.script import ScriptDirectory
    from alembic.util import CommandError as AlembicError

    before = list(sys.path)
    try:
        path = ScriptDirectory.from_config(config).env_py_location
    except AlembicError as error:
        raise Cannot(f"there is no project here: {error}") from error
    finally:
        sys.path[:] = before  # without the project's prepend_sys_path
    return os.path.abspath(path)


def _is_thin(env: str) -> bool:
    try:
        return database.is_thin(env)
    except Declined as error:
        raise Cannot(f"{env}: {error}") from error


def postgresql_url(text: str) -> URL | None:
    """`text` as a URL of PostgreSQL, or None."""
    scheme, separator, rest = text.strip().partition("://")
    name, plus, driver = scheme.partition("+")
    if not separator or name not in ("postgresql", "postgres"):
        return None
    try:
        return make_url(f"postgresql{plus}{driver}://{rest}")
    except (ArgumentError, ValueError):
        return None


def _key(url: URL) -> tuple[object, ...]:
    """A key that is equal for two URLs of the same database: ((host, port), name)."""
    host, port = url.host or url.query.get("host"), url.port or url.query.get("port")
    return (host or os.environ.get("PGHOST"), str(port or os.environ.get("PGPORT", 5432))), (
        url.database or os.environ.get("PGDATABASE") or url.username
    )


def _text(place: Place, database: str, server: URL, *, same: bool) -> str:
    """The value for a place that makes it name `database`. same: the server is the project's own."""
    url = server
    if place.url is not None:
        # The options of a URL are valid for its own driver and server only.
        same = same and _key(place.url)[0] == _key(server)[0]
        url = place.url if same else server.set(drivername=place.url.drivername)
    url = url.set(database=database)
    text = url.render_as_string(hide_password=False)
    fields: Mapping[str, object] = {
        "url": text,
        "short": text.replace("postgresql", "postgres", 1),
        "database": database,
        "host": url.host or url.query.get("host", ""),
        "port": url.port or url.query.get("port", 5432),
        "user": url.username or "",
        "password": url.password or "",
    }
    try:
        return place.form.format(**fields)
    except (KeyError, ValueError, IndexError) as error:
        raise Cannot(
            f"--url-variable {place.name}={place.form}: the form may contain "
            "{url} {database} {host} {port} {user} {password}"
        ) from error
