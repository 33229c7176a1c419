"""A project twice, run by ``alembic`` without and with the runtime, and what can be seen of each run."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable
from pathlib import Path

from paired_projects import Outcome, ProjectSide
from sample_project import run_forked
from sqlalchemy.engine import make_url

from migrate_ext.verify import texts

_UNPACKED = re.compile(r"/tmp/tmp\w+/")  # by importlib.resources, out of an archive


class Side(ProjectSide):
    """One of the two. program: as fork_server.py has them."""

    def __init__(self, folder: Path, url: str, program: str) -> None:
        super().__init__(folder, url)
        self.program = program
        folder.mkdir()

    def process(self, command: tuple[str, ...], variables: dict[str, str]) -> tuple[int, str, str]:
        return run_forked(self.program, self.folder, command, variables)

    def change_driver(self, driver: str) -> None:
        """Put another driver into the URL, here and in the files that have it."""
        url = make_url(self.url).set(drivername=f"postgresql+{driver}")
        new = url.render_as_string(hide_password=False)
        files = [path for path in self.folder.rglob("*.*") if path.suffix in (".ini", ".py")]
        named = [path for path in files if self.url in path.read_text()]
        assert named
        for path in named:
            path.write_text(path.read_text().replace(self.url, new))
        self.url = new

    def files(self) -> dict[str, str]:
        """All that is there, but for bytecode and databases."""
        found = {}
        for path in sorted(self.folder.rglob("*")):
            if path.is_file() and path.suffix not in (".pyc", ".db", ".zip"):
                name = self.same(str(path.relative_to(self.folder)))
                found[name] = self.same(path.read_text(errors="replace"))
        return found

    def same(self, text: str) -> str:
        text = _UNPACKED.sub("<unpacked>/", texts.beside(super().same(text)))
        return texts.addresses(texts.frames(text))


class Shape:
    """The project, and its commands on both sides."""

    def __init__(self, folder: Path, make_database: Callable[[], str], dump: Callable[..., str]):
        self.dump = dump
        self.sides = [
            Side(folder / program, make_database(), program) for program in ("alembic", "drop-in")
        ]
        self.drivers = ["psycopg", "psycopg2"]  # that env.py can take

    def write(self, name: str, text: str) -> None:
        for side in self.sides:
            path = side.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(textwrap.dedent(text))

    def edit(self, name: str, *changes: tuple[str, str]) -> None:
        """Replace texts that are there; ``<url>`` becomes the database's."""
        for side in self.sides:
            path = side.folder / name
            text = path.read_text()
            for old, new in changes:
                assert old in text, f"{old} is not in {text}"
                text = text.replace(old, new.replace("<url>", side.url))
            path.write_text(text)

    def init(self, template: str = "generic", driver: str = "psycopg", env: str = "") -> None:
        """Lay out Alembic's own project. env: keywords for ``context.configure`` in its ``env.py``."""
        self.agree("init", "-t", template, "migrations", database=False)
        if "async" in template:
            self.drivers = ["psycopg", "asyncpg"]
        for side in self.sides:
            side.url = side.url.replace("+psycopg", f"+{driver}")
        self.edit("alembic.ini", ("driver://user:pass@localhost/dbname", "<url>"))
        if env:
            self.edit(
                "migrations/env.py",
                ("target_metadata=target_metadata", f"target_metadata=target_metadata, {env}"),
            )

    def revision(
        self,
        revision: str,
        up: str,
        down: str = "",
        *,
        after: object = None,
        top: str = "",
        folder: str = "migrations/versions",
    ) -> None:
        """A revision file. up, down: bodies, dedented. after: its down_revision. top: what stands above."""
        bodies = [textwrap.indent(textwrap.dedent(body) or "pass", "    ") for body in (up, down)]
        self.write(
            f"{folder}/{revision}.py",
            f'"""{revision}"""\nimport sqlalchemy as sa\nfrom alembic import context, op\n\n'
            f"revision = {revision!r}\ndown_revision = {after!r}\n{textwrap.dedent(top)}\n\n"
            f"def upgrade():\n{bodies[0]}\n\n\ndef downgrade():\n{bodies[1]}\n",
        )

    def agree(
        self, *command: str, code: int | None = 0, database: bool = True, **environment: str
    ) -> Outcome:
        """Run a command on both sides, which exits with `code`, or as Alembic does; assert that all there is to see is the same."""
        theirs, ours = (side.run(*command, **environment) for side in self.sides)
        assert code in (theirs.code, None), theirs.stdout + theirs.stderr
        assert ours.stdout == theirs.stdout
        assert ours.stderr == theirs.stderr
        assert ours.code == theirs.code
        assert ours.files == theirs.files
        if database:
            self.agree_on_databases()
        return ours

    def agree_on_databases(self) -> str:
        """Schema and rows, the version table's among them."""
        theirs, ours = (self.dump(side.url, "--inserts") for side in self.sides)
        assert ours == theirs
        return theirs

    def life(self) -> None:
        """What happens to a project: up, all the way down, up again; looked at in between."""
        self.agree("upgrade", "head", "--sql", database=False)
        self.agree("upgrade", "heads")
        self.agree("current", database=False)
        self.agree("history", "-v", database=False)
        self.agree("upgrade", "heads", database=False)
        self.agree("downgrade", "base", database=False)
        base = self.agree_on_databases()
        self.agree("upgrade", "heads", database=False)
        heads = self.agree_on_databases()
        self.other_ways((("downgrade", "base"), base), (("upgrade", "heads"), heads))

    def other_ways(self, *steps: tuple[tuple[str, ...], str]) -> None:
        """Our side with the other driver, and under ``migrate-ext``: each command leaves the dump that Alembic has left."""
        side = self.sides[1]
        program, driver = side.program, make_url(side.url).get_driver_name()
        others = [("drop-in", name) for name in self.drivers if name != driver]
        for way in (*others, ("migrate_ext", driver)):
            side.program = way[0]
            side.change_driver(way[1])
            for command, expected in steps:
                done = side.run(*command)
                assert done.code == 0, (way, done.stdout + done.stderr)
                assert self.dump(side.url, "--inserts") == expected, (way, command)
        side.program = program
        side.change_driver(driver)
