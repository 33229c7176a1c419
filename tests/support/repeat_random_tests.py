"""``make properties``: the tests that run random programs under Alembic and here, over and over, each time with other programs.

    python tests/support/repeat_random_tests.py SECONDS [TEST ...]

SECONDS: for each test. Prints, for each round, the seed (``pytest --hypothesis-seed`` repeats the round) and how many
programs there were; ends with exit code 1 at the first difference, which pytest has shown then.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

TESTS = (
    "tests/pg/test_texts.py::test_random_texts_arrive_as_under_alembic",
    "tests/pg/test_plain_programs.py::test_random_migrations_do_what_they_do_under_alembic",
    "tests/oracle/test_generated_folders.py::test_folders_of_any_kind_are_read_as_alembic_reads_them",
)
EXAMPLES = 1_000  # a round


def main(seconds: float, tests: tuple[str, ...]) -> int:
    variables = {**os.environ, "MIGRATE_EXT_EXAMPLES": str(EXAMPLES)}
    for test in tests:
        programs, began = 0, time.monotonic()
        while time.monotonic() - began < seconds:
            seed = time.time_ns() % 2**32
            command = ("-m", "pytest", "-q", "-n", "0", f"--hypothesis-seed={seed}", test)
            done = subprocess.run(
                [sys.executable, *command],
                cwd=Path(__file__).resolve().parents[2],
                env=variables,
                capture_output=True,
                text=True,
            )
            if done.returncode != 0:
                print(done.stdout + done.stderr)
                print(
                    f"{test}: pytest ended with {done.returncode}; seed {seed}, "
                    f"after {programs} programs without a difference"
                )
                return 1
            programs += EXAMPLES
            print(
                f"{test}: seed {seed}, {programs} programs in {time.monotonic() - began:.0f} s",
                flush=True,
            )
    return 0


if __name__ == "__main__":
    raise SystemExit(main(float(sys.argv[1]), tuple(sys.argv[2:]) or TESTS))
