"""Compare a kernel's results with its reference."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch

from tunekit.errors import KernelError
from tunekit.evaluate.guards import FINITE, holds_poison, prepare
from tunekit.evaluate.tensors import empty_of, in_memory
from tunekit.kernels.kernel import Kernel, Tolerance
from tunekit.kernels.plan import Launch, TensorMeta

_CHUNK = 2**25
"""Elements compared, or computed in float64, at a time: bounds the memory that takes."""

TOLERANCES = {
    "float64": Tolerance(relative=2.0**-46, absolute=2.0**-49),
    "float32": Tolerance(relative=2.0**-17, absolute=2.0**-20),
    "float16": Tolerance(relative=2.0**-10, absolute=2.0**-19),
    "bfloat16": Tolerance(relative=2.0**-7, absolute=2.0**-19),
    "float8_e4m3fn": Tolerance(relative=2.0**-3, absolute=2.0**-9),
    "float8_e5m2": Tolerance(relative=2.0**-2, absolute=2.0**-16),
}
"""16-bit and 8-bit: one unit in the last place, twice what correct rounding gives. float32 and
float64: 64 units, what a few fused steps lose; a wrong formula is off by thousands."""
_EXACT = Tolerance(0.0, 0.0)
"""Of whole numbers."""

RunDefault = Callable[[Sequence[torch.Tensor], Sequence[torch.Tensor]], None]
"""Launches the default configuration: inputs, and the outputs it fills."""


def expected_outputs(
    kernel: Kernel,
    launch: Launch,
    inputs: Sequence[torch.Tensor],
    scalars: Mapping[str, float],
    run_default: RunDefault | None = None,
) -> tuple[torch.Tensor, ...]:
    """What a launch should write: the reference's results, or the default configuration's.

    Args:
        kernel: whose reference.
        launch: of the inputs; its results say how the reference's are laid out.
        inputs: its tensors.
        scalars: their values.
        run_default: for a kernel without a reference, which is compared with its default.

    Raises:
        KernelError: the reference's results are not as many, or not of the shapes, that the plan
            says.
    """
    if kernel.reference is None:
        return _default_outputs(launch, inputs, run_default)
    return reference_outputs(kernel, launch.results, inputs, scalars)


def reference_outputs(
    kernel: Kernel,
    results: Sequence[TensorMeta],
    inputs: Sequence[torch.Tensor],
    scalars: Mapping[str, float],
) -> tuple[torch.Tensor, ...]:
    """The reference's results in float64, kept as float32: far finer than any tolerance here.

    Args:
        kernel: whose reference.
        results: how they are to be laid out; an element-wise kernel's has the inputs' layout.
        inputs: its tensors.
        scalars: their values.

    Raises:
        KernelError: they are not as many, or not of the shapes, that `results` says.
    """
    if not kernel.elementwise:
        return _laid_out_as(results, kernel, inputs, scalars)
    expected = torch.empty(inputs[0].shape, dtype=torch.float32, device=inputs[0].device)
    flat = [x.reshape(-1) for x in inputs]
    for part in _chunks(expected.numel()):
        values = kernel.by_reference([x[part].double() for x in flat], scalars)
        expected.view(-1)[part] = values.float()
    return (expected,)


def _default_outputs(
    launch: Launch, inputs: Sequence[torch.Tensor], run_default: RunDefault | None
) -> tuple[torch.Tensor, ...]:
    assert run_default is not None
    outputs = [empty_of(meta, str(inputs[0].device)) for meta in launch.outputs]
    prepare(launch, inputs, outputs, FINITE)
    run_default(inputs, outputs)
    return tuple(outputs[: len(launch.results)])


def _laid_out_as(
    results: Sequence[TensorMeta],
    kernel: Kernel,
    inputs: Sequence[torch.Tensor],
    scalars: Mapping[str, float],
) -> tuple[torch.Tensor, ...]:
    first, *rest = inputs
    whole = [_double(x) for x in rest]
    expected = tuple(empty_of(meta, str(first.device), _kept_dtype(meta)) for meta in results)
    if not kernel.batched:
        given = kernel.by_reference([_double(first), *whole], scalars)
        for target, values in zip(expected, as_results(given, kernel, results), strict=True):
            target.copy_(values)
        return expected
    at_a_time = max(1, _CHUNK * len(first) // max(first.numel(), 1))
    for part, target in zip(first.split(at_a_time), expected[0].split(at_a_time), strict=True):
        target.copy_(kernel.by_reference([part.double(), *whole], scalars))
    return expected


def _double(x: torch.Tensor) -> torch.Tensor:
    return x.double() if x.is_floating_point() else x


def _kept_dtype(meta: TensorMeta) -> torch.dtype:
    """What a result is compared in: whole numbers and float64 as they are."""
    kept = "float32" if "float" in meta.dtype and meta.dtype != "float64" else meta.dtype
    dtype: torch.dtype = getattr(torch, kept)
    return dtype


def as_results(
    given: Any, kernel: Kernel, results: Sequence[TensorMeta]
) -> tuple[torch.Tensor, ...]:
    """What a reference gave as one tensor for each result.

    Raises:
        KernelError: it is not.
    """
    values = tuple(given) if isinstance(given, tuple | list) else (given,)
    if len(values) != len(results):
        raise KernelError(
            f"{kernel.name}: the reference gives {len(values)} results, the plan {len(results)}"
        )
    for index, (value, meta) in enumerate(zip(values, results, strict=True)):
        got = tuple(value.shape) if isinstance(value, torch.Tensor) else type(value).__name__
        if got != meta.shape:
            raise KernelError(
                f"{kernel.name}: result {index} of the reference is {got}, of the plan {meta.shape}"
            )
    return values


def tolerance_of(kernel: Kernel, launch: Launch, index: int, expected: torch.Tensor) -> Tolerance:
    """What result `index` may differ from the reference by.

    Where each element of it is a sum over many, which may cancel, the error is in proportion to
    what was added up: as a measure of that serves the root mean square of the whole result.
    """
    meta = launch.results[index]
    if kernel.tolerance is not None and (own := kernel.tolerance(launch, meta)) is not None:
        return own
    plain = TOLERANCES.get(meta.dtype, _EXACT)
    if kernel.elementwise or kernel.batched or not expected.is_floating_point():
        return plain
    flat = in_memory(expected)
    parts = (flat[part].double() for part in _chunks(flat.numel()))
    finite = [part[part.isfinite()] for part in parts]
    count = sum(part.numel() for part in finite)
    square = sum(float(part.square().sum()) for part in finite) / max(count, 1)
    return Tolerance(plain.relative, max(plain.absolute, plain.relative * math.sqrt(square)))


def largest_error(result: torch.Tensor, expected: torch.Tensor, tolerance: Tolerance) -> float:
    """Largest error in units of what is allowed; inf where one is nan, or infinite, alone.

    Where the reference is finite but past the dtype's largest value, a result may overflow, and
    must where it is past it by more than is allowed.
    """
    worst = 0.0
    for got, want in _parts(result, expected):
        worst = max(worst, float(_errors(got, want, tolerance).max()))
    return worst


def describe_error(error: float, where: str) -> str:
    """The reason of a `wrong` evaluation."""
    return f"differs from the reference {where}: {error:.3g} times the allowed error"


def describe_difference(
    result: torch.Tensor, expected: torch.Tensor, tolerance: Tolerance, poisoned: int | None
) -> str:
    """What is wrong with a result, for people: how much of it, and one value.

    Args:
        result: of a launch into an output full of the byte `poisoned`.
        expected: as for `largest_error`.
        tolerance: as for `largest_error`.
        poisoned: see `guards.poison`; None for an output that had to hold something.
    """
    wrong = unwritten = 0
    got_one = want_one = math.nan
    for got, want in _parts(result, expected):
        bad = _errors(got, want, tolerance) > 1.0
        if not wrong and bool(bad.any()):
            place = int(bad.nonzero()[0])
            got_one, want_one = float(got[place]), float(want[place])
        wrong += int(bad.sum())
        if poisoned is not None:
            unwritten += int((bad & holds_poison(got, poisoned)).sum())
    if unwritten:
        return f"{unwritten:,} of {result.numel():,} elements are not written"
    return f"{wrong:,} of {result.numel():,} elements, such as {got_one:.6g} for {want_one:.6g}"


def _errors(got: torch.Tensor, want: torch.Tensor, tolerance: Tolerance) -> torch.Tensor:
    """The error of each element in units of what is allowed."""
    if not got.is_floating_point():
        difference = (got.double() - want.double()).abs()
        allowed = want.double().abs() * tolerance.relative + tolerance.absolute
        return torch.where(difference == 0, 0.0, difference / allowed)
    largest = torch.finfo(got.dtype).max
    kept = torch.promote_types(want.dtype, torch.float32)
    got, want = got.to(kept), want.to(kept)
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
