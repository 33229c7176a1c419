"""scripts/migrate.sh passes arguments, exit codes and errors through docker: a fake docker records its calls."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from shlex import quote

import pytest

ROOT = Path(__file__).resolve().parents[2]
FAKE = """
import json, os, sys
called, *arguments = sys.argv[1:]
if called.endswith("docker-compose"):
    arguments = ["compose", *arguments]
with open(os.environ["CALLS"], "a") as calls:
    calls.write(json.dumps([os.getcwd(), arguments]) + "\\n")
match arguments:
    case ["info"]:
        sys.exit("no_daemon" in os.environ["FAKE"])
    case ["compose", "version"]:
        sys.exit("no_plugin" in os.environ["FAKE"])
    case ["compose", "config", "--services"]:
        print("backend\\ndb")
    case ["compose", "ps", *_]:
        print("db\\nbackend" if "running" in os.environ["FAKE"] else "db")
    case ["compose", "exec" | "run", *_]:
        sys.exit(int(os.environ.get("EXIT", "0")))
"""

Run = Callable[..., "Outcome"]


class Outcome:
    """How the script ended, and the last call that docker got."""

    def __init__(self, done: subprocess.CompletedProcess[str], calls: Path) -> None:
        self.code = done.returncode
        self.errors = done.stderr
        lines = calls.read_text().splitlines() if calls.exists() else []
        self.folder, self.last = json.loads(lines[-1]) if lines else (None, [])


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run migrate.sh with a PATH that holds only the programs it needs and the fakes named."""

    def run(*arguments: str, fakes: tuple[str, ...] = ("docker",), **env: str) -> Outcome:
        programs = tmp_path / "bin"
        programs.mkdir()
        for name in ("dirname", "id", "grep"):
            for folder in ("/usr/bin", "/bin"):
                if Path(folder, name).exists() and not (programs / name).exists():
                    (programs / name).symlink_to(Path(folder, name))
        fake = tmp_path / "fake.py"
        fake.write_text(FAKE)
        for name in fakes:
            # Not Python's own first line: its path may hold blanks, or be too long.
            start = f"exec {quote(sys.executable)} -I {quote(str(fake))}"
            (programs / name).write_text(f'#!/bin/sh\n{start} "$0" "$@"\n')
            (programs / name).chmod(0o755)
        calls = tmp_path / "calls"
        done = subprocess.run(
            ["/bin/sh", ROOT / "scripts" / "migrate.sh", *arguments],
            cwd=tmp_path,
            env={"PATH": str(programs), "CALLS": str(calls), "FAKE": "", **env},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        return Outcome(done, calls)

    return run


def test_arguments_reach_the_running_container_untouched(run: Run) -> None:
    arguments = ["revision", "-m", "a  'quoted' \"title\" $HOME *", "", "-x", "key=a b"]
    outcome = run(*arguments, FAKE="running")
    me = f"{os.getuid()}:{os.getgid()}"
    head = ["compose", "exec", "-T", "--user", me, "backend", "python", "scripts/migrate.py"]
    assert outcome.last == [*head, *arguments]
    assert outcome.folder == str(ROOT)
    assert outcome.code == 0


def test_a_new_container_is_used_and_removed_when_none_runs(run: Run) -> None:
    outcome = run("upgrade", "head", MIGRATE_USER="image")
    script = ["python", "scripts/migrate.py", "upgrade", "head"]
    assert outcome.last == ["compose", "run", "--rm", "-T", "backend", *script]


@pytest.mark.parametrize("state", ["running", "stopped"])
def test_the_exit_code_of_the_command_is_the_scripts_own(run: Run, state: str) -> None:
    assert run("check", FAKE=state, EXIT="37").code == 37


def test_another_service_can_be_named(run: Run) -> None:
    assert "db" in run("current", MIGRATE_SERVICE="db").last


def test_docker_compose_of_old_is_used_where_the_plugin_is_missing(run: Run) -> None:
    outcome = run("current", fakes=("docker", "docker-compose"), FAKE="no_plugin running")
    assert outcome.code == 0
    assert outcome.last[:2] == ["compose", "exec"]


@pytest.mark.parametrize(
    ("fakes", "env", "said"),
    [
        ((), {}, "docker is not installed"),
        (("docker",), {"FAKE": "no_plugin"}, "docker has no compose plugin"),
        (("docker",), {"FAKE": "no_daemon"}, "daemon does not answer"),
        (("docker",), {"MIGRATE_SERVICE": "web"}, "no service 'web'"),
    ],
    ids=["no docker", "no compose", "no daemon", "no such service"],
)
def test_a_missing_docker_daemon_or_service_is_named_and_nothing_is_run(
    run: Run, fakes: tuple[str, ...], env: dict[str, str], said: str
) -> None:
    outcome = run("upgrade", "head", fakes=fakes, **env)
    assert said in outcome.errors
    assert outcome.code == 125
    assert not {"exec", "run"} & set(outcome.last)
