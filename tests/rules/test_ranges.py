"""Whatever numbers lie in two ranges, what an operation gives lies in the range it gives."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunekit.rules.ranges import ARITHMETIC, Range, Unknown, choose, compare

SMALL = st.integers(-40, 40)


def truncated(a: int, b: int) -> int:
    return math.trunc(a / b)


EXPECTED: dict[str, Callable[[int, int], int]] = {
    "arith.addi": lambda a, b: a + b,
    "arith.subi": lambda a, b: a - b,
    "arith.muli": lambda a, b: a * b,
    "arith.divsi": truncated,
    "arith.divui": truncated,
    "arith.remsi": lambda a, b: a - b * truncated(a, b),
    "arith.remui": lambda a, b: a - b * truncated(a, b),
    "arith.floordivsi": lambda a, b: a // b,
    "arith.ceildivsi": lambda a, b: -(-a // b),
    "arith.ceildivui": lambda a, b: -(-a // b),
    "arith.minsi": min,
    "arith.maxsi": max,
    "arith.minui": min,
    "arith.maxui": max,
    "arith.andi": lambda a, b: a & b,
    "arith.ori": lambda a, b: a | b,
    "arith.xori": lambda a, b: a ^ b,
    "arith.shli": lambda a, b: a << b,
    "arith.shrsi": lambda a, b: a >> b,
    "arith.shrui": lambda a, b: a >> b,
}
COMPARISONS: dict[str, Callable[[int, int], bool]] = {
    "eq": lambda a, b: a == b,
    "ne": lambda a, b: a != b,
    "slt": lambda a, b: a < b,
    "sle": lambda a, b: a <= b,
    "sgt": lambda a, b: a > b,
    "sge": lambda a, b: a >= b,
    "ult": lambda a, b: a < b,
    "uge": lambda a, b: a >= b,
}


@st.composite
def ranges_with_a_number(draw: st.DrawFn) -> tuple[Range, int]:
    ends = sorted((draw(SMALL), draw(SMALL)))
    number = draw(st.integers(*ends))
    if draw(st.booleans()):
        return Range.of(number), number
    return Range(np.array([ends[0]]), np.array([ends[1]])), number


def test_every_operation_is_tested() -> None:
    assert EXPECTED.keys() == ARITHMETIC.keys()


@pytest.mark.parametrize("name", EXPECTED)
@settings(max_examples=30)
@given(a=ranges_with_a_number(), b=ranges_with_a_number())
def test_the_result_lies_in_the_range(
    name: str, a: tuple[Range, int], b: tuple[Range, int]
) -> None:
    (first, x), (second, y) = a, b
    if ("div" in name or "rem" in name) and y == 0:
        return
    if "sh" in name and not (second.is_exact and 0 <= y < 20):
        return
    found = ARITHMETIC[name](first, second)
    if isinstance(found, Range):
        expected = EXPECTED[name](x, y)
        assert found.lo[0] <= expected <= found.hi[0]
        if first.is_exact and second.is_exact:
            assert found.lo[0] == found.hi[0]


@pytest.mark.parametrize("predicate", COMPARISONS)
@settings(max_examples=30)
@given(a=ranges_with_a_number(), b=ranges_with_a_number())
def test_comparisons(predicate: str, a: tuple[Range, int], b: tuple[Range, int]) -> None:
    (first, x), (second, y) = a, b
    found = compare(predicate, first, second)
    if isinstance(found, Range):
        assert found.lo[0] <= COMPARISONS[predicate](x, y) <= found.hi[0]
        if first.is_exact and second.is_exact:
            assert found.lo[0] == found.hi[0]
    else:
        assert predicate[0] == "u"


@settings(max_examples=30)
@given(a=ranges_with_a_number(), b=ranges_with_a_number(), taken=st.booleans(), sure=st.booleans())
def test_choices(a: tuple[Range, int], b: tuple[Range, int], taken: bool, sure: bool) -> None:
    (first, x), (second, y) = a, b
    condition = Range.of(int(taken)) if sure else Range(np.array([0]), np.array([1]))
    found = choose(condition, first, second)
    assert isinstance(found, Range)
    assert found.lo[0] <= (x if taken else y) <= found.hi[0]


def test_a_choice_between_two_tensors_is_not_known() -> None:
    found = choose(Range.of(1), Range.of(0, memory=0), Range.of(0, memory=1))
    assert found == Unknown("it is one of two pointers")


def test_what_is_not_known_stays_so() -> None:
    assert choose(Range.of(1), Range.of(1), Unknown("a float")) == Unknown("a float")
    found = choose(Unknown("a float"), Range.of(2), Range.of(5))
    assert isinstance(found, Range)
    assert (found.lo[0], found.hi[0]) == (2, 5)


@pytest.mark.parametrize("name", ["arith.divsi", "arith.remsi"])
def test_nothing_is_said_of_a_division_by_zero(name: str) -> None:
    assert isinstance(ARITHMETIC[name](Range.of(1), Range.of(0)), Unknown)
    wide = Range(np.array([-1]), np.array([1]))
    assert isinstance(ARITHMETIC[name](Range.of(1), wide), Unknown)
