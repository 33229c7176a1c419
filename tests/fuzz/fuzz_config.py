"""Any text as alembic.ini: migrate_ext reads it as Alembic does, or leaves it to Alembic.

Usage: fuzz_config.py SECONDS [SEED]. Ends with the number of executions; a difference is printed with its text, and fails.
"""

from __future__ import annotations

import os
import random
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

from alembic.config import Config as AlembicConfig
from alembic.script import ScriptDirectory

from migrate_ext.errors import CommandError, Declined
from migrate_ext.project.config import Config

CORPUS = Path(__file__).parent / "corpus" / "config"
SEEDS = tuple(path.read_text(encoding="utf-8") for path in sorted(CORPUS.iterdir()))
PIECES = (
    "[alembic]", "[", "]", "\n", "\r\n", "=", ":", "%", "%%", "%(here)s", "%(x)s", ";", "#", " ", "\t", "\n  ", "\x00",
    "script_location", "version_locations", "path_separator", "space", "os", "é", "\ud7ff", "\ufeff", "a b", "true", ".",
)  # fmt: skip
OPTIONS = ("timezone", "file_template", "sourceless", "truncate_slug_length")


def mutate(dice: random.Random, text: str) -> str:
    for _ in range(dice.randint(1, 5)):
        at = dice.randint(0, len(text))
        how = dice.randrange(3)
        if how == 0:
            text = text[:at] + dice.choice(PIECES) + text[at:]
        elif how == 1:
            text = text[:at] + text[at + dice.randint(1, 8) :]
        else:
            text = text[:at] + text[dice.randint(0, at) : at] + text[at:]
    return text


def answer(function: Callable[[], object]) -> object:
    """What it gives, or that it refuses."""
    try:
        return function()
    except Exception as error:
        return type(error).__name__


def difference(folder: Path, text: str) -> str | None:
    """None where both agree, or ours declines."""
    ini = folder / "alembic.ini"
    ini.write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        ours = Config(str(ini), str(folder / "nosuch.toml"), "alembic")
        found: list[object] = [ours.option(name) for name in OPTIONS]
        location = ours.script_location()
        found.append([os.path.realpath(p) for p in ours.version_locations(location)])
    except (Declined, CommandError):
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = AlembicConfig(str(ini))
        expected = [answer(lambda n=name: theirs.get_main_option(n)) for name in OPTIONS]  # type: ignore[misc]
        try:
            script = ScriptDirectory.from_config(theirs)
            places: object = [os.path.realpath(p) for p in script._version_locations]
        except Exception as error:
            places = type(error).__name__
    expected.append(places)
    return None if found == expected else f"{text!r}\nours   {found}\ntheirs {expected}"


def run(seconds: float, seed: int, most: int = sys.maxsize) -> int:
    """Executions without a difference; raises AssertionError at one."""
    dice, count, until = random.Random(seed), 0, time.monotonic() + seconds
    before = os.getcwd()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part in ("a", "b", "versions"):
            (folder / part).mkdir()
        (folder / "env.py").touch()
        os.chdir(folder)
        try:
            while time.monotonic() < until and count < most:
                text = SEEDS[count] if count < len(SEEDS) else mutate(dice, dice.choice(SEEDS))
                found = difference(folder, text)
                assert found is None, found
                count += 1
        finally:
            os.chdir(before)
    return count


if __name__ == "__main__":
    number = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    print(f"fuzz_config: {run(float(sys.argv[1]), number)} executions, no difference")
