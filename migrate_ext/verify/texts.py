"""The permitted differences between two outputs of a command: the rows of docs/differences.md, each as a rule."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable

Rule = Callable[[str], str]


def _sorted(match: re.Match[str]) -> str:
    *before, names = match.groups()
    return "".join(before) + "(" + ", ".join(sorted(names.split(", "))) + ")"


def _sorted_lines(match: re.Match[str]) -> str:
    return "".join(sorted(match[0].splitlines(True)))


_CHILDREN = re.compile(r"(?:^ +-> .*\n)+", re.M)
# In --sql, the downgrade of a merge inserts one version row and updates another: which one is which varies.
_UNMERGED = re.compile(
    r"(INSERT INTO \w+ \(version_num\) VALUES \(')(\w+)('\).*\n\nUPDATE \w+ SET version_num=')(\w+)(')"
)


def _sorted_rows(match: re.Match[str]) -> str:
    inserted, updated = sorted((match[2], match[4]))
    return f"{match[1]}{inserted}{match[3]}{updated}{match[5]}"


def sets(text: str) -> str:
    """The order of labels, of a branch point's children, of a downgraded merge's version rows: a set in Alembic."""
    text = re.sub(r"\((\w+(?:, \w+)+)\)", _sorted, text)
    text = re.sub(r"(Branch names: )(.*),?", _sorted, text)
    text = re.sub(r"(Branches into: )(.*)", _sorted, text)
    text = _UNMERGED.sub(_sorted_rows, text)
    return _CHILDREN.sub(_sorted_lines, text)


def heads(text: str) -> str:
    """The order of several current heads, a set in Alembic; with ``-v`` each is a paragraph."""
    parts = re.split(r"^(?=Current revision\(s\) for |Rev: )", text, flags=re.M)
    return "".join(sorted(parts if len(parts) > 1 else text.splitlines(True)))


_INDEX = r"^CREATE (?:UNIQUE )?INDEX [^;]*? ON %s [^;]*;\n\n"
_INDEXES = re.compile(_INDEX % r"(\S+)" + "(?:" + _INDEX % r"\1" + ")+", re.M)


def indexes(text: str) -> str:
    """The order of a new table's indexes in --sql: a set in SQLAlchemy."""
    return _INDEXES.sub(lambda found: "\n\n".join(sorted(found[0].split("\n\n"))), text)


def hints(text: str) -> str:
    """Lines ``hint: ...``."""
    return re.sub(r"^hint: .*\n", "", text, flags=re.M)


# Messages that there is no lock, where a statement failed, and what was committed.
_BESIDE = re.compile(
    r"^(INFO .*No lock against other runs on .*|\[migrate_ext: .*"
    r"|ERROR \[alembic\.runtime\.migration\] .* (?:the same command goes on from there|unless it can be done twice)\.)\n",
    re.M,
)


def beside(text: str) -> str:
    """Messages that only the runtime writes: about the lock, and a failed run."""
    return _BESIDE.sub("", text)


_FRAMES = re.compile(r"^(Traceback .*\n| +File .*\n(?: .*\n)*)", re.M)


def frames(text: str) -> str:
    """The frames of tracebacks: they include our functions, and not those of a driver that was not called."""
    return _FRAMES.sub("", text)


def addresses(text: str) -> str:
    """Addresses of objects in ``repr``."""
    return re.sub(r"0x[0-9a-f]{6,}", "<address>", text)


_WARNED = re.compile(r"^.*\.py:\d+: (?:Deprecation|Syntax)Warning: .*\n(?:  .*\n)?", re.M)


def warned(text: str) -> str:
    """Deprecation and syntax warnings of revision files, which Python gives only if it executes a file."""
    return _WARNED.sub("", text)


STDOUT: tuple[Rule, ...] = (sets,)
STDERR: tuple[Rule, ...] = (hints, sets, beside, frames, addresses, warned)
OF_COMMANDS: dict[str, tuple[Rule, ...]] = {
    "current": (heads,),
    "--sql": (indexes,),
}


def apply(rules: tuple[Rule, ...], text: str) -> str:
    """`text`, in a form that is equal for all texts that differ only as the `rules` permit."""
    for rule in rules:
        text = rule(text)
    return text


def stdout(words: tuple[str, ...], text: str) -> str:
    """The standard output of a command, in a form that can be compared. words: of the command."""
    for word in words:
        text = apply(OF_COMMANDS.get(word, ()), text)
    return apply(STDOUT, text)


def stderr(text: str) -> str:
    """The standard error of a command, in a form that can be compared."""
    return apply(STDERR, text)


# -------------------------------------------------------------------------------------------------
# Differences between two runs of Alembic itself

# Values that may be different in each run: times, numbers, uuids, long hexadecimal keys. Not words, nor revision ids.
_VALUE = (
    r"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d:\d\d(?:[.,]\d+)?(?:Z|[+-]\d\d:?\d\d)?)?|\d\d:\d\d:\d\d(?:[.,]\d+)?"
    r"|\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b|\b[0-9a-f]{16,}\b|\b\d+(?:\.\d+)?\b"
)
_TOKEN = re.compile(rf"{_VALUE}|\w+|\s+|.")
_IS_VALUE = re.compile(_VALUE).fullmatch


def differ(stock: str, ours: str, again: list[str]) -> str:
    """How `ours` differs from `stock`, except where Alembic's own further runs `again` differ; "" if it does not."""
    if stock == ours:
        return ""
    before, after, *others = (text.splitlines() for text in (stock, ours, *again))
    same = len(before) == len(after) and _agree(before, after, others, _is_same_line)
    return "" if same else excerpt(stock, ours)


def _is_same_line(stock: str, ours: str, again: list[str]) -> bool:
    before, after, *others = map(_TOKEN.findall, (stock, ours, *again))
    return len(before) == len(after) and _agree(before, after, others, _is_same_value)


def _is_same_value(stock: str, ours: str, again: list[str]) -> bool:
    return bool(_IS_VALUE(stock) and _IS_VALUE(ours)) and any(x != stock for x in again)


def _agree(
    stock: list[str],
    ours: list[str],
    again: list[list[str]],
    is_same: Callable[[str, str, list[str]], bool],
) -> bool:
    """Whether two lists of the same length agree: item by item, or in another order at the places where Alembic's own
    runs differ.
    """
    again = [other for other in again if len(other) == len(stock)]
    columns = list(zip(stock, ours, *again, strict=True))
    different = [
        at
        for at, (mine, yours, *others) in enumerate(columns)
        if mine != yours and not is_same(mine, yours, others)
    ]
    if not different:
        return True
    moved = [at for at, (mine, _, *others) in enumerate(columns) if any(x != mine for x in others)]
    return set(different) <= set(moved) and Counter(stock[at] for at in moved) == Counter(
        ours[at] for at in moved
    )


_SHOWN = 30  # lines of a difference


def excerpt(stock: str, ours: str) -> str:
    """The first lines of a unified diff."""
    import difflib

    found = [
        line.rstrip("\n")
        for line in difflib.unified_diff(
            stock.splitlines(True), ours.splitlines(True), "Alembic", "migrate_ext", n=2
        )
    ]
    more = len(found) - _SHOWN
    return "\n".join([*found[:_SHOWN], *([f"... {more} lines more"] if more > 0 else [])])
