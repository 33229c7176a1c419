"""Memory that runs out must not cost a connection, nor mix up its answers."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from migrate_ext import _core
from migrate_ext.execution import libpq

ROOT = Path(__file__).parents[2]


def test_no_allocation_may_fail_unseen(database_url: str, tmp_path: Path) -> None:
    compiler = shutil.which(os.environ.get("CC", "cc"))
    assert compiler is not None
    include = subprocess.check_output(
        [sys.executable, "setup.py", "--libpq-include"], cwd=ROOT, text=True
    ).strip()
    sources = [*ROOT.glob("csrc/core/*.c"), *ROOT.glob("csrc/pq/*.c"), ROOT / "tests/pg/sweep.c"]
    program = tmp_path / "sweep"
    sanitize = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-g"]
    subprocess.run(
        [
            compiler,
            "-std=c11",
            *sanitize,
            f"-I{ROOT / 'csrc'}",
            f"-I{include}",
            *sources,
            "-ldl",
            "-o",
            program,
        ],
        check=True,
    )
    params = _core.parse_url(database_url)
    given = [params.get(k, "") for k in ("host", "port", "user", "dbname")]
    if "password" in params:
        given.append(params["password"])
    library = libpq.find()
    environment = {k: v for k, v in os.environ.items() if k != "LD_PRELOAD"}
    # libpq's own libraries keep some memory to the end of the process.
    environment["ASAN_OPTIONS"] = "detect_leaks=0"
    if library is not None:
        environment["MIGRATE_EXT_LIBPQ"] = library
    done = subprocess.run([program, *given], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
