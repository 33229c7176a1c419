"""Builds migrate_ext._core; everything else is in pyproject.toml."""

import os
import subprocess
from pathlib import Path

from setuptools import Extension, setup

ROOT = Path(__file__).parent


def libpq_include() -> str:
    """The folder of libpq-fe.h."""
    return subprocess.check_output(["pg_config", "--includedir"], text=True).strip()


warnings = ["-Wall", "-Wextra", "-Wshadow", "-Wconversion", "-Wstrict-prototypes", "-Wvla"]
flags = ["-std=c11", "-fvisibility=hidden", *warnings]
link: list[str] = []
if os.environ.get("MIGRATE_EXT_SANITIZE"):
    sanitize = ["-fsanitize=address,undefined", "-fno-omit-frame-pointer", "-g", "-O1"]
    flags += sanitize
    link += sanitize

setup(
    ext_modules=[
        Extension(
            "migrate_ext._core",
            sources=sorted(str(p.relative_to(ROOT)) for p in ROOT.glob("csrc/*/*.c")),
            depends=sorted(str(p.relative_to(ROOT)) for p in ROOT.glob("csrc/*/*.h")),
            include_dirs=["csrc", libpq_include()],
            libraries=["dl"],
            extra_compile_args=flags,
            extra_link_args=link,
        )
    ]
)
