"""Schema and data after an upgrade and a downgrade are those that Alembic alone leaves, for every driver and program."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from sample_project import SampleProject

# What env.py begins with, by words of a case's name.
BEGINNINGS = {
    "wait callback": (
        "import psycopg2.extensions, psycopg2.extras\n"
        "psycopg2.extensions.set_wait_callback(psycopg2.extras.wait_select)\n"
    ),
    "pure Python": "import psycopg.pq\nassert psycopg.pq.__impl__ == 'python'\n",
}
# name -> (env.py's way, driver, variables, whether statements go in batches)
CASES = {
    "direct, psycopg": ("thin", "psycopg", {}, True),
    "direct, psycopg2": ("thin", "psycopg2", {}, True),
    "direct, psycopg in pure Python": ("thin", "psycopg", {"PSYCOPG_IMPL": "python"}, True),
    "classic, psycopg": ("classic", "psycopg", {}, True),
    "classic, psycopg2": ("classic", "psycopg2", {}, True),
    "psycopg2 with a wait callback": ("classic", "psycopg2", {}, False),
}


EXAMPLE = Path(__file__).parents[1] / "plugin" / "example"


def run_and_dump(
    project: SampleProject,
    commands: Sequence[tuple[str, str]],
    dump: Callable[..., str],
    **variables: str,
) -> list[str]:
    """Schema and data after each command."""
    found = []
    for command in commands:
        done = project.run(*command, **variables)
        assert done.code == 0, done.said
        found.append(dump(project.url, "--inserts"))
    return found


def counters(stats: Path) -> list[dict[str, Any]]:
    """Those of each command since the file was last read."""
    found = [json.loads(line) for line in stats.read_text().splitlines()]
    stats.unlink()
    return found


def test_dumps_are_the_same_up_and_down(
    tmp_path: Path, make_database: Callable[[], str], pg_dump: Callable[..., str]
) -> None:
    commands = [("upgrade", "head"), ("downgrade", "a3794ccd4778"), ("downgrade", "base")]

    def dumps(case: str, way: str, driver: str, variables: dict[str, str]) -> list[str]:
        url = make_database().replace("+psycopg", f"+{driver}")
        project = SampleProject(tmp_path / case.replace(" ", "_"), url, way)
        project.forked = "PSYCOPG_IMPL" not in variables  # which must be there before the import
        env = project.folder / "env.py"
        for words, beginning in BEGINNINGS.items():
            if words in case:
                env.write_text(beginning + env.read_text())
        return run_and_dump(project, commands, pg_dump, **variables)

    expected = dumps("alembic", "MIGRATE_EXT=0", "psycopg", {})
    assert "INSERT INTO public.plans" in expected[0]
    assert "CREATE TABLE public.organisations" in expected[1]
    stats = tmp_path / "stats"
    for case, (way, driver, variables, is_batched) in CASES.items():
        found = dumps(case, way, driver, {**variables, "MIGRATE_EXT_STATS": str(stats)})
        assert found == expected, case
        for run in counters(stats):
            assert (run["statements"] > 0) == is_batched, (case, run)
            refused = "driver: psycopg2 with a wait callback" in run["plain_reasons"]
            assert refused != is_batched, (case, run)


def test_dumps_of_the_plugins_example_are_the_same_with_rows_in_it(
    tmp_path: Path, make_database: Callable[[], str], pg_dump: Callable[..., str]
) -> None:
    commands = [
        ("upgrade", "head"),
        ("downgrade", "0002"),
        ("upgrade", "head"),
        ("downgrade", "base"),
    ]
    stats = tmp_path / "stats"
    found = []
    for way, driver in (("MIGRATE_EXT=0", "psycopg"), ("thin", "psycopg"), ("thin", "psycopg2")):
        url = make_database().replace("+psycopg", f"+{driver}")
        project = SampleProject(tmp_path / f"{way} {driver}", url, way, EXAMPLE)
        project.forked = True
        project.variables["MIGRATE_EXT_STATS"] = str(stats)
        dumps = run_and_dump(project, commands[:1], pg_dump)
        with project.connect() as connection:
            connection.execute("INSERT INTO customers (name) VALUES ('Ada')")
            connection.execute("INSERT INTO orders (customer_id, cents) VALUES (1, 1250)")
        found.append(dumps + run_and_dump(project, commands[1:], pg_dump))
        assert {run["statements"] > 0 for run in counters(stats)} == {way == "thin"}
    assert "12.50" in found[0][1] and "1250" in found[0][2]
    assert found[1] == found[2] == found[0]
