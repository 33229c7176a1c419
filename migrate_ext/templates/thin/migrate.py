#!/usr/bin/env python3
"""Run a migration command: ``python scripts/migrate.py <command>``, from any folder.

Sets ``PYTHONPATH`` to the project's root, so that ``env.py`` finds ``lib`` and ``models``, and works there.
"""

import os
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def main() -> int:
    """Run the command line in the project's root; ends the process, or returns its exit code."""
    inherited = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = ROOT + (os.pathsep + inherited if inherited else "")
    # The folder of this script is on the path already, and is not wanted there.
    sys.path[0] = ROOT
    os.chdir(ROOT)
    try:
        from migrate_ext.cli import program
    except ImportError as error:
        print(f"FAILED: {error}. Install the project first: pip install -e .", file=sys.stderr)
        return 1
    program(prog="migrate.py")


if __name__ == "__main__":
    sys.exit(main())
