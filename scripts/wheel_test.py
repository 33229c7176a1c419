"""``make wheel-test``: installs a wheel where there is no compiler and no libpq but the drivers' own, and runs commands there.

Programs of the new environments see nothing but their own ``bin``; as root on Linux, the system's libpq is hidden from them, too.
The server is private, or the one that TEST_DATABASE_URL names (its user must be allowed to create databases).
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

import psycopg
from sqlalchemy.engine import make_url

from migrate_ext.testing import embedded

ROOT = Path(__file__).resolve().parent.parent
PLACES = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib")
# What the process has mapped when it ends: our binary needs no libpq, and the driver's own served it.
MAPPED = """
import alembic.config, sys
alembic.config.main(["upgrade", "head"])
maps = open("/proc/self/maps").read()
paths = sorted({line.split()[-1] for line in maps.splitlines() if "libpq" in line})
assert paths and all(path.startswith(sys.prefix) for path in paths), paths
import migrate_ext
assert migrate_ext.stats()["batches"] > 0, migrate_ext.stats()
"""


def without_libpq() -> list[str]:
    """A command's beginning, which hides the system's libpq from it: an empty file lies over each of its names."""
    unshare, mount, shell = (shutil.which(name) for name in ("unshare", "mount", "sh"))
    found = [str(path) for place in PLACES for path in Path(place).rglob("libpq.so*")]
    if not found:
        return []
    if unshare is None or mount is None or shell is None or os.geteuid() != 0:
        print("  the system's libpq stays in sight: only root can hide it, with unshare")
        return []
    hide = "".join(f"{mount} --bind /dev/null {shlex.quote(path)}; " for path in found)
    return [unshare, "--mount", shell, "-ec", f'{hide}exec "$@"', "sh"]


HIDING = without_libpq()


def run(*command: str | Path, env: dict[str, str], cwd: Path) -> str:
    """What a command prints; ends the program with all of it when it fails."""
    words = [*HIDING, *map(str, command)]
    done = subprocess.run(words, env=env, cwd=cwd, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
    return done.stdout


def try_wheel(wheel: Path, driver: str, requirement: str, server: str, folder: Path) -> None:
    """Install `wheel` with one driver, and migrate the sample backend with it."""
    environment = folder / driver
    venv.create(environment, with_pip=True)
    programs = environment / "bin"
    pip = [sys.executable, "-m", "pip", "--python", str(programs / "python"), "install", "-qq"]
    only_wheels = ["--disable-pip-version-check", "--only-binary=:all:", str(wheel), requirement]
    subprocess.run([*pip, *only_wheels], check=True)
    project = folder / f"{driver}-project"
    project.mkdir()
    for part in ("env.py", "alembic.ini", "script.py.mako"):
        shutil.copy(ROOT / part, project)
    for part in ("versions", "lib", "models"):
        shutil.copytree(ROOT / part, project / part)
    name = f"migrate_ext_wheel_{os.getpid()}_{driver}"
    url = make_url(server)
    admin = url.set(drivername="postgresql").render_as_string(hide_password=False)
    env = {"PATH": str(programs), "PYTHONPATH": str(project)}
    env["DATABASE_URL"] = url.set(
        drivername=f"postgresql+{driver}", database=name
    ).render_as_string(hide_password=False)
    for program in ("gcc", "cc", "clang", "pg_config"):
        assert shutil.which(program, path=env["PATH"]) is None
    if HIDING:
        loading = (
            "import ctypes\ntry:\n    ctypes.CDLL('libpq.so.5')\nexcept OSError:\n    print('none')"
        )
        assert run(programs / "python", "-c", loading, env=env, cwd=project) == "none\n"
    with psycopg.connect(admin, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
        try:
            run(programs / "python", "-c", MAPPED, env=env, cwd=project)
            assert "(head)" in run(programs / "alembic", "current", env=env, cwd=project)
            history = run(programs / "migrate-ext", "history", env=env, cwd=project)
            other = run(programs / "alembic", "history", env=env, cwd=project)
            # The order of several labels is a set's in Alembic.
            assert sorted(re.findall(r"\w+", other)) == sorted(re.findall(r"\w+", history))
            assert "(head)" in run(programs / "migrate-ext", "current", env=env, cwd=project)
        finally:
            connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
    print(f"  ok      {wheel.name} with {requirement}")


def main() -> None:
    (wheel,) = (Path(argument).resolve() for argument in sys.argv[1:])
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = os.environ.get("TEST_DATABASE_URL")
        if not server:
            server = stack.enter_context(embedded.temporary_server()).url()
        try_wheel(wheel, "psycopg", "psycopg[binary]", server, folder)
        try_wheel(wheel, "psycopg2", "psycopg2-binary", server, folder)


if __name__ == "__main__":
    main()
