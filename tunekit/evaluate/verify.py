"""Compare a kernel's result with its reference."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch

from tunekit.evaluate.guards import holds_poison
from tunekit.evaluate.tensors import empty_of, in_memory
from tunekit.kernels.kernel import Kernel
from tunekit.kernels.plan import TensorMeta

_CHUNK = 2**25
"""Elements compared, or computed in float64, at a time: bounds the memory that takes."""


@dataclass(frozen=True, slots=True)
class Tolerance:
    """|result - reference| <= absolute + relative * |reference|."""

    relative: float
    absolute: float


TOLERANCES = {
    "float32": Tolerance(relative=2.0**-17, absolute=2.0**-20),
    "float16": Tolerance(relative=2.0**-10, absolute=2.0**-19),
    "bfloat16": Tolerance(relative=2.0**-7, absolute=2.0**-19),
}
"""16-bit: one unit in the last place, twice what correct rounding gives. float32: 64 units, what a
few fused steps lose; a wrong formula is off by thousands."""


def expected_output(
    kernel: Kernel,
    inputs: Sequence[torch.Tensor],
    scalars: Mapping[str, float],
    output: TensorMeta | None = None,
) -> torch.Tensor:
    """The reference in float64, kept as float32: far finer than any tolerance here.

    Args:
        kernel: whose reference.
        inputs: its tensors.
        scalars: their values.
        output: shape and strides to give the result; None leaves them to the reference.
    """
    if not kernel.elementwise:
        return _laid_out_as(output, kernel, inputs, scalars)
    expected = torch.empty(inputs[0].shape, dtype=torch.float32, device=inputs[0].device)
    flat = [x.reshape(-1) for x in inputs]
    for part in _chunks(expected.numel()):
        values = kernel.reference(*(x[part].double() for x in flat), **scalars)
        expected.view(-1)[part] = values.float()
    return expected


def _laid_out_as(
    output: TensorMeta | None,
    kernel: Kernel,
    inputs: Sequence[torch.Tensor],
    scalars: Mapping[str, float],
) -> torch.Tensor:
    first, *rest = inputs
    whole = [x.double() for x in rest]
    if output is None:
        return kernel.reference(first.double(), *whole, **scalars).float()
    expected = empty_of(output, str(first.device), torch.float32)
    if not kernel.batched:
        return expected.copy_(kernel.reference(first.double(), *whole, **scalars))
    at_a_time = max(1, _CHUNK * len(first) // max(first.numel(), 1))
    for part, target in zip(first.split(at_a_time), expected.split(at_a_time), strict=True):
        target.copy_(kernel.reference(part.double(), *whole, **scalars))
    return expected


def largest_error(result: torch.Tensor, expected: torch.Tensor, dtype: str) -> float:
    """Largest error in units of what is allowed; inf where one is nan, or infinite, alone.

    Where the reference is finite but past the dtype's largest value, a result may overflow, and
    must where it is past it by more than is allowed.
    """
    worst = 0.0
    for got, want in _parts(result, expected):
        worst = max(worst, float(_errors(got, want, dtype).max()))
    return worst


def describe_error(error: float, where: str) -> str:
    """The reason of a `wrong` evaluation."""
    return f"differs from the reference {where}: {error:.3g} times the allowed error"


def describe_difference(
    result: torch.Tensor, expected: torch.Tensor, dtype: str, poisoned: int
) -> str:
    """What is wrong with a result, for people: how much of it, and one value.

    Args:
        result: of a launch into an output full of the byte `poisoned`.
        expected: as for `largest_error`.
        dtype: of the result.
        poisoned: see `guards.poison`.
    """
    wrong = unwritten = 0
    got_one = want_one = math.nan
    for got, want in _parts(result, expected):
        bad = _errors(got, want, dtype) > 1.0
        if not wrong and bool(bad.any()):
            place = int(bad.nonzero()[0])
            got_one, want_one = float(got[place]), float(want[place])
        wrong += int(bad.sum())
        unwritten += int((bad & holds_poison(got, poisoned)).sum())
    if unwritten:
        return f"{unwritten:,} of {result.numel():,} elements are not written"
    return f"{wrong:,} of {result.numel():,} elements, such as {got_one:.6g} for {want_one:.6g}"


def _errors(got: torch.Tensor, want: torch.Tensor, dtype: str) -> torch.Tensor:
    """The error of each element in units of what is allowed."""
    tolerance = TOLERANCES[dtype]
    largest = torch.finfo(getattr(torch, dtype)).max
    got = got.float()
    may_overflow = (want.abs() > largest) & (got == want * torch.inf)
    want = torch.where(want.abs() > largest * (1 + tolerance.relative), want * torch.inf, want)
    error = (got - want).abs() / (want.abs() * tolerance.relative + tolerance.absolute)
    right = (got == want) | (got.isnan() & want.isnan()) | may_overflow
    return torch.where(right, 0.0, error).nan_to_num(nan=torch.inf, posinf=torch.inf)


def _parts(
    result: torch.Tensor, expected: torch.Tensor
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Both as runs of elements in one order, so many at a time."""
    if result.stride() == expected.stride():
        flat_result, flat_expected = in_memory(result), in_memory(expected)
    else:
        flat_result, flat_expected = result.reshape(-1), expected.reshape(-1)
    for part in _chunks(flat_result.numel()):
        yield flat_result[part], flat_expected[part]


def _chunks(count: int) -> Iterator[slice]:
    for start in range(0, count, _CHUNK):
        yield slice(start, min(start + _CHUNK, count))
