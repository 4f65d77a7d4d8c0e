"""How wide the global memory instructions of PTX are, by the place in the source."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping

Key = tuple[tuple[str, int, int], ...]
Widths = Mapping[tuple[str, Key], frozenset[int]]
"""By `load`, `store` or `atomic` and place: bytes a thread moves with one instruction."""

BULK = 0
"""Stands for a copy of a whole tile by the tensor memory accelerator (TMA)."""

_LOC = re.compile(r"^\s*\.loc\s+\d+\s+(\d+)\s+\d+.*?//\s*(.*)$")
_FRAME = re.compile(r"([^\s@\[\]]+):(\d+):(\d+)")
_ACCESS = re.compile(r"\b(ld|st|atom|red)\.(?:\w+\.)*?global(?P<more>[.:\w]*)")
_TYPE = re.compile(r"\.[bfsu](\d+)$|\.[bfsu](\d+)\b|\.(?:bf|f)16x2\b")
_LANES = re.compile(r"\.v(\d)")
_COPY = re.compile(r"cp\.async\.c[ag]\.shared\S*\.global\S*\s+\[[^\]]+\],\s*\[[^\]]+\],\s*(\w+)")
_BULK = re.compile(r"cp\.async\.bulk\.tensor\S*?\.(shared::\w+|global)\S*")
_KINDS = {"ld": "load", "st": "store", "atom": "atomic", "red": "atomic"}


def read_widths(ptx: str) -> Widths:
    """Bytes a thread, of every global access of a PTX module whose place is known."""
    found: dict[tuple[str, Key], set[int]] = defaultdict(set)
    place: Key = ()
    for line in ptx.splitlines():
        if (loc := _LOC.match(line)) is not None:
            if loc[1] != "0":  # line 0 is code of no place in particular
                place = tuple((f, int(n), int(c)) for f, n, c in _FRAME.findall(loc[2]))
        elif (copy := _COPY.search(line)) is not None:
            found["load", place].add(int(copy[1], 0))
        elif (bulk := _BULK.search(line)) is not None:
            found["store" if bulk[1] == "global" else "load", place].add(BULK)
        elif (access := _ACCESS.search(line)) is not None:
            found[_KINDS[access[1]], place].add(_bytes(access["more"]))
    return {key: frozenset(widths) for key, widths in found.items()}


def _bytes(modifiers: str) -> int:
    """Of `.L1::evict_last.v4.b32`."""
    lanes = _LANES.search(modifiers)
    sizes = [int(a or b or 32) // 8 for a, b in _TYPE.findall(modifiers)]
    return (sizes[-1] if sizes else 4) * (int(lanes[1]) if lanes else 1)
