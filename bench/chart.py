"""``python bench/chart.py``: measures the figures of the README in one run, and draws them as docs/speed.svg.

Needs a PostgreSQL server: ``TEST_DATABASE_URL``, of a database whose owner may create others. Figures are the least of
several whole processes, run in turns.
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
import time
from pathlib import Path
from xml.sax.saxutils import escape

import alembic
import histories
import project
import psycopg
import run
import sqlalchemy
import upgrade
from sqlalchemy.engine import make_url

TARGET = Path(__file__).parents[1] / "docs" / "speed.svg"
WIDTH, LABELS, BAR, ROW = 760, 330, 300, 52
STYLE = """
text { font: 13px system-ui, sans-serif; fill: #1f2328 }
.small { font-size: 11px; fill: #59636e }
.alembic { fill: #b6bfc8 } .ours { fill: #1a7f64 }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 } .small { fill: #9198a1 } .alembic { fill: #59636e } .ours { fill: #3fb68b }
}
"""


def commands(folder: Path, admin: str, rounds: int) -> list[tuple[str, float, float]]:
    """Commands that read, and one that finds nothing to do: under ``migrate-ext``, a thin ``env.py``."""
    bench = run.Bench(project.make(folder, 1000), admin, rounds)
    try:
        bench.fresh_database()
        bench.once((*bench.ours, "upgrade", "head"))
        found = []
        for title, words in (
            ("history, 1,000 revisions", ("history",)),
            ("upgrade head, nothing to do, 1,000 revisions", ("upgrade", "head")),
        ):
            theirs, ours = bench.least([(*bench.alembic, *words), (*bench.ours, *words)])
            found.append((title, theirs, ours))
        return found
    finally:
        bench.databases.drop()


def upgrades(folder: Path, admin: str, rounds: int) -> list[tuple[str, float, float]]:
    """From empty, typed as ``alembic upgrade head``, a classic ``env.py``, psycopg."""
    made = histories.make(folder / "real", 400, is_async=False, each=False)
    runs = histories.Runs(made, admin, "psycopg")
    found = []
    try:
        found.append(("upgrade from empty, shapes of real histories", *runs.pairs(rounds, None)))
        with upgrade.delayed(runs.url, 5) as port:
            found.append(("the same, 5 ms away from the server", *runs.pairs(rounds, port)))
    finally:
        runs.databases.drop()
    plain = project.make(folder / "plain", 1000, project.CREATE_SMALL_TABLE)
    url = make_url(admin).set(drivername="postgresql")
    with upgrade.Bench(plain, url, rounds) as bench, upgrade.delayed(url, 5) as port:
        theirs, ours = bench.least(upgrade.ALEMBIC, upgrade.DROP_IN, port=port)
        found.append(("1,000 tables of autogenerate, 5 ms away", theirs.seconds, ours.seconds))
    return found


def shown(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds >= 1 else f"{seconds * 1000:.0f} ms"


def draw(rows: list[tuple[str, float, float]], caption: str) -> str:
    """An SVG: for each row the two times as bars, Alembic's always of the same length."""
    height = 44 + ROW * len(rows) + 24
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" role="img">',
        f"<title>Time of commands under Alembic and here. {escape(caption)}</title>",
        f"<style>{STYLE}</style>",
        f'<rect class="alembic" x="{LABELS}" y="8" width="12" height="12"/>'
        f'<text class="small" x="{LABELS + 18}" y="18">Alembic</text>',
        f'<rect class="ours" x="{LABELS + 90}" y="8" width="12" height="12"/>'
        f'<text class="small" x="{LABELS + 108}" y="18">migrate_ext</text>',
    ]
    for number, (title, theirs, ours) in enumerate(rows):
        y = 36 + number * ROW
        lines.append(f'<text x="0" y="{y + 19}">{escape(title)}</text>')
        for offset, kind, seconds in ((0, "alembic", theirs), (19, "ours", ours)):
            length = max(2.0, BAR * seconds / theirs)
            note = shown(seconds) + (f", {ours / theirs:.2f}x" if kind == "ours" else "")
            lines += [
                f'<rect class="{kind}" x="{LABELS}" y="{y + offset}" width="{length:.1f}" height="16"/>',
                f'<text class="small" x="{LABELS + length + 6:.1f}" y="{y + offset + 12}">{note}</text>',
            ]
    lines += [f'<text class="small" x="0" y="{height - 8}">{escape(caption)}</text>', "</svg>"]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    address = os.environ.get("TEST_DATABASE_URL")
    if not address:
        raise SystemExit("set TEST_DATABASE_URL, for example postgresql://user@localhost/postgres")
    admin = make_url(address).set(drivername="postgresql").render_as_string(hide_password=False)
    project.compile_package()
    with psycopg.connect(admin) as connection:
        server = connection.info.server_version // 10000
    caption = (
        f"{time.strftime('%Y-%m-%d')}, {os.cpu_count()} cores, Python {platform.python_version()}, "
        f"Alembic {alembic.__version__}, SQLAlchemy {sqlalchemy.__version__}, PostgreSQL {server}; "
        f"least of {arguments.rounds}: bench/chart.py"
    )
    with tempfile.TemporaryDirectory() as folder:
        rows = commands(Path(folder) / "commands", admin, arguments.rounds)
        rows += upgrades(Path(folder), admin, arguments.rounds)
    for title, theirs, ours in rows:
        print(f"| {title} | {shown(theirs)} | {shown(ours)} | {ours / theirs:.2f}x |")
    TARGET.write_text(draw(rows, caption))
    print(f"{TARGET.name} is drawn: {caption}")


if __name__ == "__main__":
    main()
