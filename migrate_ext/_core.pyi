"""The C core."""

from collections.abc import Sequence
from os import PathLike

# revision (None: the file has none), down_revision, branch_labels, depends_on, docstring
_Scanned = tuple[
    str | None,
    str | tuple[str, ...] | None,
    str | tuple[str, ...] | None,
    str | tuple[str, ...] | None,
    str | None,
]

def counters() -> dict[str, int]: ...
def scan_source(source: bytes, /) -> _Scanned | str: ...
def scan_files(
    directory: str | PathLike[str], names: Sequence[str | PathLike[str]], /
) -> list[_Scanned | str]: ...
