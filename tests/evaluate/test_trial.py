"""Launches that are functions here: what becomes of each after one launch and after two."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
import torch

from tunekit.core.device import DEVICES
from tunekit.evaluate.trial import Checked, Trial
from tunekit.kernels.library import KERNELS

DTYPES = ("float32", "float16", "bfloat16")
Run = Callable[[Sequence[torch.Tensor], torch.Tensor], None]
DOUBLE = replace(KERNELS["identity"], reference=lambda x, *rest: 2 * x)


def _try(run: Run, dtype: str = "float32", inputs: int = 1, n: int = 1003) -> Checked:
    kernel = replace(DOUBLE, input_count=inputs)
    launch = kernel.launch_for((n,), dtype, DEVICES["rtx4090"])
    trial = Trial(
        kernel,
        launch,
        (n,),
        dtype,
        {},
        f"at {n}",
        lambda tensors, outputs: run(tensors, outputs[0]),
    )
    return trial.twice(0, "cpu")


def _doubles(inputs: Sequence[torch.Tensor], output: torch.Tensor) -> None:
    output.copy_(2 * inputs[0])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [1, 7, 1003, 2**16 + 5])
def test_what_is_right_twice_has_no_fault(n: int, dtype: str) -> None:
    assert _try(_doubles, dtype, n=n) == Checked(0.0)
    assert _try(_doubles, dtype, inputs=2, n=n) == Checked(0.0)


def test_both_launches_are_on_the_same_tensors_and_on_other_values() -> None:
    seen: list[tuple[int, int, torch.Tensor, bool]] = []

    def run(inputs: Sequence[torch.Tensor], output: torch.Tensor) -> None:
        held_nan = bool(output.isnan().all())
        seen.append((inputs[0].data_ptr(), output.data_ptr(), inputs[0].clone(), held_nan))
        _doubles(inputs, output)

    _try(run)
    first, second = seen
    assert first[:2] == second[:2]
    assert (first[2] == second[2]).float().mean() < 0.1
    assert (first[3], second[3]) == (True, False)


def test_one_16_bit_input_is_first_tried_on_all_its_values() -> None:
    counts: list[int] = []

    def run(inputs: Sequence[torch.Tensor], output: torch.Tensor) -> None:
        counts.append(len(inputs[0].view(torch.int16).unique()))
        _doubles(inputs, output)

    _try(run, "bfloat16", n=2**16 + 3)
    assert counts[0] == 2**16
    assert counts[1] < 2**16


def test_the_larger_error_of_the_two_counts() -> None:
    offsets = iter([0.0, 2.0**-21])

    def run(inputs: Sequence[torch.Tensor], output: torch.Tensor) -> None:
        _doubles(inputs, output)
        output[2] = output[2] + next(offsets) if output[2].abs() < 1e3 else output[2]

    checked = _try(run)
    assert not checked.fault
    assert 0.0 < checked.error <= 1.0


@pytest.mark.parametrize("dtype", DTYPES)
def test_what_is_wrong_says_where_how_much_and_one_value(dtype: str) -> None:
    def triples(inputs: Sequence[torch.Tensor], output: torch.Tensor) -> None:
        output.copy_(3 * inputs[0])

    checked = _try(triples, dtype)
    assert checked.error > 1.0
    assert checked.fault.startswith("differs from the reference at 1003: ")
    assert "of 1,003 elements, such as " in checked.fault


def test_what_is_not_written_is_counted() -> None:
    def halves(inputs: Sequence[torch.Tensor], output: torch.Tensor) -> None:
        output[:500] = 2 * inputs[0][:500]

    assert "(502 of 1,003 elements are not written)" in _try(halves).fault or (
        "(503 of 1,003 elements are not written)" in _try(halves).fault
    )


@pytest.mark.parametrize("place", [-1, 1003])
def test_what_writes_beside_its_output_although_it_is_right(place: int) -> None:
    def run(inputs: Sequence[torch.Tensor], output: torch.Tensor) -> None:
        _doubles(inputs, output)
        start = output.storage_offset()
        output.as_strided((1,), (1,), start + place).fill_(1.0)

    side = "before the start" if place < 0 else "past the end"
    assert _try(run) == Checked(
        0.0, f"writes {side} of its output, as far as 4 bytes from it (at 1003)"
    )


@pytest.mark.parametrize("index", [0, 1])
def test_what_changes_an_input_although_it_is_right(index: int) -> None:
    def run(inputs: Sequence[torch.Tensor], output: torch.Tensor) -> None:
        _doubles(inputs, output)
        inputs[index][-1] += 1

    assert _try(run, inputs=2) == Checked(0.0, f"changes input {index} (at 1003)")


def test_what_keeps_its_first_result() -> None:
    kept: list[torch.Tensor] = []

    def run(inputs: Sequence[torch.Tensor], output: torch.Tensor) -> None:
        kept.append(2 * inputs[0])
        output.copy_(kept[0])

    fault = _try(run).fault
    assert fault.startswith(
        "right at first, but launched again on other values it differs from the reference at 1003: "
    )


def test_what_works_only_while_its_output_is_nan() -> None:
    def run(inputs: Sequence[torch.Tensor], output: torch.Tensor) -> None:
        if output[0].isnan():
            _doubles(inputs, output)

    fault = _try(run).fault
    assert fault.startswith("right at first, but launched again on other values it differs")
    assert "(1,003 of 1,003 elements are not written)" in fault


def test_what_adds_to_what_is_there() -> None:
    def run(inputs: Sequence[torch.Tensor], output: torch.Tensor) -> None:
        output.copy_(2 * inputs[0] + output.nan_to_num(nan=0.0))

    assert "launched again on other values it differs" in _try(run).fault
