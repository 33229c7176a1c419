"""Schema and data after an upgrade, and after a downgrade, are what Alembic alone leaves: every driver, build of a driver and way in."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from project import Project

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


def test_dumps_are_the_same_up_and_down(
    tmp_path: Path, make_database: Callable[[], str], pg_dump: Callable[..., str]
) -> None:
    def dumps(case: str, way: str, driver: str, variables: dict[str, str]) -> list[str]:
        url = make_database().replace("+psycopg", f"+{driver}")
        project = Project(tmp_path / case.replace(" ", "_"), url, way)
        env = project.folder / "env.py"
        for words, beginning in BEGINNINGS.items():
            if words in case:
                env.write_text(beginning + env.read_text())
        found = []
        for command in ("upgrade", "head"), ("downgrade", "a3794ccd4778"), ("downgrade", "base"):
            done = project.run(*command, **variables)
            assert done.code == 0, done.said
            found.append(pg_dump(url) + pg_dump(url, "--data-only", "--inserts"))
        return found

    expected = dumps("alembic", "MIGRATE_EXT=0", "psycopg", {})
    assert "INSERT INTO public.plans" in expected[0]
    assert "CREATE TABLE public.organisations" in expected[1]
    for case, (way, driver, variables, is_batched) in CASES.items():
        stats = tmp_path / "stats"
        stats.unlink(missing_ok=True)
        found = dumps(case, way, driver, {**variables, "MIGRATE_EXT_STATS": str(stats)})
        assert found == expected, case
        counted = [json.loads(line) for line in stats.read_text().splitlines()]
        for run in counted:
            assert (run["statements"] > 0) == is_batched, (case, run)
            refused = "driver: psycopg2 with a wait callback" in run["plain_reasons"]
            assert refused != is_batched, (case, run)
