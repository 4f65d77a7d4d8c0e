from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from tunekit.evaluate import judge
from tunekit.evaluate.guards import NOT_A_NUMBER, poison
from tunekit.evaluate.judge import Judge
from tunekit.evaluate.verify import TOLERANCES


def _judge(expected: torch.Tensor, dtype: str, *, keep: bool) -> Judge:
    return Judge([expected], [TOLERANCES[dtype]], [True], keep=keep)


DTYPES = ("float32", "float16", "bfloat16")


@pytest.fixture
def compared(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How often an output was compared with the reference."""
    calls: list[int] = []
    real = judge.largest_error

    def count(*arguments: Any) -> float:
        calls.append(1)
        return real(*arguments)

    monkeypatch.setattr(judge, "largest_error", count)
    return calls


@pytest.mark.parametrize("dtype", DTYPES)
def test_what_equals_an_output_that_passed_has_its_error(dtype: str, compared: list[int]) -> None:
    expected = torch.linspace(-3, 3, 1001)
    near = (expected * (1 + 2.0**-20)).to(getattr(torch, dtype))
    one, output = _judge(expected, dtype, keep=True), torch.empty_like(near)
    first = one.error_of([output.copy_(near)])
    assert 0 < first <= 1
    assert one.error_of([output.copy_(near)]) == first
    assert len(compared) == 1


def test_what_differs_in_one_bit_is_compared_anew(compared: list[int]) -> None:
    expected = torch.linspace(1, 2, 2001)
    one, output = _judge(expected, "float32", keep=True), torch.empty_like(expected)
    assert one.error_of([output.copy_(expected)]) == 0
    off = expected.clone()
    off[1234] += 2.0**-10
    assert one.error_of([output.copy_(off)]) > 10
    assert one.error_of([output.copy_(expected)]) == 0
    assert len(compared) == 2


def test_what_is_wrong_is_not_what_others_are_held_to(compared: list[int]) -> None:
    expected = torch.ones(100)
    one, output = _judge(expected, "float32", keep=True), torch.empty_like(expected)
    for _ in range(2):
        assert one.error_of([output.copy_(torch.zeros(100))]) > 1
    assert len(compared) == 2


def test_what_is_not_written_is_seen_although_the_last_output_was_right() -> None:
    expected = torch.ones(100)
    one, output = _judge(expected, "float32", keep=True), expected.clone()
    assert one.error_of([output]) == 0
    poison(output[40:], NOT_A_NUMBER)
    error = one.error_of([output])
    assert error == math.inf
    said = one.describe([output], error, NOT_A_NUMBER, "here")
    assert said == (
        "differs from the reference here: inf times the allowed error (60 of 100 elements are not "
        "written)"
    )


def test_without_room_every_output_is_compared(compared: list[int]) -> None:
    expected = torch.ones(100)
    one, output = _judge(expected, "float32", keep=False), torch.empty_like(expected)
    for _ in range(3):
        assert one.error_of([output.copy_(expected)]) == 0
    assert len(compared) == 3


def test_a_rehearsal_judges_nothing() -> None:
    one = _judge(torch.ones(100), "bfloat16", keep=True)
    one.rehearse()
    output = torch.empty(100, dtype=torch.bfloat16)
    assert one.error_of([output.copy_(torch.zeros(100))]) > 1


LAST = {
    4: torch.empty(3, 4, 5, 6).to(memory_format=torch.channels_last),
    5: torch.empty(2, 3, 4, 5, 2).to(memory_format=torch.channels_last_3d),
}


@pytest.mark.parametrize("dims", LAST)
@pytest.mark.parametrize("keep", [True, False])
def test_one_wrong_element_of_a_channels_last_output_is_found(keep: bool, dims: int) -> None:
    expected = torch.randn_like(LAST[dims])
    one, output = _judge(expected, "float32", keep=keep), torch.empty_like(expected)
    one.rehearse()
    assert one.error_of([output.copy_(expected)]) == 0
    for place in range(0, expected.numel(), 7):
        off = expected.contiguous()
        off.view(-1)[place] += 1.0
        assert one.error_of([output.copy_(off)]) > 1
    assert one.error_of([output.copy_(expected.contiguous())]) == 0


@pytest.mark.parametrize("dims", LAST)
def test_an_output_in_another_format_than_the_reference(dims: int) -> None:
    expected = torch.randn(LAST[dims].shape)
    one, output = _judge(expected, "float32", keep=False), torch.empty_like(LAST[dims])
    assert one.error_of([output.copy_(expected)]) == 0
    swapped = expected.flip(1)
    assert one.error_of([output.copy_(swapped)]) > 1


@pytest.mark.parametrize("keep", [True, False])
def test_the_worst_of_several_outputs(keep: bool) -> None:
    expected = torch.linspace(1, 2, 50)
    one = _judge(expected, "float32", keep=keep)
    assert one.worst_of([[expected.clone()], [expected.clone()]])[1] == 0.0
    outputs = [expected.clone() for _ in range(6)]
    outputs[4][7] += 1.0
    outputs[2][3] += 0.25
    place, error = one.worst_of([[output] for output in outputs])
    assert place == 4
    assert error == one.error_of([outputs[4]]) > 1.0
