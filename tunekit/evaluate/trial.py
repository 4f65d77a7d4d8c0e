"""Try a launch at a small size: twice in the same tensors, between guards, on other values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from tunekit.evaluate.guards import FINITE, NOT_A_NUMBER, Buffers, poison
from tunekit.evaluate.inputs import draw, draw_check
from tunekit.evaluate.tensors import differing
from tunekit.evaluate.verify import (
    describe_difference,
    describe_error,
    expected_output,
    largest_error,
)
from tunekit.kernels.kernel import Kernel
from tunekit.kernels.plan import Launch

_OTHER_SEED = 7919
"""Between the values of the first launch and those of the second."""

Run = Callable[[Sequence[torch.Tensor], torch.Tensor], None]
"""Launches the configuration: inputs, and the output it fills."""


@dataclass(frozen=True, slots=True)
class Checked:
    """What a check found.

    Attributes:
        error: largest error in units of what is allowed.
        fault: what is wrong, as the reason of a `wrong` evaluation; empty if nothing.
    """

    error: float
    fault: str = ""


def try_twice(
    kernel: Kernel,
    launch: Launch,
    scalars: Mapping[str, float],
    run: Run,
    seed: int,
    device: str,
    where: str,
) -> Checked:
    """Launch in fresh tensors, then again in the same with other values, and judge both.

    The output holds nan before the first launch and finite values before the second, so what is
    not written shows, what is right only while the output is nan, what keeps a result by the
    address of its tensors, and what is right once.

    Args:
        kernel: whose reference judges.
        launch: of a small size.
        scalars: their values.
        run: launches it.
        seed: of the inputs.
        device: `cpu` or `cuda`.
        where: for the reason, such as `at 1000`.
    """
    buffers = Buffers.of(launch, device)
    draw_check(buffers.inputs, seed)
    first = _try(kernel, launch, scalars, run, buffers, NOT_A_NUMBER, where)
    if first.fault:
        return first
    draw(buffers.inputs, seed + _OTHER_SEED)
    second = _try(kernel, launch, scalars, run, buffers, FINITE, where)
    if second.fault:
        fault = f"right at first, but launched again on other values it {second.fault}"
        return Checked(second.error, fault)
    return Checked(max(first.error, second.error))


def _try(
    kernel: Kernel,
    launch: Launch,
    scalars: Mapping[str, float],
    run: Run,
    buffers: Buffers,
    poisoned: int,
    where: str,
) -> Checked:
    dtype = launch.outputs[0].dtype
    expected = expected_output(kernel, buffers.inputs, scalars, launch.outputs[0])
    before = [x.clone() for x in buffers.inputs]
    poison(buffers.output, poisoned)
    run(buffers.inputs, buffers.output)
    error = largest_error(buffers.output, expected, dtype)
    if beside := buffers.damage():
        return Checked(error, f"{beside} ({where})")
    for index in differing(zip(buffers.inputs, before, strict=True)):
        return Checked(error, f"changes input {index} ({where})")
    if error > 1.0:
        found = describe_difference(buffers.output, expected, dtype, poisoned)
        return Checked(error, f"{describe_error(error, where)} ({found})")
    return Checked(error)
