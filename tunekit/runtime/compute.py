"""Compute a kernel's result on checked tensors: by a launch, or by its eager reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch.autograd.graph import increment_version
from torch.compiler import is_dynamo_compiling

from tunekit.kernels.kernel import Kernel
from tunekit.runtime.call import can_launch, run
from tunekit.runtime.fast import fast_of
from tunekit.runtime.layout import is_dense, same_layout


def compute(
    kernel: Kernel,
    inputs: Sequence[torch.Tensor],
    out: torch.Tensor | None,
    values: Mapping[str, float],
) -> torch.Tensor:
    """The result, in `out` or in a new tensor; autograd does not follow a launch."""
    if not can_launch(inputs[0]):
        return eager(kernel, inputs, out, values)
    if out is None and (result := fast_of(kernel).of(inputs, tuple(values.values()))) is not None:
        return result
    return _fused(kernel, inputs, out, values)


def eager(
    kernel: Kernel,
    inputs: Sequence[torch.Tensor],
    out: torch.Tensor | None,
    values: Mapping[str, float],
) -> torch.Tensor:
    """The reference's result; autograd follows it."""
    result: torch.Tensor = kernel.by_reference(inputs, values).to(inputs[0].dtype)
    if out is not None:
        return out.copy_(result)
    # The reference of a kernel that changes nothing may return its input, or a view of it; a graph
    # cannot ask, and fuses the copy.
    if is_dynamo_compiling() or result._is_view() or any(result is x for x in inputs):
        return result.clone()
    return result


def _fused(
    kernel: Kernel,
    inputs: Sequence[torch.Tensor],
    out: torch.Tensor | None,
    values: Mapping[str, float],
) -> torch.Tensor:
    """Launch on dense tensors of one layout; what is not gets there by a copy."""
    inputs = [x.resolve_neg() for x in inputs]
    first = inputs[0] if is_dense(inputs[0]) else inputs[0].clone()
    rest = [x if same_layout(x, first) else torch.empty_like(first).copy_(x) for x in inputs[1:]]
    if out is not None and same_layout(out, first) and not out.is_neg():
        run(kernel, (first, *rest), out, values)
        increment_version(out)  # autograd must notice, as it does any other write
        return out
    # A copy made above is nobody else's: its memory can take the result.
    result = torch.empty_like(first) if first is inputs[0] else first
    run(kernel, (first, *rest), result, values)
    return result if out is None else out.copy_(result)
