"""What a rule found."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from tunekit.rules.ttir import Op


class Verdict(StrEnum):
    """What is said of a rule."""

    OK = "ok"
    BROKEN = "broken"
    UNDECIDED = "undecided"


@dataclass(frozen=True, slots=True)
class Finding:
    """One rule, held against one compiled kernel.

    Attributes:
        rule: its name.
        says: one sentence: what is so, or what could not be decided and why.
        fact: what was read.
        places: operations and source lines that it was read at.
    """

    rule: str
    verdict: Verdict
    says: str
    fact: str = ""
    places: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As JSON-able values."""
        return {
            "rule": self.rule,
            "verdict": str(self.verdict),
            "says": self.says,
            "fact": self.fact,
            "places": list(self.places),
        }


def places_of(ops: Iterable[Op]) -> tuple[str, ...]:
    """`tt.load at mine.py:12` of each, each once."""
    named = (f"{op.name} at {op.place}" if str(op.place) else op.name for op in ops)
    return tuple(dict.fromkeys(named))


def counted(count: int, noun: str) -> str:
    """`1 load`, `2 loads`, `2 accesses`."""
    ending = "" if count == 1 else "es" if noun.endswith("s") else "s"
    return f"{count} {noun}{ending}"


def listed(parts: Iterable[str]) -> str:
    """`a, b and c`."""
    *most, last = list(parts) or [""]
    return f"{', '.join(most)} and {last}" if most else last
