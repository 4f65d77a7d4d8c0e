"""Run a pointwise kernel with a bias folded in, on (N, C, *spatial) of either memory format."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch.autograd.graph import increment_version

from tunekit.kernels.channelwise import Layout
from tunekit.kernels.folded import folded
from tunekit.kernels.kernel import Kernel
from tunekit.runtime.call import can_launch, run
from tunekit.runtime.fast import fast_of
from tunekit.runtime.gradient import differentiable, is_recorded

_CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}
"""PyTorch's name of the memory format, by number of dims; there is none for others."""


def is_channels_last(x: torch.Tensor) -> bool:
    """Whether it is stored position after position, and not channel after channel as well."""
    form = _CHANNELS_LAST.get(x.dim())
    return form is not None and x.is_contiguous(memory_format=form) and not x.is_contiguous()


def to_format(x: torch.Tensor, channels_last: bool) -> torch.Tensor:
    """The same values in a memory format; autograd follows it where it has to.

    From one of the two to the other a tuned kernel changes it, where kernels run.
    """
    last = _CHANNELS_LAST.get(x.dim(), torch.contiguous_format)
    wanted = last if channels_last else torch.contiguous_format
    if x.is_contiguous(memory_format=wanted):
        return x
    other = torch.contiguous_format if channels_last else last
    if is_recorded(x) or not (can_launch(x) and x.is_contiguous(memory_format=other)):
        return x.contiguous(memory_format=wanted)
    from tunekit.kernels.library import identity

    layout = Layout.TO_CHANNELS_LAST if channels_last else Layout.TO_CONTIGUOUS
    result = torch.empty_like(x, memory_format=wanted)
    return _launched(folded(identity, layout, bias=False), (x,), result, {})


def with_bias(
    kernel: Kernel,
    x: torch.Tensor,
    bias: torch.Tensor | None,
    values: Mapping[str, float],
    *,
    channels_last: bool | None = None,
    inplace: bool = False,
) -> torch.Tensor:
    """The kernel of x + bias, of each channel its own.

    Args:
        kernel: a pointwise one of one input.
        x: (N, C) or (N, C, *spatial), where kernels run.
        bias: shape (C,), any float dtype; None adds nothing.
        values: of the kernel's scalars.
        channels_last: how the result is stored; None as x is.
        inplace: the result may take x's memory. Where autograd records it never does.
    """
    last = is_channels_last(x)
    x = x if last else x.contiguous()
    layout = Layout(last | 2 * (last if channels_last is None else channels_last))
    alike = bias is None and not layout.transposes
    made = kernel if alike else folded(kernel, layout, bias=bias is not None)
    inputs = (x,) if bias is None else (x, bias)
    if not is_recorded(*inputs):
        inplace = inplace and not layout.transposes
        return _launched(made, inputs, x if inplace else _new(x, layout), values)

    def forward(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
        return _launched(made, tensors, _new(tensors[0], layout), values)

    return differentiable(made, values, forward, inputs)


def _new(x: torch.Tensor, layout: Layout) -> torch.Tensor:
    if not layout.transposes:
        return torch.empty_like(x)
    form = _CHANNELS_LAST[x.dim()] if layout.output_last else torch.contiguous_format
    return torch.empty_like(x, memory_format=form)


def _launched(
    kernel: Kernel,
    inputs: Sequence[torch.Tensor],
    out: torch.Tensor,
    values: Mapping[str, float],
) -> torch.Tensor:
    """The result in `out`, which is laid out as the kernel writes it."""
    if fast_of(kernel).several(inputs, tuple(values.values()), out) is None:
        run(kernel, inputs, out, values)
        increment_version(out)
    return out
