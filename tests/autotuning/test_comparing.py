from __future__ import annotations

import math

import pytest
import torch

from tunekit.autotuning.comparing import Expected


def difference(expected: torch.Tensor, found: torch.Tensor) -> tuple[float, str]:
    return Expected({"out": expected}).difference({"out": found})


def test_equal_bits_are_no_difference() -> None:
    values = torch.tensor([0.0, -0.0, math.inf, math.nan, 1e-40])
    assert difference(values, values.clone()) == (0.0, "")


@pytest.mark.parametrize(
    ("dtype", "unit"),
    [(torch.float32, 2**-10), (torch.float16, 2**-9), (torch.bfloat16, 2**-6)],
)
def test_rounding_is_allowed_and_more_is_not(dtype: torch.dtype, unit: float) -> None:
    expected = torch.randn(4096, generator=torch.Generator().manual_seed(0)).to(dtype)
    near = (expected.double() * (1 + unit / 2)).to(dtype)
    error, fault = difference(expected, near)
    assert 0 < error <= 1
    assert fault == ""
    near[17] = float(near[17]) + 20 * unit
    error, fault = difference(expected, near)
    assert error > 1
    assert fault.startswith("out differs from what the first configuration leaves: ")
    assert "1 of 4,096 elements" in fault


def test_small_values_beside_large_ones_may_differ_by_the_large_ones_rounding() -> None:
    expected, found = torch.ones(100), torch.ones(100)
    expected[0], found[0] = 0.0, 2.0**-11
    assert difference(expected, found)[1] == ""


@pytest.mark.parametrize(
    ("expected", "found"),
    [
        (torch.tensor([1, 2]), torch.tensor([1, 3])),
        (torch.tensor([True, False]), torch.tensor([True, True])),
        (torch.tensor([1.0, 2.0]), torch.tensor([1.0, math.nan])),
        (torch.tensor([1.0, math.inf]), torch.tensor([1.0, 5.0])),
        (torch.tensor([0.0, 0.0]), torch.tensor([0.0, 1e-20])),
        (torch.tensor([1 + 1j]), torch.tensor([1 + 2j])),
    ],
)
def test_what_is_no_rounding_is_a_fault(expected: torch.Tensor, found: torch.Tensor) -> None:
    error, fault = difference(expected, found)
    assert error > 1
    assert fault


def test_of_several_the_worst_is_told() -> None:
    expected = Expected({"a": torch.zeros(2) + 1, "b": torch.zeros(2) + 1})
    error, fault = expected.difference({"a": torch.full((2,), 1.1), "b": torch.full((2,), 3.0)})
    assert error > 100
    assert fault.startswith("b differs")


def test_what_was_expected_is_a_copy() -> None:
    values = torch.ones(3)
    expected = Expected({"out": values})
    values.zero_()
    assert expected.difference({"out": torch.ones(3)}) == (0.0, "")
