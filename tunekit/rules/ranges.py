"""Integers and pointers of many programs at once: for each program, and each lane, a range.

Arrays are `[programs, *block]`, int64, broadcast where an axis has one entry. Followed lane by lane
a value's two ends are the same array and it is exact; followed program by program each block is one
range over all its lanes. Pointers count bytes from where a parameter points.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Range:
    """At least `lo` and at most `hi`.

    Attributes:
        memory: of a pointer, which of the kernel's parameters it comes from.
    """

    lo: Array
    hi: Array
    memory: int | None = None

    @classmethod
    def of(cls, value: Array | int, memory: int | None = None) -> Range:
        """Exactly that."""
        array = np.atleast_1d(np.asarray(value, dtype=np.int64))
        return cls(array, array, memory)

    @property
    def is_exact(self) -> bool:
        """Whether both ends are the same everywhere."""
        return self.lo is self.hi or bool(np.array_equal(self.lo, self.hi))


@dataclass(frozen=True, slots=True)
class Unknown:
    """Nothing is known of it, and why."""

    why: str


Followed = Range | Unknown


def _both(a: Range, b: Range, function: Callable[[Array, Array], Array]) -> Range:
    """A function that grows with both arguments."""
    if a.lo is a.hi and b.lo is b.hi:
        return Range.of(function(a.lo, b.lo))
    return Range(function(a.lo, b.lo), function(a.hi, b.hi))


def add(a: Range, b: Range) -> Followed:
    """The sum."""
    return _both(a, b, np.add)


def subtract(a: Range, b: Range) -> Followed:
    """The difference."""
    if a.lo is a.hi and b.lo is b.hi:
        return Range.of(a.lo - b.lo)
    return Range(a.lo - b.hi, a.hi - b.lo)


def multiply(a: Range, b: Range) -> Followed:
    """The product."""
    if a.lo is a.hi and b.lo is b.hi:
        return Range.of(a.lo * b.lo)
    ends = [x * y for x in (a.lo, a.hi) for y in (b.lo, b.hi)]
    return Range(np.minimum.reduce(ends), np.maximum.reduce(ends))


def _truncated(a: Array, b: Array) -> Array:
    quotient: Array = np.abs(a) // np.abs(b)
    return np.where((a < 0) != (b < 0), -quotient, quotient)


def divide(a: Range, b: Range) -> Followed:
    """The quotient, rounded towards zero."""
    if not b.is_exact or (b.lo == 0).any():
        return Unknown("a division by what is not known")
    if a.lo is a.hi:
        return Range.of(_truncated(a.lo, b.lo))
    if (b.lo < 0).any():
        return Unknown("a division by what may be negative")
    return Range(_truncated(a.lo, b.lo), _truncated(a.hi, b.lo))


def remainder(a: Range, b: Range) -> Followed:
    """What a division rounded towards zero leaves."""
    if not b.is_exact or (b.lo == 0).any():
        return Unknown("a division by what is not known")
    by: Array = np.abs(b.lo)
    if a.lo is a.hi:
        return Range.of(a.lo - by * _truncated(a.lo, by))
    first, last = _truncated(a.lo, by), _truncated(a.hi, by)
    within = (first == last) & ((a.lo >= 0) | (a.hi <= 0))
    least = np.where(a.lo >= 0, 0, np.maximum(a.lo, 1 - by))
    most = np.where(a.hi <= 0, 0, np.minimum(a.hi, by - 1))
    return Range(
        np.where(within, a.lo - by * first, least), np.where(within, a.hi - by * last, most)
    )


def floor_divide(a: Range, b: Range) -> Followed:
    """The quotient, rounded down."""
    if not b.is_exact or (b.lo <= 0).any():
        return Unknown("a division by what is not known")
    return _both(a, Range(b.lo, b.lo), np.floor_divide)


def ceil_divide(a: Range, b: Range) -> Followed:
    """The quotient, rounded up."""
    if not b.is_exact or (b.lo <= 0).any():
        return Unknown("a division by what is not known")
    return _both(a, Range(b.lo, b.lo), lambda x, y: -(-x // y))


def _if_not_negative(
    function: Callable[[Range, Range], Followed],
) -> Callable[[Range, Range], Followed]:
    """An unsigned operation: the signed one where nothing is negative."""

    def unsigned(a: Range, b: Range) -> Followed:
        if (a.lo < 0).any() or (b.lo < 0).any():
            return Unknown("an unsigned operation on what may be negative")
        return function(a, b)

    return unsigned


def minimum(a: Range, b: Range) -> Followed:
    """The smaller."""
    return _both(a, b, np.minimum)


def maximum(a: Range, b: Range) -> Followed:
    """The larger."""
    return _both(a, b, np.maximum)


def _is_truth(a: Range) -> bool:
    return bool(((a.lo >= 0) & (a.hi <= 1)).all())


def bit_and(a: Range, b: Range) -> Followed:
    """Bits of both."""
    if (a.is_exact and b.is_exact) or (_is_truth(a) and _is_truth(b)):
        return _both(a, b, np.bitwise_and)
    if (a.lo < 0).any() or (b.lo < 0).any():
        return Unknown("bits of what may be negative")
    return Range(np.zeros_like(a.lo + b.lo), np.minimum(a.hi, b.hi))


def bit_or(a: Range, b: Range) -> Followed:
    """Bits of either."""
    if (a.is_exact and b.is_exact) or (_is_truth(a) and _is_truth(b)):
        return _both(a, b, np.bitwise_or)
    return Unknown("bits of a range")


def bit_xor(a: Range, b: Range) -> Followed:
    """Bits of one alone."""
    if a.is_exact and b.is_exact:
        return Range.of(a.lo ^ b.lo)
    if _is_truth(a) and b.is_exact and _is_truth(b):
        return Range(np.where(b.lo == 1, 1 - a.hi, a.lo), np.where(b.lo == 1, 1 - a.lo, a.hi))
    return Unknown("bits of a range")


def shift_left(a: Range, b: Range) -> Followed:
    """Times a power of two."""
    if not b.is_exact:
        return Unknown("a shift by what is not known")
    return multiply(a, Range.of(np.int64(1) << b.lo))


def shift_right(a: Range, b: Range) -> Followed:
    """Divided by a power of two, rounded down."""
    if not b.is_exact:
        return Unknown("a shift by what is not known")
    return floor_divide(a, Range.of(np.int64(1) << b.lo))


ARITHMETIC: dict[str, Callable[[Range, Range], Followed]] = {
    "arith.addi": add,
    "arith.subi": subtract,
    "arith.muli": multiply,
    "arith.divsi": divide,
    "arith.remsi": remainder,
    "arith.divui": _if_not_negative(divide),
    "arith.remui": _if_not_negative(remainder),
    "arith.floordivsi": floor_divide,
    "arith.ceildivsi": ceil_divide,
    "arith.ceildivui": _if_not_negative(ceil_divide),
    "arith.minsi": minimum,
    "arith.maxsi": maximum,
    "arith.minui": _if_not_negative(minimum),
    "arith.maxui": _if_not_negative(maximum),
    "arith.andi": bit_and,
    "arith.ori": bit_or,
    "arith.xori": bit_xor,
    "arith.shli": shift_left,
    "arith.shrsi": shift_right,
    "arith.shrui": _if_not_negative(shift_right),
}
"""What is known of integer operations, by their name in TTIR."""

_COMPARISONS: dict[str, tuple[Any, bool]] = {
    # Whether it holds for `a` and `b`; whether it holds rather for a small `a`.
    "lt": (np.less, True),
    "le": (np.less_equal, True),
    "gt": (np.greater, False),
    "ge": (np.greater_equal, False),
}


def compare(predicate: str, a: Range, b: Range) -> Followed:
    """0, 1, or from 0 to 1 where it is not known; `predicate` is MLIR's, such as `slt`."""
    if predicate in ("eq", "ne"):
        apart = (a.hi < b.lo) | (a.lo > b.hi)
        same = (a.lo == a.hi) & (b.lo == b.hi) & (a.lo == b.lo)
        surely, perhaps = (same, ~apart) if predicate == "eq" else (apart, ~same)
    else:
        if predicate[0] == "u" and ((a.lo < 0).any() or (b.lo < 0).any()):
            return Unknown("an unsigned comparison of what may be negative")
        holds, of_small = _COMPARISONS[predicate[1:]]
        surely = holds(a.hi, b.lo) if of_small else holds(a.lo, b.hi)
        perhaps = holds(a.lo, b.hi) if of_small else holds(a.hi, b.lo)
    lo = surely.astype(np.int64)
    exact = a.lo is a.hi and b.lo is b.hi
    return Range(lo, lo) if exact else Range(lo, perhaps.astype(np.int64))


def choose(condition: Followed, a: Followed, b: Followed) -> Followed:
    """`a` where the condition holds and `b` elsewhere; either where it is not known."""
    for each in (a, b):
        if isinstance(each, Unknown):
            return each
    assert isinstance(a, Range)
    assert isinstance(b, Range)
    if a.memory != b.memory:
        return Unknown("it is one of two pointers")
    if isinstance(condition, Unknown):
        return Range(np.minimum(a.lo, b.lo), np.maximum(a.hi, b.hi), a.memory)
    yes, no = condition.lo == 1, condition.hi == 0
    lo = np.where(yes, a.lo, np.where(no, b.lo, np.minimum(a.lo, b.lo)))
    if a.lo is a.hi and b.lo is b.hi and condition.is_exact:
        return Range(lo, lo, a.memory)
    hi = np.where(yes, a.hi, np.where(no, b.hi, np.maximum(a.hi, b.hi)))
    return Range(lo, hi, a.memory)
