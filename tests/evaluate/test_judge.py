from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import pytest
import torch

from tunekit.evaluate import judge
from tunekit.evaluate.judge import Judge, same_bits

DTYPES = ("float32", "float16", "bfloat16")


def _writes(values: torch.Tensor) -> Callable[[Sequence[torch.Tensor], torch.Tensor], None]:
    def run(inputs: Sequence[torch.Tensor], output: torch.Tensor) -> None:
        output.copy_(values)

    return run


@pytest.fixture
def compared(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How often an output was compared with the reference."""
    calls: list[int] = []
    real = judge.largest_error

    def count(*arguments: torch.Tensor) -> float:
        calls.append(1)
        return real(*arguments)

    monkeypatch.setattr(judge, "largest_error", count)
    return calls


@pytest.mark.parametrize("dtype", DTYPES)
def test_what_equals_an_output_that_passed_has_its_error(dtype: str, compared: list[int]) -> None:
    expected = torch.linspace(-3, 3, 1001)
    near = (expected * (1 + 2.0**-20)).to(getattr(torch, dtype))
    one, output = Judge(expected, dtype, keep=True), torch.empty_like(near)
    first = one.error_of(_writes(near), [], output)
    assert 0 < first <= 1
    assert one.error_of(_writes(near), [], output) == first
    assert len(compared) == 1


def test_what_differs_in_one_bit_is_compared_anew(compared: list[int]) -> None:
    expected = torch.linspace(1, 2, 2001)
    one, output = Judge(expected, "float32", keep=True), torch.empty_like(expected)
    assert one.error_of(_writes(expected), [], output) == 0
    off = expected.clone()
    off[1234] += 2.0**-10
    assert one.error_of(_writes(off), [], output) > 10
    assert one.error_of(_writes(expected), [], output) == 0
    assert len(compared) == 2


def test_what_is_wrong_is_not_what_others_are_held_to(compared: list[int]) -> None:
    expected = torch.ones(100)
    one, output = Judge(expected, "float32", keep=True), torch.empty_like(expected)
    for _ in range(2):
        assert one.error_of(_writes(torch.zeros(100)), [], output) > 1
    assert len(compared) == 2


def test_what_is_not_written_is_seen_although_the_last_output_was_right() -> None:
    expected = torch.ones(100)
    one, output = Judge(expected, "float32", keep=True), torch.empty_like(expected)
    assert one.error_of(_writes(expected), [], output) == 0
    assert one.error_of(lambda inputs, output: None, [], output) == math.inf


def test_without_room_every_output_is_compared(compared: list[int]) -> None:
    expected = torch.ones(100)
    one, output = Judge(expected, "float32", keep=False), torch.empty_like(expected)
    for _ in range(3):
        assert one.error_of(_writes(expected), [], output) == 0
    assert len(compared) == 3


def test_a_rehearsal_judges_nothing() -> None:
    one = Judge(torch.ones(100), "bfloat16", keep=True)
    one.rehearse()
    output = torch.empty(100, dtype=torch.bfloat16)
    assert one.error_of(_writes(torch.zeros(100)), [], output) > 1


@pytest.mark.parametrize("dtype", DTYPES)
def test_same_bits(dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judge, "_PART", 8)  # several parts, the last one short
    one = torch.arange(-10.0, 10.5).to(getattr(torch, dtype))
    one[3], one[4] = math.nan, 0.0
    assert same_bits(one, one.clone())
    for place, value in ((4, -0.0), (20, 11.0), (3, 1.0)):
        other = one.clone()
        other[place] = value
        assert not same_bits(one, other)


LAST = {
    4: torch.empty(3, 4, 5, 6).to(memory_format=torch.channels_last),
    5: torch.empty(2, 3, 4, 5, 2).to(memory_format=torch.channels_last_3d),
}


@pytest.mark.parametrize("dims", LAST)
@pytest.mark.parametrize("keep", [True, False])
def test_one_wrong_element_of_a_channels_last_output_is_found(keep: bool, dims: int) -> None:
    expected = torch.randn_like(LAST[dims])
    one, output = Judge(expected, "float32", keep=keep), torch.empty_like(expected)
    one.rehearse()
    assert one.error_of(_writes(expected), [], output) == 0
    for place in range(0, expected.numel(), 7):
        off = expected.contiguous()
        off.view(-1)[place] += 1.0
        assert one.error_of(_writes(off), [], output) > 1
    assert one.error_of(_writes(expected.contiguous()), [], output) == 0


@pytest.mark.parametrize("dims", LAST)
def test_an_output_in_another_format_than_the_reference(dims: int) -> None:
    expected = torch.randn(LAST[dims].shape)
    one, output = Judge(expected, "float32", keep=False), torch.empty_like(LAST[dims])
    assert one.error_of(_writes(expected), [], output) == 0
    swapped = expected.flip(1)
    assert one.error_of(_writes(swapped), [], output) > 1


def test_same_bits_of_channels_last_tensors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judge, "_PART", 16)
    one = torch.randn_like(LAST[4])
    assert same_bits(one, one.clone())
    for place in range(0, one.numel(), 11):
        other = one.clone()
        other.permute(0, 2, 3, 1).view(-1)[place] += 1.0
        assert not same_bits(one, other)
