"""Compare a kernel's result with its reference, on random inputs and on special values."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch

from tunekit.evaluate.tensors import empty_of, in_memory, laid_out
from tunekit.kernels.kernel import Kernel
from tunekit.kernels.plan import TensorMeta

_CHUNK = 2**25
"""Elements compared, or computed in float64, at a time: bounds the memory that takes."""

SPECIAL_VALUES = (
    0.0, -0.0, float("inf"), float("-inf"), float("nan"), 1.0, -1.0, 20.0, -20.0, 88.0, -88.0,
    100.0, -100.0, 3e4, -3e4, 6e-5, -6e-5, 1e-6, -1e-6,
)  # fmt: skip
"""±0, ±inf, nan, where exp overflows, large, and the edge of float16's subnormals."""
_TURN = 7
"""Places that special values are turned on from one input to the next."""


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


def random_input(
    shape: Sequence[int], dtype: str, seed: int, device: str, turn: int = 0
) -> torch.Tensor:
    """Normal values of deviation 2, with the special values strewn in, that many turned on."""
    generator = torch.Generator(device=device).manual_seed(seed)
    values = torch.empty(tuple(shape), dtype=getattr(torch, dtype), device=device)
    flat = values.view(-1)
    flat.normal_(0.0, 2.0, generator=generator)
    special = torch.tensor(SPECIAL_VALUES, dtype=values.dtype, device=device).roll(turn)
    count = min(len(special), len(flat) // 2)  # most of a small input stays random
    places = torch.linspace(0, len(flat) - 1, count, device=device, dtype=torch.float64).long()
    flat[places] = special[:count]
    return values


def all_bit_patterns(count: int, dtype: str, device: str) -> torch.Tensor:
    """Every value of a 16-bit dtype, repeated or cut to `count` elements."""
    patterns = torch.arange(2**16, dtype=torch.int32, device=device).to(torch.int16)
    repeated = patterns.repeat(-(-count // 2**16))[:count]
    return repeated.view(getattr(torch, dtype))


def check_inputs(metas: Sequence[TensorMeta], seed: int, device: str) -> list[torch.Tensor]:
    """Inputs of a check: all 65,536 values where one 16-bit input has the room, else random."""
    if len(metas) == 1 and metas[0].itemsize == 2 and metas[0].numel >= 2**16:
        meta = metas[0]
        return [laid_out(all_bit_patterns(meta.numel, meta.dtype, device), meta)]
    return random_inputs(metas, seed, device)


def random_inputs(metas: Sequence[TensorMeta], seed: int, device: str) -> list[torch.Tensor]:
    """Inputs with that metadata, each from a seed of its own.

    Special values do not meet their own: 88x + 88 near x = -1 is the rounding of a product.
    """
    return [
        laid_out(random_input((meta.numel,), meta.dtype, seed + index, device, _TURN * index), meta)
        for index, meta in enumerate(metas)
    ]


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
    tolerance = TOLERANCES[dtype]
    largest = torch.finfo(getattr(torch, dtype)).max
    worst = 0.0
    if result.stride() == expected.stride():
        flat_result, flat_expected = in_memory(result), in_memory(expected)
    else:
        flat_result, flat_expected = result.reshape(-1), expected.reshape(-1)
    for part in _chunks(flat_result.numel()):
        got, want = flat_result[part].float(), flat_expected[part]
        may_overflow = (want.abs() > largest) & (got == want * torch.inf)
        want = torch.where(want.abs() > largest * (1 + tolerance.relative), want * torch.inf, want)
        error = (got - want).abs() / (want.abs() * tolerance.relative + tolerance.absolute)
        right = (got == want) | (got.isnan() & want.isnan()) | may_overflow
        error = torch.where(right, 0.0, error).nan_to_num(nan=torch.inf, posinf=torch.inf)
        worst = max(worst, float(error.max()))
    return worst


def describe_error(error: float, where: str) -> str:
    """The reason of a `wrong` evaluation."""
    return f"differs from the reference {where}: {error:.3g} times the allowed error"


def _chunks(count: int) -> Iterator[slice]:
    for start in range(0, count, _CHUNK):
        yield slice(start, min(start + _CHUNK, count))


Run = Callable[[Sequence[torch.Tensor], torch.Tensor], None]
"""Launches the configuration: inputs, and the output it fills."""


def error_of(
    run: Run,
    inputs: Sequence[torch.Tensor],
    output: torch.Tensor,
    expected: torch.Tensor,
    dtype: str,
) -> float:
    """Run into an output of nan, so that nothing left over passes for a result."""
    output.fill_(float("nan"))
    run(inputs, output)
    return largest_error(output, expected, dtype)
