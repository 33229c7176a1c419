"""Reads ini files like :mod:`configparser`, whose import takes as long as the start of Python.

Only simple files are accepted: :func:`read` returns None for all others, and the standard library
reads those. Rules: CPython 3.10 to 3.14, ``RawConfigParser._read``, ``BasicInterpolation``. A
property test compares the results of both.
"""

from __future__ import annotations

from migrate_ext.errors import Declined

_DEPTH = 10  # configparser.MAX_INTERPOLATION_DEPTH


class Ini:
    """A file that was read, with the part of ``ConfigParser``'s interface that is used here.

    ``sections``: section -> option -> raw value. ``defaults``: options that every section has.
    """

    def __init__(self, defaults: dict[str, str]) -> None:
        self.sections: dict[str, dict[str, str]] = {}
        self.defaults = defaults

    def has_section(self, section: str) -> bool:
        return section in self.sections

    def has_option(self, section: str, option: str) -> bool:
        found = self.sections.get(section)
        return found is not None and (option in found or option in self.defaults)

    def options(self, section: str) -> list[str]:
        """The options of a section, with the defaults."""
        return [*{**self.defaults, **self.sections[section]}]

    def get(
        self, section: str, option: str, *, raw: bool = False, fallback: str | None = None
    ) -> str | None:
        """The value of an option, or `fallback`. option: in lower case. raw: without interpolation.

        Raises :class:`~migrate_ext.errors.Declined` if the interpolation fails.
        """
        if not self.has_option(section, option):
            return fallback
        names = {**self.defaults, **self.sections[section]}
        return names[option] if raw else _interpolate(names[option], names, 1)


def _interpolate(text: str, names: dict[str, str], depth: int) -> str:
    if "%" not in text:
        return text
    if depth > _DEPTH:
        raise Declined("configuration: a value that names itself")
    done, _, rest = text.partition("%")
    while True:
        if rest.startswith("%"):
            done += "%"
            rest = rest[1:]
        else:
            name, end, rest = rest[1:].partition(")s") if rest[:1] == "(" else ("", "", "")
            if not name or not end or ")" in name or name.lower() not in names:
                raise Declined("configuration: a percent sign")
            done += _interpolate(names[name.lower()], names, depth + 1)
        more, sign, rest = rest.partition("%")
        done += more
        if not sign:
            return done


def read(text: str, defaults: dict[str, str]) -> Ini | None:
    """The file with this text, or None if the standard library must read it.

    defaults: values that every section has; those of a section ``DEFAULT`` are added.
    """
    # str.strip, str.splitlines and \\s treat other characters as blanks, too: decline such a text.
    if not text.replace("\n", "").replace("\t", "").isprintable():
        return None
    ini = Ini(dict(defaults))
    values: list[tuple[dict[str, str], str, list[str]]] = []
    seen: set[tuple[str, str]] = set()
    section: dict[str, str] | None = None
    lines: list[str] | None = None  # of the option that the next line may continue
    name, indent = "", 0
    for line in text.split("\n"):
        value = line.strip()
        if not value or value[0] in "#;":
            if not value and lines is not None:
                lines.append("")
            continue
        at = len(line) - len(line.lstrip())
        if lines is not None and at > indent:
            lines.append(value)
            continue
        indent, lines = at, None
        if value[0] == "[" and value.rfind("]") > 1:
            name = value[1 : value.rfind("]")]
            if name in ini.sections:
                return None
            section = ini.defaults if name == "DEFAULT" else ini.sections.setdefault(name, {})
            continue
        ends = [value.find(sign) for sign in "=:" if sign in value]
        option = value[: min(ends)].rstrip().lower() if ends else ""
        if section is None or not option or (name, option) in seen:
            return None
        seen.add((name, option))
        lines = [value[min(ends) + 1 :].strip()]
        values.append((section, option, lines))
    for section, option, lines in values:
        section[option] = "\n".join(lines).rstrip()
    return ini
