"""The output of ``migrate-ext verify``: a table, or JSON."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterable, Iterator
from importlib.metadata import version
from typing import Any
from urllib.parse import quote

from migrate_ext import __version__
from migrate_ext.verify.run import Compared, Result, tail

_TITLES = {"drop-in": "alembic", "migrate-ext": "migrate-ext"}


def versions() -> dict[str, str]:
    """The versions that a result is valid for."""
    return {
        "migrate_ext": __version__,
        "Python": platform.python_version(),
        "Alembic": version("alembic"),
        "SQLAlchemy": version("sqlalchemy"),
    }


def without(secrets: Iterable[str | None], text: str) -> str:
    """`text` without passwords, both in plain and in URL-encoded form."""
    for secret in secrets:
        for form in {secret, quote(secret, safe="")} if secret else ():
            text = text.replace(f":{form}@", ":***@").replace(f"'{form}'", "'***'")
    return text


def table(result: Result) -> Iterator[str]:
    """The lines of the table, the numbers of batches, and the verdict."""
    ways = list(result.counters)[1:]
    head = ["step", "result", "Alembic alone"]
    for way in ways:
        head += [f"here: {_TITLES[way]}", ""]
    rows = [head, *(_row(compared) for compared in result.compared)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        left = [cell.ljust(width) for cell, width in zip(row[:2], widths[:2], strict=True)]
        right = [cell.rjust(width) for cell, width in zip(row[2:], widths[2:], strict=True)]
        yield "  ".join([*left, *right]).rstrip()
    yield ""
    for way in ways:
        yield from _batches(_TITLES[way], result.counters[way])
    if result.shared:
        yield f"The history changed what all databases of the server share: {', '.join(result.shared)}"
    notes = list(_notes(result))
    if notes:
        yield f"Not comparable, because Alembic's own {result.again + 1} runs differ in it:"
        yield from (f"  {note}" for note in notes)
    yield ""
    yield from verdict(result)


def _row(compared: Compared) -> list[str]:
    found = [verdict.what for _, verdict in compared.ways.values() if verdict.what]
    text = f"DIFFERENT: {found[0]}" if found else "same"
    if not found and compared.stock.code:
        text += f", exit code {compared.stock.code}"
    row = [str(compared.step), text, f"{compared.stock.seconds:.2f} s"]
    for outcome, _ in compared.ways.values():
        row += [f"{outcome.seconds:.2f} s", f"{outcome.seconds / compared.stock.seconds:.2f}x"]
    return row


def _batches(way: str, counters: dict[str, Any]) -> Iterator[str]:
    batched, alone = (int(str(counters.get(x, 0))) for x in ("statements", "plain_statements"))
    sent = f"{batched} of {batched + alone} statements sent in {counters.get('batches', 0)} batches"
    waits = f"{counters.get('waits', 0)} waits for the server"
    yield f"{way}: {sent if batched + alone else 'nothing sent in batches'}; {waits}"
    reasons = counters.get("plain_reasons")
    if isinstance(reasons, dict) and reasons:
        yield "  Left to Alembic's own code, with the reason:"
        for reason, count in sorted(reasons.items(), key=lambda item: (-item[1], item[0])):
            yield f"  {count:6}  {reason}"
    ends = counters.get("span_ends")
    if isinstance(ends, dict) and ends:
        yield "  Lines before which all statements are confirmed, because what runs there could be observed:"
        for where in sorted(ends):
            yield f"    {where}"


def _notes(result: Result) -> Iterator[str]:
    seen = set()
    for compared in result.compared:
        for _, verdict in compared.ways.values():
            for note in verdict.notes:
                text = f"{compared.step}: {note}"
                if text not in seen:
                    seen.add(text)
                    yield text


def verdict(result: Result) -> Iterator[str]:
    """The lines with the result of the comparison."""
    if result.first_difference is not None:
        compared, way = result.first_difference
        outcome, found = compared.ways[way]
        yield f"DIFFERENT: '{compared.step}' under {_TITLES[way]}, in: {found.what}"
        yield found.how
        if result.shared:
            yield "Not proven: each side sees what the others changed on the server (see above)."
        else:
            yield "This is a defect of migrate_ext: please report it. MIGRATE_EXT=0 switches it off."
    elif result.failed is not None:
        failed = result.failed
        yield (
            f"Not proven: '{failed.step}' fails under Alembic itself, from an empty database, with exit code "
            f"{failed.stock.code}. It fails the same way here. Alembic's last words:"
        )
        yield tail(failed.stock)
    else:
        yield "The same: exit codes, texts, catalogue, rows."


def document(result: Result | None, code: int, reason: str, kept: list[str]) -> str:
    """The whole result as JSON. reason: why nothing could be compared, or empty."""
    steps = []
    for compared in result.compared if result else ():
        ways = {
            _TITLES[way]: {
                "exit_code": outcome.code,
                "seconds": round(outcome.seconds, 3),
                "different": found.what or None,
                "difference": found.how or None,
                "notes": found.notes,
                "counters": outcome.counters,
            }
            for way, (outcome, found) in compared.ways.items()
        }
        stock = {"exit_code": compared.stock.code, "seconds": round(compared.stock.seconds, 3)}
        steps.append({"step": str(compared.step), "alembic_alone": stock, "here": ways})
    counters = list(result.counters.items())[1:] if result else []
    return json.dumps(
        {
            "result": ("same", "different", "could not be done")[code],
            "exit_code": code,
            "reason": reason or (" ".join(verdict(result)) if result else ""),
            "versions": versions(),
            "steps": steps,
            "counters": {_TITLES[way]: counted for way, counted in counters},
            "alembic_ran_again": result.again if result else 0,
            "kept": kept,
        },
        indent=2,
    )
